"""From a model to logits, and from logits to scores per digit and per digit set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lora_mnist_cli.evaluation.scores import digit_means, scores_of_digits
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.system.arithmetic import computing

BATCH = 1024
"""Images per forward pass: activations stay in the cache, which is 10 % faster than one pass over all images."""


def predict(model: nn.Module, images: Tensor) -> Tensor:
    """Return logits (n × 10) of images (n × 784), in evaluation mode and on one thread; the mode is restored."""
    (logits,) = predict_with(lambda batch: (model(batch),), model, images)
    return logits


@torch.no_grad()
def predict_with(
    function: Callable[[Tensor], tuple[Tensor, ...]], model: nn.Module, images: Tensor
) -> tuple[Tensor, ...]:
    """Return the results of a function of a model for images (n × 784), in batches as :func:`predict`."""
    was_training = model.training
    model.eval()
    try:
        with computing():
            parts = [function(batch) for batch in torch.split(images, BATCH)]
    finally:
        model.train(was_training)
    return tuple(torch.cat(part) for part in zip(*parts, strict=True))


def overflowing_layer(model: nn.Module, images: Tensor) -> str | None:
    """Return the name of the first layer that has an output for images (n × 784) that is not finite, or None.

    The model is a :class:`~lora_mnist_cli.models.mlp.MNISTModel`, plain or adapted.
    """
    layers = dict(model.named_children())

    def finite(batch: Tensor) -> tuple[Tensor, ...]:
        flags, hidden = [], batch
        for layer in layers.values():
            outputs = layer(hidden)
            flags.append(outputs.isfinite().all(1))
            hidden = F.relu(outputs)
        return tuple(flags)

    of_layers = zip(layers, predict_with(finite, model, images), strict=True)
    return next((name for name, flags in of_layers if not bool(flags.all())), None)


def mean_scores(logits: Tensor, labels: Tensor) -> tuple[float, float]:
    """Return mean cross-entropy and accuracy over all ten logits."""
    # On the CPU: not every accelerator has double precision.
    logits, labels = logits.cpu(), labels.cpu()
    loss = F.cross_entropy(logits.double(), labels).item()
    return loss, (logits.argmax(1) == labels).double().mean().item()


@computing()
def digit_scores(logits: Tensor, labels: Tensor) -> list[dict[str, Any]]:
    """Return count, accuracy and mean cross-entropy of each digit, 0 to 9.

    A digit without images has count 0 and None for both figures. A loss that is not finite is None, and an image whose
    loss is not finite counts as wrong. ``logits`` are n × 10, ``labels`` n.
    """
    losses = F.cross_entropy(logits.double(), labels, reduction="none")
    count = torch.bincount(labels, minlength=10)
    correct = torch.bincount(labels[(logits.argmax(1) == labels) & losses.isfinite()], minlength=10)
    loss = torch.zeros(10, dtype=torch.float64, device=labels.device).index_add_(0, labels, losses)
    return digit_means(count.tolist(), correct.tolist(), loss.tolist())


def scores(logits: Tensor, labels: Tensor, digit_sets: Sequence[DigitSet]) -> dict[str, Any]:
    """Return the scores of a model, in the form of manifests and of the command line's JSON."""
    return scores_of_digits(digit_scores(logits, labels), digit_sets)


def no_scores(labels: Tensor, digit_sets: Sequence[DigitSet]) -> dict[str, Any]:
    """Return the counts of :func:`scores` with None for each figure, for a model without scores."""
    unknown = torch.full((len(labels), 10), float("nan"))
    table = scores(unknown, labels, digit_sets)
    return {kind: [{**row, "accuracy": None, "loss": None} for row in rows] for kind, rows in table.items()}
