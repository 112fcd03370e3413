"""The whole study on each other data set, on small files in torchvision's layout: stages, tables, pictures, report."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision.datasets

from lora_mnist_cli.cli import main
from lora_mnist_cli.data.source import class_names
from lora_mnist_cli.data.sources import SOURCES, forget_splits
from lora_mnist_cli.registry.registry import Registry
from lora_mnist_cli.stages import Workspace, plot, reproduce

# One whose labels have names, and one whose have none; how each layout is read is tested beside the code that reads it.
OTHERS = ("kmnist", "emnist-digits")


@pytest.fixture(scope="module")
def data(
    tmp_path_factory: pytest.TempPathFactory, idx: Callable[[Any], bytes], small_images: Callable[..., Any]
) -> Path:
    """Both data sets, 300 training and 100 test images each, as somebody would put them there."""
    folder = tmp_path_factory.mktemp("data")
    for dataset in OTHERS:
        source = SOURCES[dataset]
        raw = folder / source.folder / "raw"
        raw.mkdir(parents=True)
        for split, count in (("train", 300), ("test", 100)):
            images, labels = small_images(count, len(split))
            if dataset == "emnist-digits":  # whose files have each image on its side
                images = images.transpose(0, 2, 1).copy()
            names = source.files[split]  # type: ignore[index]
            (raw / f"{names[0]}.gz").write_bytes(gzip.compress(idx(images)))
            (raw / names[1]).write_bytes(idx(labels))
    return folder


@pytest.fixture(autouse=True)
def _forget() -> None:
    forget_splits()


@pytest.fixture(scope="module")
def studied(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, a sweep and a report of each data set in one folder."""
    runs = tmp_path_factory.mktemp("studied") / "runs"
    common = ["--runs-dir", str(runs), "--data-dir", str(data), "--quiet"]
    for dataset in OTHERS:
        forget_splits()
        few = ["--epochs", "15", "--batch-size", "20", "--lr", "0.006", "--dataset", dataset]
        assert main(["train-base", "--hidden-size", "32", "--name", f"b-{dataset}", *few, *common]) == 0
        sweep = ["sweep", "--ranks", "1,4", "--name", f"s-{dataset}", "--base", f"b-{dataset}"]
        assert main([*sweep, *few, *common]) == 0
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("lora_mnist_cli.stages.plotting.plot", lambda *_, **__: None)
            assert main(["reproduce", "--dataset", dataset, "--epochs", "0", *common]) == 0
    return runs


@pytest.mark.parametrize("dataset", OTHERS)
def test_it_learns_and_forgets_as_on_mnist(dataset, studied, data, run):
    where = ["--runs-dir", studied, "--data-dir", data, "--json"]
    base = run("evaluate", f"b-{dataset}", *where).json
    accuracy = {row["digits"]: row["accuracy"] for row in base["subsets"]}
    assert (accuracy["0-4"] > 0.9, accuracy["5-9"] < 0.1) == (True, True)
    adapter = next(name for name in Registry(studied).names() if name.startswith(f"lora-{dataset}-5-9-r4-lr"))
    document = run("evaluate", adapter, "--alpha", "0,1", *where).json
    at_0, at_1 = ({row["digits"]: row["accuracy"] for row in each["subsets"]} for each in document["results"])
    assert at_0 == accuracy
    assert at_1["5-9"] > 0.9
    assert base.get("classes", ()) == list(class_names(dataset)) or dataset != "kmnist"
    assert ("classes" in base) == ("classes" in document) == (dataset == "kmnist")


@pytest.mark.parametrize("dataset", OTHERS)
def test_tables_have_the_labels_by_name(dataset, studied, data, run):
    shown = run("evaluate", f"b-{dataset}", "--runs-dir", studied, "--data-dir", data).out
    rows = [line.strip().partition("  ")[0].strip() for line in shown.splitlines()][-12:]
    digits = [row for row in rows if row and row[0].isdigit() and "-" not in row[:2]]
    expected = [f"{digit} {name}" for digit, name in enumerate(class_names(dataset))] or list(map(str, range(10)))
    assert digits == expected


def test_a_prediction_has_its_labels_by_name(studied, data, run):
    from PIL import Image

    picture = np.zeros((28, 28), np.uint8)
    picture[4:24, 10:18] = 255
    Image.fromarray(picture).save("bag.png")
    where = ["--runs-dir", studied, "--data-dir", data, "--artifact", "b-kmnist"]
    document = run("predict", "bag.png", *where, "--json").json
    (row,) = document["results"]
    assert f"{row['digit']} {document['classes'][row['digit']]} " in run("predict", "bag.png", *where).out


def test_the_names_are_those_of_torchvision():
    assert list(class_names("fashion-mnist")) == torchvision.datasets.FashionMNIST.classes
    assert list(class_names("kmnist")) == torchvision.datasets.KMNIST.classes
    assert class_names("mnist") == class_names("somebody-elses") == ()


@pytest.mark.parametrize("dataset", OTHERS)
def test_pictures_have_the_labels_by_name_where_they_have_names(dataset, studied, data, tmp_path):
    workspace = Workspace(studied, data)
    adapter = next(name for name in Registry(studied).names() if name.startswith(f"lora-{dataset}-5-9-r4-lr"))
    texts = {}
    for kind in ("predictions", "confusion"):
        _, path = plot(kind, adapter, output=tmp_path / f"{kind}.svg", workspace=workspace)
        texts[kind] = path.read_text(encoding="utf-8")
    for name in class_names(dataset):
        assert f"<!-- {class_names(dataset).index(name)} {name} -->" in texts["confusion"]
    learned = class_names(dataset)[5:]
    assert all(f"<!-- {name} -->" in texts["predictions"] for name in learned)
    assert ("<!-- 7 -->" in texts["predictions"]) == (dataset != "kmnist")


@pytest.mark.parametrize("dataset", OTHERS)
def test_the_report_has_no_figures_of_a_study_that_was_not_on_this_data(dataset, studied, data, run):
    report = Registry(studied).get(f"study-{dataset}")
    assert {parent.name for parent in report.parents} == {
        f"base-{dataset}-0-4", f"study-{dataset}-5-9", f"lora-{dataset}-0-9-r64",
    }  # fmt: skip
    rows = report.details["rows"]
    assert len(rows) == 14
    assert all(row["study"] is row["difference"] is None and row["here"] is not None for row in rows)
    text = report.read("report.md").decode()
    assert text.startswith(f"# The study on {dataset}\n")
    assert "| what | measure | here |\n|---|---|---:|\n" in text
    shown = run("reproduce", "--dataset", dataset, "--epochs", "0", "--runs-dir", studied, "--data-dir", data)
    assert shown.out.startswith(f"The study on {dataset} (seed 0)\n")
    assert "difference" not in shown.out
    assert "–" not in shown.out
    assert f"study-{dataset} is up to date" in shown.err


def test_several_seeds_on_another_data_set_have_ranges_and_no_verdicts(studied, data, run, monkeypatch):
    workspace = Workspace(studied, data)
    report = reproduce(seeds=[0, 1], epochs=0, dataset="kmnist", workspace=workspace)
    assert report.name == "study-kmnist-seeds-0-1"
    assert all(row["agrees"] is row["difference"] is None for row in report.details["rows"])
    assert all(row["prediction_low"] <= row["here"] <= row["prediction_high"] for row in report.details["rows"])
    outcome = run("reproduce", "--dataset", "kmnist", "--seeds", "0-1", "--epochs", "0", "--runs-dir", studied,
                  "--data-dir", data)  # fmt: skip
    assert "one run of ours" in outcome.out
    assert "study's" not in outcome.out
    assert "the study's run is held" not in report.read("report.md").decode()
    assert json.loads(json.dumps(report.details["rows"])) == report.details["rows"]
