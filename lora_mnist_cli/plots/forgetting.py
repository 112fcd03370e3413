"""Forgotten, and merely outranked: an adapter's accuracy from the hidden layers to the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from lora_mnist_cli.plots import style
from lora_mnist_cli.plots.lettering import SMALL, legend_below

Rows = Sequence[Mapping[str, Any]]
_HEADINGS = {"old": "which the base knew", "new": "which the adapter learned"}
_ROLES = {"old": style.OLD, "new": style.NEW}
_MODELS: dict[str, dict[str, Any]] = {
    "untrained": {"facecolor": style.FAINT, "edgecolor": style.MUTED, "hatch": "...."},
    "base": {"facecolor": "white", "edgecolor": style.INK},
    "adapter": {"edgecolor": style.INK},
}
"""Model → the look of its bars; the adapter's have the colour of the digits."""
_THICKNESS = 0.26
_ABOUT = (
    "probe: a linear classifier trained on a hidden layer; task known: only the logits of these digits compete; "
    "calibration error (ECE): the mean gap between confidence and accuracy"
)
_ANSWERS: dict[str, tuple[str, dict[str, Any]]] = {
    "calibration": ("all ten digits", {"linestyle": "-"}),
    "calibration_known": ("task known", {"linestyle": "--", "markerfacecolor": "white"}),
}


@style.house_style()
def draw(halves: Rows, probes: Rows, *, title: str, subtitle: str = "") -> Figure:
    """Draw a column for the old digits and one for the new ones.

    Above: the accuracy of a linear probe on each hidden layer, then the network's, with the task known and over all ten
    digits: bars, as these are separate measures. Below: the adapter's accuracy by its confidence, over the number of
    images in each bin.

    Args:
        halves: ``model`` (``base`` or ``adapter``), ``half`` (``old`` or ``new``), ``digits``, ``accuracy``,
            ``accuracy_known``, and ``calibration`` and ``calibration_known`` with ``error`` and ``bins``.
        probes: ``layer``, ``model`` (``untrained`` too) and the accuracy on ``old`` and ``new``, first layer first.
    """
    shown = list(dict.fromkeys(row["half"] for row in halves))
    layers = list(dict.fromkeys(row["layer"] for row in probes))
    figure = style.new_figure(
        title, height=2.2 + 0.62 * (len(layers) + 2) + 2.9, subtitle=f"{subtitle}; {_ABOUT}".lstrip("; ")
    )
    ratios = [0.28 * (len(layers) + 2), 1, 0.4]
    grid = figure.subplots(3, len(shown), squeeze=False, height_ratios=ratios, sharey="row")
    for column, half in enumerate(shown):
        models = {row["model"]: row for row in halves if row["half"] == half}
        answers, reliability, counts = grid[:, column]
        _draw_answers(answers, half, models, [row for row in probes if row[half] is not None], layers)
        answers.set_title(f"Digits {models['adapter']['digits']}, {_HEADINGS[half]}")
        _draw_reliability(reliability, models["adapter"], _ROLES[half])
        _draw_counts(counts, models["adapter"], _ROLES[half])
        for axes in grid[:, column]:
            style.tidy(axes)
    grid[1, 0].set_ylabel("Test accuracy (%)")
    grid[2, 0].set_ylabel("Images per bin")
    figure.align_ylabels(grid[1:, 0])
    legend_below(figure, _legend())
    return figure


def _draw_answers(
    axes: Axes, half: str, models: Mapping[str, Mapping[str, Any]], probes: Rows, layers: Sequence[str]
) -> None:
    """Draw a bar per measure and model, with its figure at its end, outside all bars."""
    names = [*(f"probe on {layer}" for layer in layers), "answer,\ntask known", "answer,\nall ten digits"]
    for place, (model, look) in enumerate(_MODELS.items()):
        percents = [100 * row[half] for row in probes if row["model"] == model]
        if model in models:
            percents += [100 * models[model][key] for key in ("accuracy_known", "accuracy")]
        rows = [index + _THICKNESS * (place - 1) for index in range(len(percents))]
        colours = {"facecolor": style.light(_ROLES[half].colour)} if model == "adapter" else {}
        axes.barh(rows, percents, height=0.9 * _THICKNESS, linewidth=0.8, zorder=2, **{**look, **colours})
        for row, percent in zip(rows, percents, strict=True):
            weight = "bold" if model == "adapter" else "normal"
            axes.annotate(
                f"{percent:.1f}", (percent, row), xytext=(4, 0), textcoords="offset points", va="center",
                fontsize=SMALL - 1, fontweight=weight,
            )  # fmt: skip
    # Room for the figures beyond 100 %.
    axes.set(xlim=(0, 118), xticks=range(0, 101, 20), ylim=(len(names) - 0.5, -0.5), xlabel="Test accuracy (%)")
    axes.set_yticks(range(len(names)), names)
    axes.grid(visible=False, axis="y")
    # Between the probes and the network's own answers.
    axes.axhline(len(layers) - 0.5, xmax=100 / 118, color=style.MUTED, linewidth=0.8, zorder=1)
    axes.spines["bottom"].set_bounds(0, 100)


def _draw_reliability(axes: Axes, row: Mapping[str, Any], role: style.Role) -> None:
    axes.plot([0, 100], [0, 100], color=style.MUTED, linestyle=":", linewidth=1.2)
    for key, (name, look) in _ANSWERS.items():
        filled = [bin_ for bin_ in row[key]["bins"] if bin_["count"]]
        axes.plot(
            [100 * bin_["confidence"] for bin_ in filled], [100 * bin_["accuracy"] for bin_ in filled], label=name,
            color=role.colour, marker=role.marker, markersize=4, clip_on=False, linewidth=1.6, zorder=3, **look,
        )  # fmt: skip
    errors = [f"{name} {100 * row[key]['error']:.1f} %" for key, (name, _) in _ANSWERS.items()]
    axes.set_title(f"Calibration error (ECE):\n{', '.join(errors)}")
    axes.set(xlim=(0, 100), ylim=(0, 104), xticks=range(0, 101, 20), yticks=range(0, 101, 20))
    axes.tick_params(labelbottom=False)


def _draw_counts(axes: Axes, row: Mapping[str, Any], role: style.Role) -> None:
    for key, (_, look) in _ANSWERS.items():
        bins = row[key]["bins"]
        edges = [100 * bin_["low"] for bin_ in bins] + [100 * bins[-1]["high"]]
        line = look["linestyle"]
        axes.stairs([bin_["count"] for bin_ in bins], edges, color=role.colour, linestyle=line, linewidth=1.4)
    axes.set_yscale("symlog", linthresh=1)
    axes.set(xlim=(0, 100), xticks=range(0, 101, 20), ylim=(0, 3e4), yticks=(0, 10, 1000))
    axes.set_yticklabels(["0", "10", "1,000"])
    axes.minorticks_off()
    axes.set_xlabel("The adapter's confidence (%)")


def _legend() -> list[Any]:
    handles: list[Any] = [
        Patch(**look, linewidth=0.8, label=model) for model, look in _MODELS.items() if model != "adapter"
    ]
    colours = [style.light(role.colour) for role in _ROLES.values()]
    handles.append([Patch(facecolor=c, **_MODELS["adapter"], linewidth=0.8, label="adapter") for c in colours])
    look: dict[str, Any] = {"color": style.MUTED, "markersize": 4, "linewidth": 1.6, "marker": "o"}
    handles += [Line2D([], [], **look | own, label=name) for name, own in _ANSWERS.values()]
    return [*handles, Line2D([], [], color=style.MUTED, linestyle=":", linewidth=1.2, label="perfect calibration")]
