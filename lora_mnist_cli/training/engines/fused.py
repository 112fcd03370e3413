"""The fused engine: the plain loop on a GPU, over a training whose block is an epoch of all members."""

from __future__ import annotations

import importlib.util
import os

from lora_mnist_cli.settings.config import TrainingConfig
from lora_mnist_cli.settings.runtime import Runtime
from lora_mnist_cli.system.errors import UsageError
from lora_mnist_cli.training.engines import Training, plain, training_device

_OTHERS = "--engine auto trains it"


def run(work: Training, config: TrainingConfig, runtime: Runtime) -> None:
    """Train; see :func:`lora_mnist_cli.training.engines.train`.

    Raises:
        UsageError: for what is not trained by kernels; without a CUDA device, or without Triton.
    """
    if not work.fused:
        raise UsageError("the engine fused trains LoRA adapters, and nothing else", hint=_OTHERS, value="fused")
    # Tests run the kernels by Triton's interpreter, on the CPU.
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    if training_device(runtime).type != "cuda" and not interpreted:
        raise UsageError("the engine fused needs a GPU: PyTorch finds no CUDA device", hint=_OTHERS, value="fused")
    if importlib.util.find_spec("triton") is None:
        problem = "the engine fused needs Triton, which PyTorch for CUDA brings along"
        raise UsageError(problem, hint=_OTHERS, value="fused")
    plain.run(work, config, runtime)


IMPLEMENTATION = run
