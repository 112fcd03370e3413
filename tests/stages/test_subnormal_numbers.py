"""No constant of the program is a subnormal number, and all that computes takes subnormal numbers for zero."""

from __future__ import annotations

import dataclasses
import gc
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from lora_mnist_cli.evaluation.forgetting import calibration
from lora_mnist_cli.models.blur import _kernel, blur
from lora_mnist_cli.registry.shared_statistics import STORE
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.config import BaseConfig
from lora_mnist_cli.settings.runtime import Runtime
from lora_mnist_cli.stages import Workspace, chain, evaluate, evaluate_routed, finetune, sweep, train_base
from lora_mnist_cli.system.arithmetic import flushes_subnormals

PACKAGE = "lora_mnist_cli"
UNSEEN = 1e-40
"""A learning rate whose steps are subnormal numbers: where these are zero, B stays zero."""

ARITHMETIC = {
    "addmm", "bmm", "baddbmm", "exp", "softmax", "_softmax", "_log_softmax", "_log_softmax_backward_data", "logsumexp",
    "_linalg_eigh", "_fused_adam_", "_fused_adamw_", "addcmul_", "multinomial",
}  # fmt: skip
"""Operations of torch that training, statistics, scores and routing consist of. ``mm`` is not among them, because
adapters are merged by it as well."""

pytestmark = pytest.mark.usefixtures("_can_flush")


@pytest.fixture
def _can_flush() -> Iterator[None]:
    flushed = flushes_subnormals()
    if not torch.set_flush_denormal(True):
        pytest.skip("only where the processor can take subnormal numbers for zero")
    torch.set_flush_denormal(False)
    yield
    torch.set_flush_denormal(flushed)


def subnormal(tensor: Tensor) -> int:
    """How many of a tensor's numbers are subnormal: in double precision, which holds them all as normal numbers."""
    size = tensor.detach().double().abs() if tensor.dtype.itemsize < 8 else tensor.detach().abs()
    return int(((size > 0) & (size < torch.finfo(tensor.dtype).tiny)).sum())


def package() -> list[ModuleType]:
    return [module for name, module in list(sys.modules.items()) if name.partition(".")[0] == PACKAGE]


def constants() -> Iterator[Tensor]:
    """All floating point tensors and arrays that the package's names lead to: in caches, closures, classes, tables."""
    seen, todo = set[int](), [vars(module) for module in package()]
    while todo:
        thing: Any = todo.pop()
        if id(thing) in seen or isinstance(thing, ModuleType):
            continue
        seen.add(id(thing))
        if isinstance(thing, np.ndarray) and thing.dtype.kind == "f":
            thing = torch.from_numpy(thing)
        if isinstance(thing, Tensor):
            if thing.is_floating_point():
                yield thing
        elif (getattr(thing, "__module__", None) or PACKAGE).startswith(PACKAGE):
            todo += gc.get_referents(thing)


def test_no_constant_holds_a_subnormal_number(small, monkeypatch):
    """All modules are walked, after stages have filled their caches; nothing is flushed, which would hide them."""
    monkeypatch.setattr(torch, "set_flush_denormal", lambda on: False)
    for cached in [value for module in package() for value in vars(module).values() if hasattr(value, "cache_clear")]:
        cached.cache_clear()
    finetune(AdapterConfig(epochs=1, protect=("replay", "nullspace")), workspace=small, name="protected")
    evaluate_routed(["protected"], workspace=small)
    dtypes = (torch.float32, torch.float64, torch.bfloat16)
    for dtype in dtypes:
        blur(torch.zeros(1, 784, dtype=dtype))
    found = list(constants())
    assert {id(_kernel(dtype)) for dtype in dtypes} <= {id(tensor) for tensor in found}
    assert [tensor for tensor in found if subnormal(tensor)] == []


def test_the_blur_is_what_it_was_bit_for_bit():
    """By a kernel that is not rounded to zero."""
    pixel = torch.arange(28, dtype=torch.float64)
    kernel = torch.exp(-((pixel[:, None] - pixel) ** 2) / 2)
    kernel = (kernel / kernel[14].sum()).float()
    assert subnormal(kernel) == 28
    images = torch.rand(50, 784, generator=torch.Generator().manual_seed(0)) * 3.2 - 0.42
    rows = (images.reshape(-1, 28) @ kernel).view(-1, 28, 28).transpose(1, 2)
    expected = (rows.reshape(-1, 28) @ kernel).view(-1, 28, 28).transpose(1, 2).reshape(-1, 784)
    assert torch.equal(blur(images), expected)
    assert subnormal(torch.linalg.inv(_kernel(torch.float64)).float()) == 0


class Watch(TorchDispatchMode):
    """Counts the operations of :data:`ARITHMETIC`, by whether subnormal numbers were zero in them."""

    def __init__(self) -> None:
        super().__init__()
        self.flushed, self.kept = Counter[str](), Counter[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in ARITHMETIC:
            (self.flushed if flushes_subnormals() else self.kept)[name] += 1
        return func(*args, **kwargs or {})


def train(small: Workspace) -> None:
    train_base(BaseConfig(dataset="fashion-mnist", hidden_sizes=(16,), epochs=1), workspace=small, name="trained")


def adapt(small: Workspace, **settings: Any) -> None:
    finetune(AdapterConfig(epochs=1, **settings), workspace=small, name="adapted")


def learn_a_chain(small: Workspace) -> None:
    """With replay and the other protections, EWC, merged networks and experts behind a router."""
    elsewhere = dataclasses.replace(small, runs_dir=small.runs_dir.parent / "chain")
    chain("0-4,5-9", rank=2, epochs=1, dataset="fashion-mnist", workers=1, workspace=elsewhere)


def calibrate(small: Workspace) -> None:
    calibration(torch.eye(10), torch.arange(10))


STAGES: dict[str, tuple[Callable[[Workspace], Any], set[str]]] = {
    "train-base": (train, {"_fused_adam_", "softmax", "_linalg_eigh", "_log_softmax"}),
    "finetune": (adapt, {"_fused_adamw_", "softmax", "_linalg_eigh", "_log_softmax"}),
    "finetune by autograd": (partial(adapt, method="dora"), {"_fused_adamw_", "_log_softmax_backward_data"}),
    "evaluate": (lambda small: evaluate(alphas=[0, 1], workspace=small), {"addmm", "_log_softmax"}),
    "calibration": (calibrate, {"_softmax"}),
    "routing": (lambda small: evaluate_routed(workspace=small), {"bmm", "logsumexp"}),
    "chain": (learn_a_chain, {"_fused_adam_", "_fused_adamw_", "addcmul_", "multinomial", "logsumexp"}),
}
"""Stages, and operations that show that their work was seen."""


@pytest.mark.parametrize(("stage", "flushed"), [*((stage, False) for stage in STAGES), ("train-base", True)])
def test_stages_compute_with_subnormal_numbers_as_zero_and_give_the_setting_back(small, stage, flushed):
    run, expected = STAGES[stage]
    shutil.rmtree(small.runs_dir / STORE, ignore_errors=True)  # so that statistics are computed
    torch.set_flush_denormal(flushed)
    with Watch() as watch:
        run(small)
    assert flushes_subnormals() == flushed
    assert watch.kept == {}
    assert expected <= watch.flushed.keys()


def step_of(small: Workspace, name: str) -> int:
    """How many entries of B a training with the rate :data:`UNSEEN` has moved from zero: by their bits."""
    weights = safetensors.torch.load(small.registry.get(name).read("adapter_model.safetensors"))
    factors = [tensor for key, tensor in weights.items() if "lora_B" in key]
    assert len(factors) == 3
    return sum(int(factor.view(torch.int32).count_nonzero()) for factor in factors)


RAY = pytest.param("ray", marks=[pytest.mark.ray, pytest.mark.filterwarnings("ignore")])


@pytest.mark.parametrize("backend", ["local", "processes", RAY])
def test_so_do_other_processes(small, backend):
    if backend == "ray":
        pytest.importorskip("ray")
    there = dataclasses.replace(small, runtime=Runtime(backend=backend, accelerator="cpu"))
    wide = sweep([2], config=AdapterConfig(epochs=1, lr=UNSEEN), workspace=there, name="unseen")
    assert step_of(small, wide.details["results"][0]["artifact"]) == 0


def test_so_does_the_command_line(small, run):
    places = ["--runs-dir", small.runs_dir, "--data-dir", small.data_dir, "--accelerator", "cpu"]
    done = run("finetune", *places, "--epochs", 1, "--lr", UNSEEN, "--name", "unseen")
    assert done.code == 0, done.err
    assert step_of(small, "unseen") == 0
