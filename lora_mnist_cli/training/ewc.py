"""Elastic weight consolidation (Kirkpatrick et al. 2017, arXiv:1612.00796): a penalty on moving important weights.

After each task k, every weight θ_i is pulled to its present value θ_ki, as strongly as the task's log likelihood
depends on it: by the diagonal F_k of the Fisher information. Later losses add ``λ/2 Σ_k Σ_i F_ki (θ_i − θ_ki)²``
(eq. 3). The penalties add up to one parabola per weight, so two numbers per weight hold any number of tasks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from lora_mnist_cli.data.dataset import MNISTDataset, ShuffledBlocks
from lora_mnist_cli.evaluation.logits import BATCH
from lora_mnist_cli.models.architecture import CLASSES
from lora_mnist_cli.models.mlp import MNISTModel
from lora_mnist_cli.system.progress import Reporter, Silent
from lora_mnist_cli.training.fused_optimizer import FusedOptimizer
from lora_mnist_cli.training.mlp_step import MLPStep

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class EwcPenalty:
    """The penalty of earlier tasks, by the names of a model's parameters.

    Args:
        fisher: ``Σ_k F_k``.
        fisher_times_weight: ``Σ_k F_k θ_k``.
    """

    fisher: Weights
    fisher_times_weight: Weights

    @classmethod
    def zero(cls, model: MNISTModel) -> EwcPenalty:
        """Return the penalty before any task: none."""
        zeros = {name: torch.zeros_like(weight) for name, weight in model.named_parameters()}
        return cls(zeros, dict(zeros))

    def with_task(self, model: MNISTModel, fisher: Weights) -> EwcPenalty:
        """Return the penalty with one more task, which the model has just learned."""
        at = {name: weight.detach() for name, weight in model.named_parameters()}
        return EwcPenalty(
            {name: each + fisher[name] for name, each in self.fisher.items()},
            {name: each + fisher[name] * at[name] for name, each in self.fisher_times_weight.items()},
        )

    def gradient(self, strength: float) -> Callable[[Tensor, Tensor], None]:
        """Return a function that adds the gradient of ``strength/2 Σ_k F_k (θ − θ_k)²``, for :class:`.MLPStep`.

        The function takes all parameters and their gradient, flat and in order, and adds
        ``strength (Σ_k F_k θ − Σ_k F_k θ_k)`` in place.
        """
        fisher, fisher_times_weight = (
            strength * torch.cat([each.reshape(-1) for each in weights.values()])
            for weights in (self.fisher, self.fisher_times_weight)
        )

        def add(parameters: Tensor, gradient: Tensor) -> None:
            gradient.addcmul_(fisher, parameters).sub_(fisher_times_weight)

        return add


@torch.no_grad()
def fisher_diagonal(model: MNISTModel, images: Tensor) -> Weights:
    """Return the mean over images of ``E_y [(∂ log p(y | x) / ∂θ)²]``, with y drawn from the model's own answer.

    For one image, a linear layer's gradient is an outer product, and its square the outer product of the squares. The
    inputs are the same for each y, so one matrix product serves all images and all y.

    Args:
        images: n × 784, normalised.
    """
    layers = list(model.children())
    sums = {name: torch.zeros_like(weight) for name, weight in model.named_parameters()}
    totals = list(sums.values())
    for batch in torch.split(images, BATCH):
        inputs = [batch]
        for layer in layers[:-1]:
            inputs.append(F.relu(layer(inputs[-1])))
        probabilities = layers[-1](inputs[-1]).softmax(1)
        squares = [torch.zeros_like(each) for each in (*inputs[1:], probabilities)]
        for label in range(CLASSES):
            # From the last layer to the first: the gradient of log p(label) by the layer's outputs.
            slope = -probabilities
            slope[:, label] += 1
            for i in reversed(range(len(layers))):
                squares[i].addcmul_(probabilities[:, label, None], slope.square())
                if i:
                    slope = (slope @ layers[i].weight) * (inputs[i] > 0)
        for below, each, weight, bias in zip(inputs, squares, totals[0::2], totals[1::2], strict=True):
            weight.addmm_(each.T, below.square())
            bias.add_(each.sum(0))
    return {name: total / len(images) for name, total in sums.items()}


def learn(
    model: MNISTModel, data: MNISTDataset, rows: Tensor, add_penalty: Callable[[Tensor, Tensor], None], *, epochs: int,
    batch_size: int, lr: float, seed: int, reporter: Reporter | None = None, title: str = "",
) -> None:  # fmt: skip
    """Train all weights of a model by Adam, in place, with the penalty of earlier tasks.

    Args:
        rows: the rows of the data set to learn.
        add_penalty: adds the gradient of the penalty, as :meth:`EwcPenalty.gradient` returns it.
        seed: decides the order of the images.
        title: the training's name for the reporter.
    """
    reporter = reporter or Silent()
    step = MLPStep(model.parameters(), add_penalty)
    optimizer = FusedOptimizer("adam", [{"params": [step.parameter], "lr": lr, "weight_decay": 0.0}])
    blocks = ShuffledBlocks(data, rows, batch_size, seed)
    reporter.begin(title, epochs, blocks.steps)
    try:
        for epoch in range(1, epochs + 1):
            for block in blocks:
                loss = step(data, block, batch_size, optimizer)
                reporter.advance(math.ceil(len(block) / batch_size), epoch, loss)
    finally:
        reporter.end()
