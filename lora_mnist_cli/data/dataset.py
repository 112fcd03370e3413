"""Data sets as tensors in memory: digit subsets, seeded splits, shuffled batches.

A data set of this size fits in memory many times over, so it becomes one float tensor. No Python code runs per sample:
an epoch is a permutation, and a batch a gather.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from lora_mnist_cli.data.source import Split
from lora_mnist_cli.data.sources import load_digits, normalisation
from lora_mnist_cli.data.streams import generator
from lora_mnist_cli.settings.config import training_images
from lora_mnist_cli.settings.digits import ALL_DIGITS, DigitSet
from lora_mnist_cli.system.errors import UsageError

BLOCK_STEPS = 64
"""Optimiser steps per call of Lightning's ``training_step``: enough to pay for the call."""


class MNISTDataset(Dataset[tuple[Tensor, Tensor]]):
    """Images and labels as tensors in memory.

    Args:
        images: n × 784, float32, normalised.
        labels: n, int64, 0 to 9.
        pixel_stats: mean and standard deviation by which bytes were normalised; None where images are something else.
    """

    def __init__(self, images: Tensor, labels: Tensor, pixel_stats: tuple[float, float] | None = None) -> None:
        if images.ndim != 2 or labels.ndim != 1 or len(images) != len(labels):
            raise ValueError(f"images {tuple(images.shape)} and labels {tuple(labels.shape)} don't fit")
        self.images, self.labels, self.pixel_stats = images, labels, pixel_stats

    @classmethod
    def load(
        cls, split: Split, digits: DigitSet = ALL_DIGITS, *, dataset: str = "mnist", data_dir: Path = Path("data"),
        pixel_stats: tuple[float, float] | None = None,
    ) -> MNISTDataset:  # fmt: skip
        """Load the images of some digits of a split, pixels scaled to [0, 1] and then ``(x - mean) / std``.

        Args:
            pixel_stats: mean and std; those of the data set by default.

        Raises:
            DataError: where the files are not available or damaged, or hold none of the digits.
        """
        pixel_stats = pixel_stats or normalisation(dataset, data_dir)
        return cls.from_pixels(*load_digits(dataset, split, digits, data_dir), pixel_stats)

    @classmethod
    def from_pixels(
        cls, pixels: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8], pixel_stats: tuple[float, float]
    ) -> MNISTDataset:
        """Make a data set of n × 28 × 28 bytes, scaled to [0, 1] and then ``(x - mean) / std``."""
        mean, std = pixel_stats
        # NumPy's conversion copies: the splits kept in memory are read-only.
        images = torch.from_numpy(pixels.reshape(len(pixels), -1).astype(np.float32)).div_(255).sub_(mean).div_(std)
        return cls(images, torch.tensor(labels).long(), pixel_stats)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int | slice | Tensor) -> tuple[Tensor, Tensor]:
        if isinstance(index, Tensor):  # a third of the time of general indexing
            return self.images.index_select(0, index), self.labels.index_select(0, index)
        return self.images[index], self.labels[index]

    def to(self, device: torch.device, dtype: torch.dtype = torch.float32) -> MNISTDataset:
        """Return the data set on a device, its images as ``dtype``; nothing is copied without need."""
        return MNISTDataset(self.images.to(device, dtype), self.labels.to(device), self.pixel_stats)


def split_rows(count: int, val_split: float, seed: int) -> tuple[Tensor, Tensor | None]:
    """Split ``count`` images at random into a training and a validation part, as row numbers.

    Copying the training part would cost as much as an epoch.

    Returns:
        ``int(count · (1 - val_split))`` rows for training, and the others; None for these where ``val_split`` is 0.

    Raises:
        UsageError: where one of the parts would be empty.
    """
    order = torch.randperm(count, generator=generator(seed, "split"))
    if val_split == 0:
        return order, None
    n_train = training_images(count, val_split)
    if not 0 < n_train < count:
        raise UsageError(f"a val-split of {val_split} leaves a part of {count} images empty", value=val_split)
    return order[:n_train], order[n_train:]


@dataclass
class ShuffledBlocks:
    """Epochs over some rows of a data set, each in a new random order, in blocks of :data:`BLOCK_STEPS` batches.

    A block has up to ``BLOCK_STEPS · batch_size`` row numbers; only an epoch's last batch may be short. The order is
    drawn on the CPU, so that it is the same on every device.
    """

    dataset: MNISTDataset
    rows: Tensor
    batch_size: int
    seed: int

    def __post_init__(self) -> None:
        self._generator = generator(self.seed, "order")

    @property
    def steps(self) -> int:
        """Optimiser steps per epoch."""
        return math.ceil(len(self.rows) / self.batch_size)

    def __len__(self) -> int:
        return math.ceil(self.steps / BLOCK_STEPS)

    def __iter__(self) -> Iterator[Tensor]:
        order = self.next_order()
        yield from torch.split(order.to(self.dataset.images.device), BLOCK_STEPS * self.batch_size)

    def next_order(self) -> Tensor:
        """Draw the order of the next epoch: all rows, on the CPU."""
        return self.rows[torch.randperm(len(self.rows), generator=self._generator)]
