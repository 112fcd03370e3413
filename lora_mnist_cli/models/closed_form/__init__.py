"""Classifiers in closed form, one file per classifier: baselines that learn task after task from sums over images.

A task adds its images to the sums of earlier tasks, and the answer is solved for from the sums. Therefore neither the
order of the tasks nor their number makes a difference, except for rounding, and no image is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lora_mnist_cli.models.architecture import CLASSES, FEATURES, PIXELS
from lora_mnist_cli.models.features import features
from lora_mnist_cli.settings.choices import implementation

Kept = Mapping[str, Tensor]
"""``counts`` (10), ``sums`` of points by digit (10 × D) and, where it has them, ``products``: the upper triangle of
``Σ x xᵀ``, row after row. All are float32."""

_BATCH = 2048
_BLOCK = 1250
"""Columns of the products at a time: what lies below the diagonal is left out, which is nearly half the work."""
_UNSEEN = 100.0
"""By how much the logit of a digit that was never seen is below all others."""


class ClosedForm:
    """A classifier that is linear in the points of images, which are by default its inputs.

    Args:
        of_features: whether its inputs are the fixed features that densities are over, and not pixels.
        width: D, the number of a point's coordinates; by default that of the inputs.
        products: whether it keeps their products.
    """

    def __init__(self, *, of_features: bool = False, width: int | None = None, products: bool = True) -> None:
        self.of_features, self.inputs = of_features, FEATURES if of_features else PIXELS
        self.width, self.products = width or self.inputs, products

    def points(self, inputs: Tensor) -> Tensor:
        """Return the points (n × D) of inputs."""
        return inputs

    def solve(self, kept: Kept) -> tuple[Tensor, Tensor]:
        """Return weights (D × 10) and biases (10) of the logits, from what is kept: all float64, ``products`` D × D.

        A digit that was never seen has the count and the sum 0, and may get any logit.
        """
        raise NotImplementedError

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor that is kept."""
        triangle = {"products": (self.width * (self.width + 1) // 2,)} if self.products else {}
        return {"counts": (CLASSES,), "sums": (CLASSES, self.width), **triangle}

    def with_task(self, kept: Kept, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return what is kept with the images of one more task.

        Args:
            kept: of earlier tasks; empty before the first.
            images: n × 784, normalised; labels: n, int64.
        """
        added = {name: torch.zeros(shape) for name, shape in self.shapes.items()}
        square = torch.zeros(self.width, self.width if self.products else 0)
        for batch, digits in zip(torch.split(images, _BATCH), torch.split(labels, _BATCH), strict=True):
            points, targets = self._points_of(batch), F.one_hot(digits, CLASSES).float()
            added["counts"] += targets.sum(0)
            added["sums"].addmm_(targets.T, points)
            for start in range(0, square.shape[1], _BLOCK):
                end = start + _BLOCK
                square[:end, start:end].addmm_(points[:, :end].T, points[:, start:end])
        if self.products:
            added["products"] = torch.cat([square[row, row:] for row in range(self.width)])
        return {name: tensor + kept[name] if kept else tensor for name, tensor in added.items()}

    def answer(self, kept: Kept, images: Tensor) -> Tensor:
        """Return logits (n × 10) of images (n × 784)."""
        products = {"products": self._whole(kept["products"])} if self.products else {}
        weights, biases = self.solve({name: tensor.double() for name, tensor in kept.items()} | products)
        counts = kept["counts"]
        batches = [self._points_of(batch) @ weights.float() + biases.float() for batch in torch.split(images, _BATCH)]
        logits = torch.cat(batches)
        lowest = logits[:, counts > 0].amin(1, keepdim=True)
        return torch.where(counts > 0, logits, lowest - _UNSEEN)

    def _points_of(self, images: Tensor) -> Tensor:
        return self.points(features(images) if self.of_features else images)

    def _whole(self, triangle: Tensor) -> Tensor:
        whole = torch.zeros(self.width, self.width, dtype=torch.float64)
        for row, part in enumerate(torch.split(triangle, list(range(self.width, 0, -1)))):
            whole[row, row:] = whole[row:, row] = part.double()
        return whole


def means_of(kept: Kept) -> Tensor:
    """Return the mean point of each digit (10 × D); 0 where there is no image."""
    return kept["sums"] / kept["counts"].clamp(min=1)[:, None]


def closed_form_named(name: str, **settings: Any) -> ClosedForm:
    """Return the classifier of a module of this package."""
    made: ClosedForm = implementation(__name__, name)(**settings)
    return made
