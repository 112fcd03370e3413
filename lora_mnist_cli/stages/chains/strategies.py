"""Ways to learn tasks one after the other: what is trained for each, out of the stages that there are.

At a task's turn its own training images are there, and what earlier turns have published; no earlier image is. A new
way is one class, and one entry in :data:`STRATEGIES`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import ClassVar

from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.digits import ALL_DIGITS
from lora_mnist_cli.settings.recipes import recipe
from lora_mnist_cli.stages.chains.chain_run import ChainRun, State
from lora_mnist_cli.stages.chains.ewc import ewc_states
from lora_mnist_cli.stages.training_base import train_base


class Strategy:
    """A way to learn a chain of tasks; each is one instance in :data:`STRATEGIES`."""

    name: ClassVar[str]
    title: ClassVar[str]
    about: ClassVar[str]
    """A few words for tables and help."""
    begins_plain: ClassVar[bool] = False
    """Whether its first adapter is the one that plain LoRA begins with."""
    cost: ClassVar[int] = 1
    """About how many times as long it takes as learning each task's images once does."""
    after_first: ClassVar[bool] = True
    """Whether it begins with the network after the first task; otherwise all chains of a seed have it in common."""

    def states(self, chain_run: ChainRun) -> list[State]:
        """What answers after each task, in their order; a single one where they are not learned in turn."""
        raise NotImplementedError


class Plain(Strategy):
    """LoRA adapters one after the other, each merged before the next: the disease (McCloskey and Cohen 1989, Psychology
    of Learning and Motivation 24, for networks; Hu et al. 2021, arXiv:2106.09685, for the adapters).
    """

    name = "plain"
    title = "Plain LoRA"
    about = "LoRA on one task after the other"
    begins_plain = True

    def states(self, chain_run: ChainRun) -> list[State]:
        """See :meth:`ChainRun.one_after_the_other`."""
        return chain_run.one_after_the_other(self.name)


class Full(Strategy):
    """The whole network is trained on one task after the other: what continual learning calls "fine-tuning" or "none",
    as in van de Ven and Tolias 2019 (arXiv:1904.07734).

    By the reference recipe: the rates of others were found for adapters.
    """

    name = "full"
    title = "Full fine-tuning"
    about = "the whole network on one task after the other"

    def states(self, chain_run: ChainRun) -> list[State]:
        """See :meth:`ChainRun.one_after_the_other`."""
        return chain_run.one_after_the_other(self.name, whole_network(chain_run))


class Routed(Strategy):
    """An adapter a task, all on the first task's base, and a router by the digits' densities: experts with a gate that
    is never trained (Jacobs, Jordan, Nowlan and Hinton 1991, Neural Computation 3(1); a generative gate between experts
    of tasks as in Lee et al. 2020, CN-DPM, arXiv:2001.00689).
    """

    name = "routed"
    title = "Routed"
    about = "an adapter a task on the first task's base, and a router"
    begins_plain = True

    def states(self, chain_run: ChainRun) -> list[State]:
        """After each task there is an expert more."""
        base = chain_run.first()
        experts = [base]
        states: list[State] = [(base,)]
        for number, task in enumerate(chain_run.tasks[1:]):
            experts.append(chain_run.learn(self.name if number else Plain.name, task, base))
            states.append(tuple(experts))
        return states


class Ewc(Strategy):
    """Elastic weight consolidation: the whole network, each weight held by as much as earlier tasks depend on it
    (Kirkpatrick et al. 2017, arXiv:1612.00796).
    """

    name = "ewc"
    title = "EWC"
    about = "the whole network, weights that mattered held in place"

    def states(self, chain_run: ChainRun) -> list[State]:
        """See :mod:`lora_mnist_cli.training.ewc`."""
        return [(each,) for each in ewc_states(chain_run, self.name)]


class Protected(Strategy):
    """One network: adapters that learn samples of old digits along (Shin et al. 2017, arXiv:1705.08690), while the loss
    of an image sees the logits of its own task alone (Caccia et al. 2022, arXiv:2104.05025); each is merged before the
    next, and so are the statistics that old digits are sampled from.
    """

    name = "protected"
    title = "Protected"
    about = "one network, by --protect replay,mask in half the epochs"
    cost = 2

    def states(self, chain_run: ChainRun) -> list[State]:
        """See :meth:`ChainRun.one_after_the_other`."""
        return chain_run.one_after_the_other(self.name, protected_config(chain_run))


class Joint(Strategy):
    """All digits at once, by the base's recipe: what no chain is expected to surpass with a single network (the "joint"
    or "offline" of van de Ven and Tolias 2019, arXiv:1904.07734).
    """

    name = "joint"
    title = "Joint training"
    about = "a network on all digits at once, the ceiling"
    after_first = False

    def states(self, chain_run: ChainRun) -> list[State]:
        """One."""
        config = dataclasses.replace(chain_run.base, digits=ALL_DIGITS)
        return [(train_base(config, workspace=chain_run.workspace),)]


def whole_network(chain_run: ChainRun) -> AdapterConfig:
    """How the whole network is trained on a later task."""
    reference = recipe("reference").adapter
    return dataclasses.replace(
        reference, method="full", rank=0, seed=chain_run.adapter.seed, epochs=chain_run.adapter.epochs
    )


def protected_config(chain_run: ChainRun) -> AdapterConfig:
    """How an adapter learns a later task and the samples of earlier ones.

    In half the epochs, as one has at least three times the rows: on validation images and samples that costs 0.04
    points with two tasks, and 0.14 with five (docs/forgetting.md).
    """
    return dataclasses.replace(
        chain_run.adapter, protect=("replay", "mask"), epochs=math.ceil(chain_run.adapter.epochs / 2)
    )


_ALL: Sequence[Strategy] = (Plain(), Full(), Ewc(), Protected(), Routed(), Joint())
STRATEGIES: dict[str, Strategy] = {strategy.name: strategy for strategy in _ALL}
"""Name → cure, in the order of tables."""
