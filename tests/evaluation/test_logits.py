"""Scores against NumPy."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lora_mnist_cli.evaluation import logits
from lora_mnist_cli.evaluation.logits import digit_scores, mean_scores, predict, scores
from lora_mnist_cli.evaluation.scores import subset_scores
from lora_mnist_cli.settings.digits import ALL_DIGITS, DigitSet


@pytest.fixture
def some() -> tuple[Tensor, Tensor]:
    """400 logits of which many are right, and their labels; no 7 among them."""
    generator = np.random.default_rng(0)
    labels = generator.choice([0, 1, 2, 3, 4, 5, 6, 8, 9], 400)
    logits = generator.normal(size=(400, 10)) * 3
    logits[np.arange(400), labels] += 3
    return torch.tensor(logits, dtype=torch.float32), torch.tensor(labels)


def reference(logits: Tensor, labels: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Cross-entropy and correctness of each image."""
    x, y = logits.double().numpy(), labels.numpy()
    top = x.max(1)
    losses = np.log(np.exp(x - top[:, None]).sum(1)) + top - x[np.arange(len(y)), y]
    return losses, np.array([int(np.argmax(row)) for row in x]) == y


def test_each_digit(some):
    losses, right = reference(*some)
    rows = digit_scores(*some)
    assert [row["digit"] for row in rows] == list(range(10))
    for row in rows:
        mine = some[1].numpy() == row["digit"]
        assert row["count"] == mine.sum()
        if row["digit"] == 7:
            assert row == {"digit": 7, "count": 0, "accuracy": None, "loss": None}
        else:
            assert row["accuracy"] == right[mine].mean()
            assert row["loss"] == pytest.approx(losses[mine].mean(), rel=1e-12)
            assert 0 < row["accuracy"] < 1


def test_subsets_are_means_over_images_and_not_over_digits(some):
    losses, right = reference(*some)
    sets = [DigitSet.parse(text) for text in ("0-4", "5-9", "all", "7-8", "7", "3")]
    rows = subset_scores(digit_scores(*some), sets)
    assert [row["digits"] for row in rows] == ["0-4", "5-9", "0-9", "7-8", "7", "3"]
    for row, digits in zip(rows, sets, strict=True):
        mine = np.isin(some[1].numpy(), digits.members)
        assert row["count"] == mine.sum()
        if row["digits"] == "7":
            assert (row["accuracy"], row["loss"]) == (None, None)
        else:
            assert row["accuracy"] == right[mine].mean()
            assert row["loss"] == pytest.approx(losses[mine].mean(), rel=1e-12)
    assert rows[0]["count"] + rows[1]["count"] == rows[2]["count"] == 400


def test_means_over_everything(some):
    losses, right = reference(*some)
    loss, accuracy = mean_scores(*some)
    assert loss == pytest.approx(losses.mean(), rel=1e-12)
    assert accuracy == right.mean()


def test_scores_hold_both_and_are_json(some):
    result = scores(*some, [ALL_DIGITS])
    assert result == {"subsets": subset_scores(digit_scores(*some), [ALL_DIGITS]), "per_digit": digit_scores(*some)}
    assert json.loads(json.dumps(result, allow_nan=False)) == result


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_is_none(some, bad):
    logits, labels = some
    labels[0] = 3
    logits[0, 3] = bad
    result = scores(logits, labels, [DigitSet.parse("3"), DigitSet.parse("0-4"), DigitSet.parse("5-9")])
    assert [row["loss"] is None for row in result["subsets"]] == [True, True, False]
    assert [row["digit"] for row in result["per_digit"] if row["loss"] is None] == [3, 7]
    assert all(row["accuracy"] is not None for row in result["subsets"])
    json.dumps(result, allow_nan=False)


def test_large_logits_do_not_overflow():
    logits = torch.zeros(2, 10)
    logits[:, 4] = 1e30
    rows = digit_scores(logits, torch.tensor([4, 5]))
    assert rows[4] == {"digit": 4, "count": 1, "accuracy": 1.0, "loss": 0.0}
    assert rows[5]["loss"] == pytest.approx(1e30, rel=1e-6)


class Spy(nn.Module):
    """Doubles its input, and writes down how it is called."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[int, bool, bool]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.calls.append((len(x), self.training, torch.is_grad_enabled()))
        return 2 * x[:, :10]


@pytest.mark.parametrize("training", [True, False])
def test_predict_goes_in_batches_in_evaluation_mode_without_gradients(monkeypatch, training):
    monkeypatch.setattr(logits, "BATCH", 4)
    model: Any = Spy().train(training)
    images = torch.arange(10 * 784.0).reshape(10, 784)
    assert torch.equal(predict(model, images), 2 * images[:, :10])
    assert model.calls == [(4, False, False), (4, False, False), (2, False, False)]
    assert model.training is training
