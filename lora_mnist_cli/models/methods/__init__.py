"""Ways to adapt a frozen base: a file each, with the name of its row in
:data:`lora_mnist_cli.settings.choices.METHODS`.

The layers that train them are in :mod:`lora_mnist_cli.models.adapted_linear`, the same for all but LoRA. No torch here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lora_mnist_cli.models.methods.method import PEFT_PREFIX, Method
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.choices import implementation

__all__ = ["PEFT_PREFIX", "Method", "method_named", "tensor_shapes", "trainable_parameters"]


def method_named(name: str) -> Method:
    """Return the mathematics of a method."""
    method: Method = implementation(__name__, name)
    return method


def tensor_shapes(config: AdapterConfig, layers: Mapping[str, Sequence[int]]) -> dict[str, tuple[int, ...]]:
    """Key → shape of each tensor in the file of an adapter.

    Args:
        layers: name → (in, out) of each layer that is adapted.
    """
    method = method_named(config.method)
    return {
        f"{method.prefix}{layer}.{name}": shape
        for layer, (fan_in, fan_out) in layers.items()
        for name, shape in method.shapes(config.rank, fan_in, fan_out).items()
    }


def trainable_parameters(config: AdapterConfig, layers: Mapping[str, Sequence[int]]) -> int:
    """How many numbers an adapter trains on layers of (in, out) features."""
    method = method_named(config.method)
    return sum(method.trainable(config.rank, fan_in, fan_out) for fan_in, fan_out in layers.values())
