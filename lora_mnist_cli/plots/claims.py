"""The picture of a paper's claim: panels of lines, each the mean over seeds with its 95 % interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from lora_mnist_cli.plots import style
from lora_mnist_cli.plots.lettering import legend_below

Panel = Mapping[str, Any]
_COLUMNS = 2


@style.house_style()
def draw(claim: Mapping[str, Any], *, title: str, subtitle: str = "") -> Figure:
    """Draw a claim's panels, two beside each other; lines of one name look the same in all of them.

    Args:
        claim: its ``panels``, each with ``title``, ``x``, ``y``, ``log_x``, ``log_y``, ``percent``, ``percent_x`` and
            ``lines``: a ``label`` and ``points`` with ``x`` (a number, or a word for bars of points), ``mean``, ``low``
            and ``high``, which are None where a seed has no figure.
    """
    panels: Sequence[Panel] = claim["panels"]
    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    figure = style.new_figure(title, height=1.0 + 3.1 * rows, subtitle=subtitle)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[len(panels) :]:
        figure.delaxes(axes)
    labels = list(dict.fromkeys(line["label"] for panel in panels for line in panel["lines"]))
    roles = dict(zip(labels, style.series(len(labels)), strict=True))
    for axes, panel in zip(grid, panels, strict=False):
        _draw_panel(axes, panel, roles)
        style.tidy(axes)
    handles: list[Any] = [
        Line2D([], [], color=roles[label].colour, marker=roles[label].marker, markersize=5, linewidth=1.6, label=label)
        for label in labels
    ]
    if any(point["low"] is not None for panel in panels for line in panel["lines"] for point in line["points"]):
        handles.append(Line2D([], [], color=style.MUTED, linewidth=8, alpha=0.2, label="95 % interval of the mean"))
    legend_below(figure, handles)
    return figure


def _draw_panel(axes: Axes, panel: Panel, roles: Mapping[str, style.Role]) -> None:
    factor, factor_x = (100 if panel[key] else 1 for key in ("percent", "percent_x"))
    words = [point["x"] for line in panel["lines"] for point in line["points"] if isinstance(point["x"], str)]
    places = {word: number for number, word in enumerate(dict.fromkeys(words))}
    drawn = False
    for line in panel["lines"]:
        points = [point for point in line["points"] if point["mean"] is not None]
        if panel["log_x"]:
            points = [point for point in points if point["x"] > 0]
        if panel["log_y"]:
            points = [point for point in points if point["mean"] > 0]
        if not points:
            continue
        drawn, role = True, roles[line["label"]]
        x = [places[point["x"]] if words else factor_x * point["x"] for point in points]
        y = [factor * point["mean"] for point in points]
        # Over the intervals, which are as wide as the panel where few seeds disagree.
        axes.plot(x, y, color=role.colour, marker=role.marker, markersize=4.5, linewidth=0 if words else 1.6, zorder=3)
        _draw_intervals(axes, x, points, factor, role, bars=bool(words))
        axes.set_ylim(auto=True)
    if not drawn:
        style.say_nothing_to_draw(axes, "no seed has a figure")
    if words:
        axes.set_xticks(range(len(places)), list(places))
        axes.set_xlim(-0.5, len(places) - 0.5)
    _scale(axes, panel, drawn=drawn)
    axes.set_title(panel["title"])
    axes.set(xlabel=panel["x"], ylabel=panel["y"])


def _draw_intervals(
    axes: Axes, x: Sequence[float], points: Sequence[Mapping[str, Any]], factor: float, role: style.Role, *, bars: bool
) -> None:
    known = [(place, point) for place, point in zip(x, points, strict=True) if point["low"] is not None]
    if not known:
        return
    places = [place for place, _ in known]
    low, high = ([factor * point[end] for _, point in known] for end in ("low", "high"))
    if bars:
        axes.vlines(places, low, high, color=role.colour, linewidth=1.6)
    else:
        axes.fill_between(places, low, high, color=role.colour, alpha=0.18, linewidth=0)


def _scale(axes: Axes, panel: Panel, *, drawn: bool) -> None:
    """Make axes logarithmic where the panel asks for it, with plain numbers at few ticks."""
    if not drawn:
        return
    plain = FuncFormatter(lambda value, _: f"{value:g}")
    if panel["log_x"]:
        xs = sorted({point["x"] for line in panel["lines"] for point in line["points"] if point["x"] > 0})
        axes.set_xscale("log")
        ticks = xs if len(xs) <= 5 else xs[:: -(-len(xs) // 5)]
        axes.set_xticks(ticks, [f"{tick:.4g}" for tick in ticks])
        axes.xaxis.set_minor_locator(NullLocator())
    if panel["log_y"]:
        means = [
            p["mean"] for line in panel["lines"] for p in line["points"] if p["mean"] is not None and p["mean"] > 0
        ]
        axes.set_yscale("log")
        # An interval can reach to 0, which has no place on this axis.
        axes.set_ylim(min(means) / 1.6, max(means) * 1.6)
        decades = math.log10(max(means) / min(means))
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0,) if decades > 1.5 else (1.0, 2.0, 3.0, 5.0)))
        axes.yaxis.set_major_formatter(plain)
        axes.yaxis.set_minor_formatter(NullFormatter())
