"""Accuracy by alpha: from the base, through the adapter as it was trained, and beyond."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lora_mnist_cli.plots import style
from lora_mnist_cli.plots.lettering import SMALL
from lora_mnist_cli.plots.scores import accuracy_of
from lora_mnist_cli.settings.digits import ALL_DIGITS, DigitSet

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Crossing:
    """Where two lines cross: the alphas that were scored before and after it, and the place between them."""

    before: float
    after: float
    alpha: float
    percent: float


def crossing(rows: Rows, one: str, other: str) -> Crossing | None:
    """Return where the accuracies on two digit sets first cross as alpha rises, by straight lines between the points.

    Args:
        rows: as :func:`draw` takes them.
        one: a digit set in canonical form.
        other: another one.
    """
    scored = [(row["alpha"], accuracy_of(row["subsets"], one), accuracy_of(row["subsets"], other)) for row in rows]
    points = sorted((alpha, 100 * a, 100 * b) for alpha, a, b in scored if a is not None and b is not None)
    for (before, a, b), (after, later_a, later_b) in itertools.pairwise(points):
        gap, later_gap = a - b, later_a - later_b
        if gap * later_gap < 0:
            share = gap / (gap - later_gap)
            return Crossing(before, after, before + share * (after - before), a + share * (later_a - a))
    return None


@style.house_style()
def draw(
    rows: Rows, *, base_digits: str, new_digits: str, trained_alpha: float, title: str,
    subtitle: str = "", known: DigitSet = ALL_DIGITS,
) -> Figure:  # fmt: skip
    """Draw a line for the base's digits, one for the adapter's and one for all ten; equal digit sets share one.

    Args:
        rows: ``alpha`` and the ``subsets`` scored with it, in any order; an accuracy that is None is left out.
        base_digits: digit set of the base, in canonical form.
        new_digits: digit set that the adapter learned, in canonical form.
        trained_alpha: the value that the adapter was trained with.
        known: the digits that the data set has.
    """
    figure = style.new_figure(title, height=4.3, subtitle=subtitle)
    axes = figure.add_subplot()
    rest = known.without(DigitSet.parse(base_digits))
    names = {base_digits: "base"} | ({str(rest): "others"} if rest else {})
    names |= {str(known): "all"} | {new_digits: "learned"}
    ends: list[tuple[float, float, str, str]] = []
    for digits, name in names.items():
        role = _role(digits, base_digits=base_digits, new_digits=new_digits, every=str(known))
        accuracies = [(row["alpha"], accuracy_of(row["subsets"], digits)) for row in rows]
        points = sorted((alpha, 100 * accuracy) for alpha, accuracy in accuracies if accuracy is not None)
        if points:
            axes.plot(
                *zip(*points, strict=True), color=role.colour, linestyle=role.dashes, marker=role.marker,
                markersize=4.5, label=f"{digits} ({name})", clip_on=False, zorder=3,
            )  # fmt: skip
            ends.append((*points[-1], f"{digits} ({name})", role.colour))
    if not ends:
        style.say_nothing_to_draw(axes, "no accuracy on these digits")
    _label_ends(axes, ends)
    axes.set(ylim=(0, 100), yticks=range(0, 101, 20), xlabel="Alpha", ylabel="Test accuracy (%)")
    alphas = [row["alpha"] for row in rows]
    if alphas and min(alphas) < max(alphas):
        axes.set_xlim(min(alphas), max(alphas))
    _mark(axes, alphas, trained_alpha)
    style.tidy(axes)
    return figure


def _role(digits: str, *, base_digits: str, new_digits: str, every: str) -> style.Role:
    """Return the look of a line, which no other one has."""
    if digits == every:
        return style.ALL
    if digits in (base_digits, new_digits):
        return style.role_of(digits, new_digits=new_digits)
    return style.NEW if new_digits == every else style.OTHERS


def _mark(axes: Axes, alphas: Sequence[float], trained_alpha: float) -> None:
    """Draw vertical lines at the base and at the trained alpha, where they are in range, with their names above."""
    marks = sorted({0.0: "base", trained_alpha: "as trained"}.items())
    marks = [(alpha, name) for alpha, name in marks if alphas and min(alphas) <= alpha <= max(alphas)]
    crowded = len(marks) == 2 and marks[1][0] - marks[0][0] < 0.3 * (max(alphas) - min(alphas))
    for (alpha, name), crowded_side in zip(marks, ("right", "left"), strict=False):
        # A name above the end of the axis would hang over its figures.
        beside = crowded_side if crowded else "left" if alpha == min(alphas) else "center"
        axes.axvline(alpha, color=style.MUTED, linestyle=":", linewidth=1.4, zorder=1)
        axes.annotate(
            f"{name} (alpha {alpha:g})", (alpha, 1.0), xycoords=axes.get_xaxis_transform(), xytext=(0, 6),
            textcoords="offset points", ha=beside, color=style.MUTED,
            fontsize=SMALL,
        )  # fmt: skip


def _label_ends(axes: Axes, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Name each line at its right end, and keep the names apart; ``ends`` are alpha, percent, name and colour."""
    ends = sorted(ends, key=lambda end: end[1])
    gap, heights = 6.5, [end[1] for end in ends]
    for index in range(1, len(ends)):
        heights[index] = max(heights[index], heights[index - 1] + gap)
    for index in reversed(range(len(ends))):
        heights[index] = min(heights[index], 100 - gap * (len(ends) - 1 - index))
    right = max((end[0] for end in ends), default=0.0)
    for (_, _, name, colour), height in zip(ends, heights, strict=True):
        axes.annotate(
            name, (right, height), xytext=(9, 0), textcoords="offset points", va="center", color=style.dark(colour),
            fontweight="bold", fontsize=SMALL, annotation_clip=False,
        )  # fmt: skip
