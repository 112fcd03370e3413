"""The loss of an image sees the logits of the digits to learn alone, so that learning them pushes no old logit down.

Caccia et al. 2022 (arXiv:2104.05025) call it the asymmetric cross-entropy: images at hand compete among their own
classes, and only what is replayed sees all of them. Ahn et al. 2021 (SS-IL, arXiv:2003.13947) separate the softmax of
old and new classes for the same reason. Without replay nothing ever compares an old logit with a new one; with it, the
samples alone do.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from lora_mnist_cli.training.protections.protection import Protection

if TYPE_CHECKING:
    from lora_mnist_cli.training.objective import Objective, ProtectionContext


class Mask(Protection):
    """See the module."""

    def apply(self, objective: Objective, context: ProtectionContext) -> Objective:
        """Every other logit is hidden from the images; samples see all."""
        hidden = objective.labels.new_zeros(objective.main.targets.shape, dtype=objective.main.targets.dtype)
        hidden[: objective.images] = context.hidden(context.new_digits)
        return dataclasses.replace(objective, main=dataclasses.replace(objective.main, hidden=hidden))


IMPLEMENTATION = Mask()
