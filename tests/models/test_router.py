"""Which expert an image is for, on statistics and experts made by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from lora_mnist_cli.models.blur import sharpen
from lora_mnist_cli.models.densities import ClassStatistics
from lora_mnist_cli.models.router import TEMPERATURE, RoutedModel


class Says(nn.Module):
    """An expert that is sure of one digit, whatever it sees."""

    def __init__(self, digit: int) -> None:
        super().__init__()
        self.logits = torch.full((10,), -3.0)
        self.logits[digit] = 3.0

    def forward(self, images: Tensor) -> Tensor:
        return self.logits.expand(len(images), 10)


def cloud(digit: int, at: float, count: int = 100) -> ClassStatistics:
    """One digit as a round Gaussian of standard deviation 1 about a place on the first axis."""
    basis = torch.eye(784)[:, :1]
    return ClassStatistics(
        digits=torch.tensor([digit]), counts=torch.tensor([count]), components=torch.tensor([1]),
        mean=torch.zeros(784), basis=basis, weights=torch.ones(1), centres=torch.tensor([[at]]).half(),
        directions=torch.zeros(1, 1, 1).half(), noise=torch.ones(1),
    )  # fmt: skip


def at(*places: float) -> Tensor:
    """Images at these places on the first axis, after blurring."""
    blurred = torch.zeros(len(places), 784, dtype=torch.float64)
    blurred[:, 0] = torch.tensor(places)
    return sharpen(blurred).float()


def test_the_posterior_is_bayes_rule_at_its_temperature():
    model = RoutedModel([Says(3), Says(7)], [cloud(3, 0.0, 100), cloud(7, 10.0, 300)])
    found = model.log_posterior(at(0.0, 5.0, 10.0))
    odds = [math.log(3) + (10 * x - 50) for x in (0.0, 5.0, 10.0)]
    assert (found[:, 1] - found[:, 0]).tolist() == pytest.approx([each / TEMPERATURE for each in odds], abs=1e-3)
    assert found.exp().sum(1).tolist() == pytest.approx([1, 1, 1])


def test_the_likeliest_alone_answers_or_all_by_their_weight():
    experts, statistics = [Says(3), Says(7)], [cloud(3, 0.0), cloud(7, 40.0)]
    images = at(0.0, 40.0)
    chosen = RoutedModel(experts, statistics, "choose")(images)
    each = torch.stack([expert(images)[0].log_softmax(0) for expert in experts])
    assert torch.equal(chosen, each)
    mixed = RoutedModel(experts, statistics, "mixture")(images).exp()
    weight = 1 / (1 + math.exp(-800 / TEMPERATURE))
    assert torch.allclose(mixed[0], weight * each[0].exp() + (1 - weight) * each[1].exp(), atol=1e-4)
    assert mixed.sum(1).tolist() == pytest.approx([1, 1])


def test_experts_for_the_same_digits_do_not_outvote_the_others():
    experts = [Says(3), Says(7), Says(7)]
    model = RoutedModel(experts, [cloud(3, 0.0), cloud(7, 10.0), cloud(7, 10.0)])
    two = RoutedModel(experts[:2], [cloud(3, 0.0), cloud(7, 10.0)])
    images = at(0.0, 4.0, 10.0)
    assert torch.allclose(model(images), two(images), atol=1e-5)
    _, posterior = model.answers(images)
    assert model.likeliest(posterior).tolist() == [0, 0, 1]
