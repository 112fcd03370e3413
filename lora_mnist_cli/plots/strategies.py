"""Old digits and new ones after a chain of tasks: two points per strategy, on a scale that stretches towards 100 %."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lora_mnist_cli.plots import style
from lora_mnist_cli.plots.lettering import SMALL, legend_below
from lora_mnist_cli.plots.scores import SeedPercents

_ENDS = {"old": (style.OLD, 0.0), "new": (style.NEW, 0.38)}
"""Half of the digits → its look and its place below the strategy's first point, in rows."""
_TICKS = (0, 50, 80, 90, 95, 98, 99, 100)
_SIZE = 7.5
_SOFT = 1.0
"""Points of error that are added, so that 100 % has a place."""

Percents = npt.NDArray[np.floating[Any]]


def stretch(percents: Percents) -> Percents:
    """Return places on an axis of accuracies on which halving a large error is about one step."""
    return np.asarray(-np.log10(100 + _SOFT - np.clip(percents, 0, 100)))


def _unstretch(places: Percents) -> Percents:
    return 100 + _SOFT - 10 ** -np.asarray(places, dtype=float)


@style.house_style()
def draw(chain: Mapping[str, Any], *, title: str, subtitle: str = "") -> Figure:
    """Draw the mean on the old digits and the one on the new digits per strategy.

    They are points: on a stretched scale the length of a bar would say nothing. On each is the 95 % interval of the
    mean (t distribution, cut at 0 and 100 %), and below it every seed faintly. The figures stand beside them.

    Args:
        chain: with ``tasks``, ``old``, ``new`` and ``cures``, as the stage ``chain`` reports them.
    """
    strategies = chain["cures"]
    figure = style.new_figure(title, height=1.5 + 0.52 * len(strategies), subtitle=subtitle)
    axes = figure.add_subplot()
    written: dict[float, str] = {}
    several = False
    for row, strategy in enumerate(strategies):
        for half, (role, below) in _ENDS.items():
            percents = SeedPercents(tuple(100 * run[half] for run in strategy["runs"]))
            several = several or len(percents.values) > 1
            _draw_mean(axes, row + below, percents, role)
            written[row + below] = _figures(percents)
    axes.set_xscale("function", functions=(stretch, _unstretch))
    axes.set(xlim=(0, 100), xticks=_TICKS, ylim=(len(strategies) - 0.2, -0.42))
    axes.minorticks_off()
    axes.set_yticks([row + 0.19 for row in range(len(strategies))], [strategy["title"] for strategy in strategies])
    axes.set_xlabel("Test accuracy (%), on a scale stretched towards 100 %")
    axes.grid(visible=False, axis="y")
    style.tidy(axes)
    axes.tick_params(axis="y", length=0, pad=9)  # a point at 0 % reaches beyond the axis
    column = axes.secondary_yaxis("right")
    column.set_yticks(list(written), list(written.values()))
    column.tick_params(length=0, labelsize=SMALL, labelcolor=style.INK)
    column.spines[:].set_visible(False)
    names = {"old": f"old digits {chain['old']}", "new": f"new digits {chain['new']}"}
    handles: list[Any] = [
        Line2D([], [], color=role.colour, marker=role.marker, markersize=_SIZE, linestyle="none", label=names[half])
        for half, (role, _) in _ENDS.items()
    ]
    if several:
        look: dict[str, Any] = {"color": style.MUTED, "linestyle": "none"}
        handles += [
            Line2D([], [], **look, marker="o", markersize=3.5, alpha=0.6, markeredgewidth=0, label="each seed"),
            Line2D([], [], color=style.INK, linewidth=1.6, label="95 % interval of the mean"),
        ]
    legend_below(figure, handles)
    return figure


def _draw_mean(axes: Axes, row: float, percents: SeedPercents, role: style.Role) -> None:
    look: dict[str, Any] = {"color": role.colour, "clip_on": False, "linestyle": "none"}
    axes.plot([percents.mean], [row], **look, marker=role.marker, markersize=_SIZE, zorder=3)
    if len(percents.values) > 1:
        seeds = [row + 0.15] * len(percents.values)
        axes.plot(percents.values, seeds, **look, marker="o", markersize=3.5, markeredgewidth=0, alpha=0.6)
        low, high = percents.interval
        axes.plot([low, high], [row] * 2, color=style.INK, linewidth=1.6, marker="|", markersize=9, zorder=4)


def _figures(percents: SeedPercents) -> str:
    low, high = percents.interval
    return f"{percents.mean:.1f}" if len(percents.values) == 1 else f"{percents.mean:.1f} ({low:.1f} to {high:.1f})"
