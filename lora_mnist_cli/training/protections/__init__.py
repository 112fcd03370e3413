"""Ways to keep what a base knows while an adapter learns. Read :mod:`.protection` first.

A protection is a row in :data:`lora_mnist_cli.settings.choices.PROTECTIONS` and a file here with the row's name.
"""

from __future__ import annotations

from lora_mnist_cli.evaluation.logits import one_thread
from lora_mnist_cli.settings.choices import implementation
from lora_mnist_cli.training.objective import Objective, ProtectionContext
from lora_mnist_cli.training.protections.protection import Protection

__all__ = ["Protection", "make_objective", "protection_named"]


def protection_named(name: str) -> Protection:
    """Return the code of a protection."""
    protection: Protection = implementation(__name__, name)
    return protection


def make_objective(context: ProtectionContext) -> Objective:
    """Return the objective that a config's protections make of the new images, in the order of the config.

    It runs on one thread: samples are sums, and have the same bytes on any number of cores then.
    """
    objective = Objective.of(context.images)
    with one_thread():
        for name in context.config.protect:
            objective = protection_named(name).apply(objective, context)
    return objective
