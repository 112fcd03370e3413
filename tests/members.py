"""Small banks: random images, a small base, adapters on it whose every gradient is something, and how they compare."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lora_mnist_cli.data.dataset import MNISTDataset
from lora_mnist_cli.models import lora
from lora_mnist_cli.models.adapted_linear import adapter_tensors
from lora_mnist_cli.models.mlp import MNISTModel
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.layer_ranks import ranks_in
from lora_mnist_cli.training.bank.cohort import Cohort
from lora_mnist_cli.training.bank.optimizer import MemberOptimizer

IMAGES, PIXELS, BATCH = 96, 30, 16

MIX = [
    AdapterConfig(rank=1),
    AdapterConfig(rank=3, alpha=2.0, scaling="rslora"),
    AdapterConfig(rank=3, alpha=0.5, init="kaiming", lr=3e-3),
    AdapterConfig(rank=3, alpha=0.5, init="gaussian", weight_decay=0.3),
    AdapterConfig(rank=20, scaling="standard", target_layers=("fc1",)),
    AdapterConfig(rank=2, target_layers=("fc2", "fc3")),
    AdapterConfig(rank=2, target_layers=("fc2", "fc3"), lr=1e-4),
    AdapterConfig(rank=2, target_layers=("fc1", "fc3")),
    AdapterConfig(rank=3, train="B"),
    AdapterConfig(rank=3, train="A"),
    AdapterConfig(rank=3, alpha=0.5, lr=3e-3, train="B", target_layers=("fc2", "fc3")),
    AdapterConfig(rank=5, rank_pattern="fc2r2-fc3r1", scaling="standard"),
    AdapterConfig(rank=4, alpha=-1.0),
    AdapterConfig(rank=4, alpha=0.0, epochs=0),  # its factors stay where they are
]
"""Every setting in which members can differ, with and without neighbours of their own shape."""


def images(dtype: torch.dtype, count: int = IMAGES) -> MNISTDataset:
    draw = torch.Generator().manual_seed(1)
    pixels = torch.randn(count, PIXELS, generator=draw, dtype=torch.float64).to(dtype)
    return MNISTDataset(pixels, torch.randint(10, (count,), generator=draw))


def base(hidden: Sequence[int] = (12, 9), dtype: torch.dtype = torch.float64) -> MNISTModel:
    draw, model = torch.Generator().manual_seed(2), MNISTModel(hidden, in_features=PIXELS)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draw) / parameter.shape[-1] ** 0.5)
    return model.to(dtype)


def adapted(plain: MNISTModel, config: AdapterConfig) -> nn.Module:
    """A copy of the base with its config's adapters, B not zero, so that every gradient is something."""
    model = copy.deepcopy(plain)
    draw = torch.Generator().manual_seed(config.rank)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        lora.attach(
            model, config.rank, alpha=config.alpha, scaling=config.scaling, init=config.init, dropout=config.dropout,
            train=config.train, target_layers=config.target_layers, ranks=ranks_in(config.rank_pattern),
        )  # fmt: skip
    with torch.no_grad():
        for layer in lora.adapted_layers(model).values():
            layer.lora_B.copy_(torch.randn(layer.lora_B.shape, generator=draw) * 0.1)
    return model


def optimizer_of(cohort: Cohort, configs: Sequence[AdapterConfig]) -> MemberOptimizer:
    return MemberOptimizer(cohort.flat, cohort.gradient, cohort.parts, configs)


def rows(data: MNISTDataset, steps: int, batch: int = BATCH) -> Tensor:
    draw = torch.Generator().manual_seed(3)
    return torch.randint(len(data), (steps * batch - 5,), generator=draw)  # the last batch is short


def assert_equal(one: nn.Module, other: nn.Module, tolerance: float) -> None:
    theirs = adapter_tensors(other)
    for name, value in adapter_tensors(one).items():
        torch.testing.assert_close(
            value, theirs[name], rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )
