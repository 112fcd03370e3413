"""What makes a verdict: made-up figures that hold, that don't, and that can't tell; and the words of every claim."""

from __future__ import annotations

import math
import re
from types import SimpleNamespace
from typing import Any

import pytest
import scipy.stats

from lora_mnist_cli.settings.choices import CLAIMS
from lora_mnist_cli.stages.papers import report
from lora_mnist_cli.stages.papers.claim import FAILS, HOLDS, UNKNOWN, Figure, Measured, mean_lines, overall
from lora_mnist_cli.stages.papers.claims.intrinsic_dimension import between, crossing
from lora_mnist_cli.stages.papers.claims.less_forgetting import at_level
from lora_mnist_cli.stages.papers.grids import best_rate, moments, ratio
from lora_mnist_cli.stages.papers.study import claim_named

LESS = Figure("less", "less", "points", high=0.0)
AMONG = Figure("among", "a ratio", "times", 0.5, 2.0)


def near(middle: float, width: float, count: int = 10) -> list[float]:
    """Figures around a middle, by turns above and below it."""
    return [middle + width * (-1) ** number for number in range(count)]


@pytest.mark.parametrize(("figure", "values", "verdict"), [
    (LESS, near(-0.02, 0.005), HOLDS),
    (LESS, near(0.02, 0.005), FAILS),
    (LESS, near(-0.001, 0.02), UNKNOWN),
    (LESS, [0.0] * 10, UNKNOWN),
    (LESS, near(-0.02, 0.005, 4), UNKNOWN),  # too few seeds
    (LESS, [-0.02], UNKNOWN),
    (LESS, [*near(-0.02, 0.005, 9), None], UNKNOWN),
    (LESS, [*near(-0.02, 0.005, 9), math.nan], UNKNOWN),
    (AMONG, near(1.0, 0.1), HOLDS),
    (AMONG, near(4.0, 0.1), FAILS),
    (AMONG, near(0.1, 0.01), FAILS),
    (AMONG, near(2.0, 0.3), UNKNOWN),
    (AMONG, [1.0] * 9 + [0.0], UNKNOWN),  # no logarithm
    (Figure("shown", "only shown"), near(1.0, 0.1), None),
])  # fmt: skip
def test_a_figure_agrees_where_its_whole_interval_is_in_the_range(figure, values, verdict):
    row = figure.summary(values)
    assert (row["verdict"], row["n"]) == (verdict, len(values))
    assert None not in row["each"] or row["mean"] is None


def test_the_interval_that_decides_is_wider_than_the_one_that_is_shown():
    """Between them lies a mean whose 95 % interval is below 0, and whose 99 % interval is not."""
    values = near(-1.0, 1.0)
    low, high = scipy.stats.t.interval(0.95, 9, *_mean_and_error(values))
    shift = -(scipy.stats.t.interval(0.99, 9, *_mean_and_error(values))[1] + high) / 2
    moved = [value + shift for value in values]
    row = Figure("x", "x", high=0.0).summary(moved)
    assert (row["low"], row["high"]) == pytest.approx((low + shift, high + shift))
    assert row["high"] < 0
    assert row["verdict"] == UNKNOWN


def _mean_and_error(values: list[float]) -> tuple[float, float]:
    return float(scipy.stats.tmean(values)), float(scipy.stats.sem(values))


def test_ratios_are_averaged_on_their_logarithms():
    row = AMONG.summary([0.25, 4.0] * 5)
    assert row["mean"] == pytest.approx(1.0)
    assert row["low"] * row["high"] == pytest.approx(1.0)


@pytest.mark.parametrize(("verdicts", "whole"), [
    ([HOLDS, None, HOLDS], HOLDS), ([HOLDS, UNKNOWN], UNKNOWN), ([FAILS, UNKNOWN, HOLDS], FAILS),
])  # fmt: skip
def test_a_claim_holds_where_all_its_figures_agree(verdicts, whole):
    assert overall(verdicts) == whole


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_says_everything_and_its_figures_decide(name):
    claim = claim_named(name)
    for words in (claim.claim, claim.source, claim.differs, claim.run, claim.refuted):
        assert len(words) > 20
    assert re.search(r"arXiv:\d{4}\.\d{5}", claim.source)
    assert any(figure.decides for figure in claim.figures)
    assert claim.panels
    agreeing, disagreeing = {}, {}
    for figure in claim.figures:
        tried = [x for x in (0.75, -0.5, 10.0, 0.01, -0.005, 0.0, 100.0, -100.0) if x > 0 or figure.unit != "times"]
        agreeing[figure.key] = next(x for x in tried if figure.verdict(x, x) == HOLDS)
        disagreeing[figure.key] = next((x for x in tried if figure.verdict(x, x) == FAILS), 1.0)
    curves: dict[str, Any] = {panel.key: {"line": [(1.0, 0.5), (2.0, 0.6)]} for panel in claim.panels}
    for figures, verdict in ((agreeing, HOLDS), (disagreeing, FAILS)):
        outcome = claim.outcome([Measured(figures, curves)] * 5)
        assert outcome["verdict"] == verdict
        every, deciding = (report.rows([outcome | {"name": name}], deciding=only) for only in (False, True))
        assert len(every) == len(claim.figures)
        assert [row for row in every if row[4] != "–"][1:] == deciding[1:]
        assert (every[0][0], every[0][-1], deciding[0][0]) == (name, verdict, name)


def test_lines_are_means_over_seeds_and_a_missing_figure_leaves_a_gap():
    seeds = [{"a": [(1.0, 1.0), (2.0, None), ("b", 4.0)]}, {"a": [(3.0, 4.0), (2.0, 1.0), ("b", 4.0)]}]
    (line,) = mean_lines(seeds)
    assert [point["x"] for point in line["points"]] == [2.0, 2.0, "b"]
    assert [point["mean"] for point in line["points"]] == [2.5, None, 4.0]
    (line,) = mean_lines(seeds, log=True)
    assert line["points"][0]["mean"] == pytest.approx(2.0)


def run(rate: float, loss: float) -> Any:
    return SimpleNamespace(config=SimpleNamespace(lr=rate), val_losses=[9.0, loss])


def test_the_best_rate_is_the_vertex_of_a_parabola():
    grid = [run(rate, math.exp(math.log(rate / 0.003) ** 2)) for rate in (0.001, 0.002, 0.004, 0.008)]
    assert best_rate(grid[::-1]) == pytest.approx(0.003)
    assert best_rate(grid[2:]) == pytest.approx(0.004)  # at the end of a grid
    assert best_rate([grid[0], run(0.002, 1.0), run(0.004, math.nan)]) == pytest.approx(0.002)
    assert best_rate([run(0.1, math.inf)]) is None
    assert ratio(None, 1.0) is None
    assert ratio(3.0, 2.0) == 1.5
    assert ratio(3.0, 0.0) is None
    assert ratio(math.inf, 2.0) is None


def test_moments_double_up_to_the_end():
    assert moments(20) == [1, 2, 4, 8, 16, 20]
    assert moments(16, first=4) == [4, 8, 16]
    assert moments(20, last=4) == [1, 2, 4, 20]


def test_levels_are_reached_between_moments():
    assert at_level([0.2, 0.6, 1.0], [1.0, 0.8, 0.0], 0.8) == pytest.approx(0.4)
    assert at_level([0.9], [0.7], 0.8) == 0.7
    assert at_level([0.2], [0.7], 0.8) is None
    assert crossing((10, 1000), (0.0, 1.0), 0.5) == pytest.approx(100)
    assert crossing((10, 1000), (0.6, 1.0), 0.5) == 10
    assert crossing((10, 1000), (0.0, 0.4), 0.5) is None
    assert between((10, 1000), (0.0, 1.0), 100) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="outside"):
        between((10, 1000), (0.0, 1.0), 1)


@pytest.mark.parametrize(("unit", "mean", "low", "high", "text"), [
    ("points", -0.0123, -0.02, -0.0046, "-1.23 ± 0.77 points"), ("%", 0.01, 0.005, 0.015, "1.00 ± 0.50 %"),
    ("times", 2.0, 1.0, 4.0, "2 (1 to 4) ×"), ("", 3.25, 3.0, 3.5, "3.25 ± 0.25"), ("", None, None, None, "–"),
    ("times", 2.0, None, None, "2×"),
])  # fmt: skip
def test_a_figure_is_written_with_its_interval(unit, mean, low, high, text):
    assert report.measured({"unit": unit, "mean": mean, "low": low, "high": high}) == text


@pytest.mark.parametrize(("unit", "low", "high", "text"), [
    ("points", None, -0.01, "below -1 points"), ("times", 0.5, 2.0, "0.5 to 2 ×"), ("%", None, 0.02, "below 2 %"),
    ("", 0.0, None, "above 0"), ("", None, None, "–"),
])  # fmt: skip
def test_a_prediction_is_written_as_a_range(unit, low, high, text):
    assert report.predicted({"unit": unit, "predicted_low": low, "predicted_high": high}) == text
