"""The protocol of an implementation of LoRA on the bench. No torch.

Write a class with these methods, a few lines each, around your code, and name it as ``pkg.module:factory``. The factory
is called without arguments (the class itself will do), once for each model, and returns an :class:`Implementation`.
``lora_mnist_cli/conformance/ready.py`` has three examples: this project's, PEFT's and loralib's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from lora_mnist_cli.settings.choices import SCALINGS

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["LORA_MEMBERS", "MEMBERS", "SCALINGS", "Factory", "Implementation"]


class Implementation(Protocol):
    """LoRA in the view of the laws: ``h = W x + b + alpha · scale(rank) · B A x`` on each linear layer of a network.

    A method that can't do its work raises ``NotImplementedError``; the laws that need it are broken unless skipped.
    Implementations of other methods (VeRA, HRA, …) have neither ``scaling`` nor ``factors``, and no adapter where the
    method has none.
    """

    scaling: str
    """Which ``scale(rank)`` it claims: ``constant`` (1), ``standard`` (1/rank) or ``rslora`` (1/√rank)."""

    def attach(self, model: nn.Module, *, rank: int, alpha: float, dropout: float) -> nn.Module:
        """Freeze a plain model and put adapters on all its ``nn.Linear`` layers, their A drawn from torch's generator.

        Returns:
            The adapted model: the same object, or one around it.
        """

    def set_alpha(self, model: nn.Module, alpha: float) -> None:
        """Set the multiplier of every adapter to ``alpha``; may be refused while they are merged."""

    def merge(self, model: nn.Module) -> None:
        """Add every product to its layer's weight."""

    def unmerge(self, model: nn.Module) -> None:
        """Remove every product from its layer's weight."""

    def state(self, model: nn.Module) -> Mapping[str, Tensor]:
        """Return the adapters' tensors, and no others, for a file."""

    def load(self, model: nn.Module, state: Mapping[str, Tensor]) -> None:
        """Load such tensors into an adapted model; raises where keys or shapes are not those of the model."""

    def factors(self, model: nn.Module) -> Mapping[str, tuple[Tensor, Tensor]]:
        """Return the trainable A (rank × in) and B (out × rank) by the layer's name in the plain model, not copies."""

    def weights(self, model: nn.Module) -> Mapping[str, Tensor]:
        """Return the weights and biases in use at present, under the keys of the plain model's ``state_dict()``.

        They are W and b, or with a merged adapter ``W + alpha · scale(rank) · B A`` and b.
        """


Factory = Callable[[], Implementation]

MEMBERS = ("attach", "set_alpha", "merge", "unmerge", "state", "load", "weights")
"""Methods of any implementation."""
LORA_MEMBERS = (*MEMBERS[:-1], "factors", "weights")
"""Methods of an implementation of LoRA."""
