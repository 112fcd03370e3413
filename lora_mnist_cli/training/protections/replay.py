"""Replay without images: adapters also learn samples of the base's class statistics, labelled by the base.

Rehearsal on random inputs that the old network labels is pseudo-rehearsal (Robins 1995, Connection Science 7(2));
rehearsal on samples of a generative model is deep generative replay (Shin et al. 2017, arXiv:1705.08690). Here the
model is a few Gaussians per digit (:mod:`lora_mnist_cli.models.densities`), and the labels are the base's soft labels.

The digits to learn are sampled as well, from Gaussians fitted to the new images. If all samples were of old digits, the
network would recognise samples by their look, and take every real image for a new digit.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from lora_mnist_cli.data.streams import generator
from lora_mnist_cli.models.architecture import CLASSES
from lora_mnist_cli.training.objective import Objective, ProtectionContext
from lora_mnist_cli.training.protections import Protection


class Replay(Protection):
    """Adds samples to the rows."""

    def apply(self, objective: Objective, context: ProtectionContext) -> Objective:
        """Add samples of old digits with the base's soft labels, and samples of new digits with their digit."""
        config, images = context.config, context.images
        old, new = config.sample_counts(len(images), context.base_digits)
        stream = generator(0, "replay")
        old_images, _ = context.old_samples(old, stream)
        targets = torch.softmax(context.base_logits(old_images) + context.hidden(context.base_digits), 1)
        samples = [(old_images, targets.argmax(1), targets)]
        if new:
            new_images, labels = context.new_samples(new, stream)
            samples.append((new_images, labels, F.one_hot(labels, CLASSES).to(targets)))
        return objective.with_samples(*samples)


IMPLEMENTATION = Replay()
