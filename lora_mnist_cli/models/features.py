"""Fixed features of an image: how much edge of each direction lies where, after the image is centred and upright.

The map is the same for all artifacts and is never trained, so densities of features can be compared between stages.
Pixels are a poor space for densities: a stroke that moves by two pixels is as far away as another digit. Features of
neighbouring edges stay alike when a stroke moves a little (histograms of oriented gradients: Dalal and Triggs 2005,
"Histograms of oriented gradients for human detection", CVPR), and moments take out position and slant (the "deskewing"
of LeCun et al. 1998, "Gradient-based learning applied to document recognition", Proceedings of the IEEE 86).
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from lora_mnist_cli.models.architecture import FEATURES, PIXELS

GRID = 5
"""Cells per axis."""

DIRECTIONS = 8
"""Directions of edges, 45 degrees apart."""

assert FEATURES == DIRECTIONS * GRID * GRID

EDGE = 0.8
"""Standard deviation of the Gaussian whose derivatives find edges, in pixels; it is cut off after two pixels."""

CELL = 0.45
"""Standard deviation of the Gaussian that adds up the edges of a cell, in distances between cells."""

_DIAGONAL = math.sqrt(0.5)
"""The edge along a diagonal is the sum or the difference of those along the axes, times this."""

_SIDE = math.isqrt(PIXELS)
_CENTRE = (_SIDE - 1) / 2
_BATCH = 384
"""Images at a time: what a step works on fits into a processor's cache."""


def features(images: Tensor) -> Tensor:
    """Return the features of images (n × 784, of any brightness and contrast of the background): n × 200.

    They have the type of the images, and are at least 0. The darkest pixel of an image counts as its background.
    """
    if torch.compiler.is_exporting():  # a graph takes any number of images
        return _features(images)
    return torch.cat([_features(batch) for batch in torch.split(images, _BATCH)])


def _features(images: Tensor) -> Tensor:
    smooth, slope, window = filters(images.dtype)
    pixels = images.reshape(-1, _SIDE, _SIDE)
    upright = centred_and_upright(pixels - pixels.flatten(1).amin(1)[:, None, None])
    # A row of all images, then the next row: a product serves all images at once, along rows and along columns.
    rows = upright.transpose(0, 1).reshape(-1, _SIDE)
    across = smooth @ (rows @ slope.T).view(_SIDE, -1)
    down = slope @ (rows @ smooth.T).view(_SIDE, -1)

    def cells(edges: Tensor) -> Tensor:
        return ((window @ edges).view(-1, _SIDE) @ window.T).view(GRID, -1, GRID)

    to_right, to_bottom = cells(across), cells(down)
    totals = (to_right, to_bottom, _DIAGONAL * (to_right + to_bottom), _DIAGONAL * (to_right - to_bottom))
    sizes = [_DIAGONAL * cells(edges.abs_()) for edges in (across + down, across - down)]
    sizes = [cells(across.abs_()), cells(down.abs_()), *sizes]
    total, size = torch.stack(totals), torch.stack(sizes)
    # Half of the sum and of the difference: the edges above zero, and those below it.
    found = torch.cat([size + total, size - total]).clamp_(min=0).div_(2).sqrt_()
    return found.permute(2, 0, 1, 3).flatten(1)


def centred_and_upright(images: Tensor) -> Tensor:
    """Move each image's centre of mass to the middle, and shear its rows until its slant is gone; n × 28 × 28.

    Args:
        images: n × 28 × 28, with a background of 0.
    """
    row, column, slant = moments(images)
    place = torch.arange(_SIDE, dtype=images.dtype)
    moved = _lifted(images, row - _CENTRE)
    by = (column - _CENTRE)[:, None] + slant[:, None] * (place - _CENTRE)
    return sheared(moved.transpose(0, 1), by.T).transpose(0, 1)


def moments(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the row and the column of each image's centre of mass, and its slant in columns per row; n each.

    Args:
        images: n × 28 × 28, with a background of 0.
    """
    place = torch.arange(_SIDE, dtype=images.dtype)
    by_row, by_column = images.sum(2), images.sum(1)
    mass = by_row.sum(1).clamp(min=1e-6)
    row, column = by_row @ place / mass, by_column @ place / mass
    rows, columns = place - row[:, None], place - column[:, None]
    spread = (by_row * rows.square()).sum(1) / mass
    together = ((images @ columns[:, :, None]).squeeze(2) * rows).sum(1) / mass
    return row, column, together / spread.clamp(min=1e-6)


def _lifted(images: Tensor, by: Tensor) -> Tensor:
    """Move each image up by a number of pixels (n, at most 14), linearly between pixels."""
    margin = _SIDE // 2
    place, whole = torch.arange(_SIDE, dtype=images.dtype), by.clamp(-margin, margin).floor()
    padded = torch.nn.functional.pad(images, (0, 0, margin, margin + 1))
    starts = torch.arange(images.shape[0]) * (padded.shape[1] * _SIDE) + (whole.long() + margin) * _SIDE
    there = _read(padded, starts, (_SIDE + 1) * _SIDE).view(-1, _SIDE + 1, _SIDE)
    share = ((place + by[:, None]) - (place + whole[:, None]))[:, :, None]
    return torch.addcmul((1 - share) * there[:, :-1], share, there[:, 1:])


def sheared(images: Tensor, by: Tensor) -> Tensor:
    """Move each row of images (m × n × 28) to the left by a number of pixels (m × n), linearly between pixels."""
    by = by.clamp(-_SIDE, _SIDE)
    whole = by.floor()
    padded = torch.nn.functional.pad(images, (_SIDE, _SIDE + 2))
    rows = torch.arange(images.shape[0] * images.shape[1]) * padded.shape[2] + _SIDE
    there = _read(padded, rows.view(by.shape) + whole.long(), _SIDE + 1)
    return torch.lerp(there[..., :-1], there[..., 1:], (by - whole)[..., None])


def _read(numbers: Tensor, starts: Tensor, count: int) -> Tensor:
    """Return so many numbers in a row from each place in memory: … × count for … starts."""
    flat = numbers.reshape(-1)
    if torch.compiler.is_exporting():  # other programs have no windows that overlap
        return flat[starts[..., None] + torch.arange(count)]
    windows = flat.as_strided((max(0, len(flat) - count + 1), count), (1, 1))
    return windows.index_select(0, starts.reshape(-1)).view(*starts.shape, count)


@lru_cache
def filters(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Return a Gaussian and its derivative along an axis (28 × 28), and the weight of a row in a cell (5 × 28)."""
    place = torch.arange(_SIDE, dtype=torch.float64)
    apart = place - place[:, None]
    near = torch.exp(-apart.square() / (2 * EDGE**2)) * (apart.abs() <= 2)
    slope = apart * near
    middle = _SIDE // 2
    unit = (slope[middle].abs().sum() * near[middle].sum()).sqrt()
    distance = _SIDE / GRID
    middles = (torch.arange(GRID, dtype=torch.float64) + 0.5) * distance - 0.5
    weight = torch.exp(-(place - middles[:, None]).square() / (2 * (CELL * distance) ** 2))
    weight /= weight.sum(1, keepdim=True)
    # Far from its cell a row's weight is subnormal, which no sum notices and Intel's processors multiply slowly.
    window = weight.to(dtype)
    window[window < torch.finfo(dtype).tiny] = 0
    return (near / unit).to(dtype), (slope / unit).to(dtype), window
