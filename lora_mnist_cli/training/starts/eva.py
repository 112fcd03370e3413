"""EVA (Paischer et al. 2024, arXiv:2410.07170): A starts from the principal directions of a layer's new inputs.

The rows of A are the first right singular vectors of the inputs, their mean taken off: the directions that explain
most of the inputs' variance. B is zero. Inputs are those of training images of the digits to learn, in the base's
layers. The paper also moves ranks to the layers whose directions explain more; here ``--rank fc1=8,fc2=4`` sets them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lora_mnist_cli.training.objective import ProtectionContext
from lora_mnist_cli.training.starts import SAMPLES, Start


class EVA(Start):
    """See the module."""

    of_new_images = True

    def measure(self, context: ProtectionContext) -> Sequence[Any]:
        """Each layer's principal directions (in × in), as columns, the first one first."""
        images, _ = context.training_images(SAMPLES)
        return [principal_directions(inputs) for inputs in context.layer_inputs(images)]

    def factors(self, weight: Tensor, measured: Any, rank: int, strength: float) -> tuple[Tensor, Tensor]:
        """The first directions, and zeros."""
        A = measured[:, :rank].mT
        return A, weight.new_zeros(len(weight), len(A))


def principal_directions(inputs: Tensor) -> Tensor:
    """Return the right singular vectors (in × in, float64) of inputs (n × in) without their mean, as columns."""
    centred = inputs.double() - inputs.double().mean(0)
    _, vectors = torch.linalg.eigh(centred.mT @ centred)
    directions: Tensor = vectors.flip(1)
    return directions


IMPLEMENTATION = EVA()
