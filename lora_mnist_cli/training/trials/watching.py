"""The loop of a trial: steps in a seed's order, and a record of weights and validation scores at chosen moments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from lora_mnist_cli.data.dataset import MNISTDataset, ShuffledBlocks, split_rows
from lora_mnist_cli.settings.config import TrainingConfig

Weights = dict[str, Tensor]
"""The state of a plain network: ``fc1.weight``, ``fc1.bias``, …, the change included."""
Gradients = tuple[float, float]
"""The norms of the gradients with respect to all A and to all B, in the last batch before a moment."""


@dataclass
class Run:
    """One training, as it was at each of its moments.

    Attributes:
        moments: optimiser steps that were taken.
        val_losses, val_accuracies: on the validation images of the new digits.
        weights: of the plain network that answers.
        gradients: norms; empty where the trained numbers are no factors.
    """

    config: TrainingConfig
    moments: list[int] = field(default_factory=list)
    val_losses: list[float] = field(default_factory=list)
    val_accuracies: list[float] = field(default_factory=list)
    weights: list[Weights] = field(default_factory=list)
    gradients: list[Gradients] = field(default_factory=list)


class Trial(Protocol):
    """Trainings that take the same steps together."""

    @property
    def configs(self) -> Sequence[TrainingConfig]:
        """The settings of each member."""

    def steps(self, rows: Tensor) -> None:
        """Take one optimiser step per batch of rows of the data set."""

    def scores(self, rows: Tensor) -> tuple[list[float], list[float]]:
        """Return mean cross-entropy and accuracy of each member on rows of the data set."""

    def weights(self) -> list[Weights]:
        """Return copies of each member's weights."""

    def gradients(self) -> list[Gradients]:
        """Return each member's gradient norms; an empty list where it has no factors."""


@dataclass(frozen=True)
class Images:
    """The images of the new digits, and a seed's split of them."""

    data: MNISTDataset
    train: Tensor
    val: Tensor

    @classmethod
    def of(cls, data: MNISTDataset, config: TrainingConfig) -> Images:
        """Split as any training with this config does."""
        train, val = split_rows(len(data), config.val_split, config.seed_of("split"))
        assert val is not None
        return cls(data, train, val)

    def steps(self, config: TrainingConfig) -> int:
        """Return how many optimiser steps a training takes."""
        return config.epochs * ShuffledBlocks(self.data, self.train, config.batch_size, 0).steps


def watch(
    trial: Trial, images: Images, moments: Sequence[int] = (), advance: Callable[[int], object] | None = None
) -> list[Run]:
    """Train a trial's members, and return a run for each; the end is a moment in any case.

    Args:
        moments: numbers of steps, rising; 0 is the start.
        advance: is told the steps that were taken.
    """
    config = trial.configs[0]
    end = images.steps(config)
    runs = [Run(each) for each in trial.configs]
    wanted = sorted({moment for moment in moments if moment < end} | {end})
    order = ShuffledBlocks(images.data, images.train, config.batch_size, config.seed_of("order"))
    orders = [order.next_order() for _ in range(config.epochs)]
    per_epoch, done = order.steps, 0
    for moment in wanted:
        while done < moment:
            epoch, within = divmod(done, per_epoch)
            until = min(moment - done, per_epoch - within)
            trial.steps(orders[epoch][within * config.batch_size : (within + until) * config.batch_size])
            done += until
            if advance is not None:
                advance(until)
        _note(trial, images, moment, runs)
    return runs


@torch.no_grad()
def _note(trial: Trial, images: Images, moment: int, runs: Sequence[Run]) -> None:
    losses, accuracies = trial.scores(images.val)
    gradients = trial.gradients()
    for number, (run, weights) in enumerate(zip(runs, trial.weights(), strict=True)):
        run.moments.append(moment)
        run.val_losses.append(losses[number])
        run.val_accuracies.append(accuracies[number])
        run.weights.append(weights)
        run.gradients += gradients[number : number + 1]
