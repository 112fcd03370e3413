"""Loss and accuracy by epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from lora_mnist_cli.plots import style

_CURVES = (("train", "training", style.TRAINING), ("val", "validation", style.VALIDATION))


@style.house_style()
def draw(rows: Sequence[Mapping[str, Any]], *, title: str) -> Figure:
    """Two panels side by side: cross-entropy on a logarithmic axis, and accuracy.

    Args:
        rows: ``epoch``, ``train_loss`` and ``val_loss`` (nats), ``train_accuracy`` and ``val_accuracy`` (fractions) and
            ``lr``, an epoch each; epoch 0 is the untouched start. The validation's may be None.
    """
    figure = style.new_figure(title, height=3.9)
    left, right = figure.subplots(1, 2)
    rows = sorted(rows, key=lambda row: int(row["epoch"]))

    for key, name, role in _CURVES:
        losses = [(row["epoch"], row[f"{key}_loss"]) for row in rows]
        # A loss of 0 has no place on a logarithmic axis.
        points = [(epoch, loss) for epoch, loss in losses if loss is not None and math.isfinite(loss) and loss > 0]
        _draw_curve(left, points, name, role, "{:.3g}")
        accuracies = [(row["epoch"], row[f"{key}_accuracy"]) for row in rows]
        points = [(epoch, 100 * value) for epoch, value in accuracies if value is not None and math.isfinite(value)]
        _draw_curve(right, points, name, role, "{:.2f} %")

    left.set_yscale("log")
    left.set_ylabel("Cross-entropy (nats, log scale)")
    low, high = left.get_ylim()
    subs = (1.0, 2.0, 5.0) if high / low < 1000 else (1.0,)
    left.yaxis.set_major_locator(LogLocator(subs=subs))
    left.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    left.yaxis.set_minor_formatter(NullFormatter())
    right.set_ylabel("Accuracy (%)")
    for axes in (left, right):
        axes.set_xlabel("Epoch (0: before training)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if axes.lines:
            axes.legend(title="at the last epoch", title_fontsize=style.SMALL, alignment="left")
        else:
            style.say_nothing_to_draw(axes, "nothing was recorded")
        _mark_learning_rates(axes, rows)
        style.tidy(axes)
    return figure


def _draw_curve(axes: Axes, points: Sequence[tuple[int, float]], name: str, role: style.Role, form: str) -> None:
    if not points:
        return
    axes.plot(
        *zip(*points, strict=True),
        color=role.colour,
        linestyle=role.dashes,
        marker=role.marker,
        markersize=4.5,
        markevery=max(1, len(points) // 20),
        label=f"{name}: {form.format(points[-1][1])}",
    )


def _mark_learning_rates(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    """An upright line where the learning rate fell, which explains a bend in the curves."""
    trained = [row for row in rows if row["epoch"] > 0]
    for before, after in zip(trained, trained[1:], strict=False):
        if after["lr"] != before["lr"]:
            axes.axvline(
                (before["epoch"] + after["epoch"]) / 2, color=style.MUTED, linestyle=":", linewidth=1.2, zorder=1
            )
