"""Loss and accuracy by epoch."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from lora_mnist_cli.plots import style

_CURVES = (("train", "training", style.TRAINING), ("val", "validation", style.VALIDATION))
_MOST_MARKS = 6
"""Changes of the learning rate that are marked at most: a schedule may change it in every epoch."""
_TINY = 1e-100
"""The lowest loss that is drawn; its inverse is the highest."""


@style.house_style()
def draw(
    rows: Sequence[Mapping[str, Any]], *, title: str, subtitle: str = "", sample: int | None = None
) -> Figure:  # fmt: skip
    """Draw two panels side by side: cross-entropy on a logarithmic axis, and accuracy.

    The axis of accuracies shows the epochs that trained. The untouched start is most often far below, and would press
    all the others together.

    Args:
        rows: one per epoch, in any order: ``epoch``, ``train_loss`` and ``val_loss`` (nats), ``train_accuracy`` and
            ``val_accuracy`` (fractions), ``lr``. Epoch 0 is the untouched start. Losses and accuracies may be None.
        sample: the largest number of training images that were scored.
    """
    note = f"the training curves are of up to {sample:,} of its images" if sample else ""
    figure = style.new_figure(title, height=3.8, subtitle="; ".join(filter(None, (subtitle, note))))
    left, right = figure.subplots(1, 2)
    rows = sorted(rows, key=lambda row: int(row["epoch"]))

    for key, name, role in _CURVES:
        losses = [(row["epoch"], row[f"{key}_loss"]) for row in rows]
        # A loss of 0 has no place on a logarithmic axis, and an absurd one would squeeze the others.
        points = [(epoch, loss) for epoch, loss in losses if loss is not None and _TINY < loss < 1 / _TINY]
        _draw_curve(left, points, name, role, "{:.3g}")
        accuracies = [(row["epoch"], row[f"{key}_accuracy"]) for row in rows]
        points = [(epoch, 100 * value) for epoch, value in accuracies if value is not None and math.isfinite(value)]
        _draw_curve(right, points, name, role, "{:.2f} %")

    left.set(ylabel="Cross-entropy loss (log scale)", xlabel="Epoch (0: before training)")
    right.set(ylabel="Accuracy (%)", xlabel="Epoch (0: before training)")
    _loss_axis(left)
    _accuracy_axis(right)
    marks = _learning_rate_changes(rows)
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        for index, epoch in enumerate(marks):
            name = "_nolegend_" if index else "learning rate changes"
            axes.axvline(epoch, color=style.MUTED, linestyle=":", linewidth=1.2, zorder=1, label=name)
        if axes.lines:
            style.legend_above(axes)
        else:
            style.say_nothing_to_draw(axes, "nothing was recorded")
        style.tidy(axes)
    return figure


def _draw_curve(
    axes: Axes, points: Sequence[tuple[int, float]], name: str, role: style.Role, number_format: str
) -> None:  # fmt: skip
    if not points:
        return
    axes.plot(
        *zip(*points, strict=True), color=role.colour, linestyle=role.dashes, marker=role.marker, markersize=4.5,
        markevery=max(1, len(points) // 20), label=f"{name}: {number_format.format(points[-1][1])} at the end",
    )  # fmt: skip


def _loss_axis(axes: Axes) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    if not axes.lines:
        axes.set_ylim(0.01, 10)
        return
    low, high = axes.dataLim.intervaly
    # Less than a factor of four would leave the axis with a tick or none.
    stretch = max(1.2, 2.0 / math.sqrt(high / low))
    axes.set_ylim(low / stretch, high * stretch)
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high / low < 1000 else (1.0,)))


def _accuracy_axis(axes: Axes) -> None:
    points = [point for line in axes.lines for point in np.asarray(line.get_xydata()).tolist()]
    shown = [percent for epoch, percent in points if epoch > 0]
    if len({epoch for epoch, _ in points}) < 3:  # before and after: the step between them is all there is
        axes.set_ylim(-3, 103)
        return
    low, high = min(shown), max(shown)
    room = max(0.08 * (high - low), 0.5)
    axes.set_ylim(low - room, high + room)
    axes.set_yticks([tick for tick in axes.get_yticks() if low - room <= tick <= min(high + room, 100)])
    below = [percent for epoch, percent in points if percent < low - room]
    if below:
        axes.set_xlabel(f"Epoch (before training: {max(below):.1f} %)")


def _learning_rate_changes(rows: Sequence[Mapping[str, Any]]) -> list[float]:
    """Return where the learning rate changed between two epochs, which explains a bend in the curves."""
    trained = [row for row in rows if row["epoch"] > 0]
    pairs = itertools.pairwise(trained)
    marks = [(before["epoch"] + after["epoch"]) / 2 for before, after in pairs if before["lr"] != after["lr"]]
    return marks if len(marks) <= _MOST_MARKS else []
