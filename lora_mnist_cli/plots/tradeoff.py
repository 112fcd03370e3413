"""What is learned against what is forgotten: each adapter's path from the base as its alpha rises."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lora_mnist_cli.evaluation.intervals import mean_interval
from lora_mnist_cli.plots import style

_TRAINED = "*"
Point = tuple[float, float]


@style.house_style()
def draw(
    paths: Sequence[Mapping[str, Any]], *, old_digits: str, new_digits: str, title: str, subtitle: str = ""
) -> Figure:  # fmt: skip
    """A square of both accuracies, with a path for each adapter; the base is its start, a star where it was trained.

    Paths of one label are runs of one setting: each is drawn faintly, and over them the path of the means, with the
    95 % interval of both means (of the t distribution) where it was trained.

    Args:
        paths: in the order of the legend: ``label``, ``trained_alpha`` and ``points``, each with its ``alpha`` and the
            accuracies (fractions) on ``old`` and ``new`` digits. A point without both is left out.
        old_digits: what the base knew, in canonical form.
        new_digits: what the adapters learned and the base did not know, in canonical form.
    """
    figure = style.new_figure(title, height=6.0)
    axes = figure.add_subplot()
    axes.set_aspect("equal")
    start: Point | None = None
    by_label: dict[str, list[Mapping[str, Any]]] = {}
    for path in paths:
        by_label.setdefault(path["label"], []).append(path)
    named, several = style.named(len(by_label)), False
    for index, ((label, some), role) in enumerate(zip(by_label.items(), style.series(len(by_label)), strict=True)):
        runs, trained = [_points(path) for path in some], some[0]["trained_alpha"]
        means = {
            alpha: _mean([run[alpha] for run in runs])
            for alpha in runs[0]
            if all(alpha in run for run in runs)
        }  # fmt: skip
        start = means.get(0.0, start)
        if len(runs) > 1:
            several = True
            for run in runs:
                axes.plot(*_apart(run.values()), color=role.colour, linewidth=0.8, alpha=0.35, label="_nolegend_")
            if trained in means:
                _draw_intervals(axes, [run[trained] for run in runs], role)
        _draw_path(axes, means, trained, role, label if index in named else "_nolegend_")
    if not axes.lines:
        style.say_nothing_to_draw(axes, "no accuracy on these digits")
    if start is not None:
        look: dict[str, Any] = {"color": style.INK, "markerfacecolor": "white", "markeredgewidth": 1.6}
        axes.plot(
            *zip(start), **look, marker="o", markersize=10, linestyle="none", label="the base (alpha 0)", zorder=5
        )
    axes.plot([], [], color=style.MUTED, marker=_TRAINED, markersize=13, linestyle="none", label="as trained")
    axes.plot([], [], color=style.MUTED, linestyle=(0, (1, 1.5)), label="beyond it")
    if several:
        axes.plot([], [], color=style.MUTED, marker="+", markersize=11, linestyle="none", label="95 % intervals there")
        axes.plot([], [], color=style.MUTED, linewidth=0.8, alpha=0.5, label="each seed")
    axes.set(
        xlim=(-4, 104), ylim=(-4, 104), xticks=range(0, 101, 20), yticks=range(0, 101, 20),
        xlabel=f"Test accuracy on {old_digits}, which the base knew (%)",
        ylabel=f"Test accuracy on {new_digits}, which is new (%)",
    )  # fmt: skip
    axes.set_title(subtitle, color=style.MUTED)
    style.legend_beside(axes)
    style.tidy(axes)
    return figure


def _points(path: Mapping[str, Any]) -> dict[float, Point]:
    """Alpha → both accuracies in percent, from the base on."""
    return {
        point["alpha"]: (100 * point["old"], 100 * point["new"])
        for point in sorted(path["points"], key=lambda point: abs(point["alpha"]))
        if point["old"] is not None and point["new"] is not None
    }


def _apart(points: Iterable[Point]) -> tuple[list[float], list[float]]:
    listed = list(points)
    return [old for old, _ in listed], [new for _, new in listed]


def _mean(points: Sequence[Point]) -> Point:
    old, new = (math.fsum(values) / len(values) for values in _apart(points))
    return old, new


def _draw_intervals(axes: Axes, points: Sequence[Point], role: style.Role) -> None:
    """The interval of each mean as a line through both; cut where no accuracy can be: that of two runs is wide."""
    old, new = (mean_interval(values) for values in _apart(points))
    for spread, along_old in ((old, True), (new, False)):
        if spread.interval is None:
            continue
        ends = [max(0.0, spread.interval.low), min(100.0, spread.interval.high)]
        across = [new.mean if along_old else old.mean] * 2
        x, y = (ends, across) if along_old else (across, ends)
        axes.plot(x, y, color=role.colour, linewidth=1.2, label="_nolegend_", zorder=3)


def _draw_path(axes: Axes, points: Mapping[float, Point], trained: float, role: style.Role, label: str) -> None:
    within = [point for alpha, point in points.items() if abs(alpha) <= abs(trained)]
    beyond = within[-1:] + [point for alpha, point in points.items() if abs(alpha) > abs(trained)]
    look: dict[str, Any] = {"color": role.colour, "marker": role.marker, "markersize": 4.5}
    if within:
        axes.plot(*zip(*within, strict=True), **look, linewidth=1.8, label=label)
    if len(beyond) > len(within[-1:]):
        axes.plot(*zip(*beyond, strict=True), **look, linewidth=1.8, linestyle=":", label="_nolegend_")
    if trained in points:
        axes.plot(
            [points[trained][0]], [points[trained][1]], color=role.colour, marker=_TRAINED, markersize=14,
            markeredgecolor="white", markeredgewidth=0.6, linestyle="none", zorder=4,
        )  # fmt: skip
