"""What makes a drawing doubtful as one digit. A model answers anything with confidence; these are reasons to doubt it.

The bounds were chosen on validation images of MNIST (a fifth of the training images, seed 0), so that at most about
three in a thousand exceed one of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.float32]

DOUBTS = {
    "border": "ink touches the border, so that the digit may be cut off, or the ink is a shadow or a table",
    "parts": "the ink falls into several large parts, and only a single digit is recognised",
    "solid": "it has more ink than a digit's lines, as a patch has",
    "unlike": "it looks like none of the digits that the model was trained on",
}
"""What each doubt means. The last one comes from the statistics of the digits."""

_BORDER_PIXELS, _BORDER_SHARE = 2, 0.01
"""Pixels at a side, and share of it, that may be ink: of 6,000 images of 28 × 28, 1.3 % touch a side, and 0.3 % in more
than two pixels. Their authors put each by its centre of mass, some up to the edge."""
_SECOND_PART = 0.3
"""Share of the largest part that a second one may have: 0.3 % of 1,500 images have more, 0.4 % of these on noisy and
shaded paper, and 98 % of 400 pictures of two to four digits."""
_GRID = 56
"""Cells along a drawing's longer side in which its parts are joined: gaps within a cell do not count."""
_MOST_INK = 240.0
"""Sum of the 784 pixels, of which one is full ink; of 6,000 images a thousandth have more than 234, and none 275."""


def touches_border(mask: NDArray[np.bool_]) -> bool:
    """Tell whether a drawing runs into a side of its picture."""
    sides = (mask[0], mask[-1], mask[:, 0], mask[:, -1])
    return any(side.sum() > max(_BORDER_PIXELS, _BORDER_SHARE * len(side)) for side in sides)


def has_parts(mask: NDArray[np.bool_]) -> bool:
    """Tell whether a drawing, cut to its edges, has a second part of nearly the size of its largest."""
    step = -(-max(mask.shape) // _GRID)
    rows, columns = (np.arange(0, side, step) for side in mask.shape)
    cells = np.add.reduceat(np.add.reduceat(mask.astype(np.int64), rows, 0), columns, 1)
    sizes = np.sort(np.bincount(_labels(cells > 0).ravel(), cells.ravel())[1:])
    return len(sizes) > 1 and bool(sizes[-2] > _SECOND_PART * sizes[-1])


def is_solid(pixels: Picture) -> bool:
    """Tell whether the 28 × 28 pixels have more ink than lines have."""
    return float(pixels.sum()) > _MOST_INK


def _labels(filled: NDArray[np.bool_]) -> NDArray[Any]:
    """Give cells that touch, also by a corner, one positive number, and empty cells 0."""
    height, width = filled.shape
    labels = np.where(filled, np.arange(1, filled.size + 1).reshape(filled.shape), 0)
    while True:
        wide = np.pad(labels, 1)
        around = [wide[y : y + height, x : x + width] for y in range(3) for x in range(3)]
        spread = np.max(around, axis=0) * filled
        if (spread == labels).all():
            return labels
        labels = spread
