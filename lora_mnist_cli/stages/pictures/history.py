"""Gathers the losses and accuracies of a training, epoch by epoch."""

from __future__ import annotations

from lora_mnist_cli.models.architecture import TRAIN_SAMPLE
from lora_mnist_cli.plots import history, style
from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.stages.pictures.options import PlotOptions
from lora_mnist_cli.stages.records.histories import read_history
from lora_mnist_cli.stages.workspace import Workspace


def picture(workspace: Workspace, artifact: Artifact, options: PlotOptions) -> style.Picture:
    """Draw the history that the artifact was published with."""
    title = f"{artifact.name}: training on digits {artifact.config['digits']}"
    return history.draw(read_history(artifact), title=title, sample=TRAIN_SAMPLE)
