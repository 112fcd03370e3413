"""Old digits against new ones after a chain of tasks: a point per seed and strategy, on the whole range and zoomed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lora_mnist_cli.evaluation.intervals import mean_interval
from lora_mnist_cli.plots import style

_COLOURS = ("#D55E00", "#CC79A7", "#E69F00", "#009E73", "#0072B2", "#222222")
_MARKERS = "osP^Dv"
_CORNER = 20.0
"""The largest range of the second panel, in points of accuracy."""


@style.house_style()
def draw(chain: Mapping[str, Any], *, title: str) -> Figure:
    """Draw a small point per seed, and a large one for the mean with the 95 % intervals of both means (t distribution).

    Args:
        chain: with ``tasks``, ``old``, ``new`` and ``cures``, as the stage ``chain`` reports them.
    """
    figure = style.new_figure(title, height=4.7)
    whole, corner = figure.subplots(1, 2)
    points = [[(100 * run["old"], 100 * run["new"]) for run in strategy["runs"]] for strategy in chain["cures"]]
    for number, (strategy, seed_points) in enumerate(zip(chain["cures"], points, strict=True)):
        role = style.Role(_COLOURS[number % len(_COLOURS)], _MARKERS[number % len(_MARKERS)])
        for axes in (whole, corner):
            _draw(axes, seed_points, role, strategy["title"], hollow=number == 1)
    whole.set(xlim=(-4, 104), ylim=(-4, 104), xticks=range(0, 101, 20), yticks=range(0, 101, 20), title="whole range")
    low = _corner([point for seed_points in points for point in seed_points])
    corner.set(xlim=(low, 100), ylim=(low, 100), title=f"above {low:g} % on both")
    if not any(min(point) > low for seed_points in points for point in seed_points):
        style.say_nothing_to_draw(corner, "no strategy")
    for axes in (whole, corner):
        axes.set_box_aspect(1)
        axes.set(
            xlabel=f"Test accuracy on the old digits {chain['old']} (%)",
            ylabel=f"Test accuracy on the new digits {chain['new']} (%)",
        )
        style.tidy(axes)
    names = whole.get_legend_handles_labels()
    figure.legend(*names, loc="outside lower center", ncols=min(len(points), 6), handletextpad=0.2, columnspacing=1.2)
    return figure


def _corner(points: Sequence[tuple[float, float]]) -> float:
    """Return where the second panel begins: a little below the worst run that keeps old digits and learns new ones."""
    good = [min(point) for point in points if min(point) > 100 - _CORNER]
    return float(max(100 - _CORNER, int(min(good, default=100 - _CORNER)) - 1))


def _draw(axes: Axes, points: Sequence[tuple[float, float]], role: style.Role, label: str, *, hollow: bool) -> None:
    old, new = ([point[side] for point in points] for side in (0, 1))
    look: dict[str, Any] = {"color": role.colour, "marker": role.marker, "linestyle": "none"}
    # The second strategy is an outline, because the two that forget most lie on top of each other.
    large: dict[str, Any] = {"markersize": 8, "markeredgecolor": "white", "markeredgewidth": 0.8}
    if hollow:
        large = {"markersize": 11, "markerfacecolor": "none", "markeredgewidth": 1.8}
    if len(points) > 1:
        axes.plot(old, new, **look, markersize=3.5, alpha=0.45, markeredgewidth=0, label="_nolegend_", clip_on=True)
    across, up = mean_interval(old), mean_interval(new)
    axes.errorbar(
        across.mean, up.mean, xerr=across.half_width, yerr=up.half_width, **look, **large, elinewidth=1.4, zorder=4
    )
    style.legend_entry(axes, label, **look, **large)
