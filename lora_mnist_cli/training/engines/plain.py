"""The plain engine: a loop over epochs and blocks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from lora_mnist_cli.settings.config import TrainingConfig
from lora_mnist_cli.settings.runtime import Runtime
from lora_mnist_cli.training.engines import Training, training_device


def run(work: Training, config: TrainingConfig, runtime: Runtime) -> None:
    """Train; see :func:`lora_mnist_cli.training.engines.train`."""
    device = training_device(runtime)
    try:
        work.module.to(device, torch.float64 if config.precision == "64-true" else torch.float32).train()
        work.prepare()
        with _precision(config.precision, device):
            work.score(0)
            for epoch in range(1, config.epochs + 1):
                for block in work.blocks():
                    work.train_block(block, epoch)
                work.score(epoch)
    finally:
        work.module.to("cpu", torch.float32)


IMPLEMENTATION = run


@contextmanager
def _precision(precision: str, device: torch.device) -> Iterator[None]:
    """Set what new tensors and products are made in: doubles by default, or bfloat16 products."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64 if precision == "64-true" else default)
    try:
        # As Lightning does it, without a cache of weights in bfloat16, which would outlive an optimiser's step.
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16-mixed", cache_enabled=False):
            yield
    finally:
        torch.set_default_dtype(default)
