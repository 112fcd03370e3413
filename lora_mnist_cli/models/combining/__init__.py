"""Ways to combine adapters of one base, one file per way, named as its row of ``settings.choices.COMBINERS``.

They work on the changes of the weights, ΔW, and never on the factors: ``B₁A₁ + B₂A₂`` is not ``(B₁ + B₂)(A₁ + A₂)``,
and different factors can have the same ΔW. No torch, and no NumPy before a way is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lora_mnist_cli.settings.choices import implementation

if TYPE_CHECKING:
    from lora_mnist_cli.models.combining.products import Changes, Matrix


class Combiner:
    """A way to combine changes of weights, by default their weighted sum."""

    def wanted(
        self, changes: Sequence[Changes], weights: Sequence[float], *, density: float, draws: Sequence[Any]
    ) -> dict[str, Matrix]:
        """Return the change of each layer's weight (out × in) of the combination: by default ``Σ w ΔW``.

        Args:
            changes: for each adapter, layer → ΔW (out × in); all have the same layers.
            weights: a multiplier for each adapter.
            density: the share of entries that are kept, above 0 and at most 1; 1 for a way that keeps all.
            draws: a NumPy generator for each adapter.
        """
        return {
            layer: sum((weight * change[layer] for weight, change in zip(weights, changes, strict=True)), 0 * first)
            for layer, first in changes[0].items()
        }


def combiner_named(name: str) -> Combiner:
    """Return the arithmetic of a way to combine."""
    combiner: Combiner = implementation(__name__, name)
    return combiner
