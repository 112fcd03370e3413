"""OLoRA (Büyükakyüz 2024, arXiv:2406.01775): a start from the weight's QR decomposition.

With ``W = Q R``, B₀ is the first columns of Q, which are orthonormal, and A₀ the first rows of R.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lora_mnist_cli.training.objective import ProtectionContext
from lora_mnist_cli.training.starts import Start


class OLoRA(Start):
    """See the module."""

    def measure(self, context: ProtectionContext) -> Sequence[Any]:
        """Nothing: it depends on the weight alone."""
        return [None for _ in context.base.children()]

    def factors(self, weight: Tensor, measured: Any, rank: int, strength: float) -> tuple[Tensor, Tensor]:
        """The first rows of R, and the first columns of Q; the paper does not divide them by the strength."""
        Q, R = torch.linalg.qr(weight)
        return R[:rank], Q[:, :rank]


IMPLEMENTATION = OLoRA()
