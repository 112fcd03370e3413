"""The statistics, against SciPy's own tests, brute force, textbooks' figures and laws."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_mnist_cli.evaluation.intervals import Interval, mean_interval, prediction_interval, wilson_interval
from lora_mnist_cli.evaluation.seed_planning import fewest_pairs, images_needed, power, seeds_needed
from lora_mnist_cli.evaluation.significance import holm, mcnemar, paired_comparison, sign_flip_p

figures = st.lists(st.floats(-1, 1).map(lambda x: round(x, 6)), min_size=2, max_size=12)
# Fisher's example (The Design of Experiments, 1935, § 21): Darwin's fifteen pairs of crossed and self-fertilised maize,
# their heights' differences in eighths of an inch. He counted 863 of the 2¹⁵ sign changes on one side.
DARWIN = (49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48)


def test_the_interval_of_a_mean_is_students() -> None:
    # Student's own table (1908): extra hours of sleep by two drugs. The mean is 1.58, its t(9) interval 0.70 to 2.46.
    sleep = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]
    spread = mean_interval(sleep)
    assert spread.n == 10
    assert spread.mean == pytest.approx(1.58)
    assert spread.deviation == pytest.approx(1.2300, abs=1e-4)
    assert spread.interval is not None
    assert (spread.interval.low, spread.interval.high) == pytest.approx((0.7001, 2.4599), abs=1e-4)
    assert spread.half_width == pytest.approx(0.8799, abs=1e-4)


@given(figures, st.sampled_from([0.8, 0.95, 0.99]))
def test_the_interval_of_a_mean_is_scipys(values: list[float], confidence: float) -> None:
    spread = mean_interval(values, confidence)
    assert spread.interval is not None
    if len(set(values)) > 1:
        theirs = scipy.stats.ttest_1samp(values, 0).confidence_interval(confidence)
        assert (spread.interval.low, spread.interval.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)
    assert spread.interval.confidence == confidence
    assert spread.interval.low <= spread.mean <= spread.interval.high


def test_a_single_run_has_a_mean_and_no_interval() -> None:
    spread = mean_interval([0.5])
    assert (spread.n, spread.mean, spread.deviation, spread.interval, spread.half_width) == (1, 0.5, None, None, None)


@pytest.mark.parametrize("values", [[], [0.5, math.nan], [math.inf]])
def test_what_is_no_figure_has_no_mean(values: list[float]) -> None:
    with pytest.raises(ValueError, match="finite"):
        mean_interval(values)


@given(figures, st.floats(-5, 5), st.floats(0.1, 10))
def test_intervals_move_and_stretch_with_the_figures(values: list[float], shift: float, factor: float) -> None:
    for interval in (lambda v: mean_interval(v).interval, prediction_interval):
        plain, moved = interval(values), interval([factor * v + shift for v in values])
        assert (moved.low, moved.high) == pytest.approx(
            (factor * plain.low + shift, factor * plain.high + shift), abs=1e-6
        )  # fmt: skip


@given(figures)
def test_one_more_run_scatters_more_than_the_mean(values: list[float]) -> None:
    mean, one = mean_interval(values).interval, prediction_interval(values)
    assert mean is not None
    assert one.high - one.low == pytest.approx((mean.high - mean.low) * math.sqrt(len(values) + 1), abs=1e-12)


def test_the_interval_of_the_mean_covers_it_and_that_of_one_more_run_covers_that() -> None:
    generator = np.random.default_rng(1)
    sweeps = generator.normal(0.97, 0.003, (2000, 6))
    means = [mean_interval(sweep[:5]).interval for sweep in sweeps]
    covered = np.mean([i.low <= 0.97 <= i.high for i in means if i is not None])
    predicted = [prediction_interval(sweep[:5]) for sweep in sweeps]
    inside = np.mean([i.low <= sweep[5] <= i.high for i, sweep in zip(predicted, sweeps, strict=True)])
    assert 0.93 <= covered <= 0.97
    assert 0.93 <= inside <= 0.97


def test_one_more_run_needs_two_before_it() -> None:
    with pytest.raises(ValueError, match="two runs"):
        prediction_interval([0.5])


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.sampled_from([0.9, 0.95]))
def test_wilsons_interval_is_scipys(score: tuple[int, int], confidence: float) -> None:
    interval = wilson_interval(*score, confidence)
    theirs = scipy.stats.binomtest(*score).proportion_ci(confidence, "wilson")
    assert (interval.low, interval.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)
    assert 0 <= interval.low <= score[0] / score[1] <= interval.high <= 1


def test_wilsons_interval_as_published() -> None:
    # Newcombe, Statistics in Medicine 17 (1998) 857-872, table I, method 3.
    published = {
        (81, 263): (0.2553, 0.3662),
        (15, 148): (0.0624, 0.1605),
        (0, 20): (0.0, 0.1611),
        (1, 29): (0.0061, 0.1718),
    }
    for score, bounds in published.items():
        interval = wilson_interval(*score)
        assert (round(interval.low, 4), round(interval.high, 4)) == bounds
    assert wilson_interval(20, 20).high == 1.0


@pytest.mark.parametrize("score", [(0, 0), (-1, 5), (6, 5)])
def test_what_is_no_score_has_no_interval(score: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="no score"):
        wilson_interval(*score)


def brute_force(differences: Sequence[float]) -> float:
    observed = abs(sum(differences))
    sums = [abs(sum(s * d for s, d in zip(signs, differences, strict=True)))
            for signs in itertools.product((1, -1), repeat=len(differences))]  # fmt: skip
    return sum(value >= observed - 1e-9 for value in sums) / len(sums)


def test_fishers_count_for_darwins_maize() -> None:
    p_value, exact = sign_flip_p(DARWIN)
    assert exact
    assert p_value == 2 * 863 / 2**15


@settings(max_examples=60)
@given(st.lists(st.integers(-30, 30), min_size=1, max_size=9))
def test_the_permutation_p_value_is_that_of_brute_force_and_of_scipy(images: list[int]) -> None:
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


def test_the_least_p_value_is_two_of_all_sign_changes() -> None:
    for n in (1, 2, 5, 6, 10, 33, 40):
        assert sign_flip_p([0.01 + i / 1000 for i in range(n)]) == (2 / 2**n, True)
    assert sign_flip_p([0.0, 0.0, 0.0]) == (1.0, True)
    assert sign_flip_p([0.01, -0.01]) == (1.0, True)


def test_many_pairs_are_drawn_and_said_to_be() -> None:
    generator = np.random.default_rng(3)
    for shift in (0.0, 0.3):
        differences = list(generator.normal(shift, 1, 60))
        p_value, exact = sign_flip_p(differences)
        assert not exact
        assert sign_flip_p(differences) == (p_value, exact)
        assert p_value == pytest.approx(scipy.stats.ttest_1samp(differences, 0).pvalue, abs=0.02)


def test_without_a_difference_permutation_p_values_are_uniform() -> None:
    generator = np.random.default_rng(7)
    pairs = generator.standard_t(3, (2000, 10))  # heavy tails: nothing is assumed of the distribution
    p_values = np.array([sign_flip_p(list(row))[0] for row in pairs])
    for level in (0.05, 0.1, 0.25, 0.5, 0.75):
        # What can be counted of 1,024 sign changes is near each level; four deviations of 2,000 draws.
        assert np.mean(p_values <= level) == pytest.approx(level, abs=4 * math.sqrt(level * (1 - level) / 2000) + 0.002)
    assert scipy.stats.kstest(p_values + generator.uniform(-1, 0, 2000) * 2 / 1024, "uniform").pvalue > 0.001


def test_pairs_are_of_one_seed_and_their_difference_is_the_seconds_less_the_firsts() -> None:
    first, second = [0.90, 0.95, 0.80], [0.91, 0.97, 0.83]
    found = paired_comparison(first, second)
    assert found.difference.mean == pytest.approx(0.02)
    assert found.difference.deviation == pytest.approx(0.01)
    assert found.p_value == 0.25
    back = paired_comparison(second, first)
    assert (back.difference.mean, back.p_value) == (pytest.approx(-0.02), 0.25)
    with pytest.raises(ValueError, match=r"shorter|longer"):
        paired_comparison(first, second[:2])


def models(both: int, only_first: int, only_second: int, neither: int) -> tuple[list[bool], list[bool]]:
    first = [True] * (both + only_first) + [False] * (only_second + neither)
    second = [True] * both + [False] * only_first + [True] * only_second + [False] * neither
    return first, second


def test_mcnemars_exact_test_by_hand() -> None:
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
def test_mcnemars_exact_test_is_the_binomial_one_and_the_same_the_other_way_round(b: int, c: int, same: int) -> None:
    first, second = models(same, b, c, 1)
    found, back = mcnemar(first, second), mcnemar(second, first)
    theirs = scipy.stats.binomtest(b, b + c).pvalue if b + c else 1.0
    assert found.p_value == pytest.approx(theirs)
    assert (back.p_value, back.difference) == (found.p_value, -found.difference)
    assert back.interval.low == pytest.approx(-found.interval.high)


@pytest.mark.parametrize(("b", "c"), [(0.1, 0.1), (0.05, 0.2), (0.02, 0.02)])
def test_the_interval_of_a_difference_on_the_same_images_covers_it(b: float, c: float) -> None:
    """Over all tables of fifty images, each with its probability: no simulation."""
    n, covered, total = 50, 0.0, 0.0
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


def test_holms_adjustment_by_hand() -> None:
    # Sorted: 0.005 · 4, 0.011 · 3, 0.02 · 2, 0.04 · 1, none below the one before it.
    assert holm([0.011, 0.02, 0.005, 0.04]) == pytest.approx([0.033, 0.04, 0.02, 0.04])
    assert holm([0.01, 0.02, 0.03, 0.04, 0.9]) == pytest.approx([0.05, 0.08, 0.09, 0.09, 0.9])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=10))
def test_holms_adjustment_keeps_the_order_and_lies_between_nothing_and_bonferronis(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    for p, a in zip(p_values, adjusted, strict=True):
        assert p <= a <= min(1, len(p_values) * p) + 1e-12
    assert sorted(adjusted) == [adjusted[i] for i in sorted(range(len(p_values)), key=lambda i: p_values[i])]
    assert min(adjusted) == pytest.approx(min(1, len(p_values) * min(p_values)))


@pytest.mark.parametrize(("n", "size"), [(3, 1.0), (5, 1.0), (10, 1.0), (10, 0.3), (34, 0.5), (200, 0.1), (4, 9.0)])
def test_the_power_is_that_of_simulated_t_tests(n: int, size: float) -> None:
    draws = np.random.default_rng(n).normal(size, 1, (4000, n))
    found = scipy.stats.ttest_1samp(draws, 0, axis=1)
    share = np.mean((found.pvalue < 0.05) & (found.statistic > 0))
    assert power(n, size, 1) == pytest.approx(share, abs=0.035)
    assert power(n, -size, 1) == power(n, size, 1)


@pytest.mark.parametrize(
    ("n", "shift"), [(2, 5.0), (2, 30.0), (3, 20.0), (10, 5.0), (10, 40.0), (10, 1e5), (10000, 3.0)]
)
def test_the_power_is_that_of_the_integral(n: int, shift: float) -> None:
    """Over the deviation found, which is chi-distributed; the mean found is normal around the true one."""
    t, freedom = scipy.stats.t.ppf(0.975, n - 1), n - 1
    width = 12 if freedom < 4 else 1 + 12 / math.sqrt(2 * freedom)

    def missed(s: float) -> float:
        weight = scipy.stats.chi.pdf(s * math.sqrt(freedom), freedom) * math.sqrt(freedom)
        return float(scipy.stats.norm.cdf(t * s - shift) * weight)

    expected = 1 - scipy.integrate.quad(missed, 0, width, limit=500, points=[1.0])[0]
    assert power(n, shift / math.sqrt(n), 1.0) == pytest.approx(expected, abs=1e-6)


def test_the_number_of_seeds_is_the_textbooks() -> None:
    # Cohen's d of 0.5, 0.8 and 0.2 at 5 % two-sided and 80 %: 34, 15 and 199 pairs (G*Power 3, matched pairs).
    assert [seeds_needed(d, 1.0) for d in (0.5, 0.8, 0.2)] == [34, 15, 199]
    # At 90 %: 44 for 0.5 (the same program).
    assert seeds_needed(0.5, 1.0, target_power=0.9) == 44


@given(st.floats(0.05, 20), st.floats(0.1, 3))
def test_no_fewer_seeds_would_do(difference: float, deviation: float) -> None:
    n = seeds_needed(difference, deviation)
    assert n is not None
    assert power(n, difference, deviation) >= 0.8
    assert n == 2 or power(n - 1, difference, deviation) < 0.8


def test_where_no_number_of_seeds_would_do_or_any_would() -> None:
    assert seeds_needed(0.0, 0.1) is None
    assert seeds_needed(1e-9, 0.1) is None
    assert seeds_needed(0.1, math.nan) is None
    assert seeds_needed(0.1, 0.0) == 2
    assert seeds_needed(100.0, 0.1) == 2
    assert power(1, 1.0, 1.0) == 0.0


def test_how_many_pairs_a_permutation_test_needs_at_least() -> None:
    for tests in (1, 2, 7):
        for confidence in (0.9, 0.95, 0.99):
            n = fewest_pairs(tests, confidence)
            assert tests * sign_flip_p([1.0] * n)[0] <= 1 - confidence + 1e-12
            assert tests * sign_flip_p([1.0] * (n - 1))[0] > 1 - confidence
    assert fewest_pairs() == 6


def test_how_many_images_would_tell_two_models_apart() -> None:
    # Connor's formula for shares 0.1 and 0.2 of one side alone: (1.96 √0.3 + 0.8416 √(0.3 − 0.01))² / 0.01 = 233.1.
    assert images_needed(10, 20, 100) == 234
    assert images_needed(5, 5, 100) is None
    draws = np.random.default_rng(5).multinomial(234, [0.1, 0.2, 0.7], 2000)
    share = np.mean([scipy.stats.binomtest(int(b), int(b + c)).pvalue <= 0.05 for b, c, _ in draws])
    assert share == pytest.approx(0.8, abs=0.06)


def test_an_interval_says_for_which_confidence_it_was_made() -> None:
    assert wilson_interval(5, 10, 0.9).confidence == 0.9
    assert Interval(0.0, 1.0).confidence == 0.95
