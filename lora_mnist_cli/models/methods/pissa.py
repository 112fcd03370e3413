"""PiSSA (Meng et al. 2024, arXiv:2404.02948): LoRA that starts from the weight's principal singular values.

The factors start as ``B₀ A₀``, the best approximation of W of that rank (divided by s), which is subtracted from the
weight (:mod:`.moved`).
"""

from __future__ import annotations

from typing import Any

from lora_mnist_cli.models.methods.lora import A, B
from lora_mnist_cli.models.methods.moved import START_A, START_B, MovedLoRA, start_strength
from lora_mnist_cli.settings.adapter_config import AdapterConfig


class PiSSA(MovedLoRA):
    """See the module."""

    def start(self, weight: Any, bias: Any, config: AdapterConfig) -> tuple[dict[str, Any], dict[str, Any]]:
        """``A₀ = √(S/s) Vᵀ`` and ``B₀ = U √(S/s)`` of W's first singular values, trained, and copies of them, fixed."""
        import torch

        # In double precision, because the products subtracted from the weight and added to it must be equal.
        U, S, V = torch.linalg.svd(weight.detach().double(), full_matrices=False)
        roots = (S[: config.rank] / start_strength(config)).sqrt()
        first, second = (roots[:, None] * V[: config.rank]).to(weight), (U[:, : config.rank] * roots).to(weight)
        return {A: first, B: second}, {START_A: first.clone(), START_B: second.clone()}


IMPLEMENTATION = PiSSA()
