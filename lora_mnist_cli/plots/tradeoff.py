"""Accuracy on new digits against old ones: the path of each adapter from the base as its alpha rises."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lora_mnist_cli.plots import style
from lora_mnist_cli.plots.lettering import SMALL
from lora_mnist_cli.plots.scores import SeedPercents

_TRAINED = "*"
_SEEN = 2.0
"""Points of accuracy beyond which a path can be seen beside the star, which is as wide."""
_APART = 6.0
"""Points of accuracy between two alphas that are named."""
Point = tuple[float, float]


@style.house_style()
def draw(
    paths: Sequence[Mapping[str, Any]], *, old_digits: str, new_digits: str, title: str, subtitle: str = ""
) -> Figure:  # fmt: skip
    """Draw a path per adapter in the square of both accuracies, from the base on, with a star at the trained alpha.

    Paths of one label are runs of one setting: every run is drawn faintly, and over them the path of the means, with
    the 95 % interval of both means (of the t distribution) at the trained alpha.

    Args:
        paths: in the order of the legend: ``label``, ``trained_alpha`` and ``points``, each with its ``alpha`` and the
            accuracies (fractions) on ``old`` and ``new`` digits. A point without both is left out.
        old_digits: digit set that the base knew, in canonical form.
        new_digits: digit set that the adapters learned and the base did not know, in canonical form.
    """
    figure = style.new_figure(title, height=5.6, subtitle=subtitle)
    axes = figure.add_subplot()
    axes.set_aspect("equal")
    start: Point | None = None
    by_label: dict[str, list[Mapping[str, Any]]] = {}
    for path in paths:
        by_label.setdefault(path["label"], []).append(path)
    named = style.named(len(by_label))
    for index, ((label, same_setting), role) in enumerate(
        zip(by_label.items(), style.series(len(by_label)), strict=True)
    ):
        runs, trained = [_points(path) for path in same_setting], same_setting[0]["trained_alpha"]
        scored_in_all = [alpha for alpha in runs[0] if all(alpha in run for run in runs)]
        means = {alpha: _mean([run[alpha] for run in runs]) for alpha in scored_in_all}
        start = means.get(0.0, start)
        if len(runs) > 1:
            for run in runs:
                axes.plot(*_apart(run.values()), color=role.colour, linewidth=0.8, alpha=0.35, label="_nolegend_")
            if trained in means:
                _draw_intervals(axes, [run[trained] for run in runs], role)
        entry = label + ("" if trained not in means else ": {:.1f}, {:.1f}".format(*means[trained]))
        _draw_path(axes, means, trained, role, entry if index in named else "_nolegend_")
    if not axes.lines:
        style.say_nothing_to_draw(axes, "no accuracy on these digits")
    if start is not None:
        look: dict[str, Any] = {"color": style.INK, "markerfacecolor": "white", "markeredgewidth": 1.6}
        axes.plot(
            *zip(start), **look, marker="o", markersize=10, linestyle="none", label="the base (alpha 0)", zorder=5
        )
    if len(paths) == 1:
        _name_alphas(axes, _points(paths[0]), paths[0]["trained_alpha"])
    _legend(axes, several_seeds=any(len(same_setting) > 1 for same_setting in by_label.values()))
    axes.set(
        xlim=(-4, 104), ylim=(-4, 104), xticks=range(0, 101, 20), yticks=range(0, 101, 20),
        xlabel=f"Test accuracy on the base's digits {old_digits} (%)",
        ylabel=f"Test accuracy on the new digits {new_digits} (%)",
    )  # fmt: skip
    style.tidy(axes)
    return figure


def _legend(axes: Axes, *, several_seeds: bool) -> None:
    style.legend_entry(axes, "as trained", color=style.MUTED, marker=_TRAINED, markersize=13, linestyle="none")
    if any(line.get_linestyle() == ":" for line in axes.lines):
        style.legend_entry(axes, "beyond the trained alpha", color=style.MUTED, linestyle=(0, (1, 1.5)))
    if several_seeds:
        style.legend_entry(
            axes, "95 % intervals as trained", color=style.MUTED, marker="+", markersize=11, linestyle="none"
        )
        style.legend_entry(axes, "each seed", color=style.MUTED, linewidth=0.8, alpha=0.5)
    style.legend_beside(axes, title="as trained: old, new digits (%)")


def _points(path: Mapping[str, Any]) -> dict[float, Point]:
    """Return alpha → both accuracies in percent, from the base on."""
    return {
        point["alpha"]: (100 * point["old"], 100 * point["new"])
        for point in sorted(path["points"], key=lambda point: abs(point["alpha"]))
        if point["old"] is not None and point["new"] is not None
    }


def _name_alphas(axes: Axes, points: Mapping[float, Point], trained: float) -> None:
    """Write the alpha beside the points of a path, where they are apart."""
    named: list[Point] = [point for alpha, point in points.items() if alpha in (0.0, trained)]
    for alpha, point in points.items():
        if all(math.dist(point, other) > _APART for other in named):
            axes.annotate(
                f"alpha {alpha:g}", point, xytext=(7, 4), textcoords="offset points", fontsize=SMALL, color=style.MUTED
            )
            named.append(point)


def _apart(points: Iterable[Point]) -> tuple[list[float], list[float]]:
    listed = list(points)
    return [old for old, _ in listed], [new for _, new in listed]


def _mean(points: Sequence[Point]) -> Point:
    old, new = (math.fsum(values) / len(values) for values in _apart(points))
    return old, new


def _draw_intervals(axes: Axes, points: Sequence[Point], role: style.Role) -> None:
    """Draw the intervals of both means as a cross of two lines."""
    old, new = (SeedPercents(tuple(values)) for values in _apart(points))
    look: dict[str, Any] = {"color": role.colour, "linewidth": 1.2, "label": "_nolegend_", "zorder": 3}
    axes.plot(old.interval, [new.mean] * 2, **look)
    axes.plot([old.mean] * 2, new.interval, **look)


def _draw_path(axes: Axes, points: Mapping[float, Point], trained: float, role: style.Role, label: str) -> None:
    within = [point for alpha, point in points.items() if abs(alpha) <= abs(trained)]
    beyond = within[-1:] + [point for alpha, point in points.items() if abs(alpha) > abs(trained)]
    look: dict[str, Any] = {"color": role.colour, "marker": role.marker, "markersize": 4.5}
    if within:
        axes.plot(*zip(*within, strict=True), **look, linewidth=1.8, label=label)
    if beyond and math.dist(beyond[0], beyond[-1]) > _SEEN:
        axes.plot(*zip(*beyond, strict=True), **look, linewidth=1.8, linestyle=":", label="_nolegend_")
    if trained in points:
        axes.plot(
            [points[trained][0]], [points[trained][1]], color=role.colour, marker=_TRAINED, markersize=14,
            markeredgecolor="white", markeredgewidth=0.6, linestyle="none", zorder=4,
        )  # fmt: skip
