"""Accuracy on new digits by trained parameters: each setting with its intervals, and the front that no other beats."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from lora_mnist_cli.plots import style

_FRONT, _TOLD, _OPEN = "o", "X", "s"
"""Markers of settings on the front, of those that another setting beats, and of those where the data can't tell."""


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
    figure = style.new_figure(title, height=4.4, subtitle=subtitle)
    left, right = figure.subplots(1, 2, sharex=True)
    named = style.named(len(rows))
    for number, (row, role) in enumerate(zip(rows, style.series(len(rows)), strict=True)):
        marker = _FRONT if row["front"] else _TOLD if row["beaten"] else _OPEN
        for axes, name in ((left, "new"), (right, "forgetting")):
            spread = row[name]
            x, mean = row["parameters"], 100 * spread["mean"]
            if spread["low"] is not None:
                axes.plot(
                    [x, x], [100 * spread["low"], 100 * spread["high"]], color=role.colour, linewidth=1.2,
                    label="_nolegend_",
                )  # fmt: skip
            axes.plot(
                [x], [mean], color=role.colour, marker=marker, markersize=8, linestyle="none",
                markerfacecolor=role.colour if marker != _OPEN else "white", markeredgewidth=1.4,
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
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        style.tidy(axes)
    look: dict[str, Any] = {"color": style.MUTED, "markersize": 8, "linestyle": "none"}
    style.legend_entry(right, "on the front", marker=_FRONT, **look)
    style.legend_entry(right, "beaten", marker=_TOLD, **look)
    style.legend_entry(right, "can't tell", marker=_OPEN, markerfacecolor="white", **look)
    style.legend_beside(right, title="the best new accuracy first")
    return figure


def _highest_so_far(points: Iterable[tuple[int, float]]) -> list[tuple[int, float]]:
    """Return the points that are higher than every point with as few parameters or fewer, from the left."""
    steps: list[tuple[int, float]] = []
    for parameters, accuracy in sorted(points, key=lambda point: (point[0], -point[1])):
        if not steps or accuracy > steps[-1][1]:
            steps.append((parameters, accuracy))
    return steps
