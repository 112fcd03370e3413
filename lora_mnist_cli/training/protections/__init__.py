"""Ways to keep what a base knows while an adapter learns.

A protection is a row in :data:`lora_mnist_cli.settings.choices.PROTECTIONS` and a file here with the row's name.
"""

from __future__ import annotations

from lora_mnist_cli.settings.choices import implementation
from lora_mnist_cli.system.arithmetic import computing
from lora_mnist_cli.training.objective import Objective, ProtectionContext


class Protection:
    """A way to keep what the base knows.

    :func:`make_objective` alone calls :meth:`apply`: once per bank, before the training, in the process that trains
    the bank, on one thread and on the CPU. The protections of a config are applied in the order of the table, each to
    the objective of those before it. A protection keeps no state, so one object serves all banks.
    """

    def apply(self, objective: Objective, context: ProtectionContext) -> Objective:
        """Return a new objective with this protection; change neither argument.

        Equal arguments give equal bytes: draw random numbers from a stream of
        :func:`~lora_mnist_cli.data.streams.generator` alone, and not from the config's seed, because a bank's members
        share one objective.

        Args:
            objective: with the protections that stand before this one in the table.
            context: the base, its statistics, the new images and the strengths in ``config``. A protection whose row
                has ``needs_statistics`` finds ``statistics`` filled in.

        Raises:
            ValueError: where the context has nothing to protect.
        """
        raise NotImplementedError


def make_objective(context: ProtectionContext) -> Objective:
    """Return the objective that a config's protections make of the new images, in the order of the config.

    It runs on one thread: samples are sums, and have the same bytes on any number of cores then.
    """
    objective = Objective.of(context.images)
    with computing():
        for name in context.config.protect:
            protection: Protection = implementation(__name__, name)
            objective = protection.apply(objective, context)
    return objective
