"""The loss of an image sees the logits of the digits to learn alone, so learning them pushes no old logit down.

Caccia et al. 2022 (arXiv:2104.05025) call it the asymmetric cross-entropy: new images compete among the new classes,
and replayed ones among all classes. Ahn et al. 2021 (SS-IL, arXiv:2003.13947) separate the softmax of old and new
classes for the same reason. Without replay, no loss compares an old logit with a new one; with replay, the samples' do.
"""

from __future__ import annotations

import dataclasses

from lora_mnist_cli.training.objective import Objective, ProtectionContext
from lora_mnist_cli.training.protections import Protection


class Mask(Protection):
    """Hides logits from the main term."""

    def apply(self, objective: Objective, context: ProtectionContext) -> Objective:
        """Hide the logits of other digits from the images; samples see all logits."""
        hidden = objective.data.labels.new_zeros(objective.main.targets.shape, dtype=objective.main.targets.dtype)
        hidden[: objective.images] = context.hidden(context.new_digits)
        return dataclasses.replace(objective, main=dataclasses.replace(objective.main, hidden=hidden))


IMPLEMENTATION = Mask()
