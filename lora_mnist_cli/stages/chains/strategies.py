"""Ways to learn tasks one after the other: what is trained for each, out of the stages that there are.

At a task's turn its own training images are there, and what earlier turns have published; no earlier image is. A new
way is one class, and one entry in :data:`CURES`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from lora_mnist_cli.models.methods.full import Full as FullMethod
from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.settings.config import AdapterConfig, BaseConfig
from lora_mnist_cli.settings.digits import ALL_DIGITS, DigitSet
from lora_mnist_cli.settings.recipes import recipe
from lora_mnist_cli.stages.adapting import finetune
from lora_mnist_cli.stages.chains.ewc import elastic
from lora_mnist_cli.stages.merging import merge
from lora_mnist_cli.stages.training_base import train_base
from lora_mnist_cli.stages.workspace import Workspace

State = tuple[Artifact, ...]
"""What answers after a task: one network, or several experts behind a router."""


@dataclass(frozen=True)
class Course:
    """A chain of tasks that is learned with one seed.

    Args:
        base: how the network learns its first task; its digits are those.
        adapter: how adapters learn the later ones, but for their digits.
        prefix: of the names of what is made here.
    """

    tasks: tuple[DigitSet, ...]
    base: BaseConfig
    adapter: AdapterConfig
    prefix: str
    workspace: Workspace

    @property
    def suffix(self) -> str:
        """What the names of this seed's artifacts end in."""
        return f"-s{self.base.seed}" if self.base.seed else ""

    def first(self) -> Artifact:
        """The network after its first task, under its usual name, for all cures alike."""
        return train_base(self.base, workspace=self.workspace)

    def learn(self, label: str, task: DigitSet, base: Artifact, config: AdapterConfig | None = None) -> Artifact:
        """An adapter that learned a task on a base."""
        config = dataclasses.replace(config or self.adapter, digits=task)
        name = f"{self.prefix}-{label}-{task}{self.suffix}"
        return finetune(config, base=base.name, workspace=self.workspace, name=name)

    def one_after_the_other(self, label: str, config: AdapterConfig | None = None) -> list[State]:
        """One network throughout: each task's adapter is merged before the next task."""
        base = self.first()
        states: list[State] = [(base,)]
        for task in self.tasks[1:]:
            if len(states) > 1:
                merged = f"{self.prefix}-{label}-after-{len(states)}{self.suffix}"
                base = merge(states[-1][0].name, merged=merged, workspace=self.workspace)
            states.append((self.learn(label, task, base, config),))
        return states


class Cure:
    """A way to learn a chain of tasks; each is one instance in :data:`CURES`."""

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

    def states(self, course: Course) -> list[State]:
        """What answers after each task, in their order; a single one where they are not learned in turn."""
        raise NotImplementedError


class Plain(Cure):
    """LoRA adapters one after the other, each merged before the next: the disease (McCloskey and Cohen 1989, Psychology
    of Learning and Motivation 24, for networks; Hu et al. 2021, arXiv:2106.09685, for the adapters).
    """

    name = "plain"
    title = "Plain LoRA"
    about = "LoRA on one task after the other"
    begins_plain = True

    def states(self, course: Course) -> list[State]:
        """See :meth:`Course.one_after_the_other`."""
        return course.one_after_the_other(self.name)


class Full(Cure):
    """The whole network is trained on one task after the other: what continual learning calls "fine-tuning" or "none",
    as in van de Ven and Tolias 2019 (arXiv:1904.07734).

    By the reference recipe: the rates of others were found for adapters.
    """

    name = "full"
    title = "Full fine-tuning"
    about = "the whole network on one task after the other"

    def states(self, course: Course) -> list[State]:
        """See :meth:`Course.one_after_the_other`."""
        return course.one_after_the_other(self.name, whole_network(course))


class Routed(Cure):
    """An adapter a task, all on the first task's base, and a router by the digits' densities: experts with a gate that
    is never trained (Jacobs, Jordan, Nowlan and Hinton 1991, Neural Computation 3(1); a generative gate between experts
    of tasks as in Lee et al. 2020, CN-DPM, arXiv:2001.00689).
    """

    name = "routed"
    title = "Routed"
    about = "an adapter a task on the first task's base, and a router"
    begins_plain = True

    def states(self, course: Course) -> list[State]:
        """After each task there is an expert more."""
        base = course.first()
        experts = [base]
        states: list[State] = [(base,)]
        for number, task in enumerate(course.tasks[1:]):
            experts.append(course.learn(self.name if number else Plain.name, task, base))
            states.append(tuple(experts))
        return states


class Ewc(Cure):
    """Elastic weight consolidation: the whole network, each weight held by as much as earlier tasks depend on it
    (Kirkpatrick et al. 2017, arXiv:1612.00796).
    """

    name = "ewc"
    title = "EWC"
    about = "the whole network, weights that mattered held by springs"

    def states(self, course: Course) -> list[State]:
        """See :mod:`lora_mnist_cli.training.ewc`."""
        return [(each,) for each in elastic(course, self.name)]


class Protected(Cure):
    """One network: adapters that learn samples of old digits along (Shin et al. 2017, arXiv:1705.08690), while the loss
    of an image sees the logits of its own task alone (Caccia et al. 2022, arXiv:2104.05025); each is merged before the
    next, and so are the statistics that old digits are sampled from.
    """

    name = "protected"
    title = "Protected"
    about = "one network, by --protect replay,mask in half the epochs"
    cost = 2

    def states(self, course: Course) -> list[State]:
        """See :meth:`Course.one_after_the_other`."""
        return course.one_after_the_other(self.name, protected_config(course))


class Joint(Cure):
    """All digits at once, by the base's recipe: what no chain is expected to surpass with a single network (the "joint"
    or "offline" of van de Ven and Tolias 2019, arXiv:1904.07734).
    """

    name = "joint"
    title = "Joint training"
    about = "a network on all digits at once, the ceiling"
    after_first = False

    def states(self, course: Course) -> list[State]:
        """One."""
        config = dataclasses.replace(course.base, digits=ALL_DIGITS)
        return [(train_base(config, workspace=course.workspace),)]


def whole_network(course: Course) -> AdapterConfig:
    """How the whole network is trained on a later task."""
    reference = recipe("reference").adapter
    return dataclasses.replace(
        reference, method=FullMethod.name, rank=0, seed=course.adapter.seed, epochs=course.adapter.epochs
    )


def protected_config(course: Course) -> AdapterConfig:
    """How an adapter learns a later task and the samples of earlier ones.

    In half the epochs, as one has at least three times the rows: on validation images and samples that costs 0.04
    points with two tasks, and 0.14 with five (docs/forgetting.md).
    """
    return dataclasses.replace(course.adapter, protect=("replay", "mask"), epochs=math.ceil(course.adapter.epochs / 2))


_ALL: Sequence[Cure] = (Plain(), Full(), Ewc(), Protected(), Routed(), Joint())
CURES: dict[str, Cure] = {cure.name: cure for cure in _ALL}
"""Name → cure, in the order of tables."""
