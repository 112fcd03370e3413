"""Singular values of the update ΔW by layer: how much of its rank an adapter uses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from lora_mnist_cli.evaluation.intervals import mean_interval
from lora_mnist_cli.plots import style
from lora_mnist_cli.plots.lettering import legend_below

Matrix = npt.NDArray[np.floating[Any]]
Values = npt.NDArray[np.float64]
_COLUMNS = 3
_DECADES = 3
"""The axis of values ends that many powers of ten below the largest: the last of many values are next to nothing."""
_SPREAD: dict[str, dict[str, Any]] = {
    "each seed": {"linewidth": 0.7, "alpha": 0.6},
    "95 % interval of the geometric mean": {"linewidth": 8, "alpha": 0.15},
}
"""Entry of the legend where there are several seeds → its look."""


@dataclass(frozen=True)
class Change:
    """The change that one training made to a network's weights.

    Args:
        label: its name in the legend.
        layers: layer → the factors of its ΔW (out × in) from left to right: ``(ΔW,)``, or an adapter's ``(B, A)``.
        intruders: layer → how many intruder dimensions it has; empty where they were not counted.
    """

    label: str
    layers: Mapping[str, tuple[Matrix, ...]]
    intruders: Mapping[str, int] = field(default_factory=dict)


def singular_values(*factors: Matrix) -> npt.NDArray[np.float64]:
    """Return the singular values of a product of one matrix or two, largest first, without mere rounding.

    A thin product ``B A`` has those of a matrix as small as its rank: the orthogonal parts of both factors change no
    singular value. The rounding of a 32-bit matrix is that of 32 bits.

    Raises:
        ValueError: for another number of factors.
    """
    eps = max((float(np.finfo(factor.dtype).eps) for factor in factors), default=0.0)
    first, *others = (np.asarray(factor, dtype=np.float64) for factor in factors)
    if len(others) > 1:
        raise ValueError(f"a product of one matrix or two, not {len(factors)}")
    small = first
    if others:
        left, right = (np.asarray(np.linalg.qr(factor)[1]) for factor in (first, others[0].T))
        small = left @ right.T
    values = np.linalg.svd(small, compute_uv=False)
    sides = (*first.shape, *(others[0].shape if others else ()))
    floor = values.max(initial=0.0) * max(sides) * eps
    return np.asarray(values[values > floor], dtype=np.float64)


@style.house_style()
def draw(changes: Sequence[Change], *, title: str, subtitle: str = "") -> Figure:
    """Draw a panel per layer with a line for each change that has it, both axes logarithmic.

    Where values are smaller than a thousandth of the largest, the axis leaves them out, and the subtitle says so.

    Changes of one label are runs of one setting: every run is a faint line, and over them is the line of the geometric
    means, with their 95 % interval as a band (of the t distribution on the logarithms, which the axis shows).

    Args:
        changes: in the order of the legend; ranks rise.
    """
    layers = list(dict.fromkeys(layer for change in changes for layer in change.layers))
    labels = list(dict.fromkeys(change.label for change in changes))
    values: dict[str, dict[str, list[Values]]] = {layer: {label: [] for label in labels} for layer in layers}
    for change in changes:
        for layer, factors in change.layers.items():
            values[layer][change.label].append(singular_values(*factors))
    spectra = [run for by_label in values.values() for runs in by_label.values() for run in runs]
    everything = np.concatenate([np.empty(0), *spectra])
    floor = everything.max(initial=0.0) / 10**_DECADES
    note = f"values below {floor:.2g} are left out" if everything.min(initial=np.inf) < floor else ""

    columns = min(_COLUMNS, max(1, len(layers)))
    rows = max(1, math.ceil(len(layers) / columns))
    blocks = 2 if any(change.intruders for change in changes) else 1
    height = 1.1 + (2.7 + 2.0 * (blocks - 1)) * rows
    figure = style.new_figure(title, height=height, subtitle="; ".join(filter(None, (subtitle, note))))
    grid = figure.subplots(
        blocks * rows, columns, sharey="row" if blocks > 1 else True, squeeze=False,
        height_ratios=[2.7] * rows + [2.0] * (blocks - 1) * rows,
    )  # fmt: skip
    panels, counting = grid[:rows].ravel(), grid[rows:].ravel()
    for axes in (*panels[max(1, len(layers)) :], *counting[len(layers) :]):
        figure.delaxes(axes)
    roles = style.series(len(labels))
    for axes, layer in zip(panels, layers, strict=False):
        pairs = zip(values[layer].items(), roles, strict=True)
        longest = max(_draw_line(axes, runs, label, role) for (label, runs), role in pairs)
        if not axes.lines:
            style.say_nothing_to_draw(axes, "ΔW is zero")
        axes.set_title(f"{layer}{_shape(changes, layer)}")
        _index_axis(axes, longest)
    for axes in panels[: max(1, len(layers))]:
        _value_axis(axes, everything[everything >= floor])
        axes.set_xlabel("Which value (1: the largest)")
        style.tidy(axes)
    if not layers:
        style.say_nothing_to_draw(panels[0], "no layer was changed")
    for axes in grid[:rows, 0]:
        axes.set_ylabel("Singular value (log scale)")
    for axes, layer in zip(counting, layers, strict=False):
        _draw_counts(axes, changes, layer, dict(zip(labels, roles, strict=True)))
    for axes in grid[rows:, 0]:
        axes.set_ylabel("Intruders")
    legend_below(figure, _legend(labels, roles, spread=len(labels) < len(changes)))
    return figure


def _legend(labels: Sequence[str], roles: Sequence[style.Role], *, spread: bool) -> list[Line2D]:
    named = sorted(style.named(len(labels)))
    handles = [
        Line2D([], [], color=roles[i].colour, marker=roles[i].marker, markersize=4, linewidth=1.5, label=labels[i])
        for i in named
    ]
    if spread:
        handles += [Line2D([], [], color=style.MUTED, label=label, **look) for label, look in _SPREAD.items()]
    return handles


def _draw_line(axes: Axes, runs: Sequence[Values], label: str, role: style.Role) -> int:
    """Draw the values of one setting; return the largest number of them."""
    sound = [values for values in runs if values.size]
    if not sound:
        return 1
    # A value that is only rounding in another run appears in its own faint line, and not in the mean.
    count = min(values.size for values in sound)
    index = np.arange(1, count + 1)
    logarithms = np.log(np.stack([values[:count] for values in sound]))
    if len(sound) > 1:
        for values in sound:
            axes.plot(np.arange(1, values.size + 1), values, color=role.colour, linewidth=0.7, alpha=0.35)
        intervals = [mean_interval(column.tolist()).interval for column in logarithms.T]
        low, high = (np.exp([getattr(interval, end) for interval in intervals]) for end in ("low", "high"))
        axes.fill_between(index, low, high, color=role.colour, alpha=0.15, linewidth=0)
    axes.plot(
        index, np.exp(logarithms.mean(axis=0)), color=role.colour, marker=role.marker, markersize=4, linewidth=1.5,
        markevery=_marks(count), label=label,
    )  # fmt: skip
    return max(values.size for values in sound)


def _draw_counts(axes: Axes, changes: Sequence[Change], layer: str, roles: Mapping[str, style.Role]) -> None:
    """Draw how many intruders a layer has: a point per run, and a bar to the mean of each label."""
    for place, (label, role) in enumerate(roles.items()):
        runs = [change.intruders[layer] for change in changes if change.label == label and layer in change.intruders]
        if runs:
            axes.bar([place], [sum(runs) / len(runs)], color=style.light(role.colour), width=0.7, zorder=1)
            look: dict[str, Any] = {"color": role.colour, "marker": role.marker, "clip_on": False}
            axes.plot([place] * len(runs), runs, markersize=4, linestyle="none", zorder=3, **look)
    axes.set(xlim=(-0.6, len(roles) - 0.4), ylim=(0, 10.5), yticks=range(0, 11, 2), xticks=[])
    axes.set_title(f"{layer}: intruders of 10")
    style.tidy(axes)


def _marks(count: int) -> list[int]:
    """Return where a logarithmic axis has room for markers: at 1 to 8, then at powers of two and the end."""
    return sorted({i for i in range(count) if i < 8 or (i + 1).bit_count() == 1} | {count - 1})


def _shape(changes: Sequence[Change], layer: str) -> str:
    factors = next(change.layers[layer] for change in changes if layer in change.layers)
    return f" ({factors[-1].shape[1]} → {factors[0].shape[0]})"


def _index_axis(axes: Axes, longest: int) -> None:
    axes.set_xscale("log", base=2)
    axes.minorticks_off()
    axes.set_xlim(0.8, max(longest, 2) * 1.25)
    ticks = [2**i for i in range(longest.bit_length())] if longest > 1 else [1, 2]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])


def _value_axis(axes: Axes, shown: Values) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    if not shown.size:
        axes.set_ylim(0.01, 10)
        return
    low, high = float(shown.min()), float(shown.max())
    # Less than a factor of ten would leave the axis with a tick or none.
    stretch = max(1.3, 10 ** (0.5 * (1 - math.log10(high / low))))
    axes.set_ylim(low / stretch, high * stretch)
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0) if high / low < 100 else (1.0,)))
