"""Learning without forgetting (Li and Hoiem 2016, arXiv:1606.09282): on the new images, the network keeps giving the
base's answers among the old digits.

Their §3 adds to the loss the cross-entropy between the base's and the network's softmax over the old logits at
temperature 2. Here it is multiplied by the square of the temperature (Hinton et al. 2015, arXiv:1503.02531, §2), and
its strength then does not depend on the temperature. Replayed samples have this term too.
"""

from __future__ import annotations

import dataclasses

import torch

from lora_mnist_cli.training.objective import LossTerm, Objective, ProtectionContext
from lora_mnist_cli.training.protections import Protection

TEMPERATURE = 2.0


class Distill(Protection):
    """Adds a term to the loss."""

    def apply(self, objective: Objective, context: ProtectionContext) -> Objective:
        """Add a term that compares the old logits of every row with the base's."""
        hidden = context.hidden(context.old_digits)
        targets = torch.softmax((context.base_logits(objective.data.images) + hidden) / TEMPERATURE, 1)
        strength = context.config.distill_weight * TEMPERATURE
        term = LossTerm(strength * targets, hidden.expand_as(targets), strength, TEMPERATURE)
        return dataclasses.replace(objective, more=(*objective.more, term))


IMPLEMENTATION = Distill()
