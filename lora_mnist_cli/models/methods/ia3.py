"""(IA)³ (Liu et al. 2022, arXiv:2205.05638): each input of a layer is multiplied by a learned number.

``W' = W · diag(l)``, with ``l`` (in) of ones at the start, so that nothing changes. The paper rescales the hidden
activations of a feed-forward network (§3.3), which are the inputs of the next layer; here the pixels as well, where
the first layer is adapted. An alpha given later multiplies the change ``W · diag(l − 1)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lora_mnist_cli.models.methods import Change, Method, Tensors, peft_description
from lora_mnist_cli.settings.adapter_config import AdapterConfig

SCALES = "ia3_l"


class IA3(Method):
    """See the module."""

    needs_weight = True
    alpha_not_in_peft = "PEFT's (IA)³ has none"

    def shapes(self, rank: int, fan_in: int, fan_out: int) -> dict[str, tuple[int, ...]]:
        """A number per input."""
        return {SCALES: (1, fan_in)}

    def trainable(self, config: AdapterConfig, fan_in: int, fan_out: int) -> int:
        """One per input."""
        return fan_in

    def start(self, weight: Any, bias: Any, config: AdapterConfig) -> tuple[dict[str, Any], dict[str, Any]]:
        """Ones."""
        return {SCALES: weight.new_ones(1, weight.shape[1])}, {}

    def change(self, kept: Tensors, weight: Any, config: AdapterConfig) -> Change:
        """``W · diag(l − 1)``."""
        return config.alpha * weight * (kept[SCALES] - 1), None

    def peft(self, config: AdapterConfig, layers: Sequence[str]) -> dict[str, Any] | None:
        """PEFT multiplies the inputs of ``feedforward_modules``."""
        return peft_description(
            "IA3", init="init_ia3_weights", target_modules=list(layers), feedforward_modules=list(layers),
            fan_in_fan_out=False,
        )  # fmt: skip


IMPLEMENTATION = IA3()
