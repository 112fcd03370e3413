"""Scores of digits and of digit sets, with the Wilson interval of a finite test set. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lora_mnist_cli.evaluation.intervals import wilson_interval
from lora_mnist_cli.settings.digits import DigitSet


def subset_scores(per_digit: Sequence[dict[str, Any]], digit_sets: Sequence[DigitSet]) -> list[dict[str, Any]]:
    """Return count, accuracy and mean cross-entropy of each digit set, from a row per digit."""
    rows = []
    for digits in digit_sets:
        chosen = [per_digit[digit] for digit in digits if per_digit[digit]["count"]]
        n = sum(row["count"] for row in chosen)
        if any(row["accuracy"] is None for row in chosen):  # a model whose training failed
            rows.append({"digits": str(digits), "count": n, "accuracy": None, "loss": None})
            continue
        finite = all(row["loss"] is not None for row in chosen)
        total = sum(row["loss"] * row["count"] for row in chosen) if finite else float("nan")
        rows.append({"digits": str(digits), **means(n, sum(map(hits, chosen)), total)})
    return rows


def scores_of_digits(per_digit: list[dict[str, Any]], digit_sets: Sequence[DigitSet]) -> dict[str, Any]:
    """Return the scores of a model, in the form of manifests and of the command line's JSON, from a row per digit."""
    return {"subsets": subset_scores(per_digit, digit_sets), "per_digit": per_digit}


def digit_means(count: Sequence[int], right: Sequence[int], loss: Sequence[float]) -> list[dict[str, Any]]:
    """Return a row per digit of its count, accuracy and mean loss, from sums over its images."""
    rows = zip(count, right, loss, strict=True)
    return [{"digit": digit, **means(n, hits, total)} for digit, (n, hits, total) in enumerate(rows)]


def means(count: int, right: int, loss: float) -> dict[str, Any]:
    """Return count, accuracy and mean loss; a figure without images, or a loss that is not finite, is None."""
    finite = count > 0 and abs(loss) < float("inf")
    return {"count": count, "accuracy": right / count if count else None, "loss": loss / count if finite else None}


def hits(row: dict[str, Any]) -> int:
    """Return how many images a score counts as right."""
    return round(float(row["accuracy"]) * int(row["count"]))


def with_intervals(scores: dict[str, Any]) -> dict[str, Any]:
    """Add the Wilson interval of each accuracy to the scores of a model."""
    return {kind: [{**row, **_bounds(row)} for row in rows] for kind, rows in scores.items()}


def _bounds(row: dict[str, Any]) -> dict[str, float | None]:
    # An imported manifest may hold any number here.
    sound = row["accuracy"] is not None and row["count"] > 0 and 0 <= row["accuracy"] <= 1
    interval = wilson_interval(hits(row), row["count"]) if sound else None
    return {f"accuracy_{end}": getattr(interval, end, None) for end in ("low", "high")}
