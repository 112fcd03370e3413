"""Gathers a sweep's accuracies by rank, the study's figures, and methods without a rank as ceilings."""

from __future__ import annotations

from typing import Any

from lora_mnist_cli.plots import ranks, style
from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.settings.choices import METHODS
from lora_mnist_cli.settings.grid import METHOD
from lora_mnist_cli.stages.pictures.options import PlotOptions
from lora_mnist_cli.stages.pictures.sweeps import chosen_results, where_words
from lora_mnist_cli.stages.records.ceilings import ceilings, titles
from lora_mnist_cli.stages.records.results import study_accuracies
from lora_mnist_cli.stages.workspace import Workspace
from lora_mnist_cli.system.errors import ArtifactError, UsageError, make_again


def picture(workspace: Workspace, artifact: Artifact, options: PlotOptions) -> style.Picture:
    """Draw the adapters of a sweep by rank.

    Raises:
        UsageError: where the chosen results have no rank.
        ArtifactError: where the manifest lacks the base's digits.
    """
    learned, base_digits = artifact.config["digits"], artifact.details.get("base_digits")
    if base_digits is None:
        raise ArtifactError(f"'{artifact.name}' does not tell the base's digits", hint=make_again(artifact.name))
    results = [row for row in chosen_results(artifact, options.where) if row["rank"]]
    if not results:
        raise UsageError(
            f"'{artifact.name}' has no ranks to draw", hint="full fine-tuning and head have none", value=artifact.name
        )
    return ranks.draw(
        results, base_digits=base_digits, new_digits=learned, ceilings=_ceilings(workspace, artifact, options),
        study=study_accuracies(workspace, artifact, options.where),
        title=f"Adapters on digits {learned}, base on {base_digits}{where_words(options.where)}: test accuracy by rank",
    )  # fmt: skip


def _ceilings(workspace: Workspace, sweep: Artifact, options: PlotOptions) -> dict[str, list[dict[str, Any]]]:
    """Return title → results of methods without a rank: the sweep's, and those of artifacts beside it.

    Raises:
        As :func:`lora_mnist_cli.stages.records.ceilings.ceilings`.
    """
    by_title: dict[str, list[dict[str, Any]]] = {}
    # A method without a rank has the other settings too, a learning rate for example: those have to be the same.
    others = {name: value for name, value in options.where.items() if name != METHOD.field}
    for row in sweep.details["results"]:
        if not row["rank"] and METHOD.field in row and all(row[name] == value for name, value in others.items()):
            by_title.setdefault(METHODS[row[METHOD.field]].title, []).append(row)
    return by_title | titles(workspace, ceilings(workspace, sweep, options.beside), list(by_title))
