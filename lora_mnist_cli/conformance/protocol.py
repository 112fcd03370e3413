"""What an implementation of LoRA has to answer to be put on the bench. No torch.

Write a class with these methods, a few lines each, around your code, and name it as ``pkg.module:factory``: the
factory is called without arguments (the class itself will do) and gives an :class:`Implementation`. It is asked for a
new one for each model. ``lora_mnist_cli/conformance/ready.py`` has three to look at: ours, PEFT's and loralib's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from lora_mnist_cli.settings.choices import SCALINGS

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["METHODS", "SCALINGS", "Factory", "Implementation"]


class Implementation(Protocol):
    """LoRA as the laws see it: ``h = W x + b + alpha · scale(rank) · B A x`` on each linear layer of a network.

    What can't be done raises ``NotImplementedError``; then the laws that need it are broken, unless they are skipped.
    """

    scaling: str
    """Which ``scale(rank)`` it claims: ``constant`` (1), ``standard`` (1/rank) or ``rslora`` (1/√rank)."""

    def attach(self, model: nn.Module, *, rank: int, alpha: float, dropout: float) -> nn.Module:
        """Freeze a plain model and put adapters on all its ``nn.Linear`` layers, their A drawn from torch's generator.

        Returns:
            The adapted model: the same object, or one around it.
        """

    def set_alpha(self, model: nn.Module, alpha: float) -> None:
        """Put ``alpha`` in the place of the multiplier of every adapter; may be refused while they are merged."""

    def merge(self, model: nn.Module) -> None:
        """Add every product to its layer's weight."""

    def unmerge(self, model: nn.Module) -> None:
        """Take every product out of its layer's weight again."""

    def state(self, model: nn.Module) -> Mapping[str, Tensor]:
        """The adapters' tensors alone, to be written to a file."""

    def load(self, model: nn.Module, state: Mapping[str, Tensor]) -> None:
        """Put such tensors into an adapted model; raises where keys or shapes are not its own."""

    def factors(self, model: nn.Module) -> Mapping[str, tuple[Tensor, Tensor]]:
        """Name of the layer in the plain model → its trainable A (rank × in) and B (out × rank), themselves."""

    def weights(self, model: nn.Module) -> Mapping[str, Tensor]:
        """What the layers multiply with and add at present, under the keys of the plain model's ``state_dict()``.

        That is W and b, or with a merged adapter ``W + alpha · scale(rank) · B A`` and b.
        """


Factory = Callable[[], Implementation]

METHODS = ("attach", "set_alpha", "merge", "unmerge", "state", "load", "factors", "weights")
