"""One run of a chain: its tasks, its seed, how it learns the next task, and the figures of what it learned."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lora_mnist_cli.evaluation.scores import subset_scores
from lora_mnist_cli.evaluation.transfer import transfer
from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.config import BaseConfig
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.settings.tasks import old_digits
from lora_mnist_cli.stages import costs
from lora_mnist_cli.stages.adapting import finetune_part
from lora_mnist_cli.stages.evaluating_routed import evaluate_routed
from lora_mnist_cli.stages.merging import merge
from lora_mnist_cli.stages.training_base import train_base
from lora_mnist_cli.stages.workspace import Workspace
from lora_mnist_cli.system.errors import DataError
from lora_mnist_cli.system.progress import Reporter, Work
from lora_mnist_cli.system.work import in_turn

State = tuple[Artifact, ...]
"""The artifacts that answer after a task: one network, or several experts behind a router."""

Document = dict[str, Any]
PerDigit = list[Document]
"""The scores on each digit's test images, as :func:`~lora_mnist_cli.evaluation.logits.scores` gives them."""

StateScores = dict[tuple[str, ...], PerDigit]
"""Scores that were calculated in another process, by :func:`key_of` or :func:`key_before`."""


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
    def every(self) -> DigitSet:
        """The digits of all tasks."""
        return DigitSet(digit for task in self.tasks for digit in task)

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
        return finetune_part(config, base=base.name, workspace=self.workspace, name=name)

    def one_after_the_other(self, label: str, config: AdapterConfig | None = None) -> list[State]:
        """Keep one network throughout: merge each task's adapter before the next task."""
        base = self.first()
        states: list[State] = [(base,)]
        for task, turn in self.turns(self.later_works(config)):
            if len(states) > 1:
                merged = f"{self.prefix}-{label}-after-{len(states)}{self.suffix}"
                base = merge(states[-1][0].name, merged=merged, workspace=turn.workspace)
            states.append((turn.learn(label, task, base, config),))
        return states

    def later_works(self, config: AdapterConfig | None = None) -> list[Work]:
        """Return the work of learning each of the later tasks by an adapter."""
        config = config or self.adapter
        return [
            costs.of_bank([dataclasses.replace(config, digits=task)], old_digits(self.tasks[: number + 1]))
            for number, task in enumerate(self.tasks[1:], start=1)
        ]

    def turns(self, works: Sequence[Work]) -> Iterator[tuple[DigitSet, ChainRun]]:
        """Yield each of the last tasks, as many as there are works, and this run with a reporter for that piece."""
        tasks = self.tasks[len(self.tasks) - len(works) :]
        for task, reporter in zip(tasks, in_turn(self.workspace.reporter, works), strict=True):
            yield task, self.reporting_to(reporter)

    def reporting_to(self, reporter: Reporter) -> ChainRun:
        """Return this run with another reporter."""
        return dataclasses.replace(self, workspace=dataclasses.replace(self.workspace, reporter=reporter))


def key_of(state: State, by: str | None) -> tuple[str, ...]:
    """Return the key of a state among scores."""
    return (by or "", *(artifact.digest for artifact in state))


def is_one_network(state: State, by: str | None) -> bool:
    """Return whether a network answers by itself, as one does that has nothing to be routed from."""
    return len(state) == 1 and by in (None, "mixture")


def key_before(chain_run: ChainRun) -> tuple[str, ...]:
    """Return the key of the untrained network among scores."""
    return "untrained", chain_run.first().digest


def figures(
    chain_run: ChainRun, states: Sequence[State], before: PerDigit, known_scores: StateScores, by: str | None
) -> Document:
    """Return the figures of one run that :func:`~lora_mnist_cli.stages.chains.run.chain` reports.

    Args:
        states: the state after each task; or a single one, which has no transfer.
        before: the scores of the untrained network, by :func:`score_before`.
        known_scores: scores that are not calculated again.
        by: how several artifacts answer together.

    Raises:
        DataError: where there are no test images of a task.
    """
    tasks = chain_run.tasks
    scored = [known_scores.get(key_of(state, by)) or score(state, chain_run, by) for state in states]
    untrained = [_accuracy(before, task) for task in tasks]
    R = [[_accuracy(per_digit, task) for task in tasks] for per_digit in scored]
    measures: Document = dict.fromkeys(("backward", "forward", "forgetting", "so_far"))
    measures = {"accuracy": sum(R[-1]) / len(tasks)} | measures
    if len(R) == len(tasks):
        measures = asdict(transfer(R, untrained))
        measures["so_far"] = list(measures["so_far"])
    every = DigitSet(digit for task in tasks for digit in task)
    return {
        "seed": chain_run.base.seed, "R": R, "untrained": untrained, **measures,
        **{key: _accuracy(scored[-1], digits) for key, digits in (
            ("all", every), ("old", old_digits(tasks)), ("new", tasks[-1])
        )},
        "artifacts": [[artifact.name for artifact in state] for state in states],
    }  # fmt: skip


def score(state: State, chain_run: ChainRun, by: str | None) -> PerDigit:
    """Return the scores of a state; a single network was published with its scores."""
    if is_one_network(state, by):
        return list(state[0].scores["per_digit"])
    names = [artifact.name for artifact in state]
    return list(evaluate_routed(names, by=by, workspace=chain_run.workspace).scores["per_digit"])


def kept_bytes(state: State, chain_run: ChainRun, files: Sequence[str]) -> int:
    """Return the bytes of some files of a state's artifacts and their bases: what is kept beside the network."""
    registry = chain_run.workspace.registry
    bases = [registry.parent(artifact) for artifact in state if artifact.kind == "adapter"]
    kept = {artifact.digest: artifact for artifact in (*state, *bases)}.values()
    return sum(artifact.files[file]["bytes"] for artifact in kept for file in files if file in artifact.files)


def seconds_of(states: Sequence[State]) -> float:
    """Return how long the artifacts of a run took to make."""
    made = {artifact.digest: artifact for state in states for artifact in state}
    return sum(artifact.wall_seconds for artifact in made.values())


def score_before(chain_run: ChainRun) -> PerDigit:
    """Score the network before its first training."""
    from lora_mnist_cli.evaluation.logits import predict, scores
    from lora_mnist_cli.stages.records.loading import untrained_base

    base = chain_run.first()
    mean, std = base.details["pixel_stats"]
    test = chain_run.workspace.test_images(base, (mean, std))
    return list(scores(predict(untrained_base(chain_run.base), test.images), test.labels, [])["per_digit"])


def _accuracy(per_digit: PerDigit, digits: DigitSet) -> float:
    accuracy = subset_scores(per_digit, [digits])[0]["accuracy"]
    if accuracy is None:
        raise DataError(f"there are no test images of digits {digits}", value=str(digits))
    return float(accuracy)
