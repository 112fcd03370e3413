"""The weighted sum, as far as a rank can hold it: its first singular values and vectors.

No matrix of that rank is nearer in the Frobenius norm, and what is left out is ``√(Σ_{i>R} σᵢ²)`` (Eckart and Young
1936, Psychometrika 1, 211-218).
"""

from __future__ import annotations

from lora_mnist_cli.models.combining.combiner import Combiner


class TruncatedSVD(Combiner):
    """See the module."""


IMPLEMENTATION = TruncatedSVD()
