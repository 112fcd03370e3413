"""Replay without images: samples of the base's own class statistics, labelled by the base, are learned along.

Rehearsing on made-up inputs that the old network labels is pseudo-rehearsal (Robins 1995, Connection Science 7(2));
with samples of a generative model in their place it is deep generative replay (Shin et al. 2017, arXiv:1705.08690).
Here the model is a few Gaussians a digit (:mod:`lora_mnist_cli.models.densities`), and the labels are the base's soft
ones.

The digits to learn are sampled as well, from Gaussians of their own that are fitted to the images at hand: were only
old digits samples, a network would tell them by how samples look, and call every real image of an old digit a new one.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from lora_mnist_cli.training.protections.protection import Protection, Setting

if TYPE_CHECKING:
    from lora_mnist_cli.settings.config import AdapterConfig
    from lora_mnist_cli.settings.digits import DigitSet
    from lora_mnist_cli.training.objective import Lesson, Situation


class Replay(Protection):
    """See the module."""

    name = "replay"
    about = "samples of the base's class statistics are learned along"
    settings: ClassVar = {
        "replay_old": Setting(lambda ratio: 0 < ratio <= 16, "above 0 and at most 16"),
        "replay_new": Setting(lambda ratio: 0 <= ratio <= 16, "of 0 to 16"),
    }
    needs_statistics = True

    def apply(self, lesson: Lesson, situation: Situation) -> Lesson:
        """Samples of old digits with the base's soft labels, and samples of the digits to learn with their digit."""
        import torch
        from torch.nn import functional as F

        from lora_mnist_cli.data.streams import generator
        from lora_mnist_cli.models.architecture import CLASSES

        config, images = situation.config, situation.images
        old, new = sample_counts(config, len(images), situation.base_digits)
        stream = generator(0, "replay")
        old_images, _ = situation.old_samples(old, stream)
        targets = torch.softmax(situation.base_logits(old_images) + situation.hidden(situation.base_digits), 1)
        samples = [(old_images, targets.argmax(1), targets)]
        if new:
            new_images, labels = situation.new_samples(new, stream)
            samples.append((new_images, labels, F.one_hot(labels, CLASSES).to(targets)))
        return lesson.with_samples(*samples)


def sample_counts(config: AdapterConfig, images: int, base_digits: DigitSet) -> tuple[int, int]:
    """How many samples of old digits, and of the digits to learn, go with so many images of these.

    The ratios are those of a digit's samples to a digit's images, so that many old digits have many samples.
    """
    assert config.digits is not None
    old = [digit for digit in base_digits.members if digit not in config.digits.members]
    share = len(old) / len(config.digits.members)
    return math.ceil(config.replay_old * images * share), math.ceil(config.replay_new * images)
