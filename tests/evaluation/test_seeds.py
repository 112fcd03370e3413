"""Means over seeds: their intervals hold nothing impossible, and are written by one rule."""

from __future__ import annotations

import pytest

from lora_mnist_cli.evaluation.intervals import ACCURACIES, DIFFERENCES, LOSSES, mean_interval
from lora_mnist_cli.evaluation.seeds import plus_minus, spread


def percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.2f}"


@pytest.mark.parametrize(
    ("values", "possible", "low", "high"),
    [
        ([0.64, 0.86, 0.88], ACCURACIES, None, 1.0),
        ([0.0, 0.01, 0.03], ACCURACIES, 0.0, None),
        ([0.2, 0.3, 1.1], LOSSES, 0.0, None),
        ([-0.1, 0.1, 0.0], DIFFERENCES, None, None),
        ([0.9, 0.91, 0.92], ACCURACIES, None, None),
    ],
)
def test_no_interval_passes_the_ends_of_what_is_possible(values, possible, low, high):
    row, whole = spread(values, [0, 1, 2], possible=possible), mean_interval(values).interval
    assert row["low"] == (whole.low if low is None else low)
    assert row["high"] == (whole.high if high is None else high)
    assert possible[0] <= row["low"] <= row["mean"] <= row["high"] <= possible[1]


@pytest.mark.parametrize(
    ("mean", "low", "high", "shown"),
    [
        (0.979, 0.978, 0.980, "97.90 ± 0.10"),
        (0.79, 0.46, 1.0, "79.00 (46.00 to 100.00)"),
        (1.0, 1.0, 1.0, "100.00 ± 0.00"),
        (0.5, None, None, "50.00"),
        (None, None, None, "–"),
    ],
)
def test_an_interval_that_was_cut_has_its_ends_and_others_half_their_width(mean, low, high, shown):
    assert plus_minus(mean, low, high, percent) == shown
