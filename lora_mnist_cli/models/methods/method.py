"""What a method of adapting a layer has to say of itself. No torch: what needs it is handed tensors, or imports it.

A method trains tensors of its own beside a frozen layer, and what it has learned is a change of that layer's weight
(and bias, if it likes). What is kept of it is in tensors as well, which may be others than those that were trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from lora_mnist_cli.settings.config import AdapterConfig

Tensors = Mapping[str, Any]
"""Name → tensor: PyTorch's, or an array of NumPy where nothing is trained."""
Change = tuple[Any, Any]
"""What is added to a layer's weight (out × in) and to its bias (out); None for one that stays as it is."""

PEFT_PREFIX = "base_model.model."


class Method:
    """A way to adapt linear layers; each is one instance in :data:`lora_mnist_cli.models.methods.METHODS`."""

    name: ClassVar[str]
    title: ClassVar[str]
    """In pictures."""
    about: ClassVar[str]
    """A few words for tables and help."""
    unused: ClassVar[tuple[str, ...]] = ()
    """Fields of the config that mean nothing to it; ``rank`` is 0 where it is one of them."""
    in_banks: ClassVar[bool] = False
    """Whether a bank knows its gradients. The others are trained one after the other."""
    random_start: ClassVar[bool] = False
    """Whether its start draws random numbers."""
    needs_weight: ClassVar[bool] = False
    """Whether the change, from what is kept, depends on the layer's own weight."""
    last_layer_only: ClassVar[bool] = False
    prefix: ClassVar[str] = PEFT_PREFIX
    """What stands before a layer's name in a file of weights."""
    not_in_peft: ClassVar[str] = ""
    """Why PEFT can't say what is kept; empty where it can."""
    alpha_in_peft: ClassVar[bool] = True
    """Whether an alpha given after the training does in PEFT what it does here."""

    @property
    def ranked(self) -> bool:
        """Whether it has a rank."""
        return "rank" not in self.unused

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
