"""The results of a bank's members as they come: histories, and who diverged."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lora_mnist_cli.system.errors import DivergedError
from lora_mnist_cli.system.progress import Reporter
from lora_mnist_cli.training.trainer import EpochRecord


@dataclass(frozen=True)
class ClassSums:
    """Scores on the test images, per class: the sum of their losses, and how many were right."""

    losses: list[float]
    hits: list[int]


@dataclass
class Outcome:
    """The result of one member's training.

    Args:
        history: the start as epoch 0, then one record per epoch, as long as its figures were finite.
        failed: why its training ended, where it diverged; its weights are useless then.
        test: its scores on the test images, where the engine has scored it.
    """

    history: list[EpochRecord]
    failed: str | None = None
    test: ClassSums | None = None


def note_failures(outcomes: Sequence[Outcome], members: Sequence[int], losses: Sequence[float], epoch: int) -> None:
    """Note which members diverged, by their losses.

    Raises:
        DivergedError: where no member is left.
    """
    for m, loss in zip(members, losses, strict=True):
        if not math.isfinite(loss) and outcomes[m].failed is None:
            outcomes[m].failed = f"the loss became {loss} in epoch {epoch}"
    if all(outcome.failed for outcome in outcomes):
        raise DivergedError("no member is left")


def add_records(outcomes: Sequence[Outcome], latest: Mapping[int, EpochRecord], epoch: int, reporter: Reporter) -> None:
    """Add an epoch's records to the histories, and report the means over the members that did not fail."""
    for m, record in latest.items():
        outcomes[m].history.append(record)
    if epoch:
        records = [latest[m] for m in sorted(latest)]
        losses = [record.val_loss for record in records if record.val_loss is not None]
        accuracies = [record.val_accuracy for record in records if record.val_accuracy is not None]
        reporter.epoch_done(epoch, _mean(losses), _mean(accuracies))


def mean_of_finite(losses: Sequence[float]) -> float:
    """Return the mean of the losses that are finite; nan where none is."""
    finite = _mean([loss for loss in losses if math.isfinite(loss)])
    return math.nan if finite is None else finite


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
