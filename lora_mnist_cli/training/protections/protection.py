"""The contract of a protection. No torch at import: a protection imports it when it is applied."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lora_mnist_cli.training.objective import Objective, ProtectionContext


class Protection:
    """A way to keep what the base knows; its words are a row of ``settings.choices.PROTECTIONS``.

    :func:`.make_objective` alone calls :meth:`apply`: once per bank, before the training, in the process that trains
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
