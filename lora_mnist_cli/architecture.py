"""The network and the adapter's factor in numbers, for those that have no need of torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

PIXELS = 28 * 28
CLASSES = 10


def layer_shapes(
    hidden_sizes: Sequence[int], in_features: int = PIXELS, num_classes: int = CLASSES
) -> dict[str, tuple[int, int]]:
    """Name → (inputs, outputs) of each linear layer, from the input on."""
    sizes = (in_features, *hidden_sizes, num_classes)
    return {f"fc{i + 1}": (sizes[i], sizes[i + 1]) for i in range(len(sizes) - 1)}


def trainable_parameters(shapes: Iterable[tuple[int, int]], rank: int) -> int:
    """Trainable parameters of adapters of ``rank`` on layers of (in, out) features: the sum of rank · (in + out)."""
    return sum(rank * (fan_in + fan_out) for fan_in, fan_out in shapes)


def scale(scaling: str, rank: int) -> float:
    """The factor on the product that depends on the rank alone.

    ``constant`` is 1 (the study), ``standard`` 1/rank (Hu et al. 2021, §4.1), ``rslora`` 1/√rank (Kalajdzievski 2023,
    arXiv:2312.03732).
    """
    return {"constant": 1.0, "standard": 1.0 / rank, "rslora": 1.0 / math.sqrt(rank)}[scaling]
