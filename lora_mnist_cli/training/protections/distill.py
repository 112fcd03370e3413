"""Learning without forgetting (Li and Hoiem 2016, arXiv:1606.09282): among the old digits, the network goes on to
answer what the base answers, on the images at hand.

Their §3 adds to the loss the cross-entropy between the base's and the network's softmax over the old logits at
temperature 2. It is times the temperature's square here (Hinton et al. 2015, arXiv:1503.02531, §2), so that its
strength does not depend on that. Where samples are replayed, they are answered so as well.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from lora_mnist_cli.training.protections.protection import Protection

if TYPE_CHECKING:
    from lora_mnist_cli.training.objective import Objective, ProtectionContext

TEMPERATURE = 2.0


class Distill(Protection):
    """See the module."""

    def apply(self, objective: Objective, context: ProtectionContext) -> Objective:
        """One more term: the old logits of every row against the base's."""
        import torch

        from lora_mnist_cli.training.objective import LossTerm

        hidden = context.hidden(context.old_digits)
        targets = torch.softmax((context.base_logits(objective.data.images) + hidden) / TEMPERATURE, 1)
        strength = context.config.distill_weight * TEMPERATURE
        term = LossTerm(strength * targets, hidden.expand_as(targets), strength, TEMPERATURE)
        return dataclasses.replace(objective, more=(*objective.more, term))


IMPLEMENTATION = Distill()
