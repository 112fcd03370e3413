"""LoRA-Null (Tang et al. 2025, arXiv:2503.02659): the part of the weight that old inputs do not reach.

With the last right singular vectors U of a layer's old inputs X, as many as the rank, the start is the singular value
decomposition of ``W U Uᵀ``: ``B₀ = P √S`` and ``A₀ = √S Qᵀ``. So ``A₀ x`` is next to zero for old inputs, and B can
learn without a change of old answers as long as A stays where it is; ``--train B`` keeps it there (LoRA-Null-v2).

Where X has more null directions than the rank, to the rounding of its 32-bit numbers, all of them are in U: which of
these come last is an accident. Old inputs are those of samples of the base's class statistics, in the base's layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lora_mnist_cli.training.objective import ProtectionContext
from lora_mnist_cli.training.starts import Start
from lora_mnist_cli.training.starts.old_inputs import old_inputs


class LoRANull(Start):
    """See the module."""

    def measure(self, context: ProtectionContext) -> Sequence[Any]:
        """The right singular vectors of each layer's old inputs (in × in), the last first, and how many are null."""
        return [null_first(inputs) for inputs in old_inputs(context)]

    def factors(self, weight: Tensor, measured: Any, rank: int, strength: float) -> tuple[Tensor, Tensor]:
        """``A₀ = √(S/s) Qᵀ`` and ``B₀ = P √(S/s)``."""
        vectors, null = measured
        U = vectors[:, : max(rank, null)]
        P, S, Q = torch.linalg.svd(weight @ U, full_matrices=False)
        roots = (S[:rank] / strength).sqrt()
        return roots[:, None] * (Q[:rank] @ U.mT), P[:, :rank] * roots


def null_first(inputs: Tensor) -> tuple[Tensor, int]:
    """Return the right singular vectors (in × in, float64) of inputs (n × in) as columns, by rising singular value.

    Those count as null that do not count for the rank of the inputs (``torch.linalg.matrix_rank``).
    """
    values, vectors = torch.linalg.eigh(inputs.double().mT @ inputs.double())
    rounding = max(inputs.shape) * torch.finfo(torch.float32).eps
    return vectors, int((values <= rounding**2 * values[-1]).sum())


IMPLEMENTATION = LoRANull()
