"""The statistics behind every figure: what a mean, a score and a difference are known to, and how it is found out.

Two kinds of noise are kept apart. Seeds differ, so a recipe's accuracy has a distribution: :func:`mean_interval`,
:func:`prediction_interval`, :func:`paired_comparison`. And a test set is finite, so one model's accuracy on images like
these is known only roughly: :func:`wilson_interval`, :func:`mcnemar`. No files, no printing; SciPy's distributions are
imported when they are needed. ``docs/statistics.md`` says which method stands where, and why.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, stdev
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

CONFIDENCE = 0.95
POWER = 0.8
"""How often a planned number of seeds is to find a difference that is there: four times of five, the usual choice."""
MAX_EXACT = 40
"""Pairs up to which a permutation p-value is counted out."""
RESAMPLES = 99_999
"""Random sign changes where there are more pairs than that."""
MAX_SEEDS = 1_000_000
"""Where a search for a number of seeds gives up."""


@dataclass(frozen=True)
class Interval:
    """A range of values with the confidence that it was made for."""

    low: float
    high: float
    confidence: float = CONFIDENCE


@dataclass(frozen=True)
class Spread:
    """Figures of several runs, told in few numbers.

    Args:
        n: how many runs.
        deviation: sample standard deviation; None for a single run.
        interval: of the mean; None for a single run.
    """

    n: int
    mean: float
    deviation: float | None
    interval: Interval | None

    @property
    def half_width(self) -> float | None:
        """Half the interval's width, for ``mean ± …``; None for a single run."""
        return None if self.interval is None else (self.interval.high - self.interval.low) / 2


@dataclass(frozen=True)
class PairedComparison:
    """Two recipes, run with the same seeds.

    Args:
        difference: spread of second − first over the pairs.
        p_value: of the sign-flip permutation test, two-sided; None without a pair.
        exact: whether all sign changes were counted; otherwise :data:`RESAMPLES` random ones were.
    """

    difference: Spread
    p_value: float
    exact: bool


@dataclass(frozen=True)
class McNemar:
    """Two models on the same images.

    Args:
        both: images that both have right.
        only_first: images that the first alone has right.
        only_second: images that the second alone has right.
        neither: images that both have wrong.
        difference: accuracy of the second − that of the first.
        p_value: exact and two-sided.
    """

    both: int
    only_first: int
    only_second: int
    neither: int
    difference: float
    interval: Interval
    p_value: float


def mean_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Spread:
    """Mean and its t interval: mean ± t(n − 1) · s / √n (Student 1908).

    The t distribution and not the normal one, as the deviation is estimated from few runs: with five seeds, 1.96 would
    have to be 2.78. It is exact for normal figures, and near enough for accuracies that are not pressed against 0 or 1.

    Raises:
        ValueError: for no values, or one that is not finite.
    """
    _finite(values)
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return Spread(1, mean, None, None)
    deviation = stdev(values)
    half = t_quantile(confidence, len(values) - 1) * deviation / math.sqrt(len(values))
    return Spread(len(values), mean, deviation, Interval(mean - half, mean + half, confidence))


def prediction_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """The range in which one more run would lie: mean ± t(n − 1) · s · √(1 + 1/n) (Hahn & Meeker 1991, § 4.2).

    This is what a published single run is compared with. The interval of the mean shrinks to nothing as seeds are
    added, and nearly every single run then lies outside it.

    Raises:
        ValueError: for fewer than two values, or one that is not finite.
    """
    _finite(values)
    if len(values) < 2:
        raise ValueError("the range of one more run needs two runs at least")
    mean = math.fsum(values) / len(values)
    half = t_quantile(confidence, len(values) - 1) * stdev(values) * math.sqrt(1 + 1 / len(values))
    return Interval(mean - half, mean + half, confidence)


def wilson_interval(hits: int, count: int, confidence: float = CONFIDENCE) -> Interval:
    """The accuracy that one model would have on endless images like these: Wilson's score interval (1927).

    Not ± 1.96 √(p(1 − p)/n): that is nothing at all where every image is right, and too narrow near it, which is where
    these accuracies are (Brown, Cai & DasGupta 2001). Wilson's stays within 0 and 1. The normal quantile is the
    standard library's, so that a table of scores loads nothing heavy.

    Raises:
        ValueError: without images, or with more hits than images.
    """
    if count < 1 or not 0 <= hits <= count:
        raise ValueError(f"{hits} of {count} images are no score")
    z2 = _z(confidence) ** 2
    middle = (hits + z2 / 2) / (count + z2)
    half = math.sqrt(z2 * (hits * (count - hits) / count + z2 / 4)) / (count + z2)
    # At the ends the bound is 0 or 1 itself, which rounding would miss.
    low = 0.0 if hits == 0 else max(0.0, middle - half)
    return Interval(low, 1.0 if hits == count else min(1.0, middle + half), confidence)


def paired_comparison(
    first: Sequence[float], second: Sequence[float], confidence: float = CONFIDENCE
) -> PairedComparison:
    """Second − first over pairs of the same seed: mean, t interval, and permutation p-value.

    Pairs share split, order and the draws of their start, so what a seed does to both cancels out of the difference.

    Raises:
        ValueError: for no pairs, or lists of two lengths.
    """
    differences = [b - a for a, b in zip(first, second, strict=True)]
    p_value, exact = sign_flip_p(differences)
    return PairedComparison(mean_interval(differences, confidence), p_value, exact)


def sign_flip_p(differences: Sequence[float]) -> tuple[float, bool]:
    """The share of all sign changes of these differences whose sum is as far from 0 as theirs: Fisher's test (1935).

    If nothing but chance told the two of a pair apart, each difference might as well have had the other sign. Nothing
    is assumed of how they are distributed. All 2ⁿ sign changes are counted up to :data:`MAX_EXACT` pairs, by sorting
    the sums of one half of the pairs and looking up what each sum of the other half needs; SciPy's permutation test
    counts them too, but sum by sum, which ends at some twenty pairs. Above, SciPy draws :data:`RESAMPLES` of them.

    Returns:
        The two-sided p-value, at least 2 / 2ⁿ, and whether it is exact.

    Raises:
        ValueError: for no differences, or one that is not finite.
    """
    import numpy as np

    _finite(differences)
    sizes = np.abs(np.asarray(differences, dtype=np.float64))
    observed = abs(math.fsum(differences))
    # Sums that are equal but for rounding count as equal, as otherwise the order of adding would decide.
    reach = observed - 1e-9 * float(sizes.sum())
    if reach <= 0:
        return 1.0, True
    if len(differences) > MAX_EXACT:
        from scipy.stats import permutation_test

        def total(values: npt.NDArray[np.float64], axis: int) -> Any:
            return values.sum(axis=axis)

        found = permutation_test(
            (np.asarray(differences),), total, permutation_type="samples", vectorized=True, n_resamples=RESAMPLES,
            batch=10_000, rng=np.random.default_rng(0),
        )  # fmt: skip
        return float(found.pvalue), False
    half = len(sizes) // 2
    left, right = (_signed_sums(part) for part in (sizes[:half], sizes[half:]))
    left.sort()
    # The sums are symmetric about 0, so those on one side are half of all that count.
    reached = len(left) * len(right) - int(np.searchsorted(left, reach - right, side="left").sum(dtype=np.int64))
    return min(1.0, 2 * reached / 2 ** len(sizes)), True


def mcnemar(first: Sequence[bool], second: Sequence[bool], confidence: float = CONFIDENCE) -> McNemar:
    """Which of two models is right more often on the same images: McNemar's test (1947), in its exact form.

    Images on which both are right, or both wrong, say nothing about which is better. Of the others, were there no
    difference, each model would have its half, as tossed by a coin: the p-value is the binomial one. The interval of
    the difference is Agresti and Min's (2005), which adds half an image to each of the four counts.

    Args:
        first: whether the first model has each image right.
        second: the same images, in the same order.

    Raises:
        ValueError: without images, or for lists of two lengths.
    """
    pairs = [(bool(a), bool(b)) for a, b in zip(first, second, strict=True)]
    if not pairs:
        raise ValueError("no images, no comparison")
    both, only_first, only_second, neither = (
        pairs.count(kind) for kind in ((True, True), (True, False), (False, True), (False, False))
    )
    count, fewer, apart = len(pairs), min(only_first, only_second), only_first + only_second
    from scipy.special import bdtr

    p_value = min(1.0, 2 * float(bdtr(fewer, apart, 0.5))) if apart else 1.0
    b, c, n = only_second + 0.5, only_first + 0.5, count + 2
    middle, half = (b - c) / n, _z(confidence) * math.sqrt(b + c - (b - c) ** 2 / n) / n
    interval = Interval(max(-1.0, middle - half), min(1.0, middle + half), confidence)
    return McNemar(both, only_first, only_second, neither, (only_second - only_first) / count, interval, p_value)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values of several tests, raised so that one false alarm among all of them stays as rare as it is for one.

    Holm's method (1979): the smallest is multiplied by the number of tests, the next by one less, and so on. It asks
    nothing of how the tests depend on each other (ranks share seeds and test images), and is never weaker than
    Bonferroni's.
    """
    adjusted, highest = [0.0] * len(p_values), 0.0
    for place, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[i]))
        adjusted[i] = highest
    return adjusted


def power(n: int, difference: float, deviation: float, confidence: float = CONFIDENCE) -> float:
    """How often n runs, or pairs, give an interval of the mean that excludes 0 on the right side.

    Exact for normal figures, by the noncentral t distribution (Cohen 1988, ch. 2; Hahn & Meeker 1991, § 8).

    Args:
        difference: the true mean; its sign does not matter.
        deviation: the standard deviation of single figures.
    """
    if n < 2 or difference == 0:
        return 0.0
    if deviation == 0:
        return 1.0
    from scipy.special import nctdtr

    shift = abs(difference) / deviation * math.sqrt(n)
    missed = float(nctdtr(n - 1, shift, t_quantile(confidence, n - 1)))
    # SciPy's series ends in NaN at a few points far out, where the chance to miss it is below the last digit.
    return 1.0 if math.isnan(missed) and shift > 30 else 1 - missed


def seeds_needed(
    difference: float, deviation: float, confidence: float = CONFIDENCE, wanted: float = POWER
) -> int | None:
    """The fewest seeds with which a difference, or a margin, of this size is found ``wanted`` of the time.

    The deviation is most often one that few runs showed, and the number then is a plan and no promise.

    Returns:
        At least 2; None where the difference is 0 or it would take more than :data:`MAX_SEEDS`.
    """
    if not (math.isfinite(difference) and math.isfinite(deviation)) or difference == 0:
        return None
    high = 2
    while power(high, difference, deviation, confidence) < wanted:
        high *= 2
        if high > MAX_SEEDS:
            return None
    low = high // 2
    while low + 1 < high:
        middle = (low + high) // 2
        low, high = (
            (low, middle) if power(middle, difference, deviation, confidence) >= wanted else (middle, high)
        )  # fmt: skip
    return high


def fewest_pairs(tests: int = 1, confidence: float = CONFIDENCE) -> int:
    """Pairs below which no permutation p-value can be small enough, whatever the figures are: 2 / 2ⁿ is the least.

    Args:
        tests: how many tests :func:`holm` adjusts for.
    """
    n = 1
    while tests * 2.0 / 2**n > 1 - confidence + 1e-12:
        n += 1
    return n


def images_needed(
    only_first: int, only_second: int, count: int, confidence: float = CONFIDENCE, wanted: float = POWER
) -> int | None:
    """Test images with which McNemar's test would tell two models apart that disagree as they did on ``count``.

    By the normal approximation to the test (Connor 1987).

    Returns:
        None where they are right equally often.
    """
    apart, difference = (only_first + only_second) / count, (only_second - only_first) / count
    if difference == 0:
        return None
    z, z_power = _z(confidence), NormalDist().inv_cdf(wanted)
    return math.ceil(((z * math.sqrt(apart) + z_power * math.sqrt(apart - difference**2)) / difference) ** 2)


def t_quantile(confidence: float, freedom: int) -> float:
    """What the deviation of a mean is multiplied by, for a two-sided interval."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + confidence) / 2))


def _z(confidence: float) -> float:
    return NormalDist().inv_cdf((1 + confidence) / 2)


def _finite(values: Sequence[float]) -> None:
    if not len(values) or not all(map(math.isfinite, values)):
        raise ValueError(f"figures are finite and at least one: {list(values)}")


def _signed_sums(sizes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The sums of all 2ⁿ ways to give n numbers a sign."""
    import numpy as np

    sums = np.zeros(1)
    for size in sizes:
        sums = np.concatenate([sums + size, sums - size])
    return sums
