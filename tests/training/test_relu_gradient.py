"""The gradient of a ReLU: the private operator and the public calls give what autograd gives, bit for bit."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from lora_mnist_cli.training import relu_gradient as module
from lora_mnist_cli.training.relu_gradient import operator_works, relu_gradient


def _missing() -> Any:
    raise AttributeError("no such overload")


def _wrong(*_: object, **__: object) -> None:
    """Leave the gradient as it is."""


@pytest.fixture(params=["private", "missing", "wrong"])
def operator(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """PyTorch with the private operator, without it, and with another one of its name."""
    if request.param != "private":
        monkeypatch.setattr(module, "_operator", _missing if request.param == "missing" else lambda: _wrong)
    operator_works.cache_clear()
    yield request.param
    operator_works.cache_clear()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_is_autograds(operator, dtype):
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randn(7, 33, generator=draw, dtype=torch.float64).to(dtype).requires_grad_()
    gradient = torch.randn(7, 33, generator=draw, dtype=torch.float64).to(dtype)
    outputs = inputs.relu()
    (expected,) = torch.autograd.grad(outputs, inputs, gradient)
    for call in relu_gradient(gradient, outputs.detach()):
        call()
    assert torch.equal(gradient, expected)
    assert operator_works("cpu") is (operator == "private")


def test_a_gradient_that_is_not_finite_stops_where_the_output_is_0(operator):
    gradient, outputs = torch.tensor([math.nan, math.inf, math.nan, 1.0]), torch.tensor([0.0, 0.0, 1.0, math.nan])
    for call in relu_gradient(gradient, outputs):
        call()
    assert gradient[:2].tolist() == [0.0, 0.0]
    assert gradient[2].isnan()
    assert gradient[3] == 1.0
