"""Forgotten, and merely outranked: an adapter's accuracy from the hidden layers to the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lora_mnist_cli.plots import style

Rows = Sequence[Mapping[str, Any]]
_HEADINGS = {"old": "which the base knew", "new": "which the adapter learned"}
_ROLES = {"old": style.OLD, "new": style.NEW}
_STEEP = 20
"""A line is steep that rises or falls by more points of accuracy from one place to the next."""


@style.house_style()
def draw(halves: Rows, probes: Rows, *, title: str) -> Figure:
    """Draw a column for the old digits and one for the new ones.

    Above: the accuracy of a linear probe on each hidden layer, then the network's, with the task known and over all ten
    logits. Below: the adapter's accuracy by its confidence.

    Args:
        halves: ``model`` (``base`` or ``adapter``), ``half`` (``old`` or ``new``), ``digits``, ``accuracy``,
            ``accuracy_known``, and ``calibration`` and ``calibration_known`` with ``error`` and ``bins``.
        probes: ``layer``, ``model`` (``untrained`` too) and the accuracy on ``old`` and ``new``, first layer first.
    """
    shown = list(dict.fromkeys(row["half"] for row in halves))
    figure = style.new_figure(title, height=7.0)
    grid = figure.subplots(2, len(shown), squeeze=False, height_ratios=[1.25, 1], sharey="row")
    layers = list(dict.fromkeys(row["layer"] for row in probes))
    for column, half in enumerate(shown):
        models = {row["model"]: row for row in halves if row["half"] == half}
        upper, lower = grid[:, column]
        _draw_answers(upper, half, models, [row for row in probes if row[half] is not None], layers)
        upper.set_title(f"Digits {models['adapter']['digits']}, {_HEADINGS[half]}")
        _draw_reliability(lower, models["adapter"], _ROLES[half])
        style.tidy(upper)
        style.tidy(lower)
    for axes in grid[:, 0]:
        axes.set_ylabel("Test accuracy (%)")
    return figure


def _draw_answers(
    axes: Axes, half: str, models: Mapping[str, Mapping[str, Any]], probes: Rows, layers: Sequence[str]
) -> None:
    labels = [*(f"probe\n{layer}" for layer in layers), "task\nknown", "all ten\nlogits"]
    looks: dict[str, dict[str, Any]] = {
        "untrained": {"color": style.MUTED, "linestyle": ":", "marker": "x", "linewidth": 1.4},
        "base": {"color": style.INK, "linestyle": "--", "marker": "D", "markerfacecolor": "white", "linewidth": 1.4},
        "adapter": {"color": _ROLES[half].colour, "marker": _ROLES[half].marker},
    }
    for model, look in looks.items():
        heights = [100 * row[half] for row in probes if row["model"] == model]
        if model in models:
            heights += [100 * models[model][key] for key in ("accuracy_known", "accuracy")]
        axes.plot(range(len(heights)), heights, label=model, clip_on=False, zorder=3, **look)
        if model == "adapter":
            others = [100 * models["base"][key] for key in ("accuracy_known", "accuracy")]
            _write(axes, heights, [*(100 * row[half] for row in probes if row["model"] == "base"), *others])
    # Between the probes and the network's own answers.
    axes.axvline(len(layers) - 0.5, color=style.FAINT, linewidth=1.4, zorder=1)
    axes.set(xticks=range(len(labels)), xlim=(-0.4, len(labels) - 0.6), ylim=(0, 108), yticks=range(0, 101, 20))
    axes.set_xticks(range(len(labels)), labels)
    axes.legend(loc="lower left")


def _write(axes: Axes, heights: Sequence[float], others: Sequence[float]) -> None:
    """Write the adapter's figures: beside the point where the line is steep, else where the base's line is not."""
    for place, (height, other) in enumerate(zip(heights, others, strict=True)):
        beside = place > 0 and abs(height - heights[place - 1]) > _STEEP
        below = other >= height and not beside
        axes.annotate(
            f"{height:.1f}", (place, height), xytext=(9 if beside else 0, -7 if below else 6),
            textcoords="offset points", ha="left" if beside else "center", va="top" if below else "bottom",
            fontsize=style.SMALL, annotation_clip=False, zorder=4,
        )  # fmt: skip


def _draw_reliability(axes: Axes, row: Mapping[str, Any], role: style.Role) -> None:
    axes.plot([0, 100], [0, 100], color=style.MUTED, linestyle=":", linewidth=1.2, label="perfect calibration")
    for key, label, known in (("calibration", "all ten logits", False), ("calibration_known", "task known", True)):
        filled = [bin_ for bin_ in row[key]["bins"] if bin_["count"]]
        look: dict[str, Any] = {"color": role.colour, "marker": role.marker, "markersize": 4}
        look |= {"linestyle": "--", "markerfacecolor": "white"} if known else {}
        axes.plot(
            [100 * bin_["confidence"] for bin_ in filled], [100 * bin_["accuracy"] for bin_ in filled],
            label=f"{label}: ECE {100 * row[key]['error']:.1f} %", clip_on=False, linewidth=1.6, zorder=3, **look,
        )  # fmt: skip
    axes.set(xlim=(0, 100), ylim=(0, 104), xticks=range(0, 101, 20), yticks=range(0, 101, 20))
    axes.set_xlabel("The adapter's confidence (%)")
    axes.legend(loc="upper left")
