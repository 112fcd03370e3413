"""Gathers what an adapter forgot, and what it merely outranks."""

from __future__ import annotations

from lora_mnist_cli.plots import forgetting, style
from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.stages import measuring_forgetting
from lora_mnist_cli.stages.pictures.options import PlotOptions
from lora_mnist_cli.stages.workspace import Workspace


def picture(workspace: Workspace, artifact: Artifact, options: PlotOptions) -> style.Picture:
    """Measure forgetting and draw probes, answers and calibration."""
    document = measuring_forgetting.forgetting(artifact.name, workspace=workspace)
    title = f"{artifact.name} on {document['base']}: forgotten, and merely outranked"
    return forgetting.draw(document["halves"], document["probes"], title=title)
