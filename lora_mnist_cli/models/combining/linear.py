"""The weighted sum itself: task arithmetic (Ilharco et al. 2023, arXiv:2212.04089) on low-rank changes.

``Σ w B A`` is the product of ``[w₁B₁, w₂B₂, …]`` and ``[A₁; A₂; …]``: exact, with the sum of the ranks as its rank.
"""

from __future__ import annotations

from lora_mnist_cli.models.combining import Combiner

IMPLEMENTATION = Combiner()
