"""What all adapters on one base have in common: the images, and the frozen first layer's product with them.

That product never changes, so it is computed once a run, and a step gathers rows of it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lora_mnist_cli.architecture import CLASSES
from lora_mnist_cli.data import MNISTDataset


class Batch:
    """What the members of a cohort have of a step: n images a seed. It is the same memory in each step.

    Args:
        like: of the device and dtype.
        sizes: features of the input, units of the first layer, classes.
    """

    def __init__(self, like: Tensor, sizes: tuple[int, int, int], seeds: int, n: int) -> None:
        # Rows as they are gathered, and the same memory as seeds × n × features.
        self.image_rows, self.product_rows, self.target_rows = (like.new_empty(seeds * n, size) for size in sizes)
        self.images, self.product, self.targets = (
            rows.view(seeds, n, -1) for rows in (self.image_rows, self.product_rows, self.target_rows)
        )
        # The frozen product as activations are laid out: seeds × features × n.
        self.columns = like.new_empty(seeds, sizes[1], n)


class FrozenInputs:
    """What a bank's members share of a data set: images, labels, and the frozen first layer's product with the images.

    Args:
        dataset: on the device, and of the dtype, that is trained with.
        first: the base's first layer.
    """

    def __init__(self, dataset: MNISTDataset, first: nn.Linear) -> None:
        self.images, self.labels = dataset.images, dataset.labels
        self.weight, self.bias = first.weight.detach(), first.bias.detach()
        self.targets = F.one_hot(self.labels, CLASSES).to(self.images.dtype)
        # A product wider than the images would take more memory than they do, and is formed anew in each step.
        self.product = F.linear(self.images, self.weight, self.bias) if len(self.bias) <= len(self.images[0]) else None
        self._batches: dict[tuple[int, int], Batch] = {}

    def batch(self, seeds: int, n: int) -> Batch:
        """The memory for n images of so many seeds; the same each time, because the cohorts of a bank take turns."""
        if (seeds, n) not in self._batches:
            sizes = (self.images.shape[1], len(self.bias), CLASSES)
            self._batches[seeds, n] = Batch(self.images, sizes, seeds, n)
        return self._batches[seeds, n]

    def load(self, rows: Tensor, batch: Batch) -> None:
        """Put chosen rows (seeds × n) into a batch."""
        rows = rows.reshape(-1)
        torch.index_select(self.images, 0, rows, out=batch.image_rows)
        torch.index_select(self.targets, 0, rows, out=batch.target_rows)
        if self.product is None:
            torch.addmm(self.bias, batch.image_rows, self.weight.t(), out=batch.product_rows)
        else:
            torch.index_select(self.product, 0, rows, out=batch.product_rows)
        batch.columns.copy_(batch.product.mT)
