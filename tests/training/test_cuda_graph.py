"""Recorded steps: the same work each time, and the same numbers as without recording.

The bookkeeping is tested on the CPU, with graphs that record operations as CUDA's do; the same tests run on a GPU where
there is one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from lora_mnist_cli.data.dataset import MNISTDataset
from lora_mnist_cli.models.mlp import MNISTModel
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.config import BaseConfig
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.settings.runtime import Runtime
from lora_mnist_cli.stages.records.loading import twin
from lora_mnist_cli.training import cuda_graph, fused_optimizer
from lora_mnist_cli.training.bank.trainer import fit_bank
from lora_mnist_cli.training.cuda_graph import EAGER_CALLS, GraphedStep
from lora_mnist_cli.training.fused_optimizer import FusedOptimizer
from lora_mnist_cli.training.trainer import fit

pytestmark = pytest.mark.usefixtures("one_thread")


class FakeGraph:
    """Operations on fixed memory, like ``torch.cuda.CUDAGraph``: recorded without being done, then replayed."""

    def __init__(self, log: list[str]) -> None:
        self.log = log
        self.operations: list[Callable[[], object]] = []

    def replay(self) -> None:
        self.log.append("replay")
        for operation in self.operations:
            operation()


class _Recording(TorchDispatchMode):
    """Puts every operation into a graph. Views are made at once, and new memory once; what is in it comes by replay."""

    def __init__(self, graph: FakeGraph) -> None:
        super().__init__()
        self.graph = graph

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        returned = func._schema.returns
        if returned and returned[0].alias_info is not None and not returned[0].alias_info.is_write:
            return func(*args, **kwargs)  # a view
        changed = [
            kwargs.get(each.name, args[i] if i < len(args) else None)
            for i, each in enumerate(func._schema.arguments)
            if each.alias_info is not None and each.alias_info.is_write
        ]
        if changed:
            self.graph.operations.append(lambda: func(*args, **kwargs))
            return changed[0] if returned else None
        result = func(*args, **kwargs)
        assert isinstance(result, Tensor), f"{func} would wait for the device"
        self.graph.operations.append(lambda: result.copy_(func(*args, **kwargs)))
        return result


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Fake graphs in place of PyTorch's, and the log of their recordings and replays."""
    log: list[str] = []

    @contextmanager
    def graph(target: FakeGraph) -> Iterator[None]:
        log.append("record")
        with _Recording(target):
            yield

    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: FakeGraph(log))
    monkeypatch.setattr(torch.cuda, "graph", graph)
    return log


@dataclass
class Device:
    """Where steps are recorded.

    Args:
        log: of the fake graphs; None on a GPU, whose graphs keep none.
    """

    runtime: Runtime
    log: list[str] | None

    def assert_log(self, recordings: int, replays: int) -> None:
        if self.log is not None:
            assert (self.log.count("record"), self.log.count("replay")) == (recordings, replays)


@pytest.fixture
def rate_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rates on the CPU are tensors, as on a GPU, so that steps may be recorded."""
    monkeypatch.setattr(fused_optimizer, "takes_rate_tensor", lambda parameter: parameter.dtype == torch.float32)


@pytest.fixture(params=["fake", "gpu"])
def device(request: pytest.FixtureRequest) -> Device:
    """The CPU with fake graphs, and a GPU where there is one."""
    if request.param == "fake":
        request.getfixturevalue("rate_tensors")
        return Device(Runtime(accelerator="cpu"), request.getfixturevalue("log"))
    if not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    return Device(Runtime(accelerator="gpu"), None)


def test_work_is_recorded_once_and_then_replayed(log):
    total, done = torch.zeros(2), []

    def work(number: Tensor) -> None:
        done.append(1)
        total.add_(number)

    step = GraphedStep(work, torch.zeros(2))
    for number in range(EAGER_CALLS):
        step(torch.full((2,), float(number)))
    assert (len(done), log) == (EAGER_CALLS, [])
    step(torch.full((2,), 1000.0))
    step(torch.full((2,), 2000.0))
    # To record runs the Python, and not the operations; the call that records replays as well.
    assert (len(done), log) == (EAGER_CALLS + 1, ["record", "replay", "replay"])
    assert total.tolist() == [3000.0 + sum(range(EAGER_CALLS))] * 2


def test_on_the_cpu_no_step_is_recorded():
    parameter = torch.nn.Parameter(torch.ones(3))
    parameter.grad = torch.ones(3)
    assert not FusedOptimizer("adam", [{"params": [parameter], "lr": 0.5, "weight_decay": 0.0}]).recordable


@pytest.mark.usefixtures("rate_tensors")
def test_a_replayed_step_has_the_rate_that_was_set_before(log):
    parameter = torch.nn.Parameter(torch.ones(3))
    parameter.grad = torch.ones(3)
    step = FusedOptimizer("adam", [{"params": [parameter], "lr": 0.5, "weight_decay": 0.0}])
    assert step.recordable
    recorded, moved = GraphedStep(step), []
    with torch.no_grad():
        for call in range(EAGER_CALLS + 3):
            step.param_groups[0]["lr"] = 0.0 if call == EAGER_CALLS + 1 else 0.5
            step.set_rates()
            before = parameter.clone()
            recorded()
            moved.append(not torch.equal(parameter, before))
    assert log == ["record", "replay", "replay", "replay"]
    assert moved == [True] * (EAGER_CALLS + 1) + [False, True]


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("schedule", ["plateau", "cosine"])
def test_a_recorded_base_has_the_weights_of_an_eager_one(optimizer, schedule, device, monkeypatch):
    data = _data()

    def trained() -> list[Tensor]:
        torch.manual_seed(0)
        model = MNISTModel((16, 12))
        config = BaseConfig(epochs=3, batch_size=16, optimizer=optimizer, schedule=schedule)  # type: ignore[arg-type]
        fit(model, data, config, runtime=device.runtime)
        return [parameter.detach().clone() for parameter in model.parameters()]

    _same(trained, monkeypatch)
    # Of 32 steps per epoch the last has a short batch, which is too rare to be recorded.
    device.assert_log(*((0, 0) if optimizer == "sgd" else (1, 3 * 31 - EAGER_CALLS)))


@pytest.mark.parametrize(
    ("settings", "recordings"),
    [({}, 1), ({"schedule": "cosine"}, 1), ({"lr_ratio_b": 4.0}, 1), ({"dropout": 0.1}, 0), ({"lr": 0.3}, 1)],
)
def test_a_recorded_bank_has_the_weights_of_an_eager_one(settings, recordings, device, monkeypatch):
    data = _data()

    def trained() -> list[Tensor]:
        torch.manual_seed(0)
        base = MNISTModel((16, 12))
        configs = [
            AdapterConfig(rank=rank, seed=seed, epochs=3, batch_size=16, digits=DigitSet(range(10)), **settings)
            for seed in (0, 1)
            for rank in (1, 8)
        ]
        models = [twin(base, config) for config in configs]
        fit_bank(models, data, configs, runtime=device.runtime)
        return [p.detach().clone() for model in models for p in model.parameters() if p.requires_grad]

    _same(trained, monkeypatch)
    # Both seeds are in the same steps.
    device.assert_log(recordings, recordings * (3 * 31 - EAGER_CALLS))


def test_a_rate_that_parts_from_the_others_is_recorded_anew(device, monkeypatch):
    """The learning rate of one member falls, so the optimiser has other groups, and the old graph is no more used."""
    data, epochs = _data(), 16
    fell: list[int] = []

    def trained() -> list[Tensor]:
        torch.manual_seed(0)
        base = MNISTModel((16, 12))
        configs = [
            AdapterConfig(
                rank=rank, epochs=epochs, batch_size=16, digits=DigitSet(range(10)), schedule=schedule, lr=0.1
            )
            for rank, schedule in ((2, "constant"), (3, "plateau"))
        ]
        models = [twin(base, config) for config in configs]
        outcomes = fit_bank(models, data, configs, runtime=device.runtime)
        rates = [record.lr for record in outcomes[1].history]
        fell.append(rates.index(rates[-1]))
        assert rates[-1] == pytest.approx(0.01)
        return [p.detach().clone() for model in models for p in model.parameters() if p.requires_grad]

    _same(trained, monkeypatch)
    assert 1 < fell[0] < epochs
    device.assert_log(2, epochs * 31 - 2 * EAGER_CALLS)


def _same(trained: Callable[[], list[Tensor]], monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = trained()
    monkeypatch.setattr(cuda_graph, "EAGER_CALLS", 10**9)
    eager = trained()
    assert all(torch.equal(one, other) for one, other in zip(recorded, eager, strict=True))


def _data() -> MNISTDataset:
    """Images of which 31 batches of 16 and a short one are for training."""
    draw = torch.Generator().manual_seed(1)
    return MNISTDataset(torch.randn(630, 784, generator=draw), torch.randint(10, (630,), generator=draw))
