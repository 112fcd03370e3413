"""Accuracy on new digits by trained parameters: each setting with its intervals, and the front that no other beats."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from lora_mnist_cli.plots import style

_FRONT, _TOLD, _OPEN = "o", "X", "s"
"""Markers of settings on the front, of those that another setting beats, and of those where the data can't tell."""
_ABOUT, _DECADES = 1.05, 1.0
"""Numbers of parameters up to this ratio are about equal; the axis has as many decades at least."""
_APART, _WIDEST = 0.06, 0.5
"""Distance of points side by side, and the most of all of them, as shares of the axis."""


@style.house_style()
def draw(
    rows: Sequence[Mapping[str, Any]], *, old_digits: str, new_digits: str, title: str, subtitle: str = ""
) -> Figure:  # fmt: skip
    """Draw two panels over trained parameters, on a logarithmic axis: new accuracy, and what was forgotten.

    Args:
        rows: in the order of the legend: ``described``, ``parameters``, the spreads ``new`` and ``forgetting`` (as
            fractions, with ``mean``, ``low`` and ``high``), and whether it is on the ``front`` or ``beaten``.
        old_digits: digit set that the base knew, in canonical form.
        new_digits: digit set that the settings learned and the base did not know, in canonical form.
    """
    places = _places([row["parameters"] for row in rows])
    if any(place != row["parameters"] for place, row in zip(places, rows, strict=True)):
        subtitle += f"{'; ' * bool(subtitle)}equal numbers of parameters side by side"
    figure = style.new_figure(title, height=4.4, subtitle=subtitle)
    left, right = figure.subplots(1, 2, sharex=True)
    named = style.named(len(rows))
    for number, (row, role) in enumerate(zip(rows, style.series(len(rows)), strict=True)):
        marker = _FRONT if row["front"] else _TOLD if row["beaten"] else _OPEN
        for axes, name in ((left, "new"), (right, "forgetting")):
            spread = row[name]
            x, mean = places[number], 100 * spread["mean"]
            if spread["low"] is not None:
                axes.plot(
                    [x, x], [100 * spread["low"], 100 * spread["high"]], color=role.colour, linewidth=1.2,
                    label="_nolegend_",
                )  # fmt: skip
            axes.plot(
                [x], [mean], color=role.colour, marker=marker, markersize=8, linestyle="none",
                markerfacecolor=role.colour if marker != _OPEN else "none", markeredgewidth=1.4,
                label=row["described"] if number in named else "_nolegend_",
            )  # fmt: skip
    steps = _highest_so_far((row["parameters"], 100 * row["new"]["mean"]) for row in rows)
    left.plot(*zip(*steps, strict=True), color=style.MUTED, linewidth=1, linestyle=":", label="_nolegend_", zorder=1)
    for axes, words in (
        (left, f"Test accuracy on the new digits {new_digits} (%)"),
        (right, f"Forgotten of the base's digits {old_digits} (points)"),
    ):
        axes.set(xscale="log", xlabel="Trained parameters", ylabel=words)
        axes.margins(0.12)
        low, high = axes.get_xlim()
        wider = max(1.0, math.sqrt(10 * low / high))  # a decade at least has a number at its axis
        axes.set_xlim(low / wider, high * wider)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        style.tidy(axes)
    look: dict[str, Any] = {"color": style.MUTED, "markersize": 8, "linestyle": "none"}
    style.legend_entry(right, "on the Pareto front", marker=_FRONT, **look)
    style.legend_entry(right, "beaten", marker=_TOLD, **look)
    style.legend_entry(right, "can't tell", marker=_OPEN, markerfacecolor="white", **look)
    style.legend_beside(right, title="the best new accuracy first")
    return figure


def _places(parameters: Sequence[int]) -> list[float]:
    """Return where points are drawn: beside each other where their numbers are about equal, so that none is hidden."""
    places = [float(number) for number in parameters]
    decades = max(_DECADES, math.log10(max(parameters) / min(parameters)))
    order = sorted(range(len(parameters)), key=lambda number: parameters[number])
    while order:
        group = [number for number in order if parameters[number] <= _ABOUT * parameters[order[0]]]
        order = order[len(group) :]
        apart = decades * min(_APART, _WIDEST / len(group))
        for place, number in enumerate(sorted(group)):
            places[number] *= 10 ** (apart * (place - (len(group) - 1) / 2))
    return places


def _highest_so_far(points: Iterable[tuple[int, float]]) -> list[tuple[int, float]]:
    """Return the points that are higher than every point with as few parameters or fewer, from the left."""
    steps: list[tuple[int, float]] = []
    for parameters, accuracy in sorted(points, key=lambda point: (point[0], -point[1])):
        if not steps or accuracy > steps[-1][1]:
            steps.append((parameters, accuracy))
    return steps
