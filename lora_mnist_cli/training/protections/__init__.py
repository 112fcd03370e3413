"""Ways to keep what a base knows while an adapter learns: a file each, with the name of its row in
:data:`lora_mnist_cli.settings.choices.PROTECTIONS`.
"""

from __future__ import annotations

from lora_mnist_cli.evaluation.logits import one_thread
from lora_mnist_cli.settings.choices import implementation
from lora_mnist_cli.training.objective import Objective, ProtectionContext
from lora_mnist_cli.training.protections.protection import Protection

__all__ = ["Protection", "make_lesson", "protection_named"]


def protection_named(name: str) -> Protection:
    """Return the code of a protection."""
    protection: Protection = implementation(__name__, name)
    return protection


def make_objective(context: ProtectionContext) -> Objective:
    """Return the lesson that a config's protections make of the images at hand.

    It runs on one thread, so that samples, which are sums, have the same bytes on any number of cores.
    """
    objective = Objective.of(context.images)
    with one_thread():
        for name in context.config.protect:
            objective = protection_named(name).apply(objective, context)
    return objective
