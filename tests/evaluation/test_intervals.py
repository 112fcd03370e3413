"""Intervals, against SciPy's own, published figures and laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from lora_mnist_cli.evaluation.intervals import mean_interval, prediction_interval, wilson_interval

figures = st.lists(st.floats(-1, 1).map(lambda x: round(x, 6)), min_size=2, max_size=12)


def test_the_interval_of_a_mean_is_students():
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
def test_the_interval_of_a_mean_is_scipys(values, confidence):
    spread = mean_interval(values, confidence)
    assert spread.interval is not None
    if len(set(values)) > 1:
        theirs = scipy.stats.ttest_1samp(values, 0).confidence_interval(confidence)
        assert (spread.interval.low, spread.interval.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)
    assert spread.interval.low <= spread.mean <= spread.interval.high


def test_a_single_run_has_a_mean_and_no_interval():
    spread = mean_interval([0.5])
    assert (spread.n, spread.mean, spread.deviation, spread.interval, spread.half_width) == (1, 0.5, None, None, None)


@pytest.mark.parametrize("values", [[], [0.5, math.nan], [math.inf]])
def test_what_is_no_figure_has_no_mean(values):
    with pytest.raises(ValueError, match="finite"):
        mean_interval(values)


@given(figures, st.floats(-5, 5), st.floats(0.1, 10))
def test_intervals_move_and_stretch_with_the_figures(values, shift, factor):
    for interval in (lambda v: mean_interval(v).interval, prediction_interval):
        plain, moved = interval(values), interval([factor * v + shift for v in values])
        assert (moved.low, moved.high) == pytest.approx(
            (factor * plain.low + shift, factor * plain.high + shift), abs=1e-6
        )  # fmt: skip


@given(figures)
def test_one_more_run_scatters_more_than_the_mean(values):
    mean, one = mean_interval(values).interval, prediction_interval(values)
    assert mean is not None
    assert one.high - one.low == pytest.approx((mean.high - mean.low) * math.sqrt(len(values) + 1), abs=1e-12)


def test_the_interval_of_the_mean_covers_it_and_that_of_one_more_run_covers_that():
    generator = np.random.default_rng(1)
    sweeps = generator.normal(0.97, 0.003, (2000, 6))
    means = [mean_interval(sweep[:5]).interval for sweep in sweeps]
    covered = np.mean([i.low <= 0.97 <= i.high for i in means if i is not None])
    predicted = [prediction_interval(sweep[:5]) for sweep in sweeps]
    inside = np.mean([i.low <= sweep[5] <= i.high for i, sweep in zip(predicted, sweeps, strict=True)])
    assert 0.93 <= covered <= 0.97
    assert 0.93 <= inside <= 0.97


def test_one_more_run_needs_two_before_it():
    with pytest.raises(ValueError, match="two runs"):
        prediction_interval([0.5])


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.sampled_from([0.9, 0.95]))
def test_wilsons_interval_is_scipys(score, confidence):
    interval = wilson_interval(*score, confidence)
    theirs = scipy.stats.binomtest(*score).proportion_ci(confidence, "wilson")
    assert (interval.low, interval.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)
    assert 0 <= interval.low <= score[0] / score[1] <= interval.high <= 1


def test_wilsons_interval_as_published():
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
def test_what_is_no_score_has_no_interval(score):
    with pytest.raises(ValueError, match="no score"):
        wilson_interval(*score)
