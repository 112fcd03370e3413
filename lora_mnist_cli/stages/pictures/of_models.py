"""Pictures of one base or one adapter. Each function gathers a record and calls the ``draw`` of its kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lora_mnist_cli.data.sources import class_names, load_split
from lora_mnist_cli.models.architecture import TRAIN_SAMPLE
from lora_mnist_cli.plots import alpha, confusion, forgetting, history, predictions, style
from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.choices import METHODS
from lora_mnist_cli.settings.digits import ALL_DIGITS, DigitSet
from lora_mnist_cli.stages import measuring_forgetting
from lora_mnist_cli.stages.evaluating import all_finite, at_alpha, evaluate
from lora_mnist_cli.stages.pictures.options import PlotOptions
from lora_mnist_cli.stages.records.histories import read_history
from lora_mnist_cli.stages.records.resolving import chosen_alpha
from lora_mnist_cli.stages.workspace import Workspace

if TYPE_CHECKING:
    import numpy.typing as npt

    Labels = npt.NDArray[np.int64]

ALPHAS = tuple(i / 8 for i in range(13))
"""The multipliers that are scored beside the trained one."""
COUNT = 50
"""Images in a grid by default."""


def draw_alpha(workspace: Workspace, artifact: Artifact, options: PlotOptions) -> style.Picture:
    """Score an adapter at every alpha and draw its accuracies."""
    trained = AdapterConfig.from_json(artifact.config).alpha
    evaluations = all_finite(evaluate(artifact.name, alphas=sorted({*ALPHAS, trained}), workspace=workspace))
    return alpha.draw(
        [{"alpha": evaluation.alpha, **evaluation.scores} for evaluation in evaluations],
        base_digits=artifact.details["base_digits"], new_digits=artifact.config["digits"], trained_alpha=trained,
        title=f"{_title(artifact)}: test accuracy by alpha",
    )  # fmt: skip


def draw_confusion(workspace: Workspace, artifact: Artifact, options: PlotOptions) -> style.Picture:
    """Count true against predicted digits and draw them."""
    digits = options.digits or ALL_DIGITS
    predicted, labels = _predicted_and_true(workspace, artifact, options.alpha)
    counts = np.zeros((10, 10), dtype=np.int64)
    np.add.at(counts, (labels, predicted), np.isin(labels, digits.members))
    title = f"{_title(artifact, options.alpha)}: test images of digits {digits}"
    return confusion.draw(counts, title=title, names=class_names(artifact.dataset))


def draw_forgetting(workspace: Workspace, artifact: Artifact, options: PlotOptions) -> style.Picture:
    """Measure forgetting and draw probes, answers and calibration."""
    document = measuring_forgetting.forgetting(artifact.name, workspace=workspace)
    title = f"{artifact.name} on {document['base']}: forgotten, and merely outranked"
    return forgetting.draw(document["halves"], document["probes"], title=title)


def draw_history(workspace: Workspace, artifact: Artifact, options: PlotOptions) -> style.Picture:
    """Draw the history that the artifact was published with."""
    title = f"{artifact.name}: training on digits {artifact.config['digits']}"
    return history.draw(read_history(artifact), title=title, sample=TRAIN_SAMPLE)


def draw_predictions(workspace: Workspace, artifact: Artifact, options: PlotOptions) -> style.Picture:
    """Draw the first test images of the chosen digits with the model's answers."""
    digits = options.digits or DigitSet.parse(artifact.config["digits"])
    predicted, labels = _predicted_and_true(workspace, artifact, options.alpha)
    shown = np.flatnonzero(np.isin(labels, digits.members))[: options.count or COUNT]
    pixels, _ = load_split(artifact.dataset, "test", workspace.data_dir)
    return predictions.draw(
        pixels[shown], labels[shown], predicted[shown],
        title=f"{_title(artifact, options.alpha)}: predictions on digits {digits}",
        subtitle=f"the first {len(shown)} test images of {digits} in the file's order",
        names=class_names(artifact.dataset),
    )  # fmt: skip


def _predicted_and_true(workspace: Workspace, artifact: Artifact, alpha: float | None) -> tuple[Labels, Labels]:
    """Return the predicted and the true labels of all test images, each ``(n,)``; a base has no alpha."""
    from lora_mnist_cli.models.lora import set_alpha
    from lora_mnist_cli.stages.records.loading import finite_logits, load_model

    chosen = chosen_alpha(artifact, alpha)
    loaded = load_model(workspace.registry, artifact)
    if chosen is not None:
        set_alpha(loaded.model, chosen)
    test = workspace.test_images(artifact, loaded.pixel_stats)
    logits = finite_logits(loaded.model, test.images, f"'{artifact.name}'{at_alpha(chosen)}")
    return logits.argmax(1).numpy(), test.labels.numpy()


def _title(artifact: Artifact, alpha: float | None = None) -> str:
    """Name a base by its digits, an adapter by method, digits, rank and an alpha that is not the trained one."""
    if artifact.kind == "base":
        return f"Base {artifact.config['digits']}"
    config = AdapterConfig.from_json(artifact.config)
    method = METHODS[config.method].title if config.combined is None else f"Combined ({config.combined})"
    rank = f", rank {config.rank}" if config.rank else ""
    return f"{method} {config.digits}{rank}{'' if alpha is None else f' at alpha {alpha:g}'}"
