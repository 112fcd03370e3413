"""Accuracy over two settings of a sweep as a heat map: means over seeds, contours, the best cell, what diverged."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator

from lora_mnist_cli.plots import style
from lora_mnist_cli.plots.lettering import SMALL, legend_below, text_width
from lora_mnist_cli.plots.scores import SeedPercents

_COLOURS = ListedColormap(colormaps["viridis"](np.linspace(0.12, 1.0, 256))).with_extremes(bad="white")
_WRITTEN = (10, 10)
"""Columns and rows up to which each cell has its mean in figures."""
_MOST_TICKS = 12
_LEVELS = 5
_AXES_WIDTH = 5.2
"""Inches for the words below the columns, at least; wider ones are slanted."""
_CROSS: dict[bool, dict[str, Any]] = {
    False: {"marker": "x", "markersize": 5, "markeredgewidth": 1.2},
    True: {"marker": "x", "markersize": 8, "markeredgewidth": 2.6},
}
"""Whether every seed diverged → the cross."""


@dataclass(frozen=True)
class Cell:
    """The runs at one place of a landscape.

    Args:
        place: number of its column, and of its row.
        percents: the accuracy of each seed that has one.
        diverged: runs that diverged.
        validation: mean accuracy on validation images (a fraction), by which the best cell is chosen; None where a run
            diverged or has none.
    """

    place: tuple[int, int]
    percents: tuple[float, ...]
    diverged: int = 0
    validation: float | None = None


@style.house_style()
def draw(
    cells: Sequence[Cell], *, axes_names: tuple[str, str], values: tuple[Sequence[str], Sequence[str]], digits: str,
    ordered: bool = True, title: str, subtitle: str = "",
) -> Figure:  # fmt: skip
    """Draw a column per value of the first setting and a row per value of the second.

    The colour is the mean accuracy over the seeds that did not diverge. The outlined cell did best on validation
    images; test images choose nothing. A cell with a run that diverged is never the best.

    Args:
        cells: those that have runs; others stay white.
        axes_names: of the two settings, in words.
        values: their values, as they are written below the columns and beside the rows.
        digits: digit set whose test images are shown.
        ordered: whether both settings have an order, as methods have not; contours need one.
    """
    columns, rows = map(len, values)
    figure = style.new_figure(title, height=min(6.6, max(3.4, 1.7 + 0.48 * rows)), subtitle=subtitle)
    axes = figure.add_subplot()
    means = np.full((rows, columns), np.nan)
    for cell in cells:
        if cell.percents:
            means[cell.place[::-1]] = SeedPercents(cell.percents).mean
    image = axes.imshow(np.ma.masked_invalid(means), cmap=_COLOURS, aspect="auto", origin="lower")
    lines = _draw_contours(axes, means) if ordered else None
    written = columns <= _WRITTEN[0] and rows <= _WRITTEN[1]
    if written:
        _write_means(axes, means, image)
    crosses = _draw_crosses(axes, cells, aside=written)
    best = best_cell(cells)
    _label(axes, axes_names, values)
    if np.isfinite(means).any():
        bar = figure.colorbar(image, ax=axes, pad=0.02)
        bar.set_label(f"Test accuracy on {digits} (%)")
        bar.outline.set_visible(False)
        if lines is not None:
            bar.add_lines(lines)
        style.tidy(bar.ax)
    else:
        style.say_nothing_to_draw(axes, "every run diverged" if cells else "no run")
    _legend(figure, _outline(axes, best, axes_names, values), crosses, empty=len(cells) < columns * rows)
    return figure


def best_cell(cells: Sequence[Cell]) -> Cell | None:
    """Return the cell with the highest validation accuracy of those without a run that diverged, or None."""
    sound = [cell for cell in cells if cell.validation is not None and cell.percents and not cell.diverged]
    return max(sound, key=lambda cell: cell.validation or 0.0, default=None)


def _draw_contours(axes: Axes, means: npt.NDArray[np.floating[Any]]) -> Any:
    """Draw lines of equal accuracy between the middles of the cells; none on a grid too small to have a shape."""
    there = np.isfinite(means)
    if min(means.shape) < 3 or not (there[1:, 1:] & there[1:, :-1] & there[:-1, 1:] & there[:-1, :-1]).any():
        return None
    low, high = np.nanmin(means), np.nanmax(means)
    levels = [level for level in MaxNLocator(_LEVELS).tick_values(low, high) if low < level < high]
    if not levels:
        return None
    return axes.contour(np.ma.masked_invalid(means), levels=levels, colors="white", linewidths=1.0, alpha=0.85)


def _write_means(axes: Axes, means: npt.NDArray[np.floating[Any]], image: Any) -> None:
    """Write each mean into its cell, light on dark, on a patch of the cell's colour that parts it from contours."""
    for row, column in np.argwhere(np.isfinite(means)).tolist():
        colour = image.cmap(image.norm(means[row, column]))
        ink = "white" if style.luminance(colour) < 0.21 else style.INK
        box = {"facecolor": colour, "edgecolor": "none", "pad": 1.0}
        text = f"{means[row, column]:.1f}"
        axes.text(column, row, text, color=ink, ha="center", va="center", fontsize=SMALL, bbox=box)


def _draw_crosses(axes: Axes, cells: Sequence[Cell], *, aside: bool) -> set[bool]:
    """Draw a cross where runs diverged, bold where every seed did; return which of both are drawn."""
    drawn: set[bool] = set()
    for cell in cells:
        if not cell.diverged:
            continue
        every = not cell.percents
        across, up = (0.38, 0.32) if aside and not every else (0.0, 0.0)  # beside the figure in the cell
        axes.plot(
            [cell.place[0] + across], [cell.place[1] + up], color=style.MISTAKE, linestyle="none", **_CROSS[every]
        )
        drawn.add(every)
    return drawn


def _outline(
    axes: Axes, best: Cell | None, names: tuple[str, str], values: tuple[Sequence[str], Sequence[str]]
) -> list[Any]:
    """Outline the best cell; return its entry in the legend, with its settings, mean and interval."""
    if best is None:
        return []
    x, y = best.place
    look: dict[str, Any] = {"fill": False, "edgecolor": style.MISTAKE, "linewidth": 2.6, "zorder": 4, "clip_on": False}
    axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, **look))
    percents = SeedPercents(best.percents)
    low, high = percents.interval
    spread = f", 95 % interval {low:.2f} to {high:.2f}" if low < high else ", one seed" * (len(best.percents) == 1)
    where = ", ".join(f"{name} {some[place]}" for name, some, place in zip(names, values, best.place, strict=True))
    assert best.validation is not None
    chosen = f"best on validation images ({100 * best.validation:.2f} %)"
    label = f"{chosen}: {where}\n{percents.mean:.2f} % on test images{spread}"
    look = {"marker": "s", "markersize": 9, "markerfacecolor": "none", "markeredgewidth": 2.2}
    return [Line2D([], [], color=style.MISTAKE, linestyle="none", label=label, **look)]


def _label(axes: Axes, names: tuple[str, str], values: tuple[Sequence[str], Sequence[str]]) -> None:
    for axis, name, some in zip((axes.xaxis, axes.yaxis), names, values, strict=True):
        shown = range(0, len(some), math.ceil(len(some) / _MOST_TICKS))
        axis.set_ticks(shown, [some[place] for place in shown])
        axis.set_label_text(name[0].upper() + name[1:])
    widest = max((text_width(label.get_text(), SMALL) for label in axes.get_xticklabels()), default=0.0)
    if widest * len(axes.get_xticks()) > _AXES_WIDTH:
        for label in axes.get_xticklabels():
            label.set(rotation=45, horizontalalignment="right", rotation_mode="anchor")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    style.tidy(axes)
    axes.tick_params(length=0)


def _legend(figure: Figure, best: list[Any], crosses: set[bool], *, empty: bool) -> None:
    names: Mapping[bool, str] = {False: "some seeds diverged", True: "every seed diverged"}
    handles = list(best)
    handles += [
        Line2D([], [], color=style.MISTAKE, linestyle="none", label=names[every], **_CROSS[every])
        for every in sorted(crosses)
    ]
    handles += [Patch(facecolor="white", edgecolor=style.MUTED, linewidth=0.6, label="no run")] if empty else []
    legend_below(figure, handles)
