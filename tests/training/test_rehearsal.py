"""Rehearsal: what the loss of an image and of a sample sees, and what noise is added."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lora_mnist_cli.data.dataset import MNISTDataset
from lora_mnist_cli.models.mlp import MNISTModel
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.training.mlp_step import MLPStep
from lora_mnist_cli.training.rehearsal import rehearse

SETTINGS: dict[str, Any] = {"epochs": 1, "batch_size": 8, "lr": 1e-2, "noise": 0.0, "seed": 3}


def rows(n: int, digits: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(n)
    return torch.randn(n, 784, generator=generator), torch.tensor(digits).repeat(n)[:n]


def rehearsed(**settings: Any) -> MNISTModel:
    torch.manual_seed(0)
    model = MNISTModel((8, 8))
    data = {"images": rows(16, (2, 3)), "samples": rows(24, (0, 1, 2, 3)), "digits": DigitSet.parse("2-3")}
    rehearse(model, **(data | SETTINGS | settings))
    return model


def last_layer(model: MNISTModel) -> torch.Tensor:
    return model.fc3.bias.detach()


def test_a_step_hides_classes_from_some_rows_as_autograd_does():
    torch.manual_seed(1)
    model = MNISTModel((5,)).double()
    images, labels = rows(8, (2, 3))
    hidden = torch.zeros(8, 10, dtype=torch.float64)
    hidden[4:, :2] = -torch.inf
    expected = torch.nn.functional.cross_entropy(model(images.double()) + hidden, labels)
    gradient = torch.cat([each.reshape(-1) for each in torch.autograd.grad(expected, list(model.parameters()))])
    step = MLPStep(model.parameters(), hidden=hidden)
    step(MNISTDataset(images.double(), labels), torch.arange(8), 8, lambda: None)
    torch.testing.assert_close(step.parameter.grad, gradient)


def test_images_push_no_other_digit_down_and_samples_do():
    before = last_layer(rehearsed(epochs=0))
    none = (torch.zeros(0, 784), torch.zeros(0, dtype=torch.int64))
    only_images = last_layer(rehearsed(samples=none)) - before
    assert only_images[[0, 1, 4, 5, 6, 7, 8, 9]].abs().max() == 0
    assert only_images[[2, 3]].abs().min() > 0
    only_samples = last_layer(rehearsed(images=none)) - before
    assert (only_samples[4:] < 0).all()


def test_noise_is_in_the_training_alone_and_follows_the_seed():
    noisy = {"noise": 1.0}
    images = rows(16, (2, 3))
    kept = images[0].clone()
    first = rehearsed(images=images, **noisy)
    assert torch.equal(images[0], kept)
    assert torch.equal(first.fc1.weight, rehearsed(**noisy).fc1.weight)
    assert not torch.equal(first.fc1.weight, rehearsed().fc1.weight)


def test_the_rate_falls_to_nothing(monkeypatch):
    from lora_mnist_cli.training import rehearsal

    rates: list[float] = []

    class Watched(rehearsal.FusedOptimizer):
        def __call__(self) -> None:
            rates.append(self.param_groups[0]["lr"])
            super().__call__()

    monkeypatch.setattr(rehearsal, "FusedOptimizer", Watched)
    rehearsed(epochs=40)
    assert max(rates) == pytest.approx(1e-2, rel=0.01)
    assert rates[-1] < 1e-4
