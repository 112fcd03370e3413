"""One run of a chain: its tasks, its seed, and how it learns the next task."""

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
"""The artifacts that answer after a task: one network, or several experts behind a router."""


@dataclass(frozen=True)
class ChainRun:
    """A chain of tasks that is learned with one seed.

    Args:
        base: how the network learns the first task, whose digits it names.
        adapter: how adapters learn the later tasks, except for the digits.
        prefix: begins the names of all artifacts made here.
    """

    tasks: tuple[DigitSet, ...]
    base: BaseConfig
    adapter: AdapterConfig
    prefix: str
    workspace: Workspace

    @property
    def suffix(self) -> str:
        """The end of the names of this seed's artifacts."""
        return f"-s{self.base.seed}" if self.base.seed else ""

    def first(self) -> Artifact:
        """Train the network on the first task, under its usual name: all strategies share it."""
        return train_base(self.base, workspace=self.workspace)

    def learn(self, label: str, task: DigitSet, base: Artifact, config: AdapterConfig | None = None) -> Artifact:
        """Train an adapter for a task on a base."""
        config = dataclasses.replace(config or self.adapter, digits=task)
        name = f"{self.prefix}-{label}-{task}{self.suffix}"
        return finetune(config, base=base.name, workspace=self.workspace, name=name)

    def one_after_the_other(self, label: str, config: AdapterConfig | None = None) -> list[State]:
        """Keep one network throughout: merge each task's adapter before the next task."""
        base = self.first()
        states: list[State] = [(base,)]
        for task in self.tasks[1:]:
            if len(states) > 1:
                merged = f"{self.prefix}-{label}-after-{len(states)}{self.suffix}"
                base = merge(states[-1][0].name, merged=merged, workspace=self.workspace)
            states.append((self.learn(label, task, base, config),))
        return states
