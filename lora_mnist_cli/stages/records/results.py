"""The results of a sweep: a row per adapter, the same as CSV, and what tables and pictures show beside them.

Beside them stand the figures of the original study, and methods without a rank, such as full fine-tuning, as a ceiling.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lora_mnist_cli.evaluation import original_study
from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.settings.adapter_config import AdapterConfig, without_unused
from lora_mnist_cli.settings.choices import METHODS
from lora_mnist_cli.settings.config import BaseConfig
from lora_mnist_cli.settings.grid import RANK, SEED, Axis, Value, varying_axes
from lora_mnist_cli.stages.records.histories import last_epoch, read_history
from lora_mnist_cli.stages.records.resolving import named_once
from lora_mnist_cli.stages.workspace import Workspace
from lora_mnist_cli.system.errors import UsageError

Rows = list[dict[str, Any]]


def result_row(adapter: Artifact, axes: Iterable[Axis] = ()) -> dict[str, Any]:
    """Return an adapter's row in a sweep's results; ``axes`` are those that it varies beside rank and seed."""
    config, details = AdapterConfig.from_json(adapter.config), adapter.details
    parameters, failed = details["trainable_parameters"], details.get("failed")
    return row_of(adapter.name, config, parameters, failed, adapter.scores["subsets"], axes)


def row_of(
    name: str, config: AdapterConfig, parameters: int, failed: str | None, subsets: Rows, axes: Iterable[Axis]
) -> dict[str, Any]:
    """Return the row of an adapter that need not be published; ``failed`` says why it diverged, where it did."""
    varying = {axis.field: getattr(config, axis.field) for axis in axes}
    return {
        "artifact": name, "rank": config.rank, **varying, "seed": config.seed, "trainable_parameters": parameters,
        "failed": failed, "subsets": subsets,
    }  # fmt: skip


def swept_row(adapter: Artifact, axes: Iterable[Axis] = ()) -> dict[str, Any]:
    """Return an adapter's row with the end of its history, as sweeps record it.

    Raises:
        ArtifactError: where its history is damaged or odd.
    """
    return result_row(adapter, axes) | {"last_epoch": last_epoch(read_history(adapter))}


def results_csv(results: Sequence[dict[str, Any]]) -> str:
    """Return the results as CSV: for each adapter its settings, then accuracy and loss for each digit set."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = [key for key in results[0] if key not in ("subsets", "last_epoch")]
    measures = [f"{what}_{row['digits']}" for row in results[0]["subsets"] for what in ("accuracy", "loss")]
    writer.writerow(columns + measures)
    for result in results:
        figures = [row[what] for row in result["subsets"] for what in ("accuracy", "loss")]
        writer.writerow([result[key] for key in columns] + figures)
    return text.getvalue()


def study_accuracies(
    workspace: Workspace, sweep: Artifact, chosen: Mapping[str, Value] | None = None
) -> dict[int, float]:
    """Return rank → the study's accuracy on a sweep's digits; empty unless data, base and recipe are the study's.

    Args:
        chosen: a value of each axis that the sweep varies beside rank and seed. Without one of them the results come
            from several recipes, and there is nothing to compare.
    """
    chosen, varying = dict(chosen or {}), varying_axes(sweep.config)
    if any(axis.field not in chosen for axis in varying):
        return {}
    base = BaseConfig.from_json(workspace.registry.parent(sweep).config)
    config = first_config(sweep, chosen)
    if config.digits is None or not original_study.comparable(base, config):
        return {}
    accuracies = {rank: original_study.adapter_accuracy(config.digits, rank) for rank in sweep.config["ranks"]}
    return {rank: accuracy for rank, accuracy in accuracies.items() if accuracy is not None}


def first_config(sweep: Artifact, chosen: Mapping[str, Value]) -> AdapterConfig:
    """Return the settings of a sweep's first adapter; ``chosen`` has values of the axes that it varies."""
    axes = (RANK, SEED, *varying_axes(sweep.config))
    shared = {key: value for key, value in sweep.config.items() if key not in {axis.plural for axis in axes}}
    first = {axis.field: sweep.config[axis.plural][0] for axis in axes}
    return AdapterConfig.from_json(without_unused(shared | first | dict(chosen)))


def ceilings(workspace: Workspace, sweep: Artifact, names: Sequence[str]) -> dict[str, Rows]:
    """Return name → results of adapters without a rank, or of sweeps of one such method, in the order of the names.

    They show how far an adapter of any rank could come, so they must have learned the sweep's digits on its base.

    Raises:
        UsageError: where one learned other digits, is on another base, has a rank, or is named twice.
        ArtifactError: where one is missing.
    """
    others = [workspace.registry.get(name, "sweep", "adapter") for name in names]
    named_once((other.name for other in others), hint="once is enough")
    results: dict[str, Rows] = {}
    for name, other in zip(names, others, strict=True):
        if _digits_and_base(workspace, other) != _digits_and_base(workspace, sweep):
            problem = f"'{name}' and '{sweep.name}' are not adapters of one base on the same digits"
            raise UsageError(problem, hint="only what learned the same can stand beside each other", value=name)
        if other.config.get("rank") or any(other.config.get("ranks", ())) or varying_axes(other.config):
            problem = f"'{name}' is no adapter without a rank, and no sweep of one such method"
            raise UsageError(problem, value=name, hint="lora-mnist sweep --method full --seeds 0-4 --name ceiling")
        results[other.name] = other.details["results"] if other.kind == "sweep" else [result_row(other)]
    return results


def _digits_and_base(workspace: Workspace, artifact: Artifact) -> tuple[str, str]:
    return artifact.config["digits"], workspace.registry.parent(artifact).digest


def method_of(artifact: Artifact) -> str:
    """Return the method of an adapter, or of all adapters of a sweep, by its short name."""
    return str(artifact.config.get("method", AdapterConfig.method))


def titles(workspace: Workspace, results: dict[str, Rows], taken: Sequence[str] = ()) -> dict[str, Rows]:
    """Return the results by titles for a picture: the method, with the artifact's name where that title is taken."""
    by_title: dict[str, Rows] = {}
    for name, rows in results.items():
        title = METHODS[method_of(workspace.registry.get(name))].title
        by_title[title if title not in (*by_title, *taken) else f"{title} ({name})"] = rows
    return by_title
