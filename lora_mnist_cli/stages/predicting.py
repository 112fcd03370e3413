"""What a model says of pictures that someone has: the digit, its probability, and what the base alone says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.stages.workspace import Workspace
from lora_mnist_cli.system.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from lora_mnist_cli.data.pictures import Image
    from lora_mnist_cli.stages.evaluating_routed import RoutedExperts


@dataclass(frozen=True)
class Prediction:
    """What was found on one picture.

    Args:
        image: with what the model saw.
        guess: ``digit``, ``probability``, ``runner_up``, ``runner_up_probability`` and all ten ``probabilities``.
        base: the same of the base alone, where the model is an adapter.
        expert: of experts behind a router the likeliest one: ``artifact``, its ``probability``, and ``probabilities``
            by the experts' names.
    """

    image: Image
    guess: dict[str, Any]
    base: dict[str, Any] | None
    expert: dict[str, Any] | None = None


def predict_images(
    images: Sequence[str], name: str | None = None, *, alpha: float | None = None, invert: bool | None = None,
    workspace: Workspace | None = None,
) -> tuple[Artifact, float | None, list[Prediction]]:  # fmt: skip
    """Classify pictures of digits; see :mod:`lora_mnist_cli.data.pictures` for what is made of them first.

    Args:
        images: files, folders, or ``-`` for stdin.
        name: an adapter or a base; the newest adapter by default, or the newest base where there is no adapter.
        alpha: put in the trained alpha's place.
        invert: whether they are dark on light; by default that is found out of each.

    Returns:
        The artifact, the alpha in force (None for a base), and a prediction an image.

    Raises:
        UsageError: where alpha is given for a base, or is no finite number.
        ArtifactError: where the artifact or its base is missing, damaged or doesn't fit.
        DataError: where a picture can't be read; it is the first such one.
    """
    from lora_mnist_cli.data.pictures import find_images, read_image

    workspace = workspace or Workspace()
    if alpha is not None and not math.isfinite(alpha):
        raise UsageError(f"alpha is a finite number, not {alpha}", value=alpha)
    registry = workspace.registry
    if name is not None:
        artifact = registry.get(name, "adapter", "base")
    else:
        artifact = workspace.latest("adapter") if alpha is not None else workspace.latest("adapter", "base")
    if alpha is not None and artifact.kind == "base":
        raise UsageError(f"'{artifact.name}' is a base and has no alpha", hint="name an adapter", value=artifact.name)
    read = [read_image(source, invert=invert) for source in find_images(images)]

    from lora_mnist_cli.evaluation.logits import predict
    from lora_mnist_cli.models.lora import set_alpha, switched_off
    from lora_mnist_cli.stages.records.loading import load_model

    loaded = load_model(registry, artifact)
    normalised = _normalised(read, loaded.pixel_stats)
    bases: list[dict[str, Any] | None] = [None] * len(read)
    if artifact.kind == "adapter":
        with switched_off(loaded.model) as model:
            bases = [_guess(logits) for logits in predict(model, normalised)]
        if alpha is not None:
            set_alpha(loaded.model, alpha)
        alpha = float(artifact.config["alpha"]) if alpha is None else alpha
    guesses = [_guess(logits) for logits in predict(loaded.model, normalised)]
    return artifact, alpha, [Prediction(*each) for each in zip(read, guesses, bases, strict=True)]


def predict_routed(
    images: Sequence[str], names: Sequence[str] = (), *, by: str = "mixture", invert: bool | None = None,
    workspace: Workspace | None = None,
) -> tuple[RoutedExperts, list[Prediction]]:  # fmt: skip
    """Classify pictures of digits with experts behind a router.

    Args:
        images, invert: as :func:`predict_images` has them.
        names, by: as :func:`lora_mnist_cli.stages.evaluating_routed.load_experts` has them.

    Returns:
        The experts, and a prediction an image.

    Raises:
        UsageError, ArtifactError, DataError: as both of them.
    """
    from lora_mnist_cli.data.pictures import find_images, read_image
    from lora_mnist_cli.stages.evaluating_routed import load_experts

    read = [read_image(source, invert=invert) for source in find_images(images)]
    experts = load_experts(names, by=by, workspace=workspace)
    from lora_mnist_cli.evaluation.logits import predict_with

    normalised = _normalised(read, experts.pixel_stats)
    logits, posterior = predict_with(experts.model.answers, experts.model, normalised)
    labels = [each.name for each in experts.artifacts]
    predictions = []
    likeliest = experts.model.likeliest(posterior).tolist()
    for image, answer, likely, found in zip(read, logits, posterior.double().softmax(1), likeliest, strict=True):
        expert = {
            "artifact": labels[found], "probability": float(likely[found]),
            "probabilities": dict(zip(labels, likely.tolist(), strict=True)),
        }  # fmt: skip
        predictions.append(Prediction(image, _guess(answer), None, expert))
    return experts, predictions


def _normalised(read: Sequence[Image], pixel_stats: tuple[float, float]) -> Tensor:
    import numpy as np
    import torch

    mean, std = pixel_stats
    return (torch.from_numpy(np.stack([image.pixels.reshape(-1) for image in read])) - mean) / std


def _guess(logits: Any) -> dict[str, Any]:
    probabilities = logits.double().softmax(0)
    first, second = probabilities.topk(2).indices.tolist()
    return {
        "digit": first,
        "probability": float(probabilities[first]),
        "runner_up": second,
        "runner_up_probability": float(probabilities[second]),
        "probabilities": probabilities.tolist(),
    }
