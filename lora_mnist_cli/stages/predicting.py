"""Classifying a user's own pictures: the digit, its probability, and the answer of the base alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lora_mnist_cli.data.picture_files import find_images
from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.stages.evaluating import at_alpha
from lora_mnist_cli.stages.records.resolving import choose_model, chosen_alpha
from lora_mnist_cli.stages.workspace import Workspace
from lora_mnist_cli.system.caller import stage

if TYPE_CHECKING:
    from torch import Tensor

    from lora_mnist_cli.data.pictures import Image
    from lora_mnist_cli.stages.evaluating_routed import RoutedExperts


@dataclass(frozen=True)
class Prediction:
    """The answer for one picture.

    Args:
        image: the picture, with the pixels that the model saw.
        guess: ``digit``, ``probability``, ``runner_up``, ``runner_up_probability`` and all ten ``probabilities``.
        base: the same of the base alone, where the model is an adapter.
        expert: the likeliest of experts behind a router: ``artifact``, its ``probability``, and ``probabilities`` by
            the experts' names.
        doubts: keys of :data:`lora_mnist_cli.data.picture_doubts.DOUBTS`: reasons not to believe the guess.
    """

    image: Image
    guess: dict[str, Any]
    base: dict[str, Any] | None
    expert: dict[str, Any] | None = None
    doubts: tuple[str, ...] = ()


FARTHEST = 2000.0
"""Distance from the known digits (:meth:`~lora_mnist_cli.models.densities.ClassStatistics.distance`) beyond which a
picture looks like none of them. Of 6,000 validation images of MNIST, a thousandth are farther than 2,028 from 0-4,
2,003 from 5-9 and 2,049 from 0-9, each under the statistics of its own digits. Digits pasted on noisy and shaded paper,
and digits drawn by other pens, were not farther: nothing has to be added for a photograph.
"""


@stage
def predict_images(
    images: Sequence[str], name: str | None = None, *, alpha: float | None = None, invert: bool | None = None,
    workspace: Workspace | None = None,
) -> tuple[Artifact, float | None, list[Prediction]]:  # fmt: skip
    """Classify pictures of digits; see :mod:`lora_mnist_cli.data.pictures` for how they are prepared.

    Args:
        images: files, folders, or ``-`` for stdin.
        name: an adapter or a base; the newest adapter by default, or the newest base where there is no adapter.
        alpha: in place of the trained one.
        invert: whether they are dark on light; by default detected for each picture.

    Returns:
        The artifact, the alpha in force (None for a base), and a prediction per image; doubts are warned of.

    Raises:
        UsageError: where alpha is given for a base, or is not finite.
        ArtifactError: where the artifact or its base is missing, damaged or doesn't fit.
        DataError: where a picture can't be read; it is the first such one.
    """
    workspace = workspace or Workspace()
    artifact = choose_model(workspace, name, () if alpha is None else (alpha,))
    alpha = chosen_alpha(artifact, alpha)
    pictures = _pictures(images, invert, workspace)

    from lora_mnist_cli.models.lora import set_alpha, switched_off
    from lora_mnist_cli.stages.records.loading import finite_logits, load_model

    loaded = load_model(workspace.registry, artifact)
    normalised = _normalised(pictures, loaded.pixel_stats)
    bases: list[dict[str, Any] | None] = [None] * len(pictures)
    if alpha is not None:
        with switched_off(loaded.model) as model:
            bases = [_guess(logits) for logits in finite_logits(model, normalised, f"'{loaded.base.name}'")]
        set_alpha(loaded.model, alpha)
    guesses = [
        _guess(logits) for logits in finite_logits(loaded.model, normalised, f"'{artifact.name}'{at_alpha(alpha)}")
    ]
    predictions = [Prediction(*parts) for parts in zip(pictures, guesses, bases, strict=True)]
    return artifact, alpha, _doubted(predictions, normalised, _learned(artifact, loaded.base, alpha), workspace)


@stage
def predict_routed(
    images: Sequence[str], names: Sequence[str] = (), *, by: str | None = None, invert: bool | None = None,
    workspace: Workspace | None = None,
) -> tuple[RoutedExperts, list[Prediction]]:  # fmt: skip
    """Classify pictures of digits with experts behind a router.

    Args:
        images, invert: as :func:`predict_images` has them.
        names, by: as :func:`lora_mnist_cli.stages.evaluating_routed.load_experts` has them.

    Returns:
        The experts, and a prediction per image.
    """
    from lora_mnist_cli.stages.evaluating_routed import load_experts

    workspace = workspace or Workspace()
    pictures = _pictures(images, invert, workspace)
    experts = load_experts(names, by=by, workspace=workspace)
    normalised = _normalised(pictures, experts.pixel_stats)
    logits, posterior = experts.answers(normalised)
    names_of_experts = [artifact.name for artifact in experts.artifacts]
    likeliest = experts.model.likeliest(posterior).tolist()
    shares = posterior.double().softmax(1)
    predictions = []
    for picture, answer, share, number in zip(pictures, logits, shares, likeliest, strict=True):
        expert = {
            "artifact": names_of_experts[number], "probability": float(share[number]),
            "probabilities": dict(zip(names_of_experts, share.tolist(), strict=True)),
        }  # fmt: skip
        predictions.append(Prediction(picture, _guess(answer), None, expert))
    return experts, _doubted(predictions, normalised, experts.artifacts, workspace)


def _pictures(images: Sequence[str], invert: bool | None, workspace: Workspace) -> list[Image]:
    sources = find_images(images, workspace.reporter.notice)
    from lora_mnist_cli.data.pictures import read_image

    return [read_image(source, invert=invert) for source in sources]


def _learned(artifact: Artifact, base: Artifact, alpha: float | None) -> list[Artifact]:
    """Return the artifacts whose digits a model knows."""
    # An adapter without protection has forgotten the digits of its base.
    if alpha == 0:
        return [base]
    return [artifact, *([base] if artifact.config.get("protect") else [])]


def _doubted(
    predictions: Sequence[Prediction], normalised: Tensor, learned: Sequence[Artifact], workspace: Workspace
) -> list[Prediction]:
    """Add the doubts about each picture to its prediction, and warn of them."""
    from lora_mnist_cli.data.picture_doubts import DOUBTS
    from lora_mnist_cli.registry.checkpoint import load_statistics
    from lora_mnist_cli.registry.file_names import STATISTICS_FILE

    unlike = [False] * len(predictions)
    if all(STATISTICS_FILE in artifact.files for artifact in learned):
        distances = [load_statistics(artifact).distance(normalised).tolist() for artifact in learned]
        unlike = [min(of_picture) > FARTHEST for of_picture in zip(*distances, strict=True)]
    else:
        names = ", ".join(artifact.name for artifact in learned)
        workspace.reporter.notice(f"no picture is compared with the digits of {names}, which has no statistics of them")
    made = []
    for prediction, is_unlike in zip(predictions, unlike, strict=True):
        doubts = (*prediction.image.doubts, *(["unlike"] if is_unlike else []))
        for doubt in doubts:
            workspace.reporter.warn(f"{prediction.image.source}: {DOUBTS[doubt]}")
        made.append(replace(prediction, doubts=doubts))
    return made


def _normalised(pictures: Sequence[Image], pixel_stats: tuple[float, float]) -> Tensor:
    import numpy as np
    import torch

    mean, std = pixel_stats
    return (torch.from_numpy(np.stack([picture.pixels.reshape(-1) for picture in pictures])) - mean) / std


def _guess(logits: Any) -> dict[str, Any]:
    probabilities = logits.double().softmax(0)
    first, second = probabilities.topk(2).indices.tolist()
    return {
        "digit": first, "probability": float(probabilities[first]),
        "runner_up": second, "runner_up_probability": float(probabilities[second]),
        "probabilities": probabilities.tolist(),
    }  # fmt: skip
