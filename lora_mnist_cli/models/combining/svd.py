"""The best approximation of the weighted sum with a given rank: its first singular values and vectors.

No matrix of that rank is nearer in the Frobenius norm; the residual is ``√(Σ_{i>R} σᵢ²)`` (Eckart and Young 1936,
Psychometrika 1, 211-218).
"""

from __future__ import annotations

from lora_mnist_cli.models.combining import Combiner

IMPLEMENTATION = Combiner()
