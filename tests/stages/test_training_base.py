"""The first stage, run tiny: which files it leaves and what they say."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch
from published import files

from lora_mnist_cli.data.dataset import split_rows
from lora_mnist_cli.data.streams import seeded
from lora_mnist_cli.models.mlp import MNISTModel
from lora_mnist_cli.registry.artifact import read_artifact
from lora_mnist_cli.registry.registry import STAGING
from lora_mnist_cli.registry.shared_statistics import STORE
from lora_mnist_cli.settings.config import BaseConfig
from lora_mnist_cli.settings.digits import ALL_DIGITS, DigitSet
from lora_mnist_cli.settings.runtime import Runtime
from lora_mnist_cli.stages import Workspace, train_base
from lora_mnist_cli.system.errors import DataError, DivergedError, OtherSettingsError, UsageError
from lora_mnist_cli.system.locks import HOST

CONFIG = BaseConfig(dataset="fashion-mnist", hidden_sizes=(16, 12), epochs=1, batch_size=16)
NAME = "base-fashion-mnist-0-4"
RAW = "FashionMNIST/raw"


@pytest.fixture
def workspace(tmp_path: Path, small_data: Path) -> Workspace:
    return Workspace(tmp_path / "runs", small_data)


def raw(data: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Images on [0, 1] and labels, read here with nothing but NumPy."""
    images = np.frombuffer((data / RAW / f"{part}-images-idx3-ubyte").read_bytes(), np.uint8, offset=16)
    labels = np.frombuffer((data / RAW / f"{part}-labels-idx1-ubyte").read_bytes(), np.uint8, offset=8)
    return images.reshape(-1, 784) / 255, labels


def test_what_it_leaves(workspace, small_data):
    artifact = train_base(CONFIG, workspace=workspace)
    assert artifact.name == NAME
    left = ("artifact.json", "features.safetensors", "history.csv", "model.safetensors", "statistics.safetensors")
    assert files(artifact.path) == list(left)
    assert {path.name for path in workspace.runs_dir.iterdir()} == {NAME, STORE}
    manifest = json.loads((artifact.path / "artifact.json").read_text())
    assert (manifest["kind"], manifest["parents"]) == ("base", [])
    assert manifest["config"] == {
        "seed": 0, "epochs": 1, "batch_size": 16, "lr": 0.001, "optimizer": "adam", "weight_decay": None,
        "schedule": "constant", "val_split": 0.2, "precision": "32-true", "dataset": "fashion-mnist", "digits": "0-4",
        "hidden_sizes": [16, 12],
    }  # fmt: skip
    images, _ = raw(small_data, "train")
    assert manifest["details"] == {
        "layers": {"fc1": [784, 16], "fc2": [16, 12], "fc3": [12, 10]},
        "parameters": 784 * 16 + 16 + 16 * 12 + 12 + 12 * 10 + 10,
        "pixel_stats": [round(float(images.mean()), 4), round(float(images.std()), 4)],
    }
    names = [f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
    sums = {name: hashlib.sha256((small_data / RAW / name).read_bytes()).hexdigest() for name in names}
    listing = "".join(f"{digest}  {name}\n" for name, digest in sums.items())
    expected = "sha256:" + hashlib.sha256(listing.encode()).hexdigest()
    assert manifest["dataset"] == {"name": "fashion-mnist", "digest": expected}
    assert manifest["wall_seconds"] > 0
    assert set(manifest["environment"]) == {"versions", "platform", "cores", "device", "threads", "engine"}
    assert manifest["environment"]["versions"]["torch"]
    with (artifact.path / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert list(rows[0]) == ["epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "lr"]


def test_the_scores_are_those_of_the_published_weights(workspace, small_data):
    artifact = train_base(dataclasses.replace(CONFIG, epochs=2, lr=0.01), workspace=workspace)
    state = safetensors.numpy.load_file(artifact.path / "model.safetensors")
    (train, _), (x, labels) = raw(small_data, "train"), raw(small_data, "t10k")
    x = (x - round(train.mean(), 4)) / round(train.std(), 4)
    for i in (1, 2, 3):
        x = x @ state[f"fc{i}.weight"].T.astype(float) + state[f"fc{i}.bias"]
        x = np.maximum(x, 0) if i < 3 else x
    losses = np.log(np.exp(x).sum(1)) - x[np.arange(len(x)), labels]
    hits = x.argmax(1) == labels
    for row, members in zip(artifact.scores["subsets"], ([0, 1, 2, 3, 4], [5, 6, 7, 8, 9], range(10)), strict=True):
        chosen = np.isin(labels, members)
        assert row["count"] == chosen.sum()
        assert row["accuracy"] == pytest.approx(hits[chosen].mean())
        assert row["loss"] == pytest.approx(losses[chosen].mean(), rel=1e-3)
    assert [row["digits"] for row in artifact.scores["subsets"]] == ["0-4", "5-9", "0-9"]
    assert [row["digit"] for row in artifact.scores["per_digit"]] == list(range(10))
    old, new, _ = artifact.scores["subsets"]
    assert old["accuracy"] > 0.5
    assert new["accuracy"] < 0.1


def test_the_same_seed_gives_the_same_bytes(tmp_path, small_data):
    made = [train_base(CONFIG, workspace=Workspace(tmp_path / name, small_data)) for name in ("one", "two")]
    weights, histories = ([(a.path / f).read_bytes() for a in made] for f in ("model.safetensors", "history.csv"))
    assert weights[0] == weights[1]
    assert histories[0] == histories[1]
    assert made[0].digest == made[1].digest
    other = train_base(dataclasses.replace(CONFIG, seed=1), workspace=Workspace(tmp_path / "one", small_data))
    assert other.name == f"{NAME}-s1"
    assert (other.path / "model.safetensors").read_bytes() != weights[0]


@pytest.mark.parametrize("changed", ["train", "val", "test"])
def test_it_learns_from_the_training_split_alone(tmp_path, small_data, idx, changed):
    """Where images of one part change places, weights and statistics follow those of the training split only."""
    data = Path(shutil.copytree(small_data, tmp_path / "data"))
    file = data / RAW / f"{'t10k' if changed == 'test' else 'train'}-images-idx3-ubyte"
    images = np.frombuffer(file.read_bytes(), np.uint8, offset=16).reshape(-1, 28, 28).copy()
    places = np.arange(len(images))
    if changed != "test":
        _, labels = raw(data, "train")
        learned = np.flatnonzero(labels < 5)
        split = split_rows(len(learned), CONFIG.val_split, CONFIG.seed_of("split"))
        rows = split[0 if changed == "train" else 1]
        assert rows is not None
        places = learned[rows.numpy()]
    images[places] = images[np.roll(places, 1)]
    file.write_bytes(idx(images))
    before, after = (
        train_base(CONFIG, workspace=Workspace(tmp_path / name, folder))
        for name, folder in (("before", small_data), ("after", data))
    )
    assert before.settings.dataset != after.settings.dataset
    for weights in ("model.safetensors", "statistics.safetensors", "features.safetensors"):
        assert (before.read(weights) == after.read(weights)) is (changed != "train")
    assert (before.read("history.csv") == after.read("history.csv")) is (changed == "test")
    assert (before.scores == after.scores) is (changed == "val")


def test_a_second_time_there_is_nothing_to_do(workspace, recorder):
    first = train_base(CONFIG, workspace=workspace)
    inode = first.path.stat().st_ino
    assert train_base(CONFIG, workspace=dataclasses.replace(workspace, reporter=recorder)) == first
    assert recorder.events == [("notice", f"{NAME} is up to date")]
    assert first.path.stat().st_ino == inode


def test_what_a_process_left_that_was_killed_after_its_work_is_cleaned(workspace):
    train_base(CONFIG, workspace=workspace)
    rest = workspace.runs_dir / STAGING / f"{NAME}@{HOST}@1"
    (rest / "half").mkdir(parents=True)
    train_base(CONFIG, workspace=workspace)
    assert {path.name for path in workspace.runs_dir.iterdir()} == {NAME, STORE}


def test_other_settings_under_the_name_are_refused_until_forced(workspace):
    first = train_base(CONFIG, workspace=workspace)
    other = dataclasses.replace(CONFIG, epochs=0)
    with pytest.raises(OtherSettingsError, match="epochs 1 there, 0 asked for"):
        train_base(other, workspace=workspace)
    assert read_artifact(first.path) == first
    beside = train_base(other, workspace=workspace, name="beside")
    assert workspace.registry.names() == [NAME, "beside"]
    forced = train_base(other, workspace=workspace, force=True)
    assert (forced.name, forced.config["epochs"], forced.digest) == (NAME, 0, beside.digest)


def test_no_epochs_publish_the_untouched_start(workspace):
    artifact = train_base(dataclasses.replace(CONFIG, epochs=0, seed=5), workspace=workspace)
    with seeded(5, "init"):
        expected = MNISTModel((16, 12)).state_dict()
    state = safetensors.numpy.load_file(artifact.path / "model.safetensors")
    assert set(state) == set(expected)
    assert all(np.array_equal(value, expected[name].numpy()) for name, value in state.items())
    assert len((artifact.path / "history.csv").read_text().splitlines()) == 2


def test_all_digits_are_one_subset(workspace):
    artifact = train_base(dataclasses.replace(CONFIG, digits=ALL_DIGITS, epochs=0), workspace=workspace)
    assert artifact.name == "base-fashion-mnist-0-9"
    assert [row["digits"] for row in artifact.scores["subsets"]] == ["0-9"]
    assert artifact.scores["subsets"][0]["count"] == 200


def test_it_learns_the_digits_that_it_is_given(workspace):
    config = dataclasses.replace(CONFIG, digits=DigitSet.parse("1,7-8"), epochs=3, lr=0.01)
    artifact = train_base(config, workspace=workspace)
    assert artifact.name == "base-fashion-mnist-1,7-8-lr0.01"
    scores = {row["digits"]: row["accuracy"] for row in artifact.scores["subsets"]}
    assert list(scores) == ["1,7-8", "0,2-6,9", "0-9"]
    assert scores["1,7-8"] > 0.9
    assert scores["0,2-6,9"] < 0.05


def test_event_files_are_part_of_it_where_they_are_asked_for(workspace, recorder):
    plain = train_base(CONFIG, workspace=workspace)
    logged = dataclasses.replace(workspace, runtime=Runtime(logger="tensorboard"), reporter=recorder)
    assert train_base(CONFIG, workspace=logged) == plain
    assert "--force trains it again" in recorder.all("warn")[0]
    artifact = train_base(CONFIG, workspace=logged, force=True)
    events = [file for file in artifact.files if file.startswith("tensorboard/events.out.tfevents.")]
    assert len(events) == 1
    assert [file for file in artifact.files if "/" not in file] == [
        "features.safetensors", "history.csv", "model.safetensors", "statistics.safetensors",
    ]  # fmt: skip
    assert artifact.digest == plain.digest


def test_ctrl_c_leaves_nothing(workspace, recorder):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    recorder.advance = interrupt
    with pytest.raises(KeyboardInterrupt):
        train_base(CONFIG, workspace=dataclasses.replace(workspace, reporter=recorder))
    assert not workspace.runs_dir.exists()
    assert recorder.all("end") == [()]


@pytest.mark.parametrize("epochs", [1, 3])
def test_what_diverges_is_not_published(workspace, epochs):
    """Not even where it was the very last step that left the finite numbers."""
    config = dataclasses.replace(CONFIG, lr=1e30, optimizer="sgd", batch_size=1000, epochs=epochs)
    with pytest.raises(DivergedError, match="diverged") as caught:
        train_base(config, workspace=workspace)
    assert "lower --lr" in caught.value.hint
    assert not workspace.runs_dir.exists()


@pytest.mark.parametrize(
    ("name", "error", "match"),
    [(None, DataError, "no network"), ("../x", UsageError, "name"), ("x\n", UsageError, "name")],
)
def test_without_data_or_a_name_nothing_is_left_and_the_name_comes_first(tmp_path, monkeypatch, name, error, match):
    import torchvision.datasets

    def unreachable(*_: object, **__: object) -> None:
        raise RuntimeError("no network")

    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", unreachable)
    with pytest.raises(error, match=match):
        train_base(CONFIG, workspace=Workspace(tmp_path / "runs", tmp_path / "data"), name=name)
    assert list(tmp_path.iterdir()) == []


def test_the_callers_randomness_is_left_alone(workspace):
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    train_base(CONFIG, workspace=workspace)
    assert torch.equal(torch.rand(3), expected)
