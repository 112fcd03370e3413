"""Accuracies as records hold them, and those of several seeds in percent, with mean and interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lora_mnist_cli.evaluation.intervals import Spread, mean_interval

Subsets = Sequence[Mapping[str, Any]]


def accuracy_of(subsets: Subsets, digits: str) -> float | None:
    """Return the accuracy (a fraction) on a digit set in canonical form; None where there is no score or no image."""
    for subset in subsets:
        if subset["digits"] == digits:
            accuracy = subset["accuracy"]
            return None if accuracy is None or not math.isfinite(accuracy) else float(accuracy)
    return None


@dataclass(frozen=True)
class SeedPercents:
    """Accuracies of one setting in percent, one per seed."""

    values: tuple[float, ...]

    @cached_property
    def _spread(self) -> Spread:
        return mean_interval(self.values)

    @property
    def mean(self) -> float:
        """The mean over the seeds."""
        return self._spread.mean

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the mean (of the t distribution), or the value of one seed twice.

        It is cut at 0 and 100 %: the interval of two seeds is wide.
        """
        interval = self._spread.interval
        if interval is None:
            return self.mean, self.mean
        possible = interval.within(0.0, 100.0)
        return possible.low, possible.high

    @property
    def extent(self) -> tuple[float, float]:
        """The lowest and the highest value that is drawn."""
        low, high = self.interval
        return min(*self.values, low), max(*self.values, high)
