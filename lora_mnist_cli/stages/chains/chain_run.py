"""One run of a chain: its tasks, its seed, and how it trains a task on what is there."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.config import BaseConfig
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.stages.adapting import finetune
from lora_mnist_cli.stages.merging import merge
from lora_mnist_cli.stages.training_base import train_base
from lora_mnist_cli.stages.workspace import Workspace

State = tuple[Artifact, ...]
"""What answers after a task: one network, or several experts behind a router."""


@dataclass(frozen=True)
class ChainRun:
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
