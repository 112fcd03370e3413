"""The plain engine and Lightning train the same bytes: bases, banks, methods, protections, precisions."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

import pytest
import torch

from lora_mnist_cli.data.dataset import MNISTDataset
from lora_mnist_cli.models.mlp import MNISTModel
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.choices import ENGINES, METHODS, PRECISIONS, PROTECTIONS
from lora_mnist_cli.settings.config import BaseConfig
from lora_mnist_cli.settings.runtime import Runtime
from lora_mnist_cli.stages import Workspace, finetune, sweep, train_base
from lora_mnist_cli.system.progress import Silent
from lora_mnist_cli.training.engines import session
from lora_mnist_cli.training.trainer import fit

CONFIG = AdapterConfig(rank=2, epochs=2, batch_size=50)
TRAINED = ("model.safetensors", "adapter_model.safetensors", "history.csv")


def on_both(work: Any, small: Workspace) -> None:
    """Do the same work with each engine, and compare the files that training decides."""
    made = [
        work(workspace=dataclasses.replace(small, runtime=Runtime(engine=engine)), name=f"by-{engine}")
        for engine in ("auto", "lightning")
    ]
    assert [artifact.environment["engine"] for artifact in made] == ["plain", "lightning"]
    assert made[0].fingerprint == made[1].fingerprint
    compared = [name for name in TRAINED if name in made[0].files]
    assert len(compared) == 2
    for name in compared:
        assert made[0].read(name) == made[1].read(name), name


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("schedule", ["plateau", "cosine"])
def test_a_base(precision, schedule, small):
    config = BaseConfig(
        dataset="fashion-mnist", hidden_sizes=(16, 12), epochs=2, batch_size=100, precision=precision, schedule=schedule
    )
    on_both(lambda **where: train_base(config, **where), small)


@pytest.mark.parametrize("method", METHODS)
def test_every_method(method, small):
    config = AdapterConfig(method=method, rank=2 if METHODS[method].ranked else 0, epochs=2, batch_size=50)
    on_both(lambda **where: finetune(config, **where), small)


@pytest.mark.parametrize("protection", PROTECTIONS)
def test_every_protection(protection, small):
    on_both(lambda **where: finetune(dataclasses.replace(CONFIG, protect=(protection,)), **where), small)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_bank_with_dropout_in_every_precision(precision, small):
    config = dataclasses.replace(CONFIG, dropout=0.5, precision=precision)
    members = []
    for engine in ("plain", "lightning"):
        workspace = dataclasses.replace(small, runtime=Runtime(engine=engine))
        made = sweep([1, 3], seeds=[0, 1], config=config, name="bank", workspace=workspace, force=True)
        adapters = [small.registry.get(row["artifact"]) for row in made.details["results"]]
        assert {adapter.environment["engine"] for adapter in adapters} == {engine}
        members.append([adapter.read("adapter_model.safetensors") for adapter in adapters])
    assert members[0] == members[1]


def test_the_engine_is_told_to_those_who_ask(small, recorder):
    workspace = dataclasses.replace(small, reporter=recorder, runtime=Runtime(engine="lightning"))
    train_base(BaseConfig(dataset="fashion-mnist", epochs=0), workspace=workspace, name="base")
    finetune(CONFIG, workspace=workspace, name="adapter", base="base")
    assert len(recorder.all("detail")) == 2
    assert all(": engine lightning" in text for text in recorder.all("detail"))


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_is_loaded_before_a_training_begins(engine, monkeypatch):
    module = f"lora_mnist_cli.training.engines.{engine}"
    monkeypatch.delitem(sys.modules, module, raising=False)

    class Watching(Silent):
        def begin(self, title: str, epochs: int, steps: int) -> None:
            assert module in sys.modules

    with session(Runtime(engine=engine), Watching(), "base", 1, 1):
        pass


@pytest.mark.parametrize("engine", ["plain", "lightning"])
def test_a_callers_own_settings_hinder_no_training_and_are_given_back(engine, monkeypatch):
    for name, value in {"JOB_ID": "4", "NTASKS": "4", "PROCID": "3", "JOB_NAME": "x"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    images = MNISTDataset(torch.randn(40, 784), torch.arange(40) % 10)
    config = BaseConfig(hidden_sizes=(4,), epochs=1, precision="bf16-mixed")
    with torch.no_grad():
        torch.set_deterministic_debug_mode("warn")
        try:
            fit(MNISTModel((4,)), images, config, runtime=Runtime(engine=engine))
            assert torch.get_deterministic_debug_mode() == 1
            assert not torch.is_grad_enabled()
        finally:
            torch.set_deterministic_debug_mode("default")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_bank_on_a_gpu(small):
    members = []
    for engine in ("plain", "lightning"):
        workspace = dataclasses.replace(small, runtime=Runtime(engine=engine, accelerator="gpu"))
        made = sweep([1, 3], config=CONFIG, name="bank", workspace=workspace, force=True)
        adapters = [small.registry.get(row["artifact"]) for row in made.details["results"]]
        members.append([adapter.read("adapter_model.safetensors") for adapter in adapters])
    assert members[0] == members[1]
