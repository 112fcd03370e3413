"""The fused kernel called directly, and a PyTorch where it is missing, refuses or computes something else."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

from lora_mnist_cli.data.dataset import MNISTDataset
from lora_mnist_cli.models import adapted_linear
from lora_mnist_cli.models.mlp import MNISTModel
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.config import BaseConfig
from lora_mnist_cli.training import fused_adam
from lora_mnist_cli.training.bank.trainer import fit_bank
from lora_mnist_cli.training.fused_adam import FusedAdamStep, kernel_works
from lora_mnist_cli.training.trainer import fit

pytestmark = pytest.mark.usefixtures("one_thread")


def _refuse(*_: object, **__: object) -> None:
    raise TypeError("unexpected keyword argument")


def _do_nothing(*_: object, **__: object) -> None:
    """A kernel of the same name that does something else."""


@pytest.fixture(params=["missing", "refuses", "wrong", "no decay"])
def other_torch(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A PyTorch whose optimisers work, and whose private names don't mean what they mean now."""
    names = dict.fromkeys((False, True), "_no_such_kernel_")
    if request.param in ("refuses", "wrong"):
        kernel = _refuse if request.param == "refuses" else _do_nothing
        monkeypatch.setattr(torch, "_no_such_kernel_", kernel, raising=False)
    if request.param == "no decay":  # as before 2.7, where parameter groups had no such key
        names = {}
    monkeypatch.setattr(fused_adam, "KERNELS", names)
    kernel_works.cache_clear()
    yield
    kernel_works.cache_clear()


def base(data: MNISTDataset, optimizer: str) -> list[nn.Module]:
    model = start()
    fit(model, data, BaseConfig(epochs=2, batch_size=16, lr=0.01, optimizer=optimizer))
    return [model]


def bank(data: MNISTDataset, optimizer: str) -> list[nn.Module]:
    """Two ranks with other rates, one of which falls."""
    return adapters(data, [
        AdapterConfig(rank=rank, epochs=2, batch_size=16, lr=lr, schedule=schedule, optimizer=optimizer)
        for rank, lr, schedule in ((2, 0.01, "constant"), (3, 0.02, "cosine"))
    ])  # fmt: skip


def dora(data: MNISTDataset, optimizer: str) -> list[nn.Module]:
    return adapters(data, [AdapterConfig(method="dora", rank=2, epochs=2, batch_size=16, optimizer=optimizer)])


def start() -> MNISTModel:
    torch.manual_seed(0)
    return MNISTModel((16, 12))


def adapters(data: MNISTDataset, configs: list[AdapterConfig]) -> list[nn.Module]:
    models: list[nn.Module] = []
    for config in configs:
        plain = start()
        models.append(adapted_linear.attach(plain, config))
    assert [outcome.failed for outcome in fit_bank(models, data, configs)] == [None] * len(configs)
    return models


def images() -> MNISTDataset:
    draw = torch.Generator().manual_seed(1)
    return MNISTDataset(torch.randn(160, 784, generator=draw), torch.randint(10, (160,), generator=draw))


Train = Callable[[MNISTDataset, str], list[nn.Module]]
TRAININGS: list[Train] = [base, bank, dora]


@pytest.fixture(scope="module")
def expected() -> dict[tuple[Train, str], list[dict[str, Any]]]:
    """The weights with the private calls, which this PyTorch has."""
    kernel_works.cache_clear()
    assert kernel_works("cpu")
    return {
        (train, optimizer): [copy.deepcopy(model.state_dict()) for model in train(images(), optimizer)]
        for train in TRAININGS
        for optimizer in ("adam", "adamw", "sgd")
    }


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("train", TRAININGS)
def test_another_pytorch_trains_the_same_bytes(train, optimizer, expected, other_torch):
    assert not kernel_works("cpu")
    for model, weights in zip(train(images(), optimizer), expected[train, optimizer], strict=True):
        assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def test_without_the_kernel_each_step_is_the_optimisers(other_torch):
    parameter = nn.Parameter(torch.ones(3))
    parameter.grad = torch.ones(3)
    optimizer = torch.optim.AdamW([parameter], fused=True)
    calls: list[int] = []
    optimizer.register_step_post_hook(lambda *_: calls.append(1))
    step = FusedAdamStep(optimizer)
    assert not step.recordable
    for _ in range(3):
        step()
    assert len(calls) == 3


def test_the_question_is_asked_once(monkeypatch):
    asked: list[object] = []
    monkeypatch.setattr(fused_adam, "_agrees", lambda *arguments: asked.append(arguments) or True)
    kernel_works.cache_clear()
    for _ in range(3):
        parameter = nn.Parameter(torch.ones(3))
        FusedAdamStep(torch.optim.Adam([parameter], fused=True))
    kernel_works.cache_clear()
    assert asked == [(torch.optim.Adam, "cpu"), (torch.optim.AdamW, "cpu")]


def test_a_rate_that_is_a_tensor_passes_the_question(monkeypatch):
    """As on a GPU, where the kernel rounds it to single precision."""
    monkeypatch.setattr(fused_adam, "takes_rate_tensor", lambda parameter: parameter.dtype == torch.float32)
    assert kernel_works.__wrapped__("cpu")


def test_the_kernel_alone_makes_the_optimisers_numbers():
    """Though the rate changes between the steps. Hooks of the optimiser see that its step is not called."""
    results = []
    for direct in (False, True):
        parameter = nn.Parameter(torch.linspace(-1, 1, 7))
        optimizer = torch.optim.AdamW([parameter], lr=0.1, weight_decay=0.3, fused=True)
        called: list[int] = []
        optimizer.register_step_post_hook(lambda *_, called=called: called.append(1))
        step = FusedAdamStep(optimizer) if direct else optimizer.step
        parameter.grad = torch.zeros(7)
        with torch.no_grad():
            for number in range(4):
                parameter.grad.copy_(parameter.square() - 0.5)
                optimizer.param_groups[0]["lr"] = 0.1 / (1 + number)
                step()
        results.append(parameter.detach())
        assert len(called) == (0 if direct else 4)
    assert torch.equal(*results)
