"""Gathers validation accuracies by learning rate, from the histories of a sweep's runs."""

from __future__ import annotations

from lora_mnist_cli.plots import learning_rate, style
from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.settings.grid import METHOD
from lora_mnist_cli.stages.pictures.options import PlotOptions
from lora_mnist_cli.stages.pictures.sweeps import chosen_results, rank_label, where_words
from lora_mnist_cli.stages.records.ceilings import method_of
from lora_mnist_cli.stages.records.histories import validation_runs
from lora_mnist_cli.stages.workspace import Workspace
from lora_mnist_cli.system.errors import ArtifactError


def picture(workspace: Workspace, artifact: Artifact, options: PlotOptions) -> style.Picture:
    """Draw a sweep over learning rates.

    Raises:
        ArtifactError: where the sweep has one rate, or a run has no validation accuracy.
    """
    if "lrs" not in artifact.config:
        ranks = ",".join(map(str, artifact.config["ranks"]))
        raise ArtifactError(
            f"'{artifact.name}' has only one learning rate",
            hint=f"lora-mnist sweep --ranks {ranks} --lrs 1e-3,4e-3,1.6e-2 --name rates",
            value=artifact.name,
        )
    rows = validation_runs(workspace.registry, artifact, chosen_results(artifact, options.where, drawn="lr"))
    learned, method = artifact.config["digits"], str(options.where.get(METHOD.field, method_of(artifact)))
    return learning_rate.draw(
        rows, digits=learned, power=artifact.config.get("lr_power", 0.0), unranked=rank_label(method, 0),
        title=f"Adapters on digits {learned}{where_words(options.where)}: validation accuracy by learning rate",
    )  # fmt: skip
