"""Fused kernels called directly, and a PyTorch where they are missing, refuse or compute something else."""

from __future__ import annotations

import copy
import subprocess
import sys
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
from lora_mnist_cli.training import fused_optimizer
from lora_mnist_cli.training.bank.trainer import fit_bank
from lora_mnist_cli.training.fused_optimizer import DECAYS, KERNELS, FusedOptimizer, kernel_works
from lora_mnist_cli.training.trainer import fit

pytestmark = pytest.mark.usefixtures("one_thread")


def _refuse(*_: object, **__: object) -> None:
    raise TypeError("unexpected keyword argument")


def _do_nothing(*_: object, **__: object) -> None:
    """A kernel of the same name that does something else."""


@pytest.fixture(params=["missing", "refuses", "wrong"])
def other_torch(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A PyTorch whose optimisers work, and whose private names don't mean what they mean now."""
    if request.param != "missing":
        kernel = _refuse if request.param == "refuses" else _do_nothing
        monkeypatch.setattr(torch, "_no_such_kernel_", kernel, raising=False)
    monkeypatch.setattr(fused_optimizer, "KERNELS", dict.fromkeys(KERNELS, "_no_such_kernel_"))
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
    assert all(kernel_works(kind, "cpu") for kind in KERNELS)
    return {
        (train, optimizer): [copy.deepcopy(model.state_dict()) for model in train(images(), optimizer)]
        for train in TRAININGS
        for optimizer in ("adam", "adamw", "sgd")
    }


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("train", TRAININGS)
def test_another_pytorch_trains_the_same_bytes(train, optimizer, expected, other_torch):
    assert not kernel_works(optimizer, "cpu")
    for model, weights in zip(train(images(), optimizer), expected[train, optimizer], strict=True):
        assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def test_without_the_kernel_pytorchs_optimiser_takes_the_steps(other_torch, monkeypatch):
    calls: list[torch.optim.Optimizer] = []
    step = torch.optim.AdamW.step
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self: (calls.append(self), step(self))[1])
    ours = optimizer_of("adamw", ones(3))
    assert not ours.recordable
    for _ in range(3):
        ours()
    assert len(calls) == 3


def test_the_question_is_asked_once(monkeypatch):
    asked: list[object] = []
    monkeypatch.setattr(fused_optimizer, "_agrees", lambda *arguments: asked.append(arguments) or True)
    kernel_works.cache_clear()
    for kind in ("adam", "sgd", "adam", "sgd"):
        optimizer_of(kind, ones(3))
    kernel_works.cache_clear()
    assert asked == [("adam", "cpu"), ("sgd", "cpu")]


def test_a_kernel_without_the_decay_of_its_name_is_found_out(monkeypatch):
    monkeypatch.setattr(fused_optimizer, "KERNELS", KERNELS | {"adam": KERNELS["adamw"], "adamw": KERNELS["adam"]})
    assert not kernel_works.__wrapped__("adam", "cpu")
    assert not kernel_works.__wrapped__("adamw", "cpu")


@pytest.mark.parametrize("kind", ["adam", "adamw"])
def test_a_rate_that_is_a_tensor_passes_the_question(kind, monkeypatch):
    """As on a GPU, where the kernel rounds it to single precision."""
    monkeypatch.setattr(fused_optimizer, "takes_rate_tensor", lambda parameter: parameter.dtype == torch.float32)
    assert kernel_works.__wrapped__(kind, "cpu")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", list(KERNELS))
def test_the_numbers_are_pytorchs_though_rates_change_and_gradients_are_new_tensors(kind, dtype):
    classes: dict[str, Any] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
    results = []
    for ours in (True, False):
        first, second = (nn.Parameter(torch.linspace(-1, 1, size, dtype=dtype)) for size in (7, 70))
        groups = [
            {"params": [first], "lr": 0.1, "weight_decay": 0.3},
            {"params": [second], "lr": 1.0, "weight_decay": 0.0},
        ]
        optimizer: Any = FusedOptimizer(kind, groups) if ours else classes[kind](groups, fused=True)
        for number in range(4):
            for parameter in (first, second):
                parameter.grad = parameter.detach().square() - 0.5
            optimizer.param_groups[0]["lr"] = 0.1 / (1 + number)
            (optimizer if ours else optimizer.step)()
        results.append((first.detach(), second.detach()))
    for mine, theirs in zip(*results, strict=True):
        assert torch.equal(mine, theirs)


def test_the_decays_by_default_are_pytorchs():
    classes = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
    assert {kind: classes[kind]([ones(1)]).defaults["weight_decay"] for kind in DECAYS} == DECAYS


def test_no_compiler_is_imported():
    program = (
        "import sys, torch\n"
        "from lora_mnist_cli.training.fused_optimizer import FusedOptimizer\n"
        "for kind in ('adam', 'adamw', 'sgd'):\n"
        "    parameter = torch.nn.Parameter(torch.ones(3))\n"
        "    parameter.grad = torch.ones(3)\n"
        "    optimizer = FusedOptimizer(kind, [{'params': [parameter], 'lr': 0.1, 'weight_decay': 0.0}])\n"
        "    optimizer(), optimizer()\n"
        "    assert parameter[0] != 1\n"
        "print([name for name in ('torch._dynamo', 'sympy') if name in sys.modules])\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"


def ones(count: int) -> nn.Parameter:
    parameter = nn.Parameter(torch.ones(count))
    parameter.grad = torch.ones(count)
    return parameter


def optimizer_of(kind: str, parameter: nn.Parameter) -> FusedOptimizer:
    return FusedOptimizer(kind, [{"params": [parameter], "lr": 0.1, "weight_decay": 0.0}])
