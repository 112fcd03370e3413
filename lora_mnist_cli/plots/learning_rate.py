"""Validation accuracy by learning rate: the best rate of each rank, and where training diverges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.transforms import ScaledTranslation

from lora_mnist_cli.evaluation.seeds import BEYOND, best_rate
from lora_mnist_cli.plots import style
from lora_mnist_cli.plots.scores import SeedPercents

Runs = Sequence[Mapping[str, Any]]

# Points: about how wide the axes are, and how far apart the ranks of one rate are drawn, at most.
_AXES_WIDTH, _BESIDE = 340.0, 14.0
_STRIP = 0.15
"""The height of the strip for the crosses, as a share of the axes."""
_ROWS = 3
"""The number of rows of crosses, which keep those of neighbouring ranks apart."""
_BEST = "*"
_DOUBT = " ?"
_MOST_TICKS = 9
_CROSS: dict[bool, dict[str, Any]] = {
    False: {"marker": "x", "markersize": 6, "markeredgewidth": 1.2},
    True: {"marker": "x", "markersize": 8, "markeredgewidth": 3.0},
}
"""Whether every seed diverged → the cross."""


@style.house_style()
def draw(
    rows: Runs, *, digits: str, title: str, subtitle: str = "", power: float = 0.0,
    unranked: str = "no rank",
) -> Figure:  # fmt: skip
    """Draw a line per rank: means over seeds with their 95 % intervals, every seed faintly, a star at the best rate.

    Each rate is a column, in which the ranks stand side by side: no place within it is another rate. A question mark
    is at a best rate whose interval overlaps that of another one, which may be as good.

    A rate at which a run diverged is never the best: a mean over the other runs would be too good. Diverged runs
    are crosses at the foot of the picture, bold where every seed diverged.

    Args:
        rows: one per run, in any order: ``rank``, ``lr``, ``seed``, ``accuracy`` on the validation images (a fraction,
            or None) and whether it ``failed``.
        digits: digit set that the adapters learned and were validated on, in canonical form.
        power: in training the rates were divided by the rank to this power.
        unranked: the name of the line of rank 0: a method without a rank.
    """
    figure = style.new_figure(title, height=4.6, subtitle="; ".join(filter(None, (subtitle, _note(rows)))))
    axes = figure.add_subplot()
    rates, ranks = (sorted({row[key] for row in rows}) for key in ("lr", "rank"))
    column = {rate: place for place, rate in enumerate(rates)}
    for place in range(1, len(rates)):
        axes.axvline(place - 0.5, color=style.FAINT, linewidth=1.6, zorder=0)
    step = min(_BESIDE, 0.75 * _AXES_WIDTH / max(1, len(rates)) / max(1, len(ranks)))
    named = style.named(len(ranks))
    heights: list[float] = []
    crosses: set[bool] = set()
    for index, (rank, role) in enumerate(zip(ranks, style.series(len(ranks)), strict=True)):
        aside = ScaledTranslation(step * (index - (len(ranks) - 1) / 2) / 72, 0, figure.dpi_scale_trans)
        by_rate = {rate: [row for row in rows if (row["rank"], row["lr"]) == (rank, rate)] for rate in rates}
        percents = {
            column[rate]: SeedPercents(tuple(accuracies))
            for rate, runs in by_rate.items()
            if (accuracies := [100 * run["accuracy"] for run in runs if run["accuracy"] is not None])
        }
        heights += [height for some in percents.values() for height in some.extent]
        line = _draw_rank(axes, percents, role, axes.transData + aside)
        name = f"rank {rank}" if rank else unranked
        best = best_rate([run for runs in by_rate.values() for run in runs])
        if best is not None:
            place = column[best["lr"]]
            mean = percents[place].mean
            star: dict[str, Any] = {"marker": _BEST, "markersize": min(13.0, max(10.0, step)), "zorder": 4}
            star |= {"color": role.colour, "markeredgecolor": "white", "markeredgewidth": 0.6}
            axes.plot([place], [mean], **star, transform=axes.transData + aside)
            doubt = _DOUBT if _has_rival(percents, place) else ""
            name += f": {BEYOND.get(best['edge'], '')}{best['lr']:g} ({mean:.1f} %){doubt}"
        line.set_label(name if index in named else "_nolegend_")
        by_column = {column[rate]: runs for rate, runs in by_rate.items()}
        foot = axes.get_xaxis_transform() + aside
        crosses |= _draw_crosses(axes, by_column, 0.03 + 0.045 * (index % _ROWS), role.colour, foot)
    _limit(axes, heights, rates, diverged=bool(crosses))
    if not rows:
        style.say_nothing_to_draw(axes, "no adapter")
    divided = f" (--lr; in training divided by rank^{power:g})" if power else ""
    axes.set(
        xlabel=f"Learning rate{divided}, a column each, ranks side by side",
        ylabel=f"Validation accuracy on {digits} (%)",
    )
    _legend(axes, crosses)
    style.tidy(axes)
    return figure


def _has_rival(percents: Mapping[int, SeedPercents], best: int) -> bool:
    """Tell whether the interval of another rate's mean overlaps that of the best one, so that the data can't tell."""
    low, high = percents[best].interval
    return any(
        some.interval[0] <= high and low <= some.interval[1]
        for place, some in percents.items()
        if place != best and len(some.values) > 1 and len(percents[best].values) > 1
    )


def _draw_rank(axes: Axes, percents: Mapping[int, SeedPercents], role: style.Role, place: Any) -> Line2D:
    """Draw a rank's means and intervals by column, and every seed faintly; return the line of the means."""
    look: dict[str, Any] = {"color": role.colour, "marker": role.marker, "transform": place}
    means = [some.mean for some in percents.values()]
    (line,) = axes.plot(list(percents), means, **look, linewidth=1.6, markersize=5)
    seeds = [(column, value) for column, some in percents.items() for value in some.values]
    if len(seeds) > len(percents):
        axes.plot(*zip(*seeds, strict=True), **look, linestyle="none", markersize=4.5, markeredgewidth=0, alpha=0.45)
    for column, some in percents.items():
        low, high = some.interval
        if low < high:
            axes.plot([column] * 2, [low, high], color=role.colour, marker="_", linewidth=1.1, transform=place)
    return line


def _draw_crosses(axes: Axes, by_column: Mapping[int, Runs], height: float, colour: str, place: Any) -> set[bool]:
    """Draw a cross where runs of a rank diverged; return whether every seed did, of each."""
    drawn: set[bool] = set()
    for column, runs in by_column.items():
        if failed := sum(run["failed"] for run in runs):
            every = failed == len(runs)
            axes.plot([column], [height], color=colour, linestyle="none", transform=place, **_CROSS[every])
            drawn.add(every)
    return drawn


def _limit(axes: Axes, seen: Sequence[float], rates: Sequence[float], *, diverged: bool) -> None:
    low, high = (min(seen), max(seen)) if seen else (0.0, 100.0)
    room = max(0.07 * (high - low), 0.5)
    low, high = max(low - room, -3.0), min(high + room, 103.0)
    if diverged:  # a strip for the crosses, below all accuracies
        low -= 1.25 * _STRIP * (high - low)
        axes.add_patch(Rectangle((0, 0), 1, _STRIP, color=style.FAINT, zorder=0, transform=axes.transAxes))
    axes.set_ylim(low, high)
    axes.set_yticks(
        [tick for tick in axes.get_yticks() if max(low + _STRIP * (high - low) * diverged, 0) <= tick <= 100]
    )
    axes.set_xlim(-0.5, max(1, len(rates)) - 0.5)
    shown = range(0, len(rates), 1 + len(rates) // _MOST_TICKS)
    axes.set_xticks(shown, [f"{rates[place]:g}" for place in shown])
    axes.grid(visible=False, axis="x")


def _note(rows: Runs) -> str:
    counts = Counter((row["rank"], row["lr"]) for row in rows).values()
    most, least = max(counts, default=0), min(counts, default=0)
    if most <= 1:
        return "one seed; at the last epoch"
    n = f"{most}" if most == least else f"{least} to {most}"
    return f"means of {n} seeds with their 95 % intervals, every seed faintly; at the last epoch"


def _legend(axes: Axes, crosses: set[bool]) -> None:
    look: dict[str, Any] = {"color": style.MUTED, "linestyle": "none"}
    style.legend_entry(axes, "the best rate", **look, marker=_BEST, markersize=12)
    for every in sorted(crosses):
        style.legend_entry(axes, "every seed diverged" if every else "some seeds diverged", **look, **_CROSS[every])
    labels = axes.get_legend_handles_labels()[1]
    for edge, sign in BEYOND.items():
        if any(f": {sign}" in label for label in labels):
            style.legend_entry(axes, f"{sign}: the {edge} rate tried".replace(" :", ":"), linestyle="none")
    if any(label.endswith(_DOUBT) for label in labels):
        style.legend_entry(axes, "?: others may be as good,\nas their intervals overlap", linestyle="none")
    style.legend_beside(axes, title="best rate (accuracy)")
