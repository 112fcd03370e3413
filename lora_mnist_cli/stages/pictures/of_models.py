"""Pictures of one base or one adapter. Each function gathers a record and calls the ``draw`` of its kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lora_mnist_cli.data.sources import load_split
from lora_mnist_cli.models.architecture import TRAIN_SAMPLE
from lora_mnist_cli.plots import alpha, confusion, forgetting, history, predictions, style
from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.stages import costs, measuring_forgetting
from lora_mnist_cli.stages.evaluating import all_finite, at_alpha, evaluate
from lora_mnist_cli.stages.pictures.options import PlotOptions
from lora_mnist_cli.stages.pictures.subtitles import lonely, subtitle_of, title_of
from lora_mnist_cli.stages.records.histories import read_history
from lora_mnist_cli.stages.records.resolving import chosen_alpha
from lora_mnist_cli.stages.workspace import Workspace
from lora_mnist_cli.system.work import DRAWING, Followed

if TYPE_CHECKING:
    import numpy.typing as npt

    Labels = npt.NDArray[np.int64]

_STEP, _FINER_STEP = 1 / 8, 1 / 32
"""The distance of the multipliers that are scored, and that around the crossing of old and new digits."""
ALPHAS = tuple(i * _STEP for i in range(13))
"""The multipliers that are scored beside the trained one."""
COUNT = 50
"""Images in a grid by default."""


def draw_alpha(workspace: Workspace, artifact: Artifact, options: PlotOptions) -> style.Picture:
    """Score an adapter at every alpha and draw its accuracies."""
    trained = AdapterConfig.from_json(artifact.config).alpha
    old, learned = artifact.details["base_digits"], artifact.config["digits"]
    new = str(only_new(artifact) or learned)
    rows = _rows_by_alpha(workspace, artifact, sorted({*ALPHAS, trained}))
    subtitle = subtitle_of(artifact)
    if coarse := alpha.crossing(rows, old, new):
        scored = {row["alpha"] for row in rows}
        first, last = coarse.before - _STEP, coarse.after + _STEP
        finer = {first + _FINER_STEP * i for i in range(1 + round((last - first) / _FINER_STEP))}
        rows += _rows_by_alpha(workspace, artifact, sorted(a for a in finer - scored if 0 < a < ALPHAS[-1]))
        place = alpha.crossing(rows, old, new) or coarse
        subtitle += f"; {old} and {new} cross at alpha {place.alpha:.2f}, at {place.percent:.0f} %"
    return alpha.draw(
        sorted(rows, key=lambda row: float(row["alpha"])), base_digits=old, new_digits=learned, trained_alpha=trained,
        title=f"{title_of(artifact)}: test accuracy by alpha", subtitle=subtitle, known=artifact.known_digits,
    )  # fmt: skip


def only_new(artifact: Artifact) -> DigitSet | None:
    """Return those of the digits learned that the base did not know; None where it knew them all."""
    return DigitSet.parse(artifact.config["digits"]).without(DigitSet.parse(artifact.details["base_digits"]))


def _rows_by_alpha(workspace: Workspace, artifact: Artifact, alphas: Sequence[float]) -> list[dict[str, Any]]:
    evaluations = all_finite(evaluate(artifact.name, alphas=alphas, workspace=workspace))
    return [{"alpha": evaluation.alpha, **evaluation.scores} for evaluation in evaluations]


def draw_confusion(workspace: Workspace, artifact: Artifact, options: PlotOptions) -> style.Picture:
    """Count true against predicted digits and draw them."""
    digits = options.digits or artifact.known_digits
    predicted, labels = _predicted_and_true(workspace, artifact, options.alpha)
    counts = np.zeros((10, 10), dtype=np.int64)
    np.add.at(counts, (labels, predicted), np.isin(labels, digits.members))
    base_digits = artifact.config["digits"] if artifact.kind == "base" else artifact.details["base_digits"]
    return confusion.draw(
        counts, title=f"{title_of(artifact, options.alpha)}: confusion of true and predicted digits",
        subtitle=f"test images of {digits}; thick lines: the base's digits {base_digits}; {subtitle_of(artifact)}",
        names=artifact.classes, old=DigitSet.parse(base_digits).members, least=len(artifact.known_digits),
    )  # fmt: skip


def draw_forgetting(workspace: Workspace, artifact: Artifact, options: PlotOptions) -> style.Picture:
    """Measure forgetting and draw probes, answers and calibration."""
    before = replace(workspace, reporter=Followed(workspace.reporter, {DRAWING: costs.PICTURE}))
    document = measuring_forgetting.forgetting(artifact.name, workspace=before)
    title = f"{title_of(artifact)}: forgotten, and merely outranked"
    return forgetting.draw(document["halves"], document["probes"], title=title, subtitle=subtitle_of(artifact))


def draw_history(workspace: Workspace, artifact: Artifact, options: PlotOptions) -> style.Picture:
    """Draw the history that the artifact was published with."""
    rows, subtitle = read_history(artifact), subtitle_of(artifact)
    if len(rows) == 1:
        subtitle += f"; {lonely(workspace, 'not trained', 'training for some epochs')}"
    title = f"{title_of(artifact)}: loss and accuracy by epoch"
    return history.draw(rows, title=title, subtitle=subtitle, sample=TRAIN_SAMPLE)


def draw_predictions(workspace: Workspace, artifact: Artifact, options: PlotOptions) -> style.Picture:
    """Draw the first test images of the chosen digits with the model's answers."""
    digits = options.digits or DigitSet.parse(artifact.config["digits"])
    predicted, labels = _predicted_and_true(workspace, artifact, options.alpha)
    shown = np.flatnonzero(np.isin(labels, digits.members))[: options.count or COUNT]
    pixels, _ = load_split(artifact.dataset, "test", workspace.data_dir)
    return predictions.draw(
        pixels[shown], labels[shown], predicted[shown],
        title=f"{title_of(artifact, options.alpha)}: predictions on digits {digits}",
        subtitle=f"the first {len(shown)} test images of {digits} in the file's order; {subtitle_of(artifact)}",
        names=artifact.classes,
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
