"""Stages called from Python: neither the caller's PyTorch settings nor its random generators take part."""

from __future__ import annotations

import dataclasses
import inspect
import random
from typing import Any

import numpy as np
import pytest
import torch

from lora_mnist_cli import stages
from lora_mnist_cli.stages import Workspace, chain, evaluate, evaluate_routed, finetune, forgetting, merge, train_base
from tests.system.test_caller import settings, unusual_settings


def made(workspace: Workspace, engine: str = "plain") -> list[Any]:
    """The files and scores of several stages: all that a model goes through from its start on."""
    workspace = dataclasses.replace(workspace, runtime=dataclasses.replace(workspace.runtime, engine=engine))
    shared: dict[str, Any] = {"epochs": 1, "workspace": workspace, "batch_size": 100}
    base = train_base(dataset="fashion-mnist", digits="0-4", hidden_sizes=[16, 12], name="base", **shared)
    adapter = finetune(base="base", rank=2, protect="distill,replay", name="adapter", **shared)
    merged = merge("adapter", merged="merged", workspace=workspace)
    scores = [each.scores for each in evaluate("adapter", alphas=[0.5], workspace=workspace)]
    scores.append(evaluate_routed(["adapter"], workspace=workspace).scores)
    files = [{name: made.read(name) for name in sorted(made.files) if "safetensors" in name}
             for made in (base, adapter, merged)]  # fmt: skip
    measured = {key: value for key, value in forgetting("adapter", workspace=workspace).items() if key != "digest"}
    return [files, scores, measured]


@pytest.mark.parametrize("engine", ["plain", pytest.param("lightning", marks=pytest.mark.slow)])
def test_the_settings_of_the_caller_change_no_byte_and_are_given_back(small, tmp_path, engine):
    expected = made(dataclasses.replace(small, runs_dir=tmp_path / "usual"), engine)
    with unusual_settings():
        before = settings()
        found = made(dataclasses.replace(small, runs_dir=tmp_path / "unusual"), engine)
        assert settings() == before
    assert found == expected


@pytest.mark.slow
def test_a_chain_with_ewc_is_the_same_under_any_settings(small, tmp_path):
    found = []
    for name in ("usual", "unusual"):
        workspace = dataclasses.replace(small, runs_dir=tmp_path / name)
        with unusual_settings() if name == "unusual" else torch.enable_grad():
            chain("0-4,5-9", strategies=["ewc"], epochs=1, dataset="fashion-mnist", workspace=workspace, workers=1)
        artifacts = [workspace.registry.get(name) for name in workspace.registry.names()]
        weights = "model.safetensors"
        found.append({each.name: each.read(weights) for each in artifacts if weights in each.files})
    assert found[0]
    assert found[0] == found[1]


@pytest.mark.parametrize("engine", ["plain", pytest.param("lightning", marks=pytest.mark.slow)])
def test_the_random_generators_of_the_caller_are_left_alone(small, tmp_path, engine):
    before = torch.get_rng_state(), repr(np.random.get_state()), random.getstate()
    made(dataclasses.replace(small, runs_dir=tmp_path / "new"), engine)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (repr(np.random.get_state()), random.getstate()) == before[1:]


def test_every_stage_sets_the_settings_of_the_caller_aside():
    without = {"parse_gates", "check_gates"}  # these compute nothing
    functions = {name for name in stages.__all__ if inspect.isfunction(getattr(stages, name))}
    assert {name for name in functions if not hasattr(getattr(stages, name), "__wrapped__")} == without
