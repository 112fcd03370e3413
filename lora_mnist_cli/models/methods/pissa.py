"""PiSSA (Meng et al. 2024, arXiv:2404.02948): LoRA that starts from the weight's principal singular values.

``W' = W − s B₀ A₀ + s B A`` with ``s = alpha · scale(rank)``: the factors start as ``B₀ A₀``, the best approximation of
W of that rank (divided by s), and the rest of W is frozen. What was learned is ``s (B A − B₀ A₀)``, a product of twice
the rank on the weight as it was, and that is kept: ``[B, −B₀]`` and ``[A; A₀]``. PEFT describes the same conversion, so
it loads the result as plain LoRA; the base's own weights are never written anew.

A layer has no more singular values than its smaller side: of a rank above that, the other rows are zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lora_mnist_cli.models.architecture import scale
from lora_mnist_cli.models.methods.lora import A, B, LoRA
from lora_mnist_cli.models.methods.method import Change, Tensors
from lora_mnist_cli.settings.adapter_config import AdapterConfig

START_A, START_B = "start_A", "start_B"


class PiSSA(LoRA):
    """See the module."""

    def shapes(self, rank: int, fan_in: int, fan_out: int) -> dict[str, tuple[int, ...]]:
        """LoRA's factors, of twice the rank."""
        return super().shapes(2 * rank, fan_in, fan_out)

    def trainable(self, rank: int, fan_in: int, fan_out: int) -> int:
        """LoRA's, of a rank that the layer can have."""
        return super().trainable(min(rank, fan_in, fan_out), fan_in, fan_out)

    def start(self, weight: Any, bias: Any, config: AdapterConfig) -> tuple[dict[str, Any], dict[str, Any]]:
        """``A₀ = √(S/s) Vᵀ`` and ``B₀ = U √(S/s)`` of W's first singular values; of both a copy stays."""
        import torch

        # In double precision: what is taken off the weight and put on again is to be the same.
        U, S, V = torch.linalg.svd(weight.detach().double(), full_matrices=False)
        strength = abs(config.alpha) * scale(config.scaling, config.rank) or 1.0
        roots = (S[: config.rank] / strength).sqrt()
        first, second = (roots[:, None] * V[: config.rank]).to(weight), (U[:, : config.rank] * roots).to(weight)
        return {A: first, B: second}, {START_A: first.clone(), START_B: second.clone()}

    def learned(self, own: Tensors, weight: Any, bias: Any, config: AdapterConfig) -> Change:
        """``s (B A − B₀ A₀)``."""
        strength = config.alpha * scale(config.scaling, config.rank)
        return strength * (own[B] @ own[A] - own[START_B] @ own[START_A]), None

    def kept(self, own: Tensors, weight: Any, bias: Any, config: AdapterConfig) -> dict[str, Any]:
        """``[A; A₀]`` and ``[B, −B₀]``."""
        fan_out, fan_in = weight.shape
        made = {name: weight.new_zeros(shape) for name, shape in self.shapes(config.rank, fan_in, fan_out).items()}
        for place, first, second in ((0, own[A], own[B]), (config.rank, own[START_A], -own[START_B])):
            made[A][place : place + len(first)] = first
            made[B][:, place : place + len(first)] = second
        return made

    def change(self, kept: Tensors, weight: Any, config: AdapterConfig) -> Change:
        """``s (B A − B₀ A₀)``; exactly zero where nothing has moved, so the two products are made alike."""
        rank = config.rank
        now, start = ((1 * kept[B][:, part]) @ kept[A][part] for part in (slice(rank), slice(rank, None)))
        return config.alpha * scale(config.scaling, rank) * (now + start), None

    def peft(self, config: AdapterConfig, layers: Sequence[str]) -> dict[str, Any] | None:
        """Plain LoRA of twice the rank."""
        doubled = 2 * config.rank
        lora_alpha = config.alpha * scale(config.scaling, config.rank) * doubled
        made = super().peft(config, layers) or {}
        return {**made, "r": doubled, "lora_alpha": lora_alpha, "use_rslora": False}


IMPLEMENTATION = PiSSA()
