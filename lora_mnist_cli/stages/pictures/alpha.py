"""Gathers the accuracies of one adapter at alphas from 0 to 1.5."""

from __future__ import annotations

from lora_mnist_cli.plots import alpha, style
from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.stages.evaluating import evaluate
from lora_mnist_cli.stages.pictures.models import model_title
from lora_mnist_cli.stages.pictures.options import PlotOptions
from lora_mnist_cli.stages.workspace import Workspace

ALPHAS = tuple(i / 8 for i in range(13))
"""The multipliers that are scored beside the trained one."""


def picture(workspace: Workspace, artifact: Artifact, options: PlotOptions) -> style.Picture:
    """Score an adapter at every alpha and draw its accuracies."""
    trained = AdapterConfig.from_json(artifact.config).alpha
    evaluations = evaluate(artifact.name, alphas=sorted({*ALPHAS, trained}), workspace=workspace)
    return alpha.draw(
        [{"alpha": evaluation.alpha, **evaluation.scores} for evaluation in evaluations],
        base_digits=artifact.details["base_digits"], new_digits=artifact.config["digits"], trained_alpha=trained,
        title=f"{model_title(artifact)}: test accuracy by alpha",
    )  # fmt: skip
