"""Adapters that old inputs hardly reach: every A is kept orthogonal to the directions of a layer's old inputs.

With ``A U = 0``, where the columns of U span the dominant directions of a layer's old inputs, ``B A x`` is next to
zero for these, whatever B learns. Zeng et al. 2019 (OWM, arXiv:1810.01256) project gradients so by the inverse of the
inputs' correlation, Wang et al. 2021 (Adam-NSCL, arXiv:2103.07113) by the null space of their covariance, Saha et al.
2021 (GPM, arXiv:2103.09762, §4) by the singular vectors that make up a share of the inputs' energy, which is the rule
here. Liang and Li 2024 (InfLoRA, arXiv:2404.00228) choose a LoRA's A in such a space and leave it as it is; here A is
trained in it.

Old inputs are samples of the base's class statistics, and their activations in the base's layers.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from lora_mnist_cli.data.streams import generator
from lora_mnist_cli.training.objective import Objective, ProtectionContext
from lora_mnist_cli.training.protections import Protection

SAMPLES = 4096
"""How many samples of old digits the directions are computed from."""


class NullSpace(Protection):
    """Names directions that adapters avoid."""

    def apply(self, objective: Objective, context: ProtectionContext) -> Objective:
        """Add the directions that each layer's A is kept orthogonal to."""
        images, _ = context.old_samples(SAMPLES, generator(1, "replay"))
        inputs = context.layer_inputs(images)
        avoided = tuple(dominant(each, context.config.nullspace_energy) for each in inputs)
        return dataclasses.replace(objective, avoided=avoided)


def dominant(inputs: Tensor, energy: float) -> Tensor:
    """Return orthonormal columns (in × d) that span a share of the inputs' energy, the sum of their squares.

    Args:
        inputs: n × in.
    """
    moments = inputs.double().mT @ inputs.double()
    values, vectors = torch.linalg.eigh(moments)
    values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
    shares = values.cumsum(0) / values.sum()
    # The last direction reaches the share. It never takes all directions, or nothing could be learned.
    count = min(int((shares < energy).sum()) + 1, len(values) - 1)
    directions: Tensor = vectors[:, :count]
    return directions.to(inputs)


IMPLEMENTATION = NullSpace()
