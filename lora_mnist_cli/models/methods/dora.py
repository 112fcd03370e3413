"""DoRA (Liu et al. 2024, arXiv:2402.09353): the magnitude and the direction of a weight are learned separately.

``W' = m · (W + s B A) / ‖W + s B A‖`` per row (output), with ``s = alpha · scale(rank)``. The magnitude ``m`` (out)
starts at ‖W‖, so that nothing changes at the start. The gradient takes the norm as a constant (the paper's §4.3). An
alpha given later multiplies the change ``W' − W``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lora_mnist_cli.models.architecture import scale
from lora_mnist_cli.models.methods import Change, Tensors
from lora_mnist_cli.models.methods.lora import A, B, LoRA
from lora_mnist_cli.settings.adapter_config import AdapterConfig

MAGNITUDE = "lora_magnitude_vector"


class DoRA(LoRA):
    """See the module."""

    needs_weight = True
    alpha_not_in_peft = "in PEFT it multiplies the product inside the norm alone"

    def shapes(self, rank: int, fan_in: int, fan_out: int) -> dict[str, tuple[int, ...]]:
        """LoRA's factors, and a magnitude per output."""
        return super().shapes(rank, fan_in, fan_out) | {MAGNITUDE: (fan_out,)}

    def trainable(self, config: AdapterConfig, fan_in: int, fan_out: int) -> int:
        """LoRA's, and one per output."""
        return super().trainable(config, fan_in, fan_out) + fan_out

    def change_rank(self, config: AdapterConfig, fan_in: int, fan_out: int) -> int:
        """All of it: every row is rescaled."""
        return min(fan_in, fan_out)

    def start(self, weight: Any, bias: Any, config: AdapterConfig) -> tuple[dict[str, Any], dict[str, Any]]:
        """``A`` as LoRA's, ``B`` zero, ``m`` the norms of W's rows."""
        from lora_mnist_cli.models.lora import init_A

        fan_out, fan_in = weight.shape
        factors = {A: init_A(config.rank, fan_in, config.init).to(weight), B: weight.new_zeros(fan_out, config.rank)}
        return factors | {MAGNITUDE: _norms(weight)}, {}

    def change(self, kept: Tensors, weight: Any, config: AdapterConfig) -> Change:
        """``W' − W``."""
        direction = weight + config.alpha * scale(config.scaling, config.rank) * (kept[B] @ kept[A])
        norms = _norms(direction)
        norms = norms.detach() if hasattr(norms, "detach") else norms
        return (kept[MAGNITUDE] / norms)[:, None] * direction - weight, None

    def peft(self, config: AdapterConfig, layers: Sequence[str]) -> dict[str, Any] | None:
        """LoRA's, with ``use_dora``."""
        return {**(super().peft(config, layers) or {}), "use_dora": True}


def _norms(weight: Any) -> Any:
    return (weight * weight).sum(1) ** 0.5


IMPLEMENTATION = DoRA()
