"""Numbers of seeds and images, against simulation, integrals and textbooks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from lora_mnist_cli.evaluation.seed_planning import fewest_pairs, images_needed, power, seeds_needed
from lora_mnist_cli.evaluation.significance import sign_flip_p


@pytest.mark.parametrize(
    ("n", "shift"), [(2, 5.0), (2, 30.0), (3, 20.0), (10, 5.0), (10, 40.0), (10, 1e5), (10000, 3.0)]
)
def test_the_power_is_that_of_the_integral(n, shift):
    """Over the deviation found, which is chi-distributed; the mean found is normal around the true one."""
    t, freedom = scipy.stats.t.ppf(0.975, n - 1), n - 1
    width = 12 if freedom < 4 else 1 + 12 / math.sqrt(2 * freedom)

    def missed(s: float) -> float:
        weight = scipy.stats.chi.pdf(s * math.sqrt(freedom), freedom) * math.sqrt(freedom)
        return float(scipy.stats.norm.cdf(t * s - shift) * weight)

    expected = 1 - scipy.integrate.quad(missed, 0, width, limit=500, points=[1.0])[0]
    found = power(n, shift / math.sqrt(n), 1.0)
    assert found == pytest.approx(expected, abs=1e-6)
    assert power(n, -shift / math.sqrt(n), 1.0) == found


def test_the_number_of_seeds_is_the_textbooks():
    # Cohen's d of 0.5, 0.8 and 0.2 at 5 % two-sided and 80 %: 34, 15 and 199 pairs (G*Power 3, matched pairs).
    assert [seeds_needed(d, 1.0) for d in (0.5, 0.8, 0.2)] == [34, 15, 199]
    # At 90 %: 44 for 0.5 (the same program).
    assert seeds_needed(0.5, 1.0, target_power=0.9) == 44


@given(st.floats(0.05, 20), st.floats(0.1, 3))
def test_no_fewer_seeds_would_do(difference, deviation):
    n = seeds_needed(difference, deviation)
    assert n is not None
    assert power(n, difference, deviation) >= 0.8
    assert n == 2 or power(n - 1, difference, deviation) < 0.8


def test_where_no_number_of_seeds_would_do_or_any_would():
    assert seeds_needed(0.0, 0.1) is None
    assert seeds_needed(1e-9, 0.1) is None
    assert seeds_needed(0.1, math.nan) is None
    assert seeds_needed(0.1, 0.0) == 2
    assert seeds_needed(100.0, 0.1) == 2
    assert power(1, 1.0, 1.0) == 0.0


def test_how_many_pairs_a_permutation_test_needs_at_least():
    for tests in (1, 2, 7):
        for confidence in (0.9, 0.95, 0.99):
            n = fewest_pairs(tests, confidence)
            assert tests * sign_flip_p([1.0] * n)[0] <= 1 - confidence + 1e-12
            assert tests * sign_flip_p([1.0] * (n - 1))[0] > 1 - confidence
    assert fewest_pairs() == 6


def test_how_many_images_would_tell_two_models_apart():
    # Connor's formula for shares 0.1 and 0.2 of one side alone: (1.96 √0.3 + 0.8416 √(0.3 − 0.01))² / 0.01 = 233.1.
    assert images_needed(10, 20, 100) == 234
    assert images_needed(5, 5, 100) is None
    draws = np.random.default_rng(5).multinomial(234, [0.1, 0.2, 0.7], 2000)
    fewer, apart = draws[:, :2].min(1), draws[:, :2].sum(1)
    assert np.mean(2 * scipy.stats.binom.cdf(fewer, apart, 0.5) <= 0.05) == pytest.approx(0.8, abs=0.06)
