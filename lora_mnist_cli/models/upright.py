"""Class statistics from which images are drawn that look like writing: digits are modelled upright, and then lean.

A Gaussian of pixels is a poor model of slanted strokes, because a slant moves each pixel. Here the slant is taken out
of an image first, and is a coordinate of its own; the low frequencies of the image's middle describe the rest. They are
the same for all artifacts: samples of digits that were learned one after the other lie in one space, so no network can
tell old digits from new ones by the space.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

import torch
from torch import Tensor

from lora_mnist_cli.models.architecture import PIXELS
from lora_mnist_cli.models.densities import Mixtures
from lora_mnist_cli.models.density_fit import DIRECTIONS
from lora_mnist_cli.models.density_spaces import Space
from lora_mnist_cli.models.features import moments, sheared
from lora_mnist_cli.system.arithmetic import computing

MIDDLE = 22
"""Rows and columns of the middle that frequencies describe; digits fill 20."""

FREQUENCIES = 11
"""Length of the highest frequency, in half waves per axis."""

SLANT = 16.0
"""Weight of the slant among the coordinates: columns per row, in pixels of a normalised image."""

CONTRAST = 1.45
"""Factor by which samples leave the middle grey, because low frequencies and Gaussians blur the edges of strokes."""

_SIDE = math.isqrt(PIXELS)
_PLACE = torch.arange(_SIDE) - (_SIDE - 1) / 2
_BATCH = 512


@lru_cache
def waves() -> Tensor:
    """Return products of cosines that describe an upright image, the longest first: 784 × f, orthonormal columns."""
    number, place = torch.arange(FREQUENCIES), torch.arange(MIDDLE) + 0.5
    along = torch.cos(math.pi / MIDDLE * number[:, None] * place.double())
    edge = (_SIDE - MIDDLE) // 2
    along = torch.nn.functional.pad(along / along.norm(dim=1, keepdim=True), (edge, edge))
    length = number[:, None].square() + number.square()
    order = length.flatten().argsort(stable=True)[: int((length < FREQUENCIES**2).sum())]
    both = torch.einsum("ay,bx->abyx", along, along).reshape(-1, PIXELS)
    return both[order].T.float().contiguous()


def upright_points(images: Tensor) -> Tensor:
    """Return the slant of images (n × 784) and the waves of what is upright then: n × (1 + f)."""
    parts = []
    for batch in torch.split(images, _BATCH):
        pixels = (batch - batch.amin(1, keepdim=True)).view(-1, _SIDE, _SIDE)
        slant = moments(pixels)[2][:, None]
        upright = sheared(pixels, slant * _PLACE).flatten(1)
        parts.append(torch.cat([SLANT * slant, upright @ waves().to(images.dtype)], dim=1))
    return torch.cat(parts)


def leaning_images(points: Tensor, darkest: float, brightest: float) -> Tensor:
    """Return images (n × 784) of points, with more contrast; pixels lie between both values."""
    grey, parts = (brightest - darkest) / 2, []
    for batch in torch.split(points, _BATCH):
        upright = torch.addmm(batch.new_tensor(grey - CONTRAST * grey), batch[:, 1:], waves().T, alpha=CONTRAST)
        upright = upright.clamp_(0, 2 * grey).view(-1, _SIDE, _SIDE)
        parts.append(sheared(upright, -batch[:, :1] / SLANT * _PLACE).flatten(1).add_(darkest))
    return torch.cat(parts)


UPRIGHT = Space(1 + waves().shape[1], upright_points, 0.003, lambda: 0.0)


@dataclass(frozen=True, eq=False)
class UprightStatistics(Mixtures):
    """Densities of upright images and their slant. All are in the whole space, so any two of them can be joined."""

    space = UPRIGHT

    @classmethod
    def nothing(cls) -> Self:
        """Return the statistics of no digits."""
        none, width = torch.zeros(0, dtype=torch.int64), cls.space.dimensions
        return cls(
            none, none, none, torch.zeros(width), torch.eye(width), torch.zeros(0), torch.zeros(0, width).half(),
            torch.zeros(0, width, DIRECTIONS).half(), torch.zeros(0),
        )  # fmt: skip

    @computing()
    def sample(
        self, count: int, generator: torch.Generator, *, pixel_range: tuple[float, float]
    ) -> tuple[Tensor, Tensor]:
        """Draw new images, each digit as likely as it was in training.

        Args:
            generator: a generator of the CPU.
            pixel_range: smallest and largest value of a normalised pixel.

        Returns:
            Images (count × 784, float32, normalised as those fitted) and labels (count, int64).
        """
        points, labels = self.draw(count, generator)
        return leaning_images(points, *pixel_range), labels
