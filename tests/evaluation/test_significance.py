"""Tests of significance, against SciPy's own, brute force and textbooks."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_mnist_cli.evaluation.significance import holm, mcnemar, sign_flip_p

# Fisher's example (The Design of Experiments, 1935, § 21): Darwin's fifteen pairs of crossed and self-fertilised maize,
# their heights' differences in eighths of an inch. He counted 863 of the 2¹⁵ sign changes on one side.
DARWIN = (49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48)


def brute_force(differences: Sequence[float]) -> float:
    observed = abs(sum(differences))
    sums = [abs(sum(s * d for s, d in zip(signs, differences, strict=True)))
            for signs in itertools.product((1, -1), repeat=len(differences))]  # fmt: skip
    return sum(value >= observed - 1e-9 for value in sums) / len(sums)


def test_fishers_count_for_darwins_maize():
    p_value, exact = sign_flip_p(DARWIN)
    assert exact
    assert p_value == 2 * 863 / 2**15


@settings(max_examples=60)
@given(st.lists(st.integers(-30, 30), min_size=1, max_size=9))
def test_the_permutation_p_value_is_that_of_brute_force_and_of_scipy(images):
    differences = [n / 1000 for n in images]  # accuracies on a thousand images: many sums are equal but for rounding
    p_value, exact = sign_flip_p(differences)
    assert exact
    assert p_value == pytest.approx(brute_force(images))
    assert p_value == pytest.approx(sign_flip_p([-d for d in differences])[0])
    if len(images) > 1:
        whole = np.asarray(images, dtype=float)
        theirs = scipy.stats.permutation_test(
            (whole,), np.sum, permutation_type="samples", n_resamples=np.inf, vectorized=True
        )  # fmt: skip
        assert p_value == pytest.approx(theirs.pvalue)


def test_the_least_p_value_is_two_of_all_sign_changes():
    for n in (1, 2, 5, 6, 10, 33, 40):
        assert sign_flip_p([0.01 + i / 1000 for i in range(n)]) == (2 / 2**n, True)
    assert sign_flip_p([0.0, 0.0, 0.0]) == (1.0, True)
    assert sign_flip_p([0.01, -0.01]) == (1.0, True)


def test_many_pairs_are_drawn_and_said_to_be():
    generator = np.random.default_rng(3)
    for shift in (0.0, 0.3):
        differences = list(generator.normal(shift, 1, 60))
        p_value, exact = sign_flip_p(differences)
        assert not exact
        assert sign_flip_p(differences) == (p_value, exact)
        assert p_value == pytest.approx(scipy.stats.ttest_1samp(differences, 0).pvalue, abs=0.02)


def models(both: int, only_first: int, only_second: int, neither: int) -> tuple[list[bool], list[bool]]:
    first = [True] * (both + only_first) + [False] * (only_second + neither)
    second = [True] * both + [False] * only_first + [True] * only_second + [False] * neither
    return first, second


def test_mcnemars_exact_test_by_hand():
    # 1 of 6 discordant images: 2 · (1 + 6) / 64.
    found = mcnemar(*models(10, 5, 1, 4))
    assert (found.both, found.only_first, found.only_second, found.neither) == (10, 5, 1, 4)
    assert found.p_value == pytest.approx(14 / 64)
    assert found.difference == pytest.approx(-4 / 20)
    assert mcnemar(*models(10, 0, 0, 4)).p_value == 1.0
    assert mcnemar(*models(10, 3, 3, 4)).p_value == 1.0
    # Approval of a prime minister (Agresti, Categorical Data Analysis, § 10.1): of 1,600, 86 and 150 changed their
    # minds; the difference of 0.04 has z² = 17.36, p = 0.00003, and the interval 0.0214 to 0.0586.
    poll = mcnemar(*models(794, 86, 150, 570))
    assert poll.difference == pytest.approx(0.04)
    assert poll.p_value == pytest.approx(0.00003, abs=0.00002)
    assert (poll.interval.low, poll.interval.high) == pytest.approx((0.0214, 0.0586), abs=2e-4)
    with pytest.raises(ValueError, match="no images"):
        mcnemar([], [])


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 60))
def test_mcnemars_exact_test_is_the_binomial_one_and_the_same_the_other_way_round(b, c, same):
    first, second = models(same, b, c, 1)
    found, back = mcnemar(first, second), mcnemar(second, first)
    theirs = scipy.stats.binomtest(b, b + c).pvalue if b + c else 1.0
    assert found.p_value == pytest.approx(theirs)
    assert (back.p_value, back.difference) == (found.p_value, -found.difference)
    assert back.interval.low == pytest.approx(-found.interval.high)


def test_the_interval_of_a_difference_on_the_same_images_covers_it():
    """Over all tables of fifty images, each with its probability: no simulation."""
    b, c, n, covered, total = 0.05, 0.2, 50, 0.0, 0.0
    table = scipy.stats.multinomial(n, [b, c, 1 - b - c])
    for x in range(n + 1):
        for y in range(n + 1 - x):
            share = table.pmf([x, y, n - x - y])
            if share > 1e-7:
                interval = mcnemar(*models(n - x - y, x, y, 0)).interval
                covered += share * (interval.low <= c - b <= interval.high)
                total += share
    assert total > 0.999
    assert covered >= 0.94


def test_holms_adjustment_by_hand():
    # Sorted: 0.005 · 4, 0.011 · 3, 0.02 · 2, 0.04 · 1, none below the one before it.
    assert holm([0.011, 0.02, 0.005, 0.04]) == pytest.approx([0.033, 0.04, 0.02, 0.04])
    assert holm([0.01, 0.02, 0.03, 0.04, 0.9]) == pytest.approx([0.05, 0.08, 0.09, 0.09, 0.9])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=10))
def test_holms_adjustment_keeps_the_order_and_lies_between_nothing_and_bonferronis(p_values):
    adjusted = holm(p_values)
    for p, a in zip(p_values, adjusted, strict=True):
        assert p <= a <= min(1, len(p_values) * p) + 1e-12
    assert sorted(adjusted) == [adjusted[i] for i in sorted(range(len(p_values)), key=lambda i: p_values[i])]
    assert min(adjusted) == pytest.approx(min(1, len(p_values) * min(p_values)))
