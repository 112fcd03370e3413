"""Optimisers by name, and their schedules."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn

from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.config import TrainingConfig
from lora_mnist_cli.training.fused_optimizer import DECAYS

WARM_UP = 0.05
"""Share of the training in which the cosine schedule's rate rises."""

PLATEAU_PATIENCE, PLATEAU_FACTOR = 10, 0.1
"""The study's schedule: epochs without a better validation loss, after which it multiplies the rate by the factor."""


def weight_decay(config: TrainingConfig) -> float:
    """Return the config's weight decay, or the optimiser's default where the config has none."""
    return DECAYS[config.optimizer] if config.weight_decay is None else config.weight_decay


def ratio_b(config: TrainingConfig) -> float:
    """Return the rate of the factors B divided by the rate of all other parameters (LoRA+)."""
    return config.lr_ratio_b if isinstance(config, AdapterConfig) else 1.0


def parameter_groups(
    config: TrainingConfig, parameters: Iterable[nn.Parameter], factors_b: Sequence[nn.Parameter] = ()
) -> list[dict[str, Any]]:
    """Return the groups of an optimiser's parameters with their rate and weight decay, for ours or for PyTorch's.

    Args:
        factors_b: the parameters that may have a learning rate of their own, the B of adapters; the second group.
    """
    alike: dict[str, Any] = {"lr": config.rate, "weight_decay": weight_decay(config)}
    if ratio_b(config) == 1 or not factors_b:
        return [alike | {"params": list(parameters)}]
    chosen = {id(parameter) for parameter in factors_b}
    others = [parameter for parameter in parameters if id(parameter) not in chosen]
    return [alike | {"params": others}, alike | {"params": list(factors_b), "lr": ratio_b(config) * config.rate}]


def trained_factors_b(model: nn.Module) -> list[nn.Parameter]:
    """Return the factors B of a model's adapters that are not frozen."""
    return [p for name, p in model.named_parameters() if p.requires_grad and ".lora_B" in name]


class Plateau:
    """The study's schedule: the rate is divided by ten when the loss stops falling.

    The rule is that of PyTorch's ``ReduceLROnPlateau`` with its defaults: it acts after more than
    :data:`PLATEAU_PATIENCE` epochs in a row without a loss that is a ten-thousandth better than the best. It makes no
    change of 1e-8 or less.

    Attributes:
        rate: the present learning rate.
    """

    def __init__(self, rate: float) -> None:
        self.rate, self._best, self._bad = rate, math.inf, 0

    def watch(self, loss: float) -> bool:
        """See an epoch's loss; return whether it changes the rate."""
        if loss < self._best * (1 - 1e-4):
            self._best, self._bad = loss, 0
            return False
        self._bad += 1
        if self._bad <= PLATEAU_PATIENCE:
            return False
        self._bad = 0
        changes = self.rate * (1 - PLATEAU_FACTOR) > 1e-8
        self.rate *= PLATEAU_FACTOR if changes else 1
        return changes


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
