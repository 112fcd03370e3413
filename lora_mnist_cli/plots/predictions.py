"""Test images with true and predicted label."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from lora_mnist_cli.plots import style
from lora_mnist_cli.plots.lettering import MARGIN, NORMAL, fitted, name_of, write_header
from lora_mnist_cli.system.errors import UsageError

COLUMNS = 10
# In inches. The grid is laid out directly, because a layout engine takes seconds over it.
_MARGIN, _CAPTION, _LEGEND, _LARGEST_CELL = MARGIN, 0.27, 0.34, 1.3
_NAMES_SIZE = 6.9
"""Points, so that the longest name is no wider than an image."""


@style.house_style()
def draw(
    images: npt.NDArray[np.uint8], labels: npt.NDArray[np.integer[Any]], predicted: npt.NDArray[np.integer[Any]], *,
    title: str, subtitle: str = "", names: Sequence[str] = (),
) -> Figure:  # fmt: skip
    """Draw a grid of at most ten columns: each image over its label, mistakes framed and written ``true→predicted``.

    Args:
        images: grey values 0 to 255, ``(n, height, width)``.
        labels: the true digits, ``(n,)``.
        predicted: the model's digits, ``(n,)``.
        names: the classes, where they are not digits; the caption of a mistake then takes two lines.

    Raises:
        UsageError: where there are no images.
        ValueError: where the three don't have one length.
    """
    if len(images) == 0:
        raise UsageError("there are no images to draw")
    if not len(images) == len(labels) == len(predicted):
        raise ValueError(f"{len(images)} images, {len(labels)} labels and {len(predicted)} predictions")
    caption = _CAPTION + (0.17 if names else 0)
    columns = min(len(images), COLUMNS)
    step = min((style.WIDTH - 2 * _MARGIN) / columns, _LARGEST_CELL)
    below = math.ceil(len(images) / columns) * (step + caption) + _LEGEND
    figure = Figure(figsize=(style.WIDTH, below + _MARGIN))
    top = _MARGIN + write_header(figure, title, subtitle, style.MUTED)
    height = top + below
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    short = [fitted(name_of(digit, names), step, _NAMES_SIZE) for digit in range(10)] if names else ()
    # One axes, in inches from the upper left corner of the picture: fifty of them would be slow.
    for index, (image, label, guess) in enumerate(zip(images, labels, predicted, strict=True)):
        corner = _MARGIN + (index % columns) * step, top + (index // columns) * (step + caption)
        _draw_image(axes, image, corner, step - 0.1, _caption(label, guess, short), wrong=label != guess)
        axes.texts[-1].set_fontsize(_NAMES_SIZE if names else NORMAL)
    axes.set(xlim=(0, style.WIDTH), ylim=(height, 0), aspect="auto")

    mistaken = labels != predicted
    mistakes = int(np.count_nonzero(mistaken))
    # The examples are the first ones of the picture; only where it has none of a kind, one is made up.
    high, low = (7, 2) if not names or len(names) > 7 else (len(names) - 1, 0)
    label, guess = next(iter(zip(labels[mistaken], predicted[mistaken], strict=True)), (high, low))
    correct = next(iter(labels[~mistaken]), high)
    given, taken, both = (_caption(*pair, short) for pair in ((label, label), (guess, guess), (label, guess)))
    wrong = f"{' '.join(both.split())}: wrong, a {given} taken for a {taken} ({mistakes} shown)"
    right = f"{_caption(correct, correct, short)}: right ({len(images) - mistakes} shown)"
    legend = figure.legend(
        handles=[
            Patch(fill=False, edgecolor="#aaaaaa", linewidth=0.8, label=right),
            Patch(fill=False, edgecolor=style.MISTAKE, linewidth=2.5, label=wrong),
        ],
        loc="lower left", bbox_to_anchor=(_MARGIN / style.WIDTH, 0.06 / height), borderaxespad=0, borderpad=0.2,
        ncols=2, handleheight=1.0, handlelength=1.0,
    )  # fmt: skip
    for text in legend.get_texts():
        text.set_parse_math(False)  # a user's classes may have any name
    return figure


def _draw_image(
    axes: Axes, image: npt.NDArray[np.uint8], corner: tuple[float, float], size: float, caption: str, *, wrong: bool
) -> None:
    """Draw an image with its frame and its caption; the corner is the upper left one."""
    x, y = corner
    axes.imshow(image, cmap="gray_r", vmin=0, vmax=255, extent=(x, x + size, y + size, y), interpolation="nearest")
    colour, width = (style.MISTAKE, 3.0) if wrong else (style.FAINT, 0.8)
    axes.add_patch(Rectangle((x, y), size, size, fill=False, edgecolor=colour, linewidth=width))
    axes.text(
        x + size / 2, y + size + 0.04, caption, ha="center", va="top", color=style.MISTAKE if wrong else style.MUTED,
        fontweight="bold" if wrong else "normal", parse_math=False,
    )  # fmt: skip


def _caption(label: int, guess: int, names: Sequence[str]) -> str:
    if names:
        return names[label] if label == guess else f"{names[label]}\n→ {names[guess]}"
    return f"{label}" if label == guess else f"{label}→{guess}"
