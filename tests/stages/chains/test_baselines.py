"""Baselines of the literature in a chain, and that no strategy needs an image of an earlier task."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from lora_mnist_cli.cli.again import line_of
from lora_mnist_cli.data import dataset
from lora_mnist_cli.data.dataset import MNISTDataset
from lora_mnist_cli.models.closed_form import closed_form_named
from lora_mnist_cli.models.upright import UprightStatistics
from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.registry.shared_statistics import STORE
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.stages import Workspace, chain, reproduce
from lora_mnist_cli.stages.banks import work
from lora_mnist_cli.stages.chains import rehearsing
from lora_mnist_cli.stages.chains import run as chains
from lora_mnist_cli.stages.chains.baselines import BASELINES
from lora_mnist_cli.stages.chains.rehearsing import UPRIGHT_FILE
from lora_mnist_cli.stages.chains.run import make_plan
from lora_mnist_cli.stages.chains.strategies import FURTHER, STRATEGIES, USUAL
from lora_mnist_cli.system.errors import ArtifactError, UsageError

TASKS = "0-3,4-6,7-9"
SMALL: dict[str, Any] = {"rank": 2, "epochs": 1, "dataset": "fashion-mnist", "workers": 1, "name": "three"}
LARGE = ("ridge_2000", "ridge_5000")
"""They differ from `ridge_edges` in numbers alone."""
TRIED = [name for name in STRATEGIES if name not in ("joint", *LARGE)]


@pytest.fixture(scope="module")
def chained(tmp_path_factory: pytest.TempPathFactory, small_data: Path) -> Workspace:
    """A chain of three tasks with every strategy that learns them in turn. Not to be written to."""
    workspace = Workspace(tmp_path_factory.mktemp("chained") / "runs", small_data)
    chain(TASKS, strategies=TRIED, workspace=workspace, **SMALL)
    return workspace


@pytest.fixture(scope="module")
def rows(chained: Workspace) -> dict[str, Any]:
    return {row["cure"]: row for row in chained.registry.get("three").details["chain"]["cures"]}


def test_a_baseline_goes_on_from_its_own_sums(chained, rows):
    names = [name for (name,) in rows["slda"]["runs"][0]["artifacts"]]
    first, second, last = (chained.registry.get(name) for name in names)
    base = chained.registry.get("base-fashion-mnist-0-3")
    assert [parent.digest for each in (first, second, last) for parent in each.parents] == [
        base.digest, first.digest, second.digest
    ]  # fmt: skip
    assert set(last.files) == {"sums.safetensors"}
    assert rows["slda"]["kept_bytes"] == last.files["sums.safetensors"]["bytes"] < 1.3e6
    assert rows["slda_edges"]["kept_bytes"] < 1e5


def test_its_figures_are_those_of_one_classifier_on_the_images_of_all_tasks(chained, rows):
    from lora_mnist_cli.data.dataset import split_rows

    stats = tuple(chained.registry.get("base-fashion-mnist-0-3").details["pixel_stats"])
    source = {"dataset": "fashion-mnist", "data_dir": chained.data_dir, "pixel_stats": stats}
    classifier, kept = closed_form_named("nearest_mean"), {}
    (chain_run,) = make_plan(TASKS, seeds=[0], epochs=1, dataset="fashion-mnist", workspace=chained).chain_runs
    for task in TASKS.split(","):
        data = MNISTDataset.load("train", DigitSet.parse(task), **source)
        kept = classifier.with_task(kept, *data[split_rows(len(data), chain_run.base.val_split, 0)[0]])
    test = MNISTDataset.load("test", **source)
    right = classifier.answer(kept, test.images).argmax(1) == test.labels
    assert rows["nearest_mean"]["runs"][0]["all"] == pytest.approx(float(right.double().mean()))


def test_synaptic_intelligence_goes_along_the_way_of_the_base_and_goes_on(chained, rows):
    names = [name for (name,) in rows["si"]["runs"][0]["artifacts"]]
    first, _, last = (chained.registry.get(name) for name in names)
    assert first.config["strength"] == last.config["strength"] > 0
    assert first.read("model.safetensors") == chained.registry.get("base-fashion-mnist-0-3").read("model.safetensors")
    assert chained.registry.get(rows["lwf"]["runs"][0]["artifacts"][-1][0]).config["protect"] == ["distill"]


def test_rehearsal_hands_on_densities_alone_and_each_network_begins_anew(chained, rows):
    names = [name for (name,) in rows["rehearsed"]["runs"][0]["artifacts"]]
    first, second, last = (chained.registry.get(name) for name in names)
    base = chained.registry.get("base-fashion-mnist-0-3")
    assert first.read("model.safetensors") == base.read("model.safetensors")
    assert [each.parents[0].digest for each in (second, last)] == [first.digest, second.digest]
    assert set(last.files) == {"model.safetensors", UPRIGHT_FILE}
    assert rows["rehearsed"]["kept_bytes"] == last.files[UPRIGHT_FILE]["bytes"] < 1e6
    known = [UprightStatistics.from_bytes(each.read(UPRIGHT_FILE)) for each in (first, second, last)]
    assert [each.digits.tolist() for each in known] == [list(range(4)), list(range(7)), list(range(10))]
    old = int(known[0].components.sum())
    assert all(bool((known[0].directions == each.directions[:old]).all()) for each in known)


@pytest.mark.parametrize("content", [b"", b"nothing", safetensors.torch.save({"digits": torch.zeros(2)})])
def test_damaged_densities_are_the_artifacts_fault(content):
    with pytest.raises(ArtifactError, match="'some' is damaged: upright"):
        rehearsing.known_before(SimpleNamespace(name="some", read=lambda _: content))


TOLD = ("history", "adapter_config", "results", "report")
LEARNED = ("model", "adapter_model", "statistics", "features", "springs", "sums", "upright")


def learned_last(workspace: Workspace, name: str) -> list[Artifact]:
    """The artifacts of the last task that some strategy's state has."""
    cures = workspace.registry.get(name).details["chain"]["cures"]
    names = {artifact for row in cures for artifact in row["runs"][0]["artifacts"][-1]}
    return [workspace.registry.get(artifact) for artifact in sorted(names) if "7-9" in artifact or "-3" in artifact]


def contents(artifacts: list[Artifact]) -> dict[str, bytes]:
    files = {(each.name, file) for each in artifacts for file in each.files if file.split(".")[0] not in TOLD}
    by_name = {each.name: each for each in artifacts}
    return {f"{name}/{file}": by_name[name].read(file) for name, file in sorted(files)}


def test_old_images_that_became_noise_change_nothing_that_a_later_task_learns(chained, rows, tmp_path, monkeypatch):
    """The last task is learned once more, where each image of an earlier task is noise, whoever asks for it."""
    last = learned_last(chained, "three")
    before = contents(last)
    for strategy in TRIED:
        assert set(rows[strategy]["runs"][0]["artifacts"][-1]) & {each.name for each in last}, strategy
    assert {key.split("/")[1].split(".")[0] for key in before} == set(LEARNED)
    runs = Path(shutil.copytree(chained.runs_dir, tmp_path / "runs"))
    workspace = Workspace(runs, chained.data_dir)
    shutil.rmtree(runs / STORE)
    for name in ["three", *(each.name for each in last if each.name != "base-fashion-mnist-0-3")]:
        workspace.registry.remove(name)
    load_digits, load_split = work.load_digits, work.load_split

    def spoiled(pixels: Any, labels: Any) -> tuple[Any, Any]:
        noise = np.random.default_rng(0).integers(0, 255, pixels.shape, dtype=np.uint8)
        return np.where((labels < 7)[:, None, None], noise, pixels), labels

    for module in (dataset, work):
        monkeypatch.setattr(module, "load_digits", lambda *asked: spoiled(*load_digits(*asked)))
    monkeypatch.setattr(work, "load_split", lambda *asked: spoiled(*load_split(*asked)))
    chain(TASKS, strategies=TRIED, workspace=workspace, **(SMALL | {"name": "three"}))
    assert contents(learned_last(workspace, "three")) == before


def test_baselines_are_added_by_one_option_and_named_in_the_report(small):
    options = {"seeds": [0], "epochs": 0, "dataset": "mnist", "workspace": small}
    plan = make_plan("0-4,5-9", baselines=True, **options)
    assert plan.strategies == (*USUAL, *BASELINES)
    assert tuple(STRATEGIES) == (*USUAL, *FURTHER, *BASELINES)
    assert plan.name == "chain-0-4_5-9-tuned-r16-baselines"
    assert make_plan("0-4,5-9", **options).name == "chain-0-4_5-9-tuned-r16"
    few = make_plan("0-4,5-9", strategies=["fused"], baselines=True, **options)
    assert few.strategies == ("fused", *BASELINES)
    with pytest.raises(UsageError, match="no baselines"):
        reproduce(baselines=True, workspace=small)


def test_a_study_with_baselines_has_them_in_its_report_and_in_its_command(small_data, tmp_path, monkeypatch):
    workspace = Workspace(tmp_path / "runs", small_data)
    monkeypatch.setattr(chains, "USUAL", {"plain": USUAL["plain"]})
    monkeypatch.setattr(chains, "BASELINES", {"nearest_mean": BASELINES["nearest_mean"]})
    options = {"seed": 0, "epochs": 0, "dataset": "fashion-mnist", "workers": 1, "workspace": workspace}
    made = reproduce(study="forgetting", baselines=True, **options)
    assert made.name == "study-forgetting-fashion-mnist-baselines-seeds-0"
    assert [row["cure"] for row in made.details["chains"][1]["cures"]] == ["plain", "nearest_mean"]
    command = str(line_of(workspace.registry, made))
    assert command.startswith("lora-mnist reproduce --dataset fashion-mnist --study forgetting")
    assert "--baselines" in command
    assert "--baselines" not in str(line_of(workspace.registry, reproduce(study="forgetting", **options)))
