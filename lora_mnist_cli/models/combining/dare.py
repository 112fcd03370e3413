"""DARE (Yu et al. 2023, arXiv:2311.03099): drop entries at random, and rescale the others.

Each entry of an adapter's change is kept with probability d (the density; the paper's 1 − p) and divided by d, which
preserves its expectation. Then the changes are added up. Few entries of one adapter then coincide with another's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lora_mnist_cli.models.combining import Combiner
from lora_mnist_cli.models.combining.products import Changes, Matrix


class Dare(Combiner):
    """See the module."""

    def wanted(
        self, changes: Sequence[Changes], weights: Sequence[float], *, density: float, draws: Sequence[Any]
    ) -> dict[str, Matrix]:
        """``Σ w (mask · ΔW) / d``."""
        kept = [
            {layer: matrix * (draw.random(matrix.shape) < density) / density for layer, matrix in change.items()}
            for change, draw in zip(changes, draws, strict=True)
        ]
        return super().wanted(kept, weights, density=density, draws=draws)


IMPLEMENTATION = Dare()
