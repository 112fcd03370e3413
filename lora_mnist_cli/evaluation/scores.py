"""Scores by digit become scores by digit set, with what the finite test set leaves open. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from lora_mnist_cli.evaluation.statistics import wilson_interval
from lora_mnist_cli.settings.digits import DigitSet


def subset_scores(per_digit: Sequence[dict[str, Any]], digit_sets: Sequence[DigitSet]) -> list[dict[str, Any]]:
    """Count, accuracy and mean cross-entropy over the images of each digit set, from a row a digit."""
    rows = []
    for digits in digit_sets:
        chosen = [per_digit[digit] for digit in digits if per_digit[digit]["count"]]
        n = sum(row["count"] for row in chosen)
        if any(row["accuracy"] is None for row in chosen):  # a model whose training failed
            rows.append({"digits": str(digits), "count": n, "accuracy": None, "loss": None})
            continue
        known = all(row["loss"] is not None for row in chosen)
        total = sum(row["loss"] * row["count"] for row in chosen) if known else float("nan")
        rows.append({"digits": str(digits), **means(n, sum(map(hits, chosen)), total)})
    return rows


def means(count: int, right: int, loss: float) -> dict[str, Any]:
    """Count, accuracy and mean loss; None for what has no images, or a loss that is not finite."""
    finite = count > 0 and abs(loss) < float("inf")
    return {
        "count": count,
        "accuracy": right / count if count else None,
        "loss": loss / count if finite else None,
    }


def hits(row: dict[str, Any]) -> int:
    """How many images a score's accuracy stands for."""
    return round(float(row["accuracy"]) * int(row["count"]))


def with_intervals(scores: dict[str, Any]) -> dict[str, Any]:
    """The scores of one model, each accuracy with the Wilson interval of a finite test set beside it."""
    return {kind: _with_intervals(rows) for kind, rows in scores.items()}


def _with_intervals(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    told = []
    for row in rows:
        # A manifest from elsewhere may say of an accuracy what it likes.
        sound = row["accuracy"] is not None and row["count"] > 0 and 0 <= row["accuracy"] <= 1
        interval = wilson_interval(hits(row), row["count"]) if sound else None
        low, high = (None, None) if interval is None else (interval.low, interval.high)
        told.append({**row, "accuracy_low": low, "accuracy_high": high})
    return told
