"""What several seeds make of one setting: mean, 95 % interval, worst seed and n. No torch, no files."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from lora_mnist_cli.evaluation.statistics import CONFIDENCE, mean_interval

Row = Mapping[str, Any]

OF_ONE_RUN = ("artifact", "seed", "trainable_parameters", "failed", "subsets")
"""What a result says of one run; all else of it is a setting that a seed varies under."""


def setting(result: Row) -> dict[str, Any]:
    """What a result was made with, but for its seed: its rank, and whatever else a sweep varies."""
    return {key: value for key, value in result.items() if key not in OF_ONE_RUN}


def by_setting(results: Sequence[Row]) -> Iterator[tuple[dict[str, Any], list[Row]]]:
    """The results of each setting, in the order in which they come first."""
    groups: dict[str, list[Row]] = {}
    for result in results:
        groups.setdefault(repr(setting(result)), []).append(result)
    for rows in groups.values():
        yield setting(rows[0]), rows


def summarise(results: Sequence[Row]) -> list[dict[str, Any]]:
    """A row a setting, for the command line's JSON and its tables.

    Returns:
        Its ``rank`` and whatever else it is; ``n`` runs; how many of them ``failed``; and ``subsets``, each with the
        :func:`spread` of ``accuracy`` and ``loss``. Of failed runs there are no figures: means are those of the others.
    """
    rows = []
    for settings, runs in by_setting(results):
        labels = [subset["digits"] for subset in runs[0]["subsets"]]
        seeds = [run["seed"] for run in runs]
        subsets = []
        for i, digits in enumerate(labels):
            scores = [run["subsets"][i] for run in runs]
            subsets.append(
                {
                    "digits": digits,
                    "count": scores[0]["count"],
                    "accuracy": spread([score["accuracy"] for score in scores], seeds, worst=min),
                    "loss": spread([score["loss"] for score in scores], seeds, worst=max),
                }
            )
        failed = sum(run.get("failed") is not None for run in runs)
        rows.append({**settings, "n": len(runs), "failed": failed, "subsets": subsets})
    return rows


def spread(
    figures: Sequence[float | None], seeds: Sequence[int], *, worst: Any = min, confidence: float = CONFIDENCE
) -> dict[str, Any]:
    """Mean, interval, standard deviation, worst seed and n of one figure over seeds.

    Args:
        figures: a seed each; None, or what is not finite, where a run has none.
        worst: whether the least or the greatest is the worst.
        confidence: of the interval of the mean.

    Returns:
        ``n``, of the runs that have a figure; ``mean``, ``sd``, ``low``, ``high`` (None where there are too few); and
        ``worst`` with ``worst_seed``: the first run without a figure, if there is one, as nothing is worse.
    """
    known = [(figure, seed) for figure, seed in zip(figures, seeds, strict=True) if is_figure(figure)]
    row: dict[str, Any] = dict.fromkeys(("mean", "sd", "low", "high", "worst", "worst_seed")) | {"n": len(known)}
    missing = [seed for figure, seed in zip(figures, seeds, strict=True) if not is_figure(figure)]
    if known:
        made = mean_interval([figure for figure, _ in known if figure is not None], confidence)
        row |= {"mean": made.mean, "sd": made.deviation}
        if made.interval is not None:
            row |= {"low": made.interval.low, "high": made.interval.high}
        row["worst"], row["worst_seed"] = worst(known, key=lambda pair: pair[0])
    if missing:
        row["worst"], row["worst_seed"] = None, missing[0]
    return row


def best_rate(runs: Sequence[Row]) -> dict[str, Any] | None:
    """The learning rate with the highest mean accuracy on validation images over all seeds; the lowest of equal ones.

    A rate at which a run diverged is never the best: the mean of the runs that were lucky is no mean.

    Args:
        runs: of one setting but for rate and seed, each with ``lr``, whether it ``failed``, and its ``accuracy``.

    Returns:
        ``lr``, the mean ``accuracy``, and ``edge``: ``lowest`` or ``highest`` where no rate beyond it was tried, None
        where it has neighbours. None where at no rate all runs have an accuracy.
    """
    by_rate: dict[float, list[float | None]] = {}
    for run in sorted(runs, key=lambda run: float(run["lr"])):
        by_rate.setdefault(run["lr"], []).append(None if run["failed"] else run["accuracy"])
    sound = {
        rate: math.fsum(known) / len(known)
        for rate, found in by_rate.items()
        if len(known := [each for each in found if each is not None]) == len(found)
    }
    if not sound:
        return None
    rates = list(by_rate)
    best = max(sound, key=lambda rate: sound[rate])
    edge = "lowest" if best == rates[0] else "highest" if best == rates[-1] else None
    return {"lr": best, "accuracy": sound[best], "edge": edge}


def is_figure(value: float | None) -> bool:
    """Whether there is a finite figure."""
    return value is not None and math.isfinite(value)


def plus_minus(mean: float | None, low: float | None, high: float | None, show: Callable[[float | None], str]) -> str:
    """A mean, with half the width of its interval where it has one: ``97.9 ± 0.1``.

    Args:
        show: a figure as text.
    """
    return show(mean) if low is None or high is None else f"{show(mean)} ± {show((high - low) / 2)}"
