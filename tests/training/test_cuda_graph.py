"""Recorded steps: the same work each time, and the same numbers as without recording."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from lora_mnist_cli.data.dataset import MNISTDataset
from lora_mnist_cli.models.mlp import MNISTModel
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.config import BaseConfig
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.settings.runtime import Runtime
from lora_mnist_cli.stages.records.loading import twin
from lora_mnist_cli.training import cuda_graph
from lora_mnist_cli.training.bank.trainer import fit_bank
from lora_mnist_cli.training.cuda_graph import EAGER_CALLS, Captured
from lora_mnist_cli.training.optimizers import BareStep, make_optimizer
from lora_mnist_cli.training.trainer import fit

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """PyTorch's graphs replaced by ones that write down what is asked of them."""
    told: list[str] = []

    class Graph:
        def replay(self) -> None:
            told.append("replay")

    @contextmanager
    def graph(_: Graph) -> Iterator[None]:
        told.append("record")
        yield

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", graph)
    return told


def test_work_is_recorded_once_and_then_replayed(recorder: list[str]) -> None:
    done: list[int] = []
    step = Captured(lambda: done.append(1))
    for _ in range(EAGER_CALLS):
        step()
    assert (len(done), recorder, step.recorded) == (EAGER_CALLS, [], False)
    step()
    step()
    # To record runs the Python, not the operations; so the call that records replays as well.
    assert (len(done), recorder, step.recorded) == (EAGER_CALLS + 1, ["record", "replay", "replay"], True)


def test_on_the_cpu_no_step_is_recorded() -> None:
    parameter = torch.nn.Parameter(torch.ones(3))
    parameter.grad = torch.ones(3)
    assert not BareStep(make_optimizer(BaseConfig(), [parameter])).recordable


@needs_gpu
@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("schedule", ["plateau", "cosine"])
def test_a_recorded_base_has_the_weights_of_an_eager_one(
    optimizer: str, schedule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = _data(40 * 64)

    def trained() -> list[torch.Tensor]:
        torch.manual_seed(0)
        model = MNISTModel((64, 64))
        config = BaseConfig(epochs=3, optimizer=optimizer, schedule=schedule)  # type: ignore[arg-type]
        fit(model, data, config, runtime=Runtime(accelerator="gpu"))
        return [parameter.detach().clone() for parameter in model.parameters()]

    _same(trained, monkeypatch)


@needs_gpu
@pytest.mark.parametrize("settings", [{}, {"schedule": "cosine"}, {"lr_ratio_b": 4.0}, {"dropout": 0.1}, {"lr": 0.3}])
def test_a_recorded_bank_has_the_weights_of_an_eager_one(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = _data(40 * 64)

    def trained() -> list[torch.Tensor]:
        torch.manual_seed(0)
        base = MNISTModel((64, 64))
        configs = [
            AdapterConfig(rank=rank, seed=seed, epochs=4, digits=DigitSet(range(10)), **settings)
            for seed in (0, 1)
            for rank in (1, 8, 64)
        ]
        models = [twin(base, config) for config in configs]
        fit_bank(models, data, configs, runtime=Runtime(accelerator="gpu"))
        return [p.detach().clone() for model in models for p in model.parameters() if p.requires_grad]

    _same(trained, monkeypatch)


def _same(trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = trained()
    monkeypatch.setattr(cuda_graph, "EAGER_CALLS", 10**9)
    eager = trained()
    assert all(torch.equal(one, other) for one, other in zip(recorded, eager, strict=True))


def _data(count: int) -> MNISTDataset:
    torch.manual_seed(1)
    return MNISTDataset(torch.randn(count, 784), torch.randint(10, (count,)))
