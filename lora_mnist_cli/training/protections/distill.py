"""Learning without forgetting (Li and Hoiem 2016, arXiv:1606.09282): among the old digits, the network goes on to
answer what the base answers, on the images at hand.

Their §3 adds to the loss the cross-entropy between the base's and the network's softmax over the old logits at
temperature 2. It is times the temperature's square here (Hinton et al. 2015, arXiv:1503.02531, §2), so that its
strength does not depend on that. Where samples are replayed, they are answered so as well.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

from lora_mnist_cli.training.protections.protection import Protection, Setting

if TYPE_CHECKING:
    from lora_mnist_cli.training.objective import Lesson, Situation

TEMPERATURE = 2.0


class Distill(Protection):
    """See the module."""

    name = "distill"
    about = "among the old digits the base's answers are kept (learning without forgetting)"
    settings: ClassVar = {"distill_weight": Setting(lambda weight: weight > 0, "a finite number above 0")}

    def apply(self, lesson: Lesson, situation: Situation) -> Lesson:
        """One more term: the old logits of every row against the base's."""
        import torch

        from lora_mnist_cli.training.objective import Term

        hidden = situation.hidden(situation.old_digits)
        targets = torch.softmax((situation.base_logits(lesson.data.images) + hidden) / TEMPERATURE, 1)
        strength = situation.config.distill_weight * TEMPERATURE
        term = Term(strength * targets, hidden.expand_as(targets), strength, TEMPERATURE)
        return dataclasses.replace(lesson, more=(*lesson.more, term))
