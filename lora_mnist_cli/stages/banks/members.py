"""Adapters that were trained become artifacts, or the row of a sweep that does not keep them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from lora_mnist_cli.models.methods import trainable_parameters
from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.registry.staged import Staged
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.grid import Axis
from lora_mnist_cli.stages.banks.cut import Bank
from lora_mnist_cli.stages.banks.job import Answer, Trained
from lora_mnist_cli.stages.records.histories import last_epoch, parse_history
from lora_mnist_cli.stages.records.loggers import LoggedRun, log_beside, log_into
from lora_mnist_cli.stages.records.results import row_of
from lora_mnist_cli.stages.workspace import Making, write_history
from lora_mnist_cli.system.errors import DivergedError
from lora_mnist_cli.system.files import machine_errors


def diverged(reason: str, config: AdapterConfig) -> DivergedError:
    """Return the error for a training that diverged."""
    hint = f"a lower --lr than {config.lr:g} may help"
    return DivergedError(f"training diverged: {reason}", hint=hint, value=config.lr)


@dataclass(frozen=True)
class Finished:
    """An adapter that was trained in a bank.

    Args:
        environment: what it was trained in, for the record.
        made_by: the processor and the packages that computed it.
        bank: the mark of its bank, which tells that from any other.
    """

    name: str
    config: AdapterConfig
    trained: Trained
    environment: dict[str, Any]
    made_by: str
    bank: str

    def parameters(self, base: Artifact) -> int:
        """Return how many numbers were trained."""
        return trainable_parameters(self.config, self.layers(base))

    def layers(self, base: Artifact) -> dict[str, tuple[int, int]]:
        """Return the shapes of the layers that have an adapter."""
        return {layer: base.details["layers"][layer] for layer in self.config.target_layers or ()}

    def row(self, base: Artifact, axes: Iterable[Axis]) -> dict[str, Any]:
        """Return its row in a sweep's results, as the artifact that it could become would have it."""
        trained = self.trained
        subsets = trained.scores["subsets"]
        row = row_of(self.name, self.config, self.parameters(base), trained.failed, subsets, axes)
        return row | {"last_epoch": last_epoch(parse_history(trained.history))}


RecipeOf = Callable[[Finished, str], str]
"""An adapter and the name of its file of statistics → what the bytes of that depend on."""


def members_of(bank: Bank, answer: Answer, mark: str) -> list[Finished]:
    """Return the adapters of a trained bank, which ``mark`` tells from any other bank."""
    return [
        Finished(member.name, member.config, trained, answer.environment, answer.made_by, mark)
        for member, trained in zip(bank, answer.members, strict=True)
    ]


def publish_members(
    finished: Sequence[Finished], makings: Sequence[Making], base: Artifact, recipe_of: RecipeOf
) -> list[Artifact]:
    """Write trained adapters into their staging folders and publish them together."""
    written = [_write(each, making, base, recipe_of) for each, making in zip(finished, makings, strict=True)]
    workspace = makings[0].workspace
    adapters = workspace.registry.publish_all([staged for staged, _ in written], force=makings[0].force)
    for adapter, (_, run) in zip(adapters, written, strict=True):
        log_beside(adapter, workspace.runtime, workspace.reporter, run)
    return adapters


def _write(finished: Finished, making: Making, base: Artifact, recipe_of: RecipeOf) -> tuple[Staged, LoggedRun]:
    from lora_mnist_cli.registry.shared_statistics import write_shared
    from lora_mnist_cli.registry.weights import write_adapter

    workspace, trained, folder, start = making.workspace, finished.trained, making.folder, making.seconds
    parameters = finished.parameters(base)
    details: dict[str, Any] = {"trainable_parameters": parameters, "base_digits": base.config["digits"]}
    details["bank"] = finished.bank
    write_history(trained.history, folder)
    origin = {"kind": "adapter", "base": base.name, "dataset": base.dataset}
    run = LoggedRun(
        finished.name, origin | making.settings.config | {"trainable_parameters": parameters},
        parse_history(trained.history), trained.scores, trained.failed, workspace.note,
    )  # fmt: skip
    with machine_errors(f"can't write to {folder}"):
        log_into(folder, workspace.runtime, run)
    if trained.weights is None:
        details["failed"] = trained.failed
        workspace.reporter.warn(f"{finished.name} diverged, and is published as failed: {trained.failed}")
    else:
        write_adapter(trained.weights, finished.config, sorted(finished.layers(base)), folder)
    for file, content in trained.statistics.items():
        write_shared(content, recipe_of(finished, file), folder / file, workspace.runs_dir)
    staged = making.ready(
        scores=trained.scores, details=details, made_in=finished.environment,
        seconds=trained.seconds + making.seconds - start,
    )  # fmt: skip
    return staged, run
