"""Ways to combine adapters of one base, one file per way, named as its row of ``settings.choices.COMBINERS``.

Read :mod:`.combiner` first: it is the contract. Combiners work on the changes of the weights, ΔW, and never on the
factors: ``B₁A₁ + B₂A₂`` is not ``(B₁ + B₂)(A₁ + A₂)``, and different factors can have the same ΔW. No torch, and NumPy
only inside functions.
"""

from __future__ import annotations

from lora_mnist_cli.models.combining.combiner import Combiner
from lora_mnist_cli.settings.choices import implementation

__all__ = ["Combiner", "combiner_named"]


def combiner_named(name: str) -> Combiner:
    """Return the arithmetic of a way to combine."""
    combiner: Combiner = implementation(__name__, name)
    return combiner
