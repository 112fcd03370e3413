"""What is learned against what is forgotten: each adapter's path from the base as its alpha rises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lora_mnist_cli.plots import style

_TRAINED = "*"
Point = tuple[float, float]


@style.house_style()
def draw(
    paths: Sequence[Mapping[str, Any]], *, old_digits: str, new_digits: str, title: str, subtitle: str = ""
) -> Figure:  # fmt: skip
    """A square of both accuracies, with a path for each adapter; the base is its start, a star where it was trained.

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
    named = style.named(len(paths))
    for index, (path, role) in enumerate(zip(paths, style.series(len(paths)), strict=True)):
        points = {
            point["alpha"]: (100 * point["old"], 100 * point["new"])
            for point in sorted(path["points"], key=lambda point: abs(point["alpha"]))
            if point["old"] is not None and point["new"] is not None
        }
        start = points.get(0.0, start)
        _draw_path(axes, points, path["trained_alpha"], role, path["label"] if index in named else "_nolegend_")
    if not axes.lines:
        style.say_nothing_to_draw(axes, "no accuracy on these digits")
    if start is not None:
        look: dict[str, Any] = {"color": style.INK, "markerfacecolor": "white", "markeredgewidth": 1.6}
        axes.plot(
            *zip(start), **look, marker="o", markersize=10, linestyle="none", label="the base (alpha 0)", zorder=5
        )
    axes.plot([], [], color=style.MUTED, marker=_TRAINED, markersize=13, linestyle="none", label="as trained")
    axes.plot([], [], color=style.MUTED, linestyle=(0, (1, 1.5)), label="beyond it")
    axes.set(
        xlim=(-4, 104), ylim=(-4, 104), xticks=range(0, 101, 20), yticks=range(0, 101, 20),
        xlabel=f"Test accuracy on {old_digits}, which the base knew (%)",
        ylabel=f"Test accuracy on {new_digits}, which is new (%)",
    )  # fmt: skip
    axes.set_title(subtitle, color=style.MUTED)
    style.legend_beside(axes)
    style.tidy(axes)
    return figure


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
