"""The mathematics of a method that adapts a layer. No torch: methods work on the tensors they are given.

A method trains tensors of its own beside a frozen layer, and what it has learned is a change of that layer's weight
(and bias, if it likes). What is kept of it is in tensors as well, which may be others than those that were trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from lora_mnist_cli.settings.adapter_config import AdapterConfig

Tensors = Mapping[str, Any]
"""Name → tensor: PyTorch's, or an array of NumPy where nothing is trained."""
Change = tuple[Any, Any]
"""What is added to a layer's weight (out × in) and to its bias (out); None for one that stays as it is."""

PEFT_PREFIX = "base_model.model."


class Method:
    """The mathematics of one way to adapt linear layers; its words are a row of ``settings.choices.METHODS``."""

    needs_weight: ClassVar[bool] = False
    """Whether the change, from what is kept, depends on the layer's own weight."""
    prefix: ClassVar[str] = PEFT_PREFIX
    """What stands before a layer's name in a file of weights."""
    not_in_peft: ClassVar[str] = ""
    """Why PEFT can't say what is kept; empty where it can."""
    alpha_in_peft: ClassVar[bool] = True
    """Whether an alpha given after the training does in PEFT what it does here."""

    def shapes(self, rank: int, fan_in: int, fan_out: int) -> dict[str, tuple[int, ...]]:
        """Name → shape of each tensor that is kept of a layer."""
        raise NotImplementedError

    def trainable(self, rank: int, fan_in: int, fan_out: int) -> int:
        """How many numbers are trained for a layer."""
        raise NotImplementedError

    def start(self, weight: Any, bias: Any, config: AdapterConfig) -> tuple[dict[str, Any], dict[str, Any]]:
        """The tensors that are trained, and those that stay as they are at the start; draws from the global generator.

        Args:
            weight: of the frozen layer, and so is ``bias``.
        """
        raise NotImplementedError

    def learned(self, own: Tensors, weight: Any, bias: Any, config: AdapterConfig) -> Change:
        """The change, from what is trained (and what stays); autograd goes through it."""
        return self.change(own, weight, config)

    def kept(self, own: Tensors, weight: Any, bias: Any, config: AdapterConfig) -> dict[str, Any]:
        """The tensors that are kept, from those that were trained."""
        return dict(own)

    def change(self, kept: Tensors, weight: Any, config: AdapterConfig) -> Change:
        """The change, from the tensors that are kept, of PyTorch or NumPy; at the config's alpha."""
        raise NotImplementedError

    def peft(self, config: AdapterConfig, layers: Sequence[str]) -> dict[str, Any] | None:
        """PEFT's ``adapter_config.json``; None where PEFT has no such method."""
        return None
