"""Synaptic intelligence against its sums written out, and what its penalty does."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lora_mnist_cli.data.dataset import MNISTDataset
from lora_mnist_cli.models.mlp import MNISTModel
from lora_mnist_cli.training.ewc import EwcPenalty
from lora_mnist_cli.training.mlp_step import MLPStep
from lora_mnist_cli.training.si import DAMPING, PathIntegral, held_here

STRENGTH, RATE = 2.0, 0.3


@pytest.fixture
def model() -> MNISTModel:
    torch.manual_seed(0)
    return MNISTModel((5, 4))


@pytest.fixture
def data() -> MNISTDataset:
    return MNISTDataset(torch.randn(12, 784, generator=torch.Generator().manual_seed(1)), torch.arange(12) % 10)


def flat(model: MNISTModel) -> Tensor:
    return torch.cat([weight.detach().reshape(-1) for weight in model.parameters()])


def flat_importance(model: MNISTModel, way: PathIntegral) -> Tensor:
    return torch.cat([each.reshape(-1) for each in way.importance(model).values()])


def test_importance_is_the_way_times_the_gradient_of_the_tasks_own_loss(model, data):
    start, hand = flat(model), copy.deepcopy(model)
    everywhere = {name: torch.ones_like(weight) for name, weight in model.named_parameters()}
    elsewhere = {name: torch.full_like(weight, 0.1) for name, weight in model.named_parameters()}
    penalty = EwcPenalty(everywhere, elsewhere)
    way = PathIntegral(model, penalty.gradient(STRENGTH))
    step = MLPStep(model.parameters(), way)
    optimizer = torch.optim.SGD([step.parameter], lr=RATE / 10)
    gained = torch.zeros_like(start)
    for rows in torch.arange(12).split(4):
        step(data, rows, 4, optimizer.step)
        own = torch.autograd.grad(F.cross_entropy(hand(data.images[rows]), data.labels[rows]), list(hand.parameters()))
        own_flat, before = torch.cat([each.reshape(-1) for each in own]), flat(hand)
        after = before - RATE / 10 * (own_flat + STRENGTH * (before - 0.1))
        gained -= own_flat * (after - before)
        torch.nn.utils.vector_to_parameters(after, hand.parameters())
    torch.testing.assert_close(flat(model), flat(hand), rtol=1e-4, atol=1e-5)
    expected = (gained / ((flat(hand) - start).square() + DAMPING)).clamp(min=0)
    found = flat_importance(model, way)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)
    assert (found > 0).any()


def test_importances_add_up_and_all_hold_the_last_weights(model):
    importance = {name: torch.rand_like(weight) for name, weight in model.named_parameters()}
    once = held_here(EwcPenalty.zero(model), model, importance)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(1.0)
    twice = held_here(once, model, importance)
    for name, weight in model.named_parameters():
        torch.testing.assert_close(twice.fisher[name], 2 * importance[name])
        # No force where the last task ended, wherever the first one did.
        torch.testing.assert_close(twice.fisher[name] * weight.detach(), twice.fisher_times_weight[name])
