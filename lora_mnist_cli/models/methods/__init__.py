"""Ways to adapt a frozen base, one file per method, named as its row of ``settings.choices.METHODS``.

Read :mod:`.method` first: it is the contract. The layers that train them are in
:mod:`lora_mnist_cli.models.adapted_linear`, and LoRA's in :mod:`lora_mnist_cli.models.lora`. No torch here.
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
    """Return the shape of each tensor in an adapter's file of weights, by key.

    Args:
        layers: name → (in, out) of each adapted layer.
    """
    method = method_named(config.method)
    return {
        f"{method.prefix}{layer}.{name}": shape
        for layer, (fan_in, fan_out) in layers.items()
        for name, shape in method.shapes(config.rank, fan_in, fan_out).items()
    }


def trainable_parameters(config: AdapterConfig, layers: Mapping[str, Sequence[int]]) -> int:
    """Count the numbers that an adapter trains on layers of (in, out) features."""
    method = method_named(config.method)
    return sum(method.trainable(config.rank, fan_in, fan_out) for fan_in, fan_out in layers.values())
