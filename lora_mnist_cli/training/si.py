"""Synaptic intelligence: the importance of a weight is what its way through training took off the loss.

Zenke, Poole and Ganguli 2017, "Continual learning through synaptic intelligence", arXiv:1703.04200. Along the training
of a task ``ω_i = −Σ g_i Δθ_i`` adds up, with the gradient g of the task's own loss and the moves Δθ of the optimiser
(eq. 3). After it, ``Ω_i += ω_i / (Δ_i² + ξ)`` with the whole move Δ of the task (eq. 5), and later losses add
``c Σ_i Ω_i (θ_i − θ̃_i)²`` with the weights θ̃ at the end of the last task (eq. 4).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lora_mnist_cli.models.mlp import MNISTModel
from lora_mnist_cli.training.ewc import EwcPenalty, Weights

DAMPING = 0.1
"""ξ, for weights that hardly move; the paper's for MNIST, as in van de Ven and Tolias 2019."""


class PathIntegral:
    """The penalty of earlier tasks for :class:`.MLPStep`, which adds up ω on the way.

    Args:
        model: as it is before the task.
        add_penalty: adds the gradient of the penalty, as :meth:`.EwcPenalty.gradient` returns it.
    """

    def __init__(self, model: MNISTModel, add_penalty: Callable[[Tensor, Tensor], None]) -> None:
        self._start = _flat(model)
        self._last, self._gradient = self._start.clone(), torch.zeros_like(self._start)
        self._gained = torch.zeros_like(self._start)
        self._add_penalty = add_penalty

    def __call__(self, parameters: Tensor, gradient: Tensor) -> None:
        """Add the last step's share to ω, remember this step's gradient, and add the penalty to it."""
        self._add_step(parameters)
        self._gradient.copy_(gradient)
        self._add_penalty(parameters, gradient)

    def importance(self, model: MNISTModel) -> Weights:
        """Return ``ω / (Δ² + ξ)`` of each weight after the task, where it is positive."""
        end = _flat(model)
        self._add_step(end)
        whole = (self._gained / ((end - self._start).square() + DAMPING)).clamp(min=0)
        parameters = dict(model.named_parameters())
        parts = torch.split(whole, [weight.numel() for weight in parameters.values()])
        return {name: part.view_as(weight) for (name, weight), part in zip(parameters.items(), parts, strict=True)}

    def _add_step(self, parameters: Tensor) -> None:
        self._gained.addcmul_(self._gradient, self._last.sub_(parameters))
        self._last.copy_(parameters)


def held_here(penalty: EwcPenalty, model: MNISTModel, importance: Weights) -> EwcPenalty:
    """Return the penalty with one more task's importance, all of it around the present weights."""
    total = {name: each + importance[name] for name, each in penalty.fisher.items()}
    at = {name: weight.detach() for name, weight in model.named_parameters()}
    return EwcPenalty(total, {name: each * at[name] for name, each in total.items()})


def _flat(model: MNISTModel) -> Tensor:
    return torch.cat([weight.detach().reshape(-1) for weight in model.parameters()])
