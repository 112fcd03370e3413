"""Classifying a user's own pictures: the digit, its probability, and the answer of the base alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lora_mnist_cli.data.picture_files import find_images
from lora_mnist_cli.registry.artifact import Artifact
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
    """

    image: Image
    guess: dict[str, Any]
    base: dict[str, Any] | None
    expert: dict[str, Any] | None = None


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
        The artifact, the alpha in force (None for a base), and a prediction per image.

    Raises:
        UsageError: where alpha is given for a base, or is not finite.
        ArtifactError: where the artifact or its base is missing, damaged or doesn't fit.
        DataError: where a picture can't be read; it is the first such one.
    """
    workspace = workspace or Workspace()
    artifact = choose_model(workspace, name, () if alpha is None else (alpha,))
    alpha = chosen_alpha(artifact, alpha)
    sources = find_images(images)
    from lora_mnist_cli.data.pictures import read_image

    pictures = [read_image(source, invert=invert) for source in sources]

    from lora_mnist_cli.evaluation.logits import predict
    from lora_mnist_cli.models.lora import set_alpha, switched_off
    from lora_mnist_cli.stages.records.loading import load_model

    loaded = load_model(workspace.registry, artifact)
    normalised = _normalised(pictures, loaded.pixel_stats)
    bases: list[dict[str, Any] | None] = [None] * len(pictures)
    if alpha is not None:
        with switched_off(loaded.model) as model:
            bases = [_guess(logits) for logits in predict(model, normalised)]
        set_alpha(loaded.model, alpha)
    guesses = [_guess(logits) for logits in predict(loaded.model, normalised)]
    return artifact, alpha, [Prediction(*parts) for parts in zip(pictures, guesses, bases, strict=True)]


@stage
def predict_routed(
    images: Sequence[str], names: Sequence[str] = (), *, by: str = "mixture", invert: bool | None = None,
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

    sources = find_images(images)
    from lora_mnist_cli.data.pictures import read_image

    pictures = [read_image(source, invert=invert) for source in sources]
    experts = load_experts(names, by=by, workspace=workspace)
    from lora_mnist_cli.evaluation.logits import predict_with

    normalised = _normalised(pictures, experts.pixel_stats)
    logits, posterior = predict_with(experts.model.answers, experts.model, normalised)
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
    return experts, predictions


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
