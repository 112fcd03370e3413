"""Methods without a rank, such as full fine-tuning: the ceiling that tables and pictures show beside the ranks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.choices import METHODS
from lora_mnist_cli.settings.grid import varying_axes
from lora_mnist_cli.stages.records.choosing import named_once
from lora_mnist_cli.stages.records.results import result_row
from lora_mnist_cli.stages.workspace import Workspace
from lora_mnist_cli.system.errors import UsageError

Rows = list[dict[str, Any]]


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
            raise UsageError(
                f"'{name}' and '{sweep.name}' are not adapters of one base on the same digits",
                hint="only what learned the same can stand beside each other",
                value=name,
            )
        if other.config.get("rank") or any(other.config.get("ranks", ())) or varying_axes(other.config):
            raise UsageError(
                f"'{name}' is no adapter without a rank, and no sweep of one such method", value=name,
                hint="lora-mnist sweep --method full --seeds 0-4 --name ceiling",
            )  # fmt: skip
        results[other.name] = other.details["results"] if other.kind == "sweep" else [result_row(other)]
    return results


def _digits_and_base(workspace: Workspace, artifact: Artifact) -> tuple[str, str]:
    return artifact.config["digits"], workspace.registry.parent(artifact).digest


def method_of(artifact: Artifact) -> str:
    """Return the method of an adapter, or of all adapters of a sweep, by its short name."""
    return str(artifact.config.get("method", AdapterConfig.method))


def titles(workspace: Workspace, results: dict[str, Rows], taken: Sequence[str] = ()) -> dict[str, Rows]:
    """Return the results by titles for a picture: the method, with the artifact's name where two have one method.

    Args:
        taken: titles that stand for others.
    """
    by_title: dict[str, Rows] = {}
    for name, rows in results.items():
        title = METHODS[method_of(workspace.registry.get(name))].title
        by_title[title if title not in (*by_title, *taken) else f"{title} ({name})"] = rows
    return by_title
