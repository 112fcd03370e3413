"""Old digits and new ones after a chain of tasks: two bars per strategy, on a scale that stretches towards 100 %."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from lora_mnist_cli.plots import style
from lora_mnist_cli.plots.lettering import SMALL, legend_below
from lora_mnist_cli.plots.scores import SeedPercents

_ENDS = {"old": (style.OLD, "", 0.0), "new": (style.NEW, "////", 0.38)}
"""Half of the digits → its look, its hatching and its place below the strategy's first bar, in rows."""
_THICKNESS = 0.34
_TICKS = (0, 50, 80, 90, 95, 98, 99, 100)
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
    """Draw a bar for the old digits and one for the new ones per strategy, from 0 to the mean.

    On them are every seed faintly, and the 95 % interval of the mean (t distribution, cut at 0 and 100 %). The mean and
    its interval stand beside them in figures.

    Args:
        chain: with ``tasks``, ``old``, ``new`` and ``cures``, as the stage ``chain`` reports them.
    """
    strategies = chain["cures"]
    figure = style.new_figure(title, height=1.5 + 0.52 * len(strategies), subtitle=subtitle)
    axes = figure.add_subplot()
    written: dict[float, str] = {}
    several = False
    for row, strategy in enumerate(strategies):
        for half, (role, hatch, below) in _ENDS.items():
            percents = SeedPercents(tuple(100 * run[half] for run in strategy["runs"]))
            several = several or len(percents.values) > 1
            _draw_bar(axes, row + below, percents, role, hatch)
            written[row + below] = _figures(percents)
    axes.set_xscale("function", functions=(stretch, _unstretch))
    axes.set(xlim=(0, 100), xticks=_TICKS, ylim=(len(strategies) - 0.2, -0.42))
    axes.minorticks_off()
    axes.set_yticks([row + 0.19 for row in range(len(strategies))], [strategy["title"] for strategy in strategies])
    axes.set_xlabel("Test accuracy (%), on a scale stretched towards 100 %")
    axes.grid(visible=False, axis="y")
    style.tidy(axes)
    axes.tick_params(axis="y", length=0)
    column = axes.secondary_yaxis("right")
    column.set_yticks(list(written), list(written.values()))
    column.tick_params(length=0, labelsize=SMALL, labelcolor=style.INK)
    column.spines[:].set_visible(False)
    names = {"old": f"old digits {chain['old']}", "new": f"new digits {chain['new']}"}
    handles: list[Any] = [
        Patch(facecolor=style.light(role.colour), edgecolor=role.colour, hatch=hatch, label=names[half])
        for half, (role, hatch, _) in _ENDS.items()
    ]
    if several:
        look: dict[str, Any] = {"color": style.MUTED, "linestyle": "none"}
        handles += [
            Line2D([], [], **look, marker="o", markersize=3.5, alpha=0.6, markeredgewidth=0, label="each seed"),
            Line2D([], [], color=style.INK, linewidth=1.6, label="95 % interval of the mean"),
        ]
    legend_below(figure, handles)
    return figure


def _draw_bar(axes: Axes, row: float, percents: SeedPercents, role: style.Role, hatch: str) -> None:
    look: dict[str, Any] = {"color": style.light(role.colour), "edgecolor": role.colour, "hatch": hatch}
    axes.barh(row, percents.mean, height=_THICKNESS, linewidth=0.8, zorder=2, **look)
    if len(percents.values) > 1:
        axes.plot(
            percents.values, [row + 0.08] * len(percents.values), color=role.colour, marker="o", linestyle="none",
            markersize=3.5, markeredgewidth=0, alpha=0.6, zorder=3, clip_on=False,
        )  # fmt: skip
        low, high = percents.interval
        axes.plot([low, high], [row - 0.06] * 2, color=style.INK, linewidth=1.6, marker="|", markersize=6, zorder=4)


def _figures(percents: SeedPercents) -> str:
    low, high = percents.interval
    return f"{percents.mean:.1f}" if len(percents.values) == 1 else f"{percents.mean:.1f} ({low:.1f} to {high:.1f})"
