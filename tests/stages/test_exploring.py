"""The page's file and its record; what the page does with it is tested in a browser."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from recorder import Recorder
from safetensors.numpy import load, save

from lora_mnist_cli.registry.weights import ADAPTER_FILE
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.config import BaseConfig
from lora_mnist_cli.stages import Workspace, combine, evaluate, explore, finetune, sweep, train_base
from lora_mnist_cli.stages.exploring import MOST_ADAPTERS, find_adapters
from lora_mnist_cli.stages.pictures.of_page import SHARES, exact_alpha
from lora_mnist_cli.system.errors import ArtifactError, MachineError, UsageError

R1, R2 = "lora-5-9-r1", "lora-5-9-r2"


def _record(path):
    text = Path(path).read_text(encoding="utf-8")
    return json.loads(re.search('<script type="application/json" id="record">(.*?)</script>', text, re.S)[1])


@pytest.fixture
def workspace(trained):
    return Workspace(trained)


def test_the_newest_sweep_becomes_one_file(workspace, tmp_path):
    page = explore(workspace=workspace)
    assert page.path == Path("explore.html")
    assert [path.name for path in tmp_path.iterdir()] == ["explore.html"]
    assert page.size == page.path.stat().st_size < 600_000
    assert [adapter.name for adapter in page.adapters] == [R1, R2]
    record = _record(page.path)
    assert len(record["images"]["labels"]) == 100
    assert record["base"]["digits"] == [0, 1, 2, 3, 4]
    assert record["adapters"][1]["new"] == [5, 6, 7, 8, 9]
    assert record["adapters"][1]["digest"] == workspace.registry.get(R2).digest


def test_its_counts_are_those_of_evaluate_at_every_alpha(workspace):
    record = _record(explore([R2], workspace=workspace).path)
    (adapter,) = record["adapters"]
    shares = (-0.5, 0.0, 0.55, 1.0, 1.5)
    for share, scored in zip(shares, evaluate(R2, alphas=shares, workspace=workspace), strict=True):
        for half, digits in (("old", "0-4"), ("new", "5-9")):
            row = next(row for row in scored.scores["subsets"] if row["digits"] == digits)
            assert adapter["right"][half][SHARES.index(share)] == round(row["accuracy"] * row["count"])
    at_one = SHARES.index(1.0)
    assert adapter["right_known"]["old"][at_one] > adapter["right"]["old"][at_one]


def test_an_alpha_of_the_slider_has_six_digits_and_the_trained_one_all_of_them():
    assert exact_alpha(1.0, 0.123456789) == 0.123456789
    assert exact_alpha(0.35, 0.123456789) == 0.0432099
    assert [exact_alpha(share, 1.0) for share in SHARES] == [round(share, 2) for share in SHARES]


def test_the_same_artifacts_give_the_same_bytes(workspace):
    explore([R1], output="one.html", workspace=workspace)
    explore([R1], output="two.html", workspace=workspace)
    assert Path("one.html").read_bytes() == Path("two.html").read_bytes()


@pytest.fixture
def small(small_data, tmp_path):
    workspace = Workspace(tmp_path / "runs", small_data)
    train_base(
        BaseConfig(dataset="fashion-mnist", hidden_sizes=(16, 12), batch_size=100, epochs=1), workspace=workspace
    )
    return workspace


@pytest.mark.parametrize("method", ["full", "head", "dora", "pissa"])
def test_other_methods_have_their_change_at_alpha_1(small, method):
    config = AdapterConfig(method=method, rank=2 if method in ("dora", "pissa") else 0, alpha=2.0, epochs=1)
    adapter = finetune(config, workspace=small)
    page = explore([adapter.name], workspace=small)
    (record,) = _record(page.path)["adapters"]
    assert record["method"] == method
    assert record["alpha"] == 2.0
    assert set(record["layers"]) == ({"fc3"} if method == "head" else {"fc1", "fc2", "fc3"})
    assert all(layer["bias"] == (method in ("full", "head")) for layer in record["layers"].values())


def test_a_sweep_of_several_seeds_shows_the_first_and_says_so(small):
    recorder = Recorder()
    workspace = Workspace(small.runs_dir, small.data_dir, reporter=recorder)
    several = sweep([1, 2], seeds=[3, 4], config=AdapterConfig(epochs=0), workspace=small)
    names = [adapter.name for adapter in find_adapters([several.name], workspace)]
    assert [workspace.registry.get(name).config["seed"] for name in names] == [3, 3]
    assert [event[0] for event in recorder.events if "seed 3" in event[-1]] == ["notice"]


def test_a_protected_adapter_or_route_brings_the_densities(small):
    plain = finetune(AdapterConfig(rank=1, epochs=1), workspace=small)
    masked = finetune(AdapterConfig(rank=1, epochs=1, protect=("mask",)), workspace=small)
    assert "routing" not in _record(explore([plain.name], workspace=small).path)
    for names, route in (([plain.name], True), ([plain.name, masked.name], False)):
        routing = _record(explore(names, route=route, workspace=small).path)["routing"]
        assert [pair["adapter"] for pair in routing["pairs"]] == names
        assert len(routing["densities"]) == 2  # the adapters' images are the same, and so are their densities


def test_what_has_no_statistics_takes_no_other_adapter_off_the_page(small, recorder):
    small = dataclasses.replace(small, reporter=recorder)
    config = AdapterConfig(rank=1, epochs=1)
    plain, masked = (finetune(config, protect=names, workspace=small) for names in ("none", "mask"))
    combined = combine([plain.name, masked.name], name="combined", workspace=small)
    shown = [masked.name, combined.name]
    assert "routing" not in _record(explore(shown, workspace=small).path)
    assert recorder.all("notice")[-1] == "the page has no densities: combined has no statistics of its digits"
    with pytest.raises(ArtifactError, match="has no statistics of its digits"):
        explore(shown, route=True, workspace=small)


@pytest.mark.parametrize(("alpha", "scale"), [(0.5, 1e30), (1.5e308, 0.0), (3e38, 0.0)])
def test_an_adapter_whose_logits_are_not_finite_at_an_alpha_makes_no_page(small, forge, alpha, scale):
    adapter = finetune(AdapterConfig(rank=1, epochs=1), name="large", workspace=small)
    tensors = {
        key: value * np.float32(scale if "lora_B" in key else 1)
        for key, value in load(adapter.read(ADAPTER_FILE)).items()
    }
    forge(adapter.path, lambda manifest: manifest["config"].update(alpha=alpha), {ADAPTER_FILE: save(tensors)})
    with pytest.raises(ArtifactError, match=r"'large' at alpha \S+ has logits that are not finite: the numbers in fc"):
        explore(["large"], workspace=small)
    assert not Path("explore.html").exists()


@pytest.mark.parametrize("alpha", [1e-42, 5e-324])
def test_a_tiny_alpha_invents_no_components(small, forge, alpha):
    adapter = finetune(AdapterConfig(rank=1, epochs=1), name="tiny", workspace=small)
    tensors = {key: value * np.float32(100) for key, value in load(adapter.read(ADAPTER_FILE)).items()}
    forge(adapter.path, lambda manifest: manifest["config"].update(alpha=alpha), {ADAPTER_FILE: save(tensors)})
    (shown,) = _record(explore(["tiny"], workspace=small).path)["adapters"]
    assert {layer["rank"] for layer in shown["layers"].values()} == {1}


def test_refusals(workspace, trained, tmp_path):
    with pytest.raises(UsageError, match=r"named twice"):
        explore([R1, R1], workspace=workspace)
    with pytest.raises(UsageError, match=r"HTML file"):
        explore([R1], output="page.pdf", workspace=workspace)
    with pytest.raises(ArtifactError, match=r"kind base"):
        explore(["base-0-4"], workspace=workspace)
    with pytest.raises(MachineError, match=r"can't write"):
        explore([R1], output=tmp_path / "none" / "page.html", workspace=workspace)
    with pytest.raises(ArtifactError, match=r"no sweep"):
        explore(workspace=Workspace(tmp_path / "empty"))
    runs = Path(shutil.copytree(trained, tmp_path / "runs", ignore=shutil.ignore_patterns(".statistics")))
    other = Workspace(runs)
    train_base(BaseConfig(epochs=0), name="other", workspace=other)
    mine = finetune(AdapterConfig(rank=1, epochs=0), base="other", name="mine", workspace=other)
    with pytest.raises(ArtifactError, match=r"not on the base of"):
        explore([R1, mine.name], workspace=other)


def test_too_many_adapters_are_refused_before_any_work(small):
    many = sweep(range(1, MOST_ADAPTERS + 2), config=AdapterConfig(epochs=0), workspace=small)
    with pytest.raises(UsageError, match=f"at most {MOST_ADAPTERS}"):
        explore([many.name], workspace=small)


def test_schemas_of_all_ages_become_pages(tmp_path):
    for version in ("v1", "v2"):
        runs = Path(__file__).parent.parent / "schemas" / version
        if (runs / "runs").is_dir():
            runs = runs / "runs"
        here = Path(shutil.copytree(runs, tmp_path / version))
        workspace = Workspace(here)
        names = [name for name in workspace.registry.names() if workspace.registry.get(name).kind == "adapter"]
        assert names
        page = explore(names[:1], output=tmp_path / f"{version}.html", workspace=workspace)
        assert np.isfinite(page.size)
