"""Results of one setting over several seeds: mean, 95 % interval, worst seed and n. No torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from lora_mnist_cli.evaluation.intervals import ACCURACIES, CONFIDENCE, LOSSES, mean_interval

Row = Mapping[str, Any]

OF_ONE_RUN = ("artifact", "seed", "trainable_parameters", "failed", "subsets", "last_epoch")
"""Keys of a result that belong to one run; all others are its setting."""
BEYOND = {"lowest": "≤ ", "highest": "≥ "}
"""Edge (see :func:`best_rate`) → the sign before a rate that is the last one tried: one beyond it may be better."""


def setting(result: Row) -> dict[str, Any]:
    """Return the setting of a result, without its seed: its rank, and everything else that a sweep varies."""
    return {key: value for key, value in result.items() if key not in OF_ONE_RUN}


def by_setting(results: Sequence[Row]) -> Iterator[tuple[dict[str, Any], list[Row]]]:
    """Group results by setting, in the order of first appearance."""
    groups: dict[str, list[Row]] = {}
    for result in results:
        groups.setdefault(repr(setting(result)), []).append(result)
    for rows in groups.values():
        yield setting(rows[0]), rows


def summarise(results: Sequence[Row]) -> list[dict[str, Any]]:
    """Summarise results, a row per setting, for the command line's JSON and tables.

    A row has the setting with its ``rank``; ``n`` runs; how many of them ``failed``; and ``subsets``, each with the
    :func:`spread` of ``accuracy`` and ``loss``. Failed runs have no figures, so means are over the others.
    """
    rows = []
    for settings, runs in by_setting(results):
        seeds = [run["seed"] for run in runs]
        subsets = [
            {"digits": scores[0]["digits"], "count": scores[0]["count"]}
            | {
                what: spread([s[what] for s in scores], seeds, worst=w, possible=ends)
                for what, w, ends in (("accuracy", min, ACCURACIES), ("loss", max, LOSSES))
            }
            for scores in zip(*(run["subsets"] for run in runs), strict=True)
        ]
        failed = sum(run.get("failed") is not None for run in runs)
        rows.append({**settings, "n": len(runs), "failed": failed, "subsets": subsets})
    return rows


def spread(
    figures: Sequence[float | None], seeds: Sequence[int], *, possible: tuple[float, float], worst: Any = min,
    confidence: float = CONFIDENCE,
) -> dict[str, Any]:  # fmt: skip
    """Return mean, interval, standard deviation, worst seed and n of one figure over seeds.

    A run without a figure has None, or a number that is not finite. ``n`` counts the others; ``mean``, ``sd``, ``low``
    and ``high`` are None for too few of them. The interval is cut at the ends of what is ``possible``. ``worst``, the
    ``min`` or ``max``, comes with ``worst_seed``: the first run without a figure where there is one, because nothing is
    worse.
    """
    finite = [(f, seed) for f, seed in zip(figures, seeds, strict=True) if f is not None and math.isfinite(f)]
    row: dict[str, Any] = dict.fromkeys(("mean", "sd", "low", "high", "worst", "worst_seed")) | {"n": len(finite)}
    missing = [seed for figure, seed in zip(figures, seeds, strict=True) if not is_figure(figure)]
    if finite:
        over_seeds = mean_interval([figure for figure, _ in finite], confidence)
        row |= {"mean": over_seeds.mean, "sd": over_seeds.deviation}
        if over_seeds.interval is not None:
            interval = over_seeds.interval.within(*possible)
            row |= {"low": interval.low, "high": interval.high}
        row["worst"], row["worst_seed"] = worst(finite, key=lambda pair: pair[0])
    if missing:
        row["worst"], row["worst_seed"] = None, missing[0]
    return row


def best_rate(runs: Sequence[Row]) -> dict[str, Any] | None:
    """Return the learning rate with the highest mean validation accuracy over all seeds; of equal ones the lowest.

    A rate at which a run diverged is never the best: the mean of the lucky runs says nothing. The runs are of one
    setting except rate and seed, each with ``lr``, whether it ``failed``, and its ``accuracy``. ``edge`` is ``lowest``
    or ``highest`` where no rate beyond was tried, else None. None where no rate has an accuracy for all its runs.
    """
    by_rate: dict[float, list[float | None]] = {}
    for run in sorted(runs, key=lambda run: float(run["lr"])):
        by_rate.setdefault(run["lr"], []).append(None if run["failed"] else run["accuracy"])
    means = {
        rate: math.fsum(finite) / len(finite)
        for rate, accuracies in by_rate.items()
        if len(finite := [accuracy for accuracy in accuracies if accuracy is not None]) == len(accuracies)
    }
    if not means:
        return None
    rates = list(by_rate)
    best = max(means, key=lambda rate: means[rate])
    edge = "lowest" if best == rates[0] else "highest" if best == rates[-1] else None
    return {"lr": best, "accuracy": means[best], "edge": edge}


def is_figure(value: float | None) -> bool:
    """Tell whether a value is a finite figure."""
    return value is not None and math.isfinite(value)


def plus_minus(mean: float | None, low: float | None, high: float | None, show: Callable[[float | None], str]) -> str:
    """Write a mean, with half the width of its interval where it has one: ``97.9 ± 0.1``; ``show`` writes a figure.

    An interval that was cut at what is possible is not the same on both sides, and has its ends: ``79 (46 to 100)``.
    """
    if mean is None or low is None or high is None:
        return show(mean)
    if not math.isclose(high - mean, mean - low, rel_tol=1e-6, abs_tol=1e-9):
        return f"{show(mean)} ({show(low)} to {show(high)})"
    return f"{show(mean)} ± {show((high - low) / 2)}"
