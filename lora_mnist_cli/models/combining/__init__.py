"""Ways to make one adapter of several on the same base: a file each, and an entry each in :data:`COMBINERS`.

They work on what adapters add to the weights, ΔW, and never on the factors: ``B₁A₁ + B₂A₂`` is not
``(B₁ + B₂)(A₁ + A₂)``, and the factors of one and the same ΔW can differ in everything. No torch, and NumPy only where
something is computed.
"""

from __future__ import annotations

from lora_mnist_cli.models.combining.combiner import Combiner
from lora_mnist_cli.models.combining.dare import Dare
from lora_mnist_cli.models.combining.linear import Linear
from lora_mnist_cli.models.combining.svd import TruncatedSVD
from lora_mnist_cli.models.combining.ties import Ties

__all__ = ["COMBINERS", "Combiner"]

COMBINERS: dict[str, Combiner] = {each.name: each for each in (Linear(), TruncatedSVD(), Ties(), Dare())}
