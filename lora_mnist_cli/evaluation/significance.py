"""Significance: whether two recipes, or two models, differ by more than chance.

Recipes are compared over pairs of seeds (:func:`sign_flip_p`), models over the same test images
(:func:`mcnemar`). ``docs/statistics.md`` gives the reasons.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lora_mnist_cli.evaluation.intervals import CONFIDENCE, DIFFERENCES, Interval, require_finite, z_quantile

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

MAX_EXACT = 40
"""Pairs up to which a permutation p-value counts all sign changes."""
RESAMPLES = 99_999
"""Random sign changes for more pairs than that."""


@dataclass(frozen=True)
class McNemar:
    """A comparison of two models by the images that both, only one or neither gets right.

    ``difference`` is the accuracy of the second − that of the first; ``p_value`` is exact and two-sided.
    """

    both: int
    only_first: int
    only_second: int
    neither: int
    difference: float
    interval: Interval
    p_value: float


def sign_flip_p(differences: Sequence[float]) -> tuple[float, bool]:
    """Return the share of all sign changes of the differences whose sum is at least as far from 0 (Fisher 1935).

    A difference is that of two recipes with the same seed: they share split, order and initial draws, so the seed's
    effect on both cancels out. If only chance separates the two of a pair, each difference could as well have the other
    sign. The test assumes nothing about their distribution. Up to :data:`MAX_EXACT` pairs all 2ⁿ sign changes are
    counted: the sums of one half of the pairs are sorted, and each sum of the other half is looked up in them. SciPy's
    permutation test adds them up one by one, which ends at some twenty pairs. Above, SciPy draws :data:`RESAMPLES` of
    them. The two-sided p-value is at least 2 / 2ⁿ; the second value tells whether it is exact.

    Raises:
        ValueError: for no differences, or one that is not finite.
    """
    import numpy as np

    require_finite(differences)
    sizes = np.abs(np.asarray(differences, dtype=np.float64))
    observed = abs(math.fsum(differences))
    # Sums that differ only by rounding count as equal; otherwise the order of adding would decide.
    reach = observed - 1e-9 * float(sizes.sum())
    if reach <= 0:
        return 1.0, True
    if len(differences) > MAX_EXACT:
        from scipy.stats import permutation_test

        def total(values: npt.NDArray[np.float64], axis: int) -> Any:
            return values.sum(axis=axis)

        test = permutation_test(
            (np.asarray(differences),), total, permutation_type="samples", vectorized=True, n_resamples=RESAMPLES,
            batch=10_000, rng=np.random.default_rng(0),
        )  # fmt: skip
        return float(test.pvalue), False
    half = len(sizes) // 2
    left, right = (_signed_sums(part) for part in (sizes[:half], sizes[half:]))
    left.sort()
    # The sums are symmetric about 0, so one side has half of those that count.
    reached = len(left) * len(right) - int(np.searchsorted(left, reach - right, side="left").sum(dtype=np.int64))
    return min(1.0, 2 * reached / 2 ** len(sizes)), True


def mcnemar(first: Sequence[bool], second: Sequence[bool], confidence: float = CONFIDENCE) -> McNemar:
    """Test which of two models is right more often on the same images: McNemar's test (1947), in its exact form.

    Images that both get right, or both wrong, say nothing about which is better. Without a difference, each of the
    other images would be right for either model with probability 1/2: the p-value is the binomial one. The interval
    of the difference is Agresti and Min's (2005), which adds half an image to each of the four counts. ``first`` and
    ``second`` say whether each model gets each image right, in the same order.

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
    middle, half = (b - c) / n, z_quantile(confidence) * math.sqrt(b + c - (b - c) ** 2 / n) / n
    interval = Interval(middle - half, middle + half).within(*DIFFERENCES)
    return McNemar(both, only_first, only_second, neither, (only_second - only_first) / count, interval, p_value)


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Return Spearman's rank correlation (1904) of pairs of figures; None where one side does not vary.

    Raises:
        ValueError: for lists of two lengths.
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} figures and {len(second)} make no pairs")
    if len(set(first)) < 2 or len(set(second)) < 2:
        return None
    from scipy.stats import spearmanr

    return float(spearmanr(first, second).statistic)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust the p-values of several tests, so that any false alarm among them is as rare as for one test.

    Holm's method (1979): the smallest is multiplied by the number of tests, the next by one less, and so on. It
    assumes nothing about how the tests depend on each other (ranks share seeds and test images), and is never weaker
    than Bonferroni's.
    """
    adjusted, highest = [0.0] * len(p_values), 0.0
    for smaller, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - smaller) * p_values[i]))
        adjusted[i] = highest
    return adjusted


def _signed_sums(sizes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the sums of all 2ⁿ ways to give n numbers a sign."""
    import numpy as np

    sums = np.zeros(1)
    for size in sizes:
        sums = np.concatenate([sums + size, sums - size])
    return sums
