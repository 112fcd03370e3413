"""Forgetting: the digits that a network has forgotten, and those that are merely outranked.

A network that answers "9" to every "4" may have forgotten the difference between a 4 and the other old digits, or may
still know it and rank the new digits higher. With the logits of the other half masked (the task is known: multi-head
evaluation in the literature on continual learning) only the first shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lora_mnist_cli.settings.digits import ALL_DIGITS, DigitSet
from lora_mnist_cli.system.arithmetic import computing

BINS = 15
"""Bins of confidence, as in Guo et al. 2017."""


@dataclass(frozen=True)
class Bin:
    """The images whose confidence lies in (low, high], 0 included; without images their means are None."""

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Calibration:
    """The distance of confidence from accuracy: the expected calibration error, a fraction; None without images."""

    error: float | None
    confidence: float | None
    bins: tuple[Bin, ...]


def masked(logits: Tensor, digits: DigitSet) -> Tensor:
    """Set the logits (n × 10) of all other digits to −∞, so that neither argmax nor softmax sees them."""
    others = ALL_DIGITS.without(digits)
    return logits if others is None else logits.index_fill(1, torch.tensor(others.members), -torch.inf)


def accuracy(logits: Tensor, labels: Tensor, digits: DigitSet, *, among: DigitSet = ALL_DIGITS) -> float | None:
    """Return the accuracy on the images of some digits, or None without images; ``among`` may be predicted.

    ``logits`` are n × 10 and ``labels`` n, of any images.
    """
    rows = rows_of(labels, digits)
    right = masked(logits[rows], among).argmax(1) == labels[rows]
    return right.double().mean().item() if len(right) else None


def accuracy_matrix(
    after: Sequence[Tensor], labels: Tensor, tasks: Sequence[DigitSet], *, known: bool
) -> list[list[float]]:
    """Return a row for each state of a network, with its accuracy on each task: the R of ``evaluation.transfer``.

    ``after`` holds the n × 10 logits of each state for the same images. If the task is ``known``, only its digits may
    be predicted.

    Raises:
        ValueError: where a task has no images.
    """
    rows = [[accuracy(logits, labels, task, among=task if known else ALL_DIGITS) for task in tasks] for logits in after]
    if any(value is None for row in rows for value in row):
        raise ValueError(f"a task has no images: {', '.join(map(str, tasks))}")
    return [[float(value) for value in row if value is not None] for row in rows]


@computing()
def calibration(logits: Tensor, labels: Tensor, *, bins: int = BINS) -> Calibration:
    """Return the expected calibration error (Guo et al. 2017, arXiv:1706.04599, eq. 3) and its bins.

    ``ECE = Σ_b |B_b| / n · |accuracy(B_b) − confidence(B_b)|``, over bins of equal width of the largest probability.
    Some of the logits (n × classes) may be −∞.
    """
    confidence, predicted = logits.double().softmax(1).max(1)
    right = (predicted == labels).double()
    # The interval that a confidence lies in is open at its left, so 1/15 belongs to the first.
    bin_of = (confidence * bins).ceil().long().clamp(1, bins) - 1
    counts = torch.bincount(bin_of, minlength=bins)
    sums = [torch.zeros(bins, dtype=torch.float64).index_add_(0, bin_of, part).tolist() for part in (confidence, right)]
    filled = tuple(
        Bin(i / bins, (i + 1) / bins, n, sure / n if n else None, hits / n if n else None)
        for i, (n, sure, hits) in enumerate(zip(counts.tolist(), *sums, strict=True))
    )
    if not (n := len(labels)):
        return Calibration(None, None, filled)
    gaps = (
        b.count * abs(b.accuracy - b.confidence) for b in filled if b.accuracy is not None and b.confidence is not None
    )
    return Calibration(sum(gaps) / n, confidence.mean().item(), filled)


def rows_of(labels: Tensor, digits: DigitSet) -> Tensor:
    """Return whether each image (n) shows one of some digits: n booleans."""
    return torch.isin(labels, torch.tensor(digits.members))


@torch.no_grad()
def hidden_features(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Return the activations of each hidden layer after its ReLU: name → n × units, from the input on.

    The model is a :class:`~lora_mnist_cli.models.mlp.MNISTModel`, plain or adapted; images are n × 784, normalised.
    """
    *inner, _ = model.named_children()
    hidden, features = images, {}
    for name, layer in inner:
        hidden = F.relu(layer(hidden))
        features[name] = hidden
    return features
