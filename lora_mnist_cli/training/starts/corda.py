"""CorDA (Yang et al. 2024, arXiv:2406.05223), to preserve knowledge: what the weight does least on old inputs.

With ``C = Xᵀ X`` of a layer's old inputs and the singular values of ``W C = U Σ Vᵀ``, the weight is ``U Σ (Vᵀ C⁻¹)``.
Its last components do least on old inputs, and are the start (knowledge-preserved mode); the rest of the weight, which
old answers depend on, is frozen. As in the paper's code, inputs are divided by their maximum, and a hundredth of C's
mean diagonal is added to its diagonal, twice as much until C can be inverted.

Old inputs are those of samples of the base's class statistics, in the base's layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lora_mnist_cli.training.objective import ProtectionContext
from lora_mnist_cli.training.starts import Start
from lora_mnist_cli.training.starts.old_inputs import old_inputs

_DAMPING, _LARGEST_ERROR = 0.01, 0.05
"""What is added to the diagonal, and how far C C⁻¹ may be from the identity (Frobenius norm)."""


class CorDA(Start):
    """See the module."""

    def measure(self, context: ProtectionContext) -> Sequence[Any]:
        """C and its inverse, both in × in, of each layer."""
        return [invertible(inputs) for inputs in old_inputs(context)]

    def factors(self, weight: Tensor, measured: Any, rank: int, strength: float) -> tuple[Tensor, Tensor]:
        """``A₀ = √(Σ/s) Vᵀ C⁻¹`` and ``B₀ = U √(Σ/s)`` of the last components."""
        C, inverse = measured
        U, S, V = torch.linalg.svd(weight @ C, full_matrices=False)
        roots = (S[-rank:] / strength).sqrt()
        return roots[:, None] * (V[-rank:] @ inverse), U[:, -rank:] * roots


def invertible(inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``C`` of inputs (n × in), damped, and its inverse (float64)."""
    scaled = inputs.double() / inputs.double().amax().abs().clamp(min=1e-30)
    moments = scaled.mT @ scaled
    identity, damping = torch.eye(len(moments), dtype=moments.dtype), _DAMPING
    while True:
        C = moments + damping * (moments.diagonal().mean() or 1.0) * identity
        inverse = torch.linalg.inv(C)
        if torch.dist(C @ inverse, identity) < _LARGEST_ERROR:
            return C, inverse
        damping *= 2


IMPLEMENTATION = CorDA()
