"""The network and the adapter's scale in numbers, without torch."""

from __future__ import annotations

import math
from collections.abc import Sequence

PIXELS = 28 * 28
CLASSES = 10
FEATURES = 200
"""Of an image, in which densities tell digits apart (:mod:`lora_mnist_cli.models.features`)."""

TRAIN_SAMPLE = 2048
"""Training images that each epoch is scored on: an accuracy of 99 % is then known to 0.2 points, while scoring all of
them would take a quarter of the stage's time."""

SCORED_AT_ONCE = 512
"""Images per forward pass of a bank in evaluation: so few that the activations stay in the cache."""


def layer_shapes(
    hidden_sizes: Sequence[int], in_features: int = PIXELS, num_classes: int = CLASSES
) -> dict[str, tuple[int, int]]:
    """Return (inputs, outputs) of each linear layer by name, from the input on."""
    sizes = (in_features, *hidden_sizes, num_classes)
    return {f"fc{i + 1}": (sizes[i], sizes[i + 1]) for i in range(len(sizes) - 1)}


def member_bytes(shapes: Sequence[tuple[int, int]], rank: int, batch_size: int, itemsize: int = 4) -> int:
    """Estimate the memory of a bank's member in training, for adapters on layers of these (in, out) features.

    It counts parameters, their gradients and Adam's two moments; the merged weights and their gradient; and
    activations, in training (with gradients) and in evaluation.
    """
    parameters = sum(rank * (fan_in + fan_out) for fan_in, fan_out in shapes)
    merged = sum(fan_in * fan_out for fan_in, fan_out in shapes[1:])
    features = sum(fan_out + 2 * rank for _, fan_out in shapes)
    return itemsize * (4 * parameters + 2 * merged + features * (2 * batch_size + 2 * SCORED_AT_ONCE))


def scale(scaling: str, rank: int) -> float:
    """Return the factor on the product that depends only on the rank.

    ``constant`` is 1 (the study), ``standard`` 1/rank (Hu et al. 2021, §4.1), ``rslora`` 1/√rank (Kalajdzievski 2023,
    arXiv:2312.03732).
    """
    return {"constant": 1.0, "standard": 1.0 / rank, "rslora": 1.0 / math.sqrt(rank)}[scaling]
