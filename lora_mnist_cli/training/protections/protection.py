"""What a protection has to say of itself. No torch: what needs it is handed tensors, or imports it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lora_mnist_cli.training.objective import Objective, ProtectionContext


class Protection:
    """A way to keep what the base knows; its words are a row of ``settings.choices.PROTECTIONS``."""

    def apply(self, objective: Objective, context: ProtectionContext) -> Objective:
        """The lesson as it is with this protection.

        Args:
            situation: what is known at this stage.
        """
        raise NotImplementedError
