"""Confidence intervals: how precisely a mean over seeds, or an accuracy over test images, is known.

Two kinds of noise are kept apart. Seeds differ, so a recipe's accuracy has a distribution: :func:`mean_interval` and
:func:`prediction_interval`. And a test set is finite, so one model's accuracy is known only roughly:
:func:`wilson_interval`. SciPy is imported when a function needs it. ``docs/statistics.md`` gives the reasons.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, stdev

CONFIDENCE = 0.95
ACCURACIES, LOSSES, DIFFERENCES = (0.0, 1.0), (0.0, math.inf), (-1.0, 1.0)
"""The lowest and the highest possible accuracy, cross-entropy, and difference of two accuracies, as fractions."""


@dataclass(frozen=True)
class Interval:
    """A range of values."""

    low: float
    high: float

    def within(self, low: float, high: float) -> Interval:
        """Return the part that is possible: a t interval of few runs can reach below 0 or above 100 %."""
        return Interval(max(low, self.low), min(high, self.high))


@dataclass(frozen=True)
class Spread:
    """Mean, sample standard deviation and interval of the mean over n runs; the last two are None for a single run."""

    n: int
    mean: float
    deviation: float | None
    interval: Interval | None

    @property
    def half_width(self) -> float | None:
        """Half the interval's width, for ``mean ± …``; None for a single run."""
        return None if self.interval is None else (self.interval.high - self.interval.low) / 2


def mean_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Spread:
    """Return the mean and its t interval: mean ± t(n − 1) · s / √n (Student 1908).

    The deviation is estimated from few runs, so this is the t distribution and not the normal one: for five seeds the
    factor is 2.78 and not 1.96. It is exact for normal figures, and close for accuracies that are not near 0 or 1.

    Raises:
        ValueError: for no values, or one that is not finite.
    """
    require_finite(values)
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return Spread(1, mean, None, None)
    deviation = stdev(values)
    half = t_quantile(confidence, len(values) - 1) * deviation / math.sqrt(len(values))
    return Spread(len(values), mean, deviation, Interval(mean - half, mean + half))


def prediction_interval(values: Sequence[float]) -> Interval:
    """Return the range in which one more run would lie: mean ± t(n − 1) · s · √(1 + 1/n) (Hahn & Meeker 1991, § 4.2).

    A published single run is compared with this range. The interval of the mean shrinks to nothing as seeds are added,
    and then nearly every single run lies outside it.

    Raises:
        ValueError: for fewer than two values, or one that is not finite.
    """
    require_finite(values)
    if (n := len(values)) < 2:
        raise ValueError("the range of one more run needs two runs at least")
    mean, half = math.fsum(values) / n, t_quantile(CONFIDENCE, n - 1) * stdev(values) * math.sqrt(1 + 1 / n)
    return Interval(mean - half, mean + half)


def wilson_interval(hits: int, count: int, confidence: float = CONFIDENCE) -> Interval:
    """Return Wilson's score interval (1927) of the accuracy that a model would have on endless images like these.

    The usual ± 1.96 √(p(1 − p)/n) has no width where every image is right, and is too narrow near it, where these
    accuracies are (Brown, Cai & DasGupta 2001). Wilson's interval stays within 0 and 1. The normal quantile is the
    standard library's, so that a table of scores does not load SciPy.

    Raises:
        ValueError: without images, or with more hits than images.
    """
    if count < 1 or not 0 <= hits <= count:
        raise ValueError(f"{hits} of {count} images are no score")
    z2 = z_quantile(confidence) ** 2
    middle = (hits + z2 / 2) / (count + z2)
    half = math.sqrt(z2 * (hits * (count - hits) / count + z2 / 4)) / (count + z2)
    # At the ends the bound is exactly 0 or 1, which rounding would miss.
    low = 0.0 if hits == 0 else max(0.0, middle - half)
    return Interval(low, 1.0 if hits == count else min(1.0, middle + half))


def t_quantile(confidence: float, freedom: int) -> float:
    """Return Student's factor on the standard error of a mean, for a two-sided interval."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + confidence) / 2))


def z_quantile(confidence: float) -> float:
    """Return the normal factor on a standard error, for a two-sided interval."""
    return NormalDist().inv_cdf((1 + confidence) / 2)


def require_finite(values: Sequence[float]) -> None:
    """Check that there is at least one figure, and that all are finite.

    Raises:
        ValueError: where there is none, or one that is not finite.
    """
    if not len(values) or not all(map(math.isfinite, values)):
        raise ValueError(f"figures are finite and at least one: {list(values)}")
