"""LoRA-GA (Wang, Yu and Li 2024, arXiv:2407.05000): a start from the singular vectors of the first gradient.

With ``∇ = U S Vᵀ``, the gradient of the loss by the weight, A₀ is the first ``rank`` rows of Vᵀ and B₀ the next columns
of U. The first step of gradient descent then changes the weight by ``B₀ B₀ᵀ ∇ + ∇ A₀ᵀ A₀`` times a number, the best
approximation of the full step of twice the rank. Both factors are multiplied by ``⁴√out / √γ``, which keeps the size
of the outputs from depending on the layer's (γ is 16, PEFT's default). A gradient has no more vectors than the layer's
smaller side: where there is no next column, B starts at zero, as LoRA's does.

The gradient is that of training images of the digits to learn, by cross-entropy over all ten logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lora_mnist_cli.training.objective import ProtectionContext
from lora_mnist_cli.training.starts import SAMPLES, Start

_GAMMA = 16


class LoRAGA(Start):
    """See the module."""

    of_new_images = True

    def measure(self, context: ProtectionContext) -> Sequence[Any]:
        """The gradient by each layer's weight (out × in)."""
        images, labels = context.training_images(SAMPLES)
        layers = [layer for layer in context.base.children() if isinstance(layer, nn.Linear)]
        weights = [layer.weight.detach().requires_grad_() for layer in layers]
        with torch.enable_grad():
            hidden = images
            for number, (layer, weight) in enumerate(zip(layers, weights, strict=True)):
                hidden = F.linear(torch.relu(hidden) if number else hidden, weight, layer.bias)
            return torch.autograd.grad(F.cross_entropy(hidden, labels), weights)

    def factors(self, weight: Tensor, measured: Any, rank: int, strength: float) -> tuple[Tensor, Tensor]:
        """The first right singular vectors, and the next left ones."""
        U, _, V = torch.linalg.svd(measured.double(), full_matrices=False)
        size = len(weight) ** 0.25 / _GAMMA**0.5
        return size * V[:rank], size * U[:, rank : 2 * rank]


IMPLEMENTATION = LoRAGA()
