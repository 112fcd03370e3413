"""Confusion matrix: how often a model takes each digit for each other one."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, PowerNorm
from matplotlib.figure import Figure

from lora_mnist_cli.plots import style
from lora_mnist_cli.plots.lettering import NORMAL, SMALL, fitted, name_of

# Perceptually uniform, from nearly white; the darkest end is cut off, where neighbours could not be told apart.
_COLOURS = ListedColormap(colormaps["magma_r"](np.linspace(0, 0.82, 256))).with_extremes(bad="white")

_NAME = 1.4
"""Inches that the name of a class may take."""
_STRETCH = 0.35
"""The power of a share that is its colour: small counts differ, and half of a row differs from all of it."""


@style.house_style()
def draw(
    counts: npt.NDArray[np.integer[Any]], *, title: str, subtitle: str = "", names: Sequence[str] = (),
    old: Collection[int] = (), least: int = 10,
) -> Figure:  # fmt: skip
    """Draw a square of counts, coloured by the share of the row; a cell without images is white.

    The scale of colours is stretched, so that 1 and 30 of a thousand images differ, and so do 600 and all of them.

    Args:
        counts: test images, ``(10, 10)``: row the true digit, column the predicted one.
        names: the classes, where they are not digits.
        least: digits that are shown in any case; of the others up to ten, those up to the last with an image or answer.
        old: the digits that the base learned; thick lines part them from the others.

    Raises:
        ValueError: for another shape.
    """
    if counts.shape != (10, 10):
        raise ValueError(f"a confusion matrix is 10 x 10, not {counts.shape}")
    size = max(least, *(1 + int(index.max(initial=0)) for index in np.nonzero(counts)))
    counts = counts[:size, :size]
    percents = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    total, right = int(counts.sum()), int(np.trace(counts))
    accuracy = f"{right:,} of {total:,} test images right: accuracy {100 * right / max(total, 1):.2f} %"

    figure = style.new_figure(title, height=6.6, subtitle=subtitle)
    axes = figure.add_subplot()
    shares = PowerNorm(_STRETCH, 0, 100)
    image = axes.imshow(np.ma.masked_equal(percents, 0), cmap=_COLOURS, norm=shares)
    _write_counts(axes, counts, shares(percents))
    axes.set_title(accuracy if total else "no test images", color=style.MUTED)
    for digit in range(size - 1):
        if (digit in old) != (digit + 1 in old):
            axes.axhline(digit + 0.5, color=style.INK, linewidth=2.0)
            axes.axvline(digit + 0.5, color=style.INK, linewidth=2.0)
    axes.set(xlabel="Predicted digit", ylabel="True digit", xticks=range(size), yticks=range(size))
    if names:
        named = [f"{digit} {fitted(name_of(digit, names), _NAME, NORMAL)}".rstrip() for digit in range(size)]
        axes.set_xticks(range(size), named, rotation=45, ha="right", rotation_mode="anchor", parse_math=False)
        axes.set_yticks(range(size), named, parse_math=False)
    axes.grid(visible=False)
    # Lines between the cells, without which a white cell would not be seen as one.
    axes.set_xticks(np.arange(size - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(size - 1) + 0.5, minor=True)
    axes.grid(visible=True, which="minor", color=style.FAINT, linewidth=0.8)
    axes.spines[:].set_visible(True)
    style.tidy(axes)
    axes.tick_params(which="both", length=0)
    bar = figure.colorbar(image, ax=axes, shrink=0.8, pad=0.03)
    bar.set_label("Share of the true digit's images (%), stretched scale")
    bar.set_ticks([0, 1, 5, 20, 50, 100])
    bar.ax.minorticks_off()
    bar.outline.set_visible(False)
    style.tidy(bar.ax)
    return figure


def _write_counts(
    axes: Axes, counts: npt.NDArray[np.integer[Any]], shades: npt.NDArray[np.floating[Any]]
) -> None:  # fmt: skip
    """Write each count into its cell, light on dark, and mark the rows without images."""
    look: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": SMALL}
    for true, predicted in np.argwhere(np.broadcast_to(counts.sum(axis=1, keepdims=True) > 0, counts.shape)).tolist():
        count = counts[true, predicted]
        dark = count and style.luminance(_COLOURS(shades[true, predicted])) < 0.21
        colour = "white" if dark else style.INK if count else style.MUTED
        weight = "bold" if true == predicted else "normal"
        axes.text(predicted, true, f"{count:,}", color=colour, fontweight=weight, **look)
    for true in np.flatnonzero(counts.sum(axis=1) == 0).tolist():
        box = {"facecolor": "white", "edgecolor": "none", "pad": 2.0}
        axes.text(4.5, true, "no images", color=style.MUTED, bbox=box, **look)
