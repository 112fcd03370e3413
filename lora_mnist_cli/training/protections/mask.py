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
    from lora_mnist_cli.training.objective import Lesson, Situation


class Mask(Protection):
    """See the module."""

    name = "mask"
    about = "the loss of an image sees the logits of the digits to learn alone"

    def apply(self, lesson: Lesson, situation: Situation) -> Lesson:
        """Every other logit is hidden from the images; samples see all."""
        hidden = lesson.labels.new_zeros(lesson.main.targets.shape, dtype=lesson.main.targets.dtype)
        hidden[: lesson.images] = situation.hidden(situation.new_digits)
        return dataclasses.replace(lesson, main=dataclasses.replace(lesson.main, hidden=hidden))
