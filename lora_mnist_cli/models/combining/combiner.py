"""The arithmetic of a way to combine adapters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Matrix = npt.NDArray[np.float64]
    Changes = Mapping[str, Matrix]


class Combiner:
    """A way to combine changes of weights; its words are a row of ``settings.choices.COMBINERS``."""

    def wanted(
        self, changes: Sequence[Changes], weights: Sequence[float], *, density: float, draws: Sequence[Any]
    ) -> dict[str, Matrix]:
        """Return the change of each layer's weight (out × in) of the combination: by default the weighted sum.

        Args:
            changes: for each adapter, layer → ΔW (out × in); all have the same layers.
            weights: a multiplier for each adapter.
            density: the share of entries that are kept, above 0 and at most 1; 1 for a way that keeps all.
            draws: a NumPy generator for each adapter.
        """
        return weighted_sum(changes, weights)


def weighted_sum(changes: Sequence[Changes], weights: Sequence[float]) -> dict[str, Matrix]:
    """Return ``Σ w ΔW`` of each layer."""
    first, *_ = changes
    return {
        layer: sum((weight * change[layer] for weight, change in zip(weights, changes, strict=True)), 0 * first[layer])
        for layer in first
    }
