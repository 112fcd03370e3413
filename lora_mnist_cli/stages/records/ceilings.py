"""What has no rank, as full fine-tuning, beside what has: found in the registry by name, for tables and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.choices import METHODS
from lora_mnist_cli.settings.grid import varying_axes
from lora_mnist_cli.stages.records.results import result_row
from lora_mnist_cli.stages.workspace import Workspace
from lora_mnist_cli.system.errors import UsageError

Rows = list[dict[str, Any]]


def ceilings(workspace: Workspace, sweep: Artifact, names: Sequence[str]) -> dict[str, Rows]:
    """Name → results of adapters without a rank, or of sweeps of one such method, in the order of the names.

    They say how far an adapter of any rank could come, so they have to have learned the sweep's digits on its base.

    Raises:
        UsageError: where one learned other digits, is on another base, or has a rank; or is given twice.
        ArtifactError: where one is missing.
    """
    found: dict[str, Rows] = {}
    for name in names:
        other = workspace.registry.get(name, "sweep", "adapter")
        same = {(each.config["digits"], workspace.registry.parent(each).digest) for each in (sweep, other)}
        if len(same) > 1:
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
        if other.name in found:
            raise UsageError(f"'{name}' is given twice", hint="once is enough", value=name)
        found[other.name] = other.details["results"] if other.kind == "sweep" else [result_row(other)]
    return found


def method_of(artifact: Artifact) -> str:
    """The method of an adapter, or of all adapters of a sweep, by its short name."""
    return str(artifact.config.get("method", AdapterConfig.method))


def titles(workspace: Workspace, found: dict[str, Rows], taken: Sequence[str] = ()) -> dict[str, Rows]:
    """The same by what they are called in a picture: the method, and the name too where that alone could be two.

    Args:
        taken: titles that stand for others.
    """
    named: dict[str, Rows] = {}
    for name, rows in found.items():
        title = METHODS[method_of(workspace.registry.get(name))].title
        named[title if title not in (*named, *taken) else f"{title} ({name})"] = rows
    return named
