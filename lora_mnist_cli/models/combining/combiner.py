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
    """A way to make one change of weights of several; its words are a row of ``settings.choices.COMBINERS``."""

    def wanted(
        self, changes: Sequence[Changes], weights: Sequence[float], *, density: float, draws: Sequence[Any]
    ) -> dict[str, Matrix]:
        """Layer → the change of its weight (out × in) that the combination ought to make: by default the weighted sum.

        Args:
            changes: of each adapter: layer → ΔW (out × in), all of them with the same layers.
            weights: a multiplier for each adapter.
            density: the share of entries that is kept, from above 0 to 1; 1 for a way that keeps all.
            draws: a NumPy generator for each adapter.
        """
        return weighted_sum(changes, weights)


def weighted_sum(changes: Sequence[Changes], weights: Sequence[float]) -> dict[str, Matrix]:
    """Layer → ``Σ w ΔW``."""
    first, *_ = changes
    return {
        layer: sum((weight * change[layer] for weight, change in zip(weights, changes, strict=True)), 0 * first[layer])
        for layer in first
    }
