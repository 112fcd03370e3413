"""Gathers how often a model takes each digit for each other one."""

from __future__ import annotations

import numpy as np

from lora_mnist_cli.data.sources import class_names
from lora_mnist_cli.plots import confusion, style
from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.settings.digits import ALL_DIGITS
from lora_mnist_cli.stages.pictures.models import model_title, predicted_and_true
from lora_mnist_cli.stages.pictures.options import PlotOptions
from lora_mnist_cli.stages.workspace import Workspace


def picture(workspace: Workspace, artifact: Artifact, options: PlotOptions) -> style.Picture:
    """Count true against predicted digits and draw them."""
    digits = options.digits or ALL_DIGITS
    predicted, labels = predicted_and_true(workspace, artifact, options.alpha)
    counts = np.zeros((10, 10), dtype=np.int64)
    np.add.at(counts, (labels, predicted), np.isin(labels, digits.members))
    title = f"{model_title(artifact, options.alpha)}: test images of digits {digits}"
    return confusion.draw(counts, title=title, names=class_names(artifact.dataset))
