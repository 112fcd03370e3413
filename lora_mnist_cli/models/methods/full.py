"""Full fine-tuning: every weight and bias of the chosen layers is trained. It is the ceiling that LoRA is measured by.

Howard & Ruder 2018 (arXiv:1801.06146) is the usual reference; Hu et al. 2021 (arXiv:2106.09685, §5) compare with it.
The optimiser, weight decay included, sees the weights themselves, as it would without this project's frozen base; what
is kept is how far they moved, so that alpha can take them there by degrees: ``W' = W + alpha · ΔW``, and so the bias.
"""

from __future__ import annotations

from typing import Any

from lora_mnist_cli.models.methods.method import Change, Method, Tensors
from lora_mnist_cli.settings.adapter_config import AdapterConfig

WEIGHT, BIAS = "weight_delta", "bias_delta"


class Full(Method):
    """See the module."""

    prefix = ""
    not_in_peft = (
        "it keeps how far whole weights and biases moved, and PEFT's adapters of a layer are factors beside it"
    )

    def shapes(self, rank: int, fan_in: int, fan_out: int) -> dict[str, tuple[int, ...]]:
        """A difference a weight and a bias."""
        return {WEIGHT: (fan_out, fan_in), BIAS: (fan_out,)}

    def trainable(self, rank: int, fan_in: int, fan_out: int) -> int:
        """The layer's own."""
        return fan_out * (fan_in + 1)

    def start(self, weight: Any, bias: Any, config: AdapterConfig) -> tuple[dict[str, Any], dict[str, Any]]:
        """The layer's own weight and bias."""
        return {"weight": weight.detach().clone(), "bias": bias.detach().clone()}, {}

    def learned(self, own: Tensors, weight: Any, bias: Any, config: AdapterConfig) -> Change:
        """``alpha`` times how far they are from where they were."""
        return config.alpha * (own["weight"] - weight), config.alpha * (own["bias"] - bias)

    def kept(self, own: Tensors, weight: Any, bias: Any, config: AdapterConfig) -> dict[str, Any]:
        """How far they are from where they were."""
        return {WEIGHT: own["weight"] - weight, BIAS: own["bias"] - bias}

    def change(self, kept: Tensors, weight: Any, config: AdapterConfig) -> Change:
        """``alpha`` times the differences."""
        return config.alpha * kept[WEIGHT], config.alpha * kept[BIAS]


IMPLEMENTATION = Full()
