"""Full fine-tuning: every weight and bias of the chosen layers is trained. It is the yardstick for LoRA.

Howard & Ruder 2018 (arXiv:1801.06146) is the usual reference; Hu et al. 2021 (arXiv:2106.09685, §5) compare with it.
The optimiser, weight decay included, sees the weights themselves, as it would without a frozen base. The differences
are kept, so that alpha can apply a part of them: ``W' = W + alpha · ΔW``, and the same for the bias.
"""

from __future__ import annotations

from typing import Any

from lora_mnist_cli.models.methods import Change, Method, Tensors
from lora_mnist_cli.settings.adapter_config import AdapterConfig

WEIGHT, BIAS = "weight_delta", "bias_delta"


class Full(Method):
    """See the module."""

    changes_biases = True
    prefix = ""
    not_in_peft = (
        "it keeps how far whole weights and biases moved, and PEFT's adapters of a layer are factors beside it"
    )

    def shapes(self, rank: int, fan_in: int, fan_out: int) -> dict[str, tuple[int, ...]]:
        """A difference per weight and bias."""
        return {WEIGHT: (fan_out, fan_in), BIAS: (fan_out,)}

    def trainable(self, config: AdapterConfig, fan_in: int, fan_out: int) -> int:
        """All weights and biases of the layer."""
        return fan_out * (fan_in + 1)

    def start(self, weight: Any, bias: Any, config: AdapterConfig) -> tuple[dict[str, Any], dict[str, Any]]:
        """The layer's weight and bias."""
        return {"weight": weight.detach().clone(), "bias": bias.detach().clone()}, {}

    def learned(self, trained: Tensors, weight: Any, bias: Any, config: AdapterConfig) -> Change:
        """``alpha`` times the differences from the base."""
        return self.change(self.kept(trained, weight, bias, config), weight, config)

    def kept(self, trained: Tensors, weight: Any, bias: Any, config: AdapterConfig) -> dict[str, Any]:
        """The differences from the base."""
        return {WEIGHT: trained["weight"] - weight, BIAS: trained["bias"] - bias}

    def change(self, kept: Tensors, weight: Any, config: AdapterConfig) -> Change:
        """``alpha`` times the differences."""
        return config.alpha * kept[WEIGHT], config.alpha * kept[BIAS]


IMPLEMENTATION = Full()
