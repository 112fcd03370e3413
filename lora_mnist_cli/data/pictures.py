"""From a picture of a digit, of any size, to the 784 pixels that a model was trained on. No torch.

MNIST's authors fitted each digit into a box of 20 × 20 pixels, with its proportions, and put that into 28 × 28 pixels
by its centre of mass (http://yann.lecun.com/exdb/mnist/). The same is done here, after the digit is separated from its
background. One step is added: MNIST's pens were of one kind, so a line thinner than most of theirs is blurred until it
is as wide.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

from lora_mnist_cli.data.picture_decoding import Picture, read_grey
from lora_mnist_cli.data.picture_doubts import has_parts, is_solid, touches_border
from lora_mnist_cli.data.picture_files import STDIN
from lora_mnist_cli.system.errors import DataError

_BOX, _SIDE, _CENTRE = 20, 28, 14
_LEAST_CONTRAST = 0.1
_EDGE = 0.3
"""Share of full ink above which a pixel belongs to the digit. Of 1,000 training images that a base had not seen,
enlarged five times and inverted, 97.8 % were recognised with 0.3, 97.6 with 0.2, 96.9 with 0.1; of the originals 97.5.
"""
_LINE = 2.2
"""Least width of a line, in pixels of 28 × 28; 36 % of those 1,000 training images have thinner lines. With their lines
thinned to medians of 1.65 and 1.25 pixels, 96.8 and 91.2 % of them were recognised with 2.2, and 96.4 and 88.3 without;
1.8 and 2.6 did no better. On the images as they are, it made no difference: 97.8.
"""
_FINE = 8
"""Pixels per pixel of 28 × 28 while a line is blurred."""


@dataclass(frozen=True)
class Image:
    """A digit as a model sees it.

    Args:
        source: its file, or ``-``.
        pixels: 28 × 28, light on dark, 0 to 1.
        inverted: whether the picture was dark on light.
        doubts: keys of :data:`~lora_mnist_cli.data.picture_doubts.DOUBTS`: why it may not be a single digit.
    """

    source: str
    pixels: Picture
    inverted: bool
    doubts: tuple[str, ...] = ()


def read_image(source: str, *, invert: bool | None = None) -> Image:
    """Read a picture of one digit from a file, or from stdin (``-``), as a model sees it.

    Args:
        invert: whether it is dark on light; detected by default.

    Raises:
        DataError: where it is no picture, damaged, too large, animated or empty.
    """
    shown = "stdin" if source == STDIN else source
    grey = read_grey(source)
    inverted = is_dark_on_light(grey) if invert is None else invert
    ink = _drawn_ink(grey, shown, inverted=inverted)
    pixels = normalise(ink)
    found = {"border": touches_border(ink > _EDGE), "parts": has_parts(_cut(ink) > _EDGE), "solid": is_solid(pixels)}
    return Image(source, pixels, inverted, tuple(doubt for doubt, holds in found.items() if holds))


def as_bytes(grey: Picture, shown: str) -> npt.NDArray[np.uint8]:
    """Return a picture in the form of a data set, 28 × 28 bytes, light on dark.

    One that has this form already stays as it is; any other is fitted as :func:`read_image` does it.

    Raises:
        DataError: where nothing is drawn on it; it names the picture as ``shown``.
    """
    inverted = is_dark_on_light(grey)
    has_form = grey.shape == (_SIDE, _SIDE) and not inverted
    pixels = grey if has_form else normalise(_drawn_ink(grey, shown, inverted=inverted))
    as_drawn: npt.NDArray[np.uint8] = np.rint(255 * pixels.clip(0, 1)).astype(np.uint8)
    return as_drawn


def is_dark_on_light(grey: Picture) -> bool:
    """Tell whether a picture's edge is nearer to its lightest pixel than to its darkest; the digit is in the middle."""
    return bool(np.median(_border(grey)) > (float(grey.min()) + float(grey.max())) / 2)


def normalise(ink: Picture) -> Picture:
    """Put a digit, light on dark, into 28 × 28 pixels as MNIST's authors did: in a 20 × 20 box, by its centre of mass.

    Lines that would be thinner than :data:`_LINE` are widened first.
    """
    cut = _thickened(_cut(ink))
    height, width = (max(1, round(side * _BOX / max(cut.shape))) for side in cut.shape)
    small = np.asarray(Pillow.fromarray(cut).resize((width, height), Pillow.Resampling.BICUBIC)).clip(0)
    small = small / small.max()  # a thin line has become grey, and the digits of the data set have white in them
    pixels = np.zeros((_SIDE, _SIDE), np.float32)
    top, left = (
        int(np.clip(round(_CENTRE - _centre(small.sum(other))), 0, _SIDE - side))
        for other, side in ((1, height), (0, width))
    )
    pixels[top : top + height, left : left + width] = small
    return pixels


def _cut(ink: Picture) -> Picture:
    """Cut a picture to the digit's edges."""
    rows, columns = (np.flatnonzero((ink > _EDGE).any(axis)) for axis in (1, 0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def line_width(ink: Picture) -> float:
    """Return the mean width of a drawing's lines, in pixels: twice its area over the length of its outline.

    A line of width w and length l has the area w·l, and the outline 2·l; in grey, the outline is the total variation.
    """
    down, right = np.gradient(np.pad(ink, 2))  # differences at the rim itself would be of one pixel, not of two
    return 2 * float(ink.sum()) / float(np.hypot(down, right).sum())


def _thickened(cut: Picture) -> Picture:
    """Widen the lines of a digit to at least :data:`_LINE` pixels of its box.

    A Gaussian adds the missing width, and makes all lines of one width equally dark in any direction. Divided by the
    value in the middle of a line, they are full ink again.
    """
    width = line_width(cut) * _BOX / max(cut.shape)
    if width >= _LINE:
        return cut
    # The width at half height of a Gaussian is 2·√(2·ln 2) deviations, and widths add up as squares.
    sigma = math.sqrt(_LINE**2 - width**2) / (2 * math.sqrt(2 * math.log(2)))
    middle = math.erf(width / (2 * math.sqrt(2) * sigma))
    rows, columns = (max(1, round(side * _BOX * _FINE / max(cut.shape))) for side in cut.shape)
    fine = np.asarray(Pillow.fromarray(cut).resize((columns, rows), Pillow.Resampling.BILINEAR))
    fine = np.pad(fine, math.ceil(3 * sigma * _FINE))
    for side in fine.shape:
        away = np.subtract.outer(np.arange(side), np.arange(side)) / (sigma * _FINE)
        weights = np.exp(-0.5 * away**2) / (math.sqrt(2 * math.pi) * sigma * _FINE)
        fine = (weights @ fine).T  # down, and by the turn, across
    return _cut((fine / middle).clip(0, 1).astype(np.float32))


def drawn(pixels: Picture) -> list[str]:
    """Draw a picture in characters, two per pixel, a line per row."""
    ramp = " .:-=+*#%@"
    return ["".join(2 * ramp[min(9, int(value * 10))] for value in row).rstrip() for row in pixels.tolist()]


def _centre(mass: Any) -> float:
    return float((mass * np.arange(len(mass))).sum() / mass.sum())


def _border(grey: Picture) -> Any:
    wide = max(1, min(grey.shape) // 20)
    return np.concatenate([grey[:wide].ravel(), grey[-wide:].ravel(), grey[:, :wide].ravel(), grey[:, -wide:].ravel()])


def _drawn_ink(grey: Picture, shown: str, *, inverted: bool) -> Picture:
    ink = _ink(1 - grey if inverted else grey)
    if ink is None:
        raise DataError(f"nothing is drawn on {shown}", hint="a digit has to differ from its background", value=shown)
    return ink


def _ink(light: Picture) -> Picture | None:
    """Return the ink of each pixel, 0 to 1, after subtracting the background and its noise."""
    border = _border(light)
    ground = float(np.median(border))
    noise = min(0.3, 3 * 1.4826 * float(np.median(np.abs(border - ground))))
    full = float(light.max())
    if full - ground - noise < _LEAST_CONTRAST:
        return None
    return ((light - ground - noise) / (full - ground - noise)).clip(0, 1).astype(np.float32)
