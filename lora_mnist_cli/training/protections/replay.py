"""Replay without images: samples of the base's own class statistics, labelled by the base, are learned along.

Rehearsing on made-up inputs that the old network labels is pseudo-rehearsal (Robins 1995, Connection Science 7(2));
with samples of a generative model in their place it is deep generative replay (Shin et al. 2017, arXiv:1705.08690).
Here the model is a few Gaussians a digit (:mod:`lora_mnist_cli.models.densities`), and the labels are the base's soft
ones.

The digits to learn are sampled as well, from Gaussians of their own that are fitted to the images at hand: were only
old digits samples, a network would tell them by how samples look, and call every real image of an old digit a new one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_mnist_cli.training.protections.protection import Protection

if TYPE_CHECKING:
    from lora_mnist_cli.training.objective import Objective, ProtectionContext


class Replay(Protection):
    """See the module."""

    def apply(self, objective: Objective, context: ProtectionContext) -> Objective:
        """Samples of old digits with the base's soft labels, and samples of the digits to learn with their digit."""
        import torch
        from torch.nn import functional as F

        from lora_mnist_cli.data.streams import generator
        from lora_mnist_cli.models.architecture import CLASSES

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
