"""Gathers the accuracies on old and new digits of adapters whose alpha rises from 0."""

from __future__ import annotations

import math
from typing import Any

from lora_mnist_cli.plots import style, tradeoff
from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.stages.evaluating import evaluate
from lora_mnist_cli.stages.pictures.options import PlotOptions
from lora_mnist_cli.stages.pictures.sweeps import labelled_adapters, where_words
from lora_mnist_cli.stages.workspace import Workspace
from lora_mnist_cli.system.errors import ArtifactError

SHARES = (0.0, 0.2, 0.35, 0.5, 0.65, 0.8, 1.0, 1.25)
"""Shares of the trained alpha at which an adapter is scored."""


def picture(workspace: Workspace, artifact: Artifact, options: PlotOptions) -> style.Picture:
    """Score an adapter, or all adapters of a sweep, at shares of their alpha and draw their paths.

    Raises:
        ArtifactError: where the adapters learned no digit that is new to the base.
        As :func:`~lora_mnist_cli.stages.pictures.sweeps.labelled_adapters`.
    """
    old = DigitSet.parse(artifact.details["base_digits"])
    only_new = [digit for digit in DigitSet.parse(artifact.config["digits"]) if digit not in old]
    if not only_new:
        raise ArtifactError(
            f"'{artifact.name}' learned no digit that its base, on {old}, did not know",
            hint="name an adapter that did; plot alpha draws this one",
            value=artifact.name,
        )
    new = DigitSet(only_new)
    adapters, note = labelled_adapters(workspace, artifact, options)
    if len(adapters) > 1:
        workspace.reporter.notice(f"scoring {len(adapters)} adapters at {len(SHARES)} alphas each")
    shares = ", ".join(f"{share:g}" for share in SHARES)
    return tradeoff.draw(
        [{"label": label} | _path(workspace, adapter, [old, new]) for label, adapter in adapters],
        old_digits=str(old), new_digits=str(new),
        title=f"{artifact.name}{where_words(options.where)}: new digits against old as alpha rises",
        subtitle=f"{note + '; ' if note else ''}points: {shares} of the trained alpha",
    )  # fmt: skip


def _path(workspace: Workspace, adapter: Artifact, old_and_new: list[DigitSet]) -> dict[str, Any]:
    """Return the trained alpha, and both accuracies at every share of it."""
    trained = float(adapter.config["alpha"])
    # An untrained adapter may have an alpha of 0, and every share of that is 0.
    alphas = sorted({share * (trained or 1.0) for share in SHARES} | {trained}, key=abs)
    finite = [alpha for alpha in alphas if math.isfinite(alpha)]
    points = []
    for evaluation in evaluate(adapter.name, alphas=finite, digit_sets=old_and_new, workspace=workspace):
        old, new = (subset["accuracy"] for subset in evaluation.scores["subsets"])
        points.append({"alpha": evaluation.alpha, "old": old, "new": new})
    return {"trained_alpha": trained, "points": points}
