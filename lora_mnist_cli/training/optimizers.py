"""Optimisers by name, with PyTorch's fused kernels, and their schedules."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.config import TrainingConfig
from lora_mnist_cli.training.fused_adam import skip_graph_check

_OPTIMIZERS: dict[str, tuple[type[torch.optim.Optimizer], float]] = {
    "adam": (torch.optim.Adam, 0.0),
    "adamw": (torch.optim.AdamW, 0.01),
    "sgd": (torch.optim.SGD, 0.0),
}
"""Name → class, and PyTorch's default weight decay for it."""

WARM_UP = 0.05
"""Share of the training in which the cosine schedule's rate rises."""

PLATEAU_PATIENCE = 10
"""Epochs without a better validation loss before the study's schedule divides the learning rate by ten."""


def weight_decay(config: TrainingConfig) -> float:
    """Return the config's weight decay, or the optimiser's default where the config has none."""
    return _OPTIMIZERS[config.optimizer][1] if config.weight_decay is None else config.weight_decay


def ratio_b(config: TrainingConfig) -> float:
    """Return the rate of the factors B divided by the rate of all other parameters (LoRA+)."""
    return config.lr_ratio_b if isinstance(config, AdapterConfig) else 1.0


def make_optimizer(
    config: TrainingConfig, parameters: Iterable[nn.Parameter], factors_b: Sequence[nn.Parameter] = ()
) -> torch.optim.Optimizer:
    """Return the optimiser that the config names, with PyTorch's fused kernel.

    Args:
        factors_b: the parameters that may have a learning rate of their own, the B of adapters.
    """
    kind, _ = _OPTIMIZERS[config.optimizer]
    groups: Any = list(parameters)
    if ratio_b(config) != 1 and factors_b:
        chosen = {id(parameter) for parameter in factors_b}
        others = [parameter for parameter in groups if id(parameter) not in chosen]
        groups = [{"params": others}, {"params": list(factors_b), "lr": ratio_b(config) * config.rate}]
    optimizer = kind(groups, lr=config.rate, weight_decay=weight_decay(config), fused=True)  # type: ignore[call-arg]
    if not torch.cuda.is_available():
        skip_graph_check(optimizer)
    return optimizer


def make_plateau(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.ReduceLROnPlateau:
    """Return the study's schedule."""
    return torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=PLATEAU_PATIENCE)


def cosine_share(progress: float) -> float:
    """Return the share of its learning rate that a training on the cosine schedule uses: a line up, then a cosine to 0.

    A warm-up (Goyal et al. 2017, arXiv:1706.02677) and half a wave of a cosine (Loshchilov and Hutter 2017,
    arXiv:1608.03983), without restarts.

    Args:
        progress: how much of the training is over, from 0 to 1; the first :data:`WARM_UP` of it is the line.
    """
    if progress < WARM_UP:
        return progress / WARM_UP
    return (1 + math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP))) / 2
