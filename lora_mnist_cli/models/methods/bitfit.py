"""BitFit (Ben Zaken et al. 2021, arXiv:2106.10199): the biases alone are trained.

The optimiser, weight decay included, sees the biases themselves. The differences are kept, so that alpha can apply a
part of them.
"""

from __future__ import annotations

from typing import Any

from lora_mnist_cli.models.methods import Change, Method, Tensors
from lora_mnist_cli.models.methods.full import BIAS
from lora_mnist_cli.settings.adapter_config import AdapterConfig


class BitFit(Method):
    """See the module."""

    needs_weight = True  # for its shape
    changes_biases = True
    prefix = ""
    not_in_peft = "it keeps how far biases moved, and PEFT saves biases beside factors alone"

    def shapes(self, rank: int, fan_in: int, fan_out: int) -> dict[str, tuple[int, ...]]:
        """A difference per bias."""
        return {BIAS: (fan_out,)}

    def trainable(self, config: AdapterConfig, fan_in: int, fan_out: int) -> int:
        """All biases of the layer."""
        return fan_out

    def start(self, weight: Any, bias: Any, config: AdapterConfig) -> tuple[dict[str, Any], dict[str, Any]]:
        """The layer's bias."""
        return {"bias": bias.detach().clone()}, {}

    def learned(self, trained: Tensors, weight: Any, bias: Any, config: AdapterConfig) -> Change:
        """The difference from the base's bias."""
        return self.change(self.kept(trained, weight, bias, config), weight, config)

    def kept(self, trained: Tensors, weight: Any, bias: Any, config: AdapterConfig) -> dict[str, Any]:
        """The difference from the base's bias."""
        return {BIAS: trained["bias"] - bias}

    def change(self, kept: Tensors, weight: Any, config: AdapterConfig) -> Change:
        """No change of the weight, and the difference."""
        return weight - weight, config.alpha * kept[BIAS]


IMPLEMENTATION = BitFit()
