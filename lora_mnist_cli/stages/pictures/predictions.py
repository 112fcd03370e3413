"""Gathers test images with their true and predicted labels."""

from __future__ import annotations

import numpy as np

from lora_mnist_cli.data.sources import class_names, load_split
from lora_mnist_cli.plots import predictions, style
from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.stages.pictures.models import model_title, predicted_and_true
from lora_mnist_cli.stages.pictures.options import PlotOptions
from lora_mnist_cli.stages.workspace import Workspace

COUNT = 50
"""Images in a grid by default."""


def picture(workspace: Workspace, artifact: Artifact, options: PlotOptions) -> style.Picture:
    """Draw the first test images of the chosen digits with the model's answers."""
    digits = options.digits or DigitSet.parse(artifact.config["digits"])
    predicted, labels = predicted_and_true(workspace, artifact, options.alpha)
    shown = np.flatnonzero(np.isin(labels, digits.members))[: options.count or COUNT]
    pixels, _ = load_split(artifact.dataset, "test", workspace.data_dir)
    return predictions.draw(
        pixels[shown], labels[shown], predicted[shown],
        title=f"{model_title(artifact, options.alpha)}: predictions on digits {digits}",
        subtitle=f"the first {len(shown)} test images of {digits} in the file's order",
        names=class_names(artifact.dataset),
    )  # fmt: skip
