"""Singular values of the update ΔW by layer: how much of its rank an adapter uses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from lora_mnist_cli.evaluation.intervals import mean_interval
from lora_mnist_cli.plots import style

Matrix = npt.NDArray[np.floating[Any]]
_COLUMNS = 3
_SPREAD: dict[str, dict[str, Any]] = {
    "each seed": {"linewidth": 0.7, "alpha": 0.6},
    "95 % interval of their geometric mean": {"linewidth": 8, "alpha": 0.15},
}
"""Entry of the legend where there are several seeds → its look."""


@dataclass(frozen=True)
class Change:
    """The change that one training made to a network's weights.

    Args:
        label: its name in the legend.
        layers: layer → the factors of its ΔW (out × in) from left to right: ``(ΔW,)``, or an adapter's ``(B, A)``.
    """

    label: str
    layers: Mapping[str, tuple[Matrix, ...]]


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
def draw(changes: Sequence[Change], *, title: str) -> Figure:
    """Draw a panel per layer with a line for each change that has it, both axes logarithmic.

    Changes of one label are runs of one setting: every run is a faint line, and over them is the line of the geometric
    means, with their 95 % interval as a band (of the t distribution on the logarithms, which the axis shows).

    Args:
        changes: in the order of the legend; ranks rise.
    """
    layers = list(dict.fromkeys(layer for change in changes for layer in change.layers))
    columns = min(_COLUMNS, max(1, len(layers)))
    rows = max(1, math.ceil(len(layers) / columns))
    labels = list(dict.fromkeys(change.label for change in changes))
    named = style.named(len(labels))
    spread = [*_SPREAD] if len(labels) < len(changes) else []
    across = min(4, len(named) + len(spread))
    legend_rows = math.ceil((len(named) + len(spread)) / max(1, across))
    figure = style.new_figure(title, height=1.2 + 2.7 * rows + 0.22 * legend_rows)
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for axes in panels[max(1, len(layers)) :]:
        figure.delaxes(axes)
    roles = style.series(len(labels))
    for axes, layer in zip(panels, layers, strict=False):
        longest = 1
        for label, role in zip(labels, roles, strict=True):
            some = [change.layers[layer] for change in changes if change.label == label and layer in change.layers]
            longest = max(longest, _draw_line(axes, [singular_values(*factors) for factors in some], label, role))
        if not axes.lines:
            style.say_nothing_to_draw(axes, "ΔW is zero")
        axes.set_title(f"{layer}{_shape(changes, layer)}")
        _index_axis(axes, longest)
    for axes in figure.axes:
        _value_axis(axes)
        axes.set_xlabel("Index (log scale)")
        style.tidy(axes)
    if not layers:
        style.say_nothing_to_draw(panels[0], "no layer was changed")
    for axes in figure.axes[::columns]:
        axes.set_ylabel("Singular value of ΔW (log scale)")
    handles = [
        Line2D([], [], color=roles[i].colour, marker=roles[i].marker, markersize=4, linewidth=1.5, label=label)
        for i, label in enumerate(labels)
        if i in named
    ]
    if handles:
        handles += [Line2D([], [], color=style.MUTED, label=label, **look) for label, look in _SPREAD.items() if spread]
        figure.legend(handles=handles, loc="outside lower center", ncols=across)
    return figure


def _draw_line(axes: Axes, runs: Sequence[npt.NDArray[np.float64]], label: str, role: style.Role) -> int:
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


def _value_axis(axes: Axes) -> None:
    axes.set_yscale("log")
    if not any(other.lines for other in axes.figure.axes):
        axes.set_ylim(0.01, 10)
        return
    lines = [line for other in axes.figure.axes for line in other.lines]
    low = min(float(np.min(line.get_ydata())) for line in lines)
    high = max(float(np.max(line.get_ydata())) for line in lines)
    # Less than a factor of ten would leave the axis with a tick or none.
    stretch = max(1.3, 10 ** (0.5 * (1 - math.log10(high / low))))
    axes.set_ylim(low / stretch, high * stretch)
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0) if high / low < 100 else (1.0,)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
