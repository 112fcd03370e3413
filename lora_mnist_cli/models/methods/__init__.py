"""Ways to adapt a frozen base, side by side: a file each, and an entry each in :data:`METHODS`. No torch.

The layers that train them are in :mod:`lora_mnist_cli.models.adapted_linear`, the same for all but LoRA.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lora_mnist_cli.models.methods.dora import DoRA
from lora_mnist_cli.models.methods.full import Full
from lora_mnist_cli.models.methods.head import Head
from lora_mnist_cli.models.methods.lora import LoRA
from lora_mnist_cli.models.methods.method import PEFT_PREFIX, Method
from lora_mnist_cli.models.methods.pissa import PiSSA

if TYPE_CHECKING:
    from lora_mnist_cli.settings.config import AdapterConfig

__all__ = ["METHODS", "PEFT_PREFIX", "Method", "tensor_shapes", "trainable_parameters"]

METHODS: dict[str, Method] = {method.name: method for method in (LoRA(), DoRA(), PiSSA(), Full(), Head())}


def tensor_shapes(config: AdapterConfig, layers: Mapping[str, Sequence[int]]) -> dict[str, tuple[int, ...]]:
    """Key → shape of each tensor in the file of an adapter.

    Args:
        layers: name → (in, out) of each layer that is adapted.
    """
    method = METHODS[config.method]
    return {
        f"{method.prefix}{layer}.{name}": shape
        for layer, (fan_in, fan_out) in layers.items()
        for name, shape in method.shapes(config.rank, fan_in, fan_out).items()
    }


def trainable_parameters(config: AdapterConfig, layers: Mapping[str, Sequence[int]]) -> int:
    """How many numbers an adapter trains on layers of (in, out) features."""
    method = METHODS[config.method]
    return sum(method.trainable(config.rank, fan_in, fan_out) for fan_in, fan_out in layers.values())
