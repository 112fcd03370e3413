"""What a way of combining adapters has to say of itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Matrix = npt.NDArray[np.float64]
    Changes = Mapping[str, Matrix]


class Combiner:
    """A way to make one change of weights of several; each is one instance in :data:`COMBINERS`."""

    name: ClassVar[str]
    about: ClassVar[str]
    """A few words for tables and help."""
    exact: ClassVar[bool] = False
    """Whether all that is wanted is kept, in factors put side by side, rather than what a rank can hold of it."""
    density: ClassVar[float | None] = None
    """The share of entries that is kept, where none is given; None for a way that keeps all."""
    random: ClassVar[bool] = False
    """Whether it draws random numbers."""

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
