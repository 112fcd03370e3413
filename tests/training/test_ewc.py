"""Elastic weight consolidation against autograd, and what its penalty does."""

from __future__ import annotations

import copy

import pytest
import torch

from lora_mnist_cli.data.dataset import MNISTDataset
from lora_mnist_cli.models.mlp import MNISTModel
from lora_mnist_cli.training.ewc import EwcPenalty, fisher_diagonal, learn
from lora_mnist_cli.training.mlp_step import MLPStep


@pytest.fixture
def model() -> MNISTModel:
    torch.manual_seed(0)
    return MNISTModel((5, 4))


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(7, 784, generator=torch.Generator().manual_seed(1))


def test_the_fisher_diagonal_is_the_expected_square_of_the_gradient(model, images):
    expected = {name: torch.zeros_like(weight) for name, weight in model.named_parameters()}
    for image in images:
        for label in range(10):
            logs = model(image[None]).log_softmax(1)[0]
            gradients = torch.autograd.grad(logs[label], list(model.parameters()))
            for (name, total), gradient in zip(expected.items(), gradients, strict=True):
                expected[name] = total + logs[label].exp().detach() * gradient.square() / len(images)
    found = fisher_diagonal(model, images)
    assert list(found) == list(expected)
    for name, each in expected.items():
        torch.testing.assert_close(found[name], each)


def test_two_tasks_penalties_add_up(model, images):
    penalty, ties = EwcPenalty.zero(model), []
    for task in range(2):
        fisher = fisher_diagonal(model, images[3 * task : 3 * task + 3])
        penalty = penalty.with_task(model, fisher)
        ties.append((fisher, {name: weight.detach().clone() for name, weight in model.named_parameters()}))
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(torch.randn_like(weight), alpha=0.1)
    total = sum(
        (fisher[name] * (weight - at[name]).square()).sum() / 2
        for fisher, at in ties
        for name, weight in model.named_parameters()
    )
    expected = torch.autograd.grad(3.0 * total, list(model.parameters()))  # type: ignore[arg-type]
    data, rows = MNISTDataset(images, torch.zeros(7, dtype=torch.long)), torch.arange(7)
    gradients = []
    for strength in (0.0, 3.0):
        step = MLPStep(copy.deepcopy(model).parameters(), penalty.gradient(strength))
        step(data, rows, 7, torch.optim.SGD([step.parameter], lr=0.0).step)
        assert step.parameter.grad is not None
        gradients.append(step.parameter.grad)
    added = torch.cat([each.reshape(-1) for each in expected])
    torch.testing.assert_close(gradients[1] - gradients[0], added, rtol=1e-4, atol=1e-6)


def test_a_strong_penalty_holds_the_weights_and_none_lets_go(images):
    def moved(strength: float) -> float:
        torch.manual_seed(0)
        model = MNISTModel((5, 4))
        start = {name: weight.detach().clone() for name, weight in model.named_parameters()}
        everywhere = {name: torch.ones_like(each) for name, each in start.items()}
        data = MNISTDataset(images, torch.arange(7))
        penalty = EwcPenalty(everywhere, start).gradient(strength)
        learn(model, data, torch.arange(7), penalty, epochs=60, batch_size=4, lr=1e-3, seed=0)
        return max(float((weight.detach() - start[name]).abs().max()) for name, weight in model.named_parameters())

    assert moved(1e3) < 5e-3
    assert moved(0.0) > 0.02
