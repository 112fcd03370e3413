"""The inputs that all adapters on one base share: the images, and the frozen first layer's product with them.

That product never changes, so it is computed once per training, and a step gathers rows of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lora_mnist_cli.data.dataset import MNISTDataset
from lora_mnist_cli.models.architecture import CLASSES
from lora_mnist_cli.training.objective import LossTerm


class Batch:
    """The inputs of one step of a cohort: n images per seed, in the same memory in each step.

    Args:
        like: has the device and the dtype.
        sizes: features of the input, units of the first layer, classes.
    """

    def __init__(self, like: Tensor, sizes: tuple[int, int, int], seeds: int, n: int) -> None:
        self.seeds, self.n = seeds, n
        # Gathered rows, and the same memory as seeds × n × features.
        self.image_rows, self.product_rows, self.target_rows = (like.new_empty(seeds * n, size) for size in sizes)
        self.images, self.product, self.targets = (
            rows.view(seeds, n, -1) for rows in (self.image_rows, self.product_rows, self.target_rows)
        )
        # The frozen product as activations are laid out: seeds × features × n.
        self.columns = like.new_empty(seeds, sizes[1], n)
        self.terms: list[TermBatch] = []

    def make_terms(self, terms: Sequence[LossTerm]) -> list[TermBatch]:
        """Make the memory of a loss's terms, once; a batch that is only scored needs none."""
        self.terms = self.terms or [TermBatch(term, self.seeds, self.n) for term in terms]
        return self.terms


class TermBatch:
    """The inputs of one step for a term of the loss, which is on all rows: n per seed."""

    def __init__(self, term: LossTerm, seeds: int, n: int) -> None:
        self.term = term
        self.target_rows = term.targets.new_empty(seeds * n, CLASSES)
        self.hidden_rows = None if term.hidden is None else torch.empty_like(self.target_rows)
        # The same memory as logits are laid out: seeds × classes × n.
        self.targets = self.target_rows.view(seeds, n, CLASSES).mT
        self.hidden = None if self.hidden_rows is None else self.hidden_rows.view(seeds, n, CLASSES).mT

    def load(self, rows: Tensor) -> None:
        """Gather chosen rows (seeds · n)."""
        torch.index_select(self.term.targets, 0, rows, out=self.target_rows)
        if self.term.hidden is not None:
            torch.index_select(self.term.hidden, 0, rows, out=self.hidden_rows)


class FrozenInputs:
    """Images and labels of a bank's members, and the frozen first layer's product with the images.

    Args:
        dataset: on the device and in the dtype of the training.
        first: the base's first layer.
        terms: the loss's; none for the cross-entropy of the labels over all logits.
    """

    def __init__(self, dataset: MNISTDataset, first: nn.Linear, terms: Sequence[LossTerm] = ()) -> None:
        self.images, self.labels = dataset.images, dataset.labels
        self.weight, self.bias = first.weight.detach(), first.bias.detach()
        self.targets = F.one_hot(self.labels, CLASSES).to(self.images.dtype)
        # A product wider than the images would take more memory than the images, so each step forms it anew.
        self.product = F.linear(self.images, self.weight, self.bias) if len(self.bias) <= len(self.images[0]) else None
        self.terms = terms
        self._batches: dict[tuple[int, int], Batch] = {}

    def batch(self, seeds: int, n: int) -> Batch:
        """Return the memory for n images per seed; the cohorts of a bank take turns, so they share it."""
        if (seeds, n) not in self._batches:
            sizes = (self.images.shape[1], len(self.bias), CLASSES)
            self._batches[seeds, n] = Batch(self.images, sizes, seeds, n)
        return self._batches[seeds, n]

    def load(self, rows: Tensor, batch: Batch) -> None:
        """Put chosen rows (seeds × n) into a batch."""
        rows = rows.reshape(-1)
        torch.index_select(self.images, 0, rows, out=batch.image_rows)
        if not self.terms:
            torch.index_select(self.targets, 0, rows, out=batch.target_rows)
        for term in batch.terms:
            term.load(rows)
        if self.product is None:
            torch.addmm(self.bias, batch.image_rows, self.weight.t(), out=batch.product_rows)
        else:
            torch.index_select(self.product, 0, rows, out=batch.product_rows)
        batch.columns.copy_(batch.product.mT)
