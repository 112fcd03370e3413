"""LoRA from a start that is subtracted from the weight: ``W' = W − s B₀ A₀ + s B A`` with ``s = alpha · scale(rank)``.

The factors start as B₀ and A₀, which are not zero, and the rest of W is frozen. The change is ``s (B A − B₀ A₀)``, a
product of twice the rank on the original weight, and is kept as ``[B, −B₀]`` and ``[A; A₀]``. PEFT documents the same
conversion, so it loads the result as plain LoRA; the base's file is never written again.

Such starts have no more directions than a layer's smaller side; with a rank above that, the other rows are zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lora_mnist_cli.models.architecture import scale
from lora_mnist_cli.models.methods import Change, Tensors
from lora_mnist_cli.models.methods.lora import A, B, LoRA
from lora_mnist_cli.settings.adapter_config import AdapterConfig

START_A, START_B = "start_A", "start_B"


def start_strength(config: AdapterConfig) -> float:
    """Return s, by which a start's product is divided; it has no sign, and is never 0."""
    return abs(config.alpha) * scale(config.scaling, config.rank) or 1.0


class MovedLoRA(LoRA):
    """See the module."""

    def shapes(self, rank: int, fan_in: int, fan_out: int) -> dict[str, tuple[int, ...]]:
        """LoRA's factors, of twice the rank."""
        return super().shapes(2 * rank, fan_in, fan_out)

    def trainable(self, config: AdapterConfig, fan_in: int, fan_out: int) -> int:
        """LoRA's, with at most the layer's smaller side as rank."""
        return super().trainable(config, fan_in, fan_out) // config.rank * min(config.rank, fan_in, fan_out)

    def start(self, weight: Any, bias: Any, config: AdapterConfig) -> tuple[dict[str, Any], dict[str, Any]]:
        """Zeros, which :mod:`lora_mnist_cli.training.starts` replaces; A is fixed where B alone is trained."""
        fan_out, fan_in = weight.shape
        first, second = weight.new_zeros(config.rank, fan_in), weight.new_zeros(fan_out, config.rank)
        fixed = {START_A: first.clone(), START_B: second.clone()}
        return ({B: second}, fixed | {A: first}) if config.train == "B" else ({A: first, B: second}, fixed)

    def learned(self, trained: Tensors, weight: Any, bias: Any, config: AdapterConfig) -> Change:
        """``s (B A − B₀ A₀)``."""
        strength = config.alpha * scale(config.scaling, config.rank)
        return strength * (trained[B] @ trained[A] - trained[START_B] @ trained[START_A]), None

    def factors(self, tensors: Tensors) -> tuple[Any, Any]:
        """``[A; A₀]`` and ``[B, −B₀]``."""
        import torch

        return torch.cat((tensors[A], tensors[START_A]), -2), torch.cat((tensors[B], -tensors[START_B]), -1)

    def gradients(self, tensors: Tensors, of_A: Any, of_B: Any) -> dict[str, Any]:
        """The parts of both that are trained."""
        rank = tensors[A].shape[-2]
        return {A: of_A[..., :rank, :], B: of_B[..., :rank]}

    def kept(self, trained: Tensors, weight: Any, bias: Any, config: AdapterConfig) -> dict[str, Any]:
        """``[A; A₀]`` and ``[B, −B₀]``."""
        fan_out, fan_in = weight.shape
        factors = {name: weight.new_zeros(shape) for name, shape in self.shapes(config.rank, fan_in, fan_out).items()}
        for row, first, second in ((0, trained[A], trained[B]), (config.rank, trained[START_A], -trained[START_B])):
            factors[A][row : row + len(first)] = first
            factors[B][:, row : row + len(first)] = second
        return factors

    def change(self, kept: Tensors, weight: Any, config: AdapterConfig) -> Change:
        """``s (B A − B₀ A₀)``, by two equal computations, so that it is exactly zero where nothing has moved."""
        rank = config.rank
        now, start = ((1 * kept[B][:, part]) @ kept[A][part] for part in (slice(rank), slice(rank, None)))
        return config.alpha * scale(config.scaling, rank) * (now + start), None

    def peft(self, config: AdapterConfig, layers: Sequence[str]) -> dict[str, Any] | None:
        """Plain LoRA of twice the rank."""
        described = super().peft(config, layers) or {}
        own = described.get("rank_pattern", {})
        ranks = {layer: own.get(layer, config.rank) for layer in layers}
        alphas = {layer: config.alpha * scale(config.scaling, rank) * 2 * rank for layer, rank in ranks.items()}
        if own:
            described["rank_pattern"] = {layer: 2 * rank for layer, rank in own.items()}
            described["alpha_pattern"] = {layer: alphas[layer] for layer in own}
        lora_alpha = config.alpha * scale(config.scaling, config.rank) * 2 * config.rank
        return {**described, "r": 2 * config.rank, "lora_alpha": lora_alpha, "use_rslora": False}


MOVED = MovedLoRA()
