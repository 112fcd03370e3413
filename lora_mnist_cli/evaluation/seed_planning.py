"""Planning: how many seeds, or test images, it takes to see a difference."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left
from statistics import NormalDist

from lora_mnist_cli.evaluation.intervals import CONFIDENCE, t_quantile, z_quantile

POWER = 0.8
"""The chance with which a planned number of seeds finds a difference that is there; the usual choice."""
MAX_SEEDS = 1_000_000
"""The largest number of seeds that the search tries."""


def power(n: int, difference: float, deviation: float, confidence: float = CONFIDENCE) -> float:
    """Return the chance that n runs, or pairs, give an interval of the mean that excludes 0 on the right side.

    Exact for normal figures, by the noncentral t distribution (Cohen 1988, ch. 2; Hahn & Meeker 1991, § 8). The sign
    of ``difference``, the true mean, does not matter; ``deviation`` is the standard deviation of single figures.
    """
    if n < 2 or difference == 0:
        return 0.0
    if deviation == 0:
        return 1.0
    from scipy.special import nctdtr

    shift = abs(difference) / deviation * math.sqrt(n)
    missed = float(nctdtr(n - 1, shift, t_quantile(confidence, n - 1)))
    # SciPy's series gives NaN at a few points far out, where the chance to miss is below the last digit.
    return 1.0 if math.isnan(missed) and shift > 30 else 1 - missed


def seeds_needed(
    difference: float, deviation: float, confidence: float = CONFIDENCE, target_power: float = POWER
) -> int | None:
    """Return the fewest seeds that find a difference, or a margin, of this size with ``target_power``.

    The deviation is most often an estimate from few runs; then the number is a plan and not a promise. It is at least
    2, and None where the difference is 0 or it would take more than :data:`MAX_SEEDS`.
    """
    if not (math.isfinite(difference) and math.isfinite(deviation)) or difference == 0:
        return None
    high = 2
    while power(high, difference, deviation, confidence) < target_power:
        high *= 2
        if high > MAX_SEEDS:
            return None
    more = range(high // 2 + 1, high)
    return more.start + bisect_left(more, target_power, key=lambda n: power(n, difference, deviation, confidence))


def fewest_pairs(tests: int = 1, confidence: float = CONFIDENCE) -> int:
    """Return the fewest pairs whose permutation p-value, which is at least 2 / 2ⁿ, can be significant at all.

    :func:`~lora_mnist_cli.evaluation.significance.holm` adjusts for the number of ``tests``.
    """
    return next(n for n in itertools.count(1) if tests * 2.0 / 2**n <= 1 - confidence + 1e-12)


def images_needed(only_first: int, only_second: int, count: int, confidence: float = CONFIDENCE) -> int | None:
    """Return the test images that McNemar's test needs to tell two models apart that disagree as on ``count`` images.

    It uses the normal approximation to the test (Connor 1987). None where they are right equally often.
    """
    apart, difference = (only_first + only_second) / count, (only_second - only_first) / count
    if difference == 0:
        return None
    z, z_power = z_quantile(confidence), NormalDist().inv_cdf(POWER)
    return math.ceil(((z * math.sqrt(apart) + z_power * math.sqrt(apart - difference**2)) / difference) ** 2)
