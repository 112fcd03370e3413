"""Validation accuracy by learning rate: which rate each rank learns best with, and where training diverges."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, NullLocator
from matplotlib.transforms import ScaledTranslation

from lora_mnist_cli.evaluation.intervals import mean_interval
from lora_mnist_cli.evaluation.seeds import best_rate
from lora_mnist_cli.plots import style

# Points: about how wide the axes are, and how far apart the ranks of one rate are drawn, at most.
_AXES_WIDTH, _BESIDE = 390.0, 6.0
_STRIP = 0.15
_BEST = "*"
_BEYOND = {"lowest": "≤ ", "highest": "≥ "}
"""Before a best rate that is the last of those that were tried: there may be a better one beyond it."""
_ROWS = 3
"""Of crosses at the foot, so that those of neighbouring ranks stay apart."""


@style.house_style()
def draw(
    rows: Sequence[Mapping[str, Any]], *, digits: str, title: str, power: float = 0.0, unranked: str = "no rank"
) -> Figure:
    """A line a rank, each point the mean over seeds with its 95 % interval, every seed faintly; the best rate of each
    rank has a star.

    A rate at which a run diverged is never the best: the mean of the runs that were lucky is no mean. Diverged runs
    are crosses at the foot of the picture, bold where every seed diverged.

    Args:
        rows: a run each, in any order: ``rank``, ``lr``, ``seed``, ``accuracy`` on the validation images (a fraction,
            or None) and whether it ``failed``.
        digits: what the adapters learned and were validated on, in canonical form.
        power: of the rank that the rates were divided by in training.
        unranked: what a line of rank 0 is called: the method, as one that has no rank.
    """
    figure = style.new_figure(title, height=4.9)
    axes = figure.add_subplot()
    axes.set_xscale("log")
    rates, ranks = (sorted({row[key] for row in rows}) for key in ("lr", "rank"))
    step = min(_BESIDE, 0.5 * _AXES_WIDTH / max(1, len(rates) * len(ranks)))
    seen: list[float] = []
    crosses: set[bool] = set()
    for index, (rank, role) in enumerate(zip(ranks, style.series(len(ranks)), strict=True)):
        aside = ScaledTranslation(step * (index - (len(ranks) - 1) / 2) / 72, 0, figure.dpi_scale_trans)
        own = {rate: [row for row in rows if (row["rank"], row["lr"]) == (rank, rate)] for rate in rates}
        extents, label = _draw_rank(axes, own, f"rank {rank}" if rank else unranked, role, aside)
        seen += extents
        if index not in style.named(len(ranks)):
            label.set_label("_nolegend_")
        for rate, runs in own.items():
            if failed := sum(run["failed"] for run in runs):
                _draw_cross(axes, rate, index % _ROWS, role, aside, every=failed == len(runs))
                crosses.add(failed == len(runs))
    _limit(axes, seen, rates, diverged=bool(crosses))
    if not rows:
        style.say_nothing_to_draw(axes, "no adapter")
    unequal = f" (--lr; in training divided by rank^{power:g})" if power else ""
    axes.set(xlabel=f"Learning rate{unequal}, log scale", ylabel=f"Validation accuracy on {digits} (%)")
    axes.set_title(_subtitle(rows), color=style.MUTED)
    _legend(axes, crosses)
    style.tidy(axes)
    return figure


def _draw_rank(
    axes: Axes, own: Mapping[float, Sequence[Mapping[str, Any]]], name: str, role: style.Role, aside: Any
) -> tuple[list[float], Any]:
    """Draw a rank's means and intervals; returns all heights that they reach, and what bears the line's name."""
    points = {
        rate: mean_interval([100 * run["accuracy"] for run in runs if run["accuracy"] is not None])
        for rate, runs in own.items()
        if any(run["accuracy"] is not None for run in runs)
    }
    place = axes.transData + aside
    means = [point.mean for point in points.values()]
    intervals = [point.interval for point in points.values()]
    # Cut where no accuracy can be: the interval of two runs is wide.
    reaches = [
        (0.0, 0.0) if i is None else (mean - max(0.0, i.low), min(100.0, i.high) - mean)
        for mean, i in zip(means, intervals, strict=True)
    ]
    look: dict[str, Any] = {"color": role.colour, "marker": role.marker, "transform": place}
    (line,) = axes.plot(list(points), means, **look, linewidth=1.6, markersize=5)
    runs = [(rate, 100 * run["accuracy"]) for rate in points for run in own[rate] if run["accuracy"] is not None]
    if len(runs) > len(points):
        rates, values = zip(*runs, strict=True)
        axes.plot(rates, values, **look, linestyle="none", markersize=3.5, markeredgewidth=0, alpha=0.4)
    for rate, mean, (below, above) in zip(points, means, reaches, strict=True):
        if below or above:
            ends = [mean - below, mean + above]
            axes.plot([rate] * 2, ends, color=role.colour, marker="_", linewidth=1.1, transform=place)
    found = best_rate([run for runs in own.values() for run in runs])
    if found is None:
        line.set_label(name)
        return _extents(means, reaches) + [value for _, value in runs], line
    best = found["lr"]
    axes.plot(
        [best], [points[best].mean], color=role.colour, marker=_BEST, markersize=15, markeredgecolor="white",
        markeredgewidth=0.6, linestyle="none", transform=place, zorder=4,
    )  # fmt: skip
    beyond = _BEYOND.get(found["edge"], "")
    line.set_label(f"{name}: {beyond}{best:g} ({points[best].mean:.1f} %)")
    return _extents(means, reaches) + [value for _, value in runs], line


def _extents(means: Sequence[float], reaches: Sequence[tuple[float, float]]) -> list[float]:
    ends = [(mean - low, mean + high) for mean, (low, high) in zip(means, reaches, strict=True)]
    return [value for pair in ends for value in pair]


def _draw_cross(axes: Axes, rate: float, row: int, role: style.Role, aside: Any, *, every: bool) -> None:
    axes.plot(
        [rate], [0.03 + 0.045 * row], color=role.colour, linestyle="none", marker="x", markersize=8 if every else 6,
        markeredgewidth=3.0 if every else 1.2, transform=axes.get_xaxis_transform() + aside,
    )  # fmt: skip


def _limit(axes: Axes, seen: Sequence[float], rates: Sequence[float], *, diverged: bool) -> None:
    low, high = (min(seen), max(seen)) if seen else (0.0, 100.0)
    room = max(0.07 * (high - low), 0.5)
    low, high = max(low - room, -3.0), min(high + room, 103.0)
    if diverged:  # a strip of its own for the crosses, below all accuracies
        low -= 1.25 * _STRIP * (high - low)
        axes.add_patch(Rectangle((0, 0), 1, _STRIP, color=style.FAINT, zorder=0, transform=axes.transAxes))
    axes.set_ylim(low, high)
    axes.set_yticks(
        [tick for tick in axes.get_yticks() if max(low + _STRIP * (high - low) * diverged, 0) <= tick <= 100]
    )
    if not rates:
        axes.set(xlim=(1e-4, 1e-1))
        return
    first, last = math.log10(rates[0]), math.log10(rates[-1])
    margin = max(0.08 * (last - first), 0.1)
    axes.set_xlim(10 ** (first - margin), 10 ** (last + margin))
    shown: list[float] = []
    for rate in rates:
        if not shown or math.log10(rate / shown[-1]) > (last - first) / 9:
            shown.append(rate)
    axes.xaxis.set_major_locator(FixedLocator(shown))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(shown, [f"{rate:g}" for rate in shown])


def _subtitle(rows: Sequence[Mapping[str, Any]]) -> str:
    counts = dict.fromkeys(((row["rank"], row["lr"]) for row in rows), 0)
    for row in rows:
        counts[row["rank"], row["lr"]] += 1
    most, least = max(counts.values(), default=0), min(counts.values(), default=0)
    if most <= 1:
        return "one seed; at the last epoch"
    n = f"{most}" if most == least else f"{least} to {most}"
    return f"mean and its 95 % interval, n = {n} seeds, each faintly; at the last epoch"


def _legend(axes: Axes, crosses: set[bool]) -> None:
    look: dict[str, Any] = {"color": style.MUTED, "linestyle": "none"}
    axes.plot([], [], **look, marker=_BEST, markersize=12, label="the best rate")
    for every in sorted(crosses):
        axes.plot(
            [], [], **look, marker="x", markersize=8 if every else 6, markeredgewidth=3.0 if every else 1.2,
            label="every seed diverged" if every else "some seeds diverged",
        )  # fmt: skip
    labels = axes.get_legend_handles_labels()[1]
    if any(beyond in label for label in labels for beyond in _BEYOND.values()):
        axes.plot([], [], linestyle="none", label="≤ ≥ none tried beyond")
    style.legend_beside(axes, title="best rate (accuracy)")
