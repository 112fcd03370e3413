"""The first stage, run tiny: which files it leaves and what they say."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch

from lora_mnist_cli.data.dataset import split_rows
from lora_mnist_cli.data.streams import seeded
from lora_mnist_cli.models.mlp import MNISTModel
from lora_mnist_cli.registry.artifact import read_artifact
from lora_mnist_cli.registry.registry import STAGING
from lora_mnist_cli.settings.config import BaseConfig
from lora_mnist_cli.settings.digits import ALL_DIGITS, DigitSet
from lora_mnist_cli.settings.runtime import Runtime
from lora_mnist_cli.stages import Workspace, train_base
from lora_mnist_cli.system.errors import ConfigError, DataError, DivergedError, OtherSettingsError, UsageError
from lora_mnist_cli.system.locks import HOST

CONFIG = BaseConfig(dataset="fashion-mnist", hidden_sizes=(16, 12), epochs=1, batch_size=16)
NAME = "base-fashion-mnist-0-4"
RAW = "FashionMNIST/raw"


@pytest.fixture
def workspace(tmp_path: Path, small_data: Path) -> Workspace:
    return Workspace(tmp_path / "runs", small_data)


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def raw(data: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Images on [0, 1] and labels, read here with nothing but NumPy."""
    images = np.frombuffer((data / RAW / f"{part}-images-idx3-ubyte").read_bytes(), np.uint8, offset=16)
    labels = np.frombuffer((data / RAW / f"{part}-labels-idx1-ubyte").read_bytes(), np.uint8, offset=8)
    return images.reshape(-1, 784) / 255, labels


def test_what_it_leaves(workspace: Workspace, small_data: Path) -> None:
    artifact = train_base(CONFIG, workspace=workspace)
    assert artifact.name == NAME
    left = ("artifact.json", "history.csv", "model.safetensors", "statistics.safetensors")
    assert files(workspace.runs_dir) == [f"{NAME}/{file}" for file in left]
    manifest = json.loads((artifact.path / "artifact.json").read_text())
    assert manifest["kind"] == "base"
    assert manifest["parents"] == []
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
    assert set(manifest["environment"]) == {"versions", "platform", "cores", "device", "threads"}
    assert manifest["environment"]["versions"]["torch"]
    with (artifact.path / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert list(rows[0]) == ["epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "lr"]


def test_the_scores_are_those_of_the_published_weights(workspace: Workspace, small_data: Path) -> None:
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


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path, small_data: Path) -> None:
    made = [train_base(CONFIG, workspace=Workspace(tmp_path / name, small_data)) for name in ("one", "two")]
    weights, histories = ([(a.path / f).read_bytes() for a in made] for f in ("model.safetensors", "history.csv"))
    assert weights[0] == weights[1]
    assert histories[0] == histories[1]
    assert made[0].digest == made[1].digest
    other = train_base(dataclasses.replace(CONFIG, seed=1), workspace=Workspace(tmp_path / "one", small_data))
    assert other.name == f"{NAME}-s1"
    assert (other.path / "model.safetensors").read_bytes() != weights[0]


@pytest.mark.parametrize("changed", ["train", "val", "test"])
def test_it_learns_from_the_training_split_alone(
    tmp_path: Path, small_data: Path, idx: Callable[[Any], bytes], changed: str
) -> None:
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
    for weights in ("model.safetensors", "statistics.safetensors"):
        assert (before.read(weights) == after.read(weights)) is (changed != "train")
    assert (before.read("history.csv") == after.read("history.csv")) is (changed == "test")
    assert (before.scores == after.scores) is (changed == "val")


def test_a_second_time_there_is_nothing_to_do(workspace: Workspace, recorder: Any) -> None:
    first = train_base(CONFIG, workspace=workspace)
    inode = first.path.stat().st_ino
    assert train_base(CONFIG, workspace=dataclasses.replace(workspace, reporter=recorder)) == first
    assert recorder.events == [("notice", f"{NAME} is up to date")]
    assert first.path.stat().st_ino == inode


def test_what_a_process_left_that_was_killed_after_its_work_is_cleaned(workspace: Workspace) -> None:
    train_base(CONFIG, workspace=workspace)
    rest = workspace.runs_dir / STAGING / f"{NAME}@{HOST}@1"
    (rest / "half").mkdir(parents=True)
    train_base(CONFIG, workspace=workspace)
    assert [path.name for path in workspace.runs_dir.iterdir()] == [NAME]


def test_what_is_up_to_date_costs_no_heavy_import(small: Workspace) -> None:
    code = """
        import sys
        from pathlib import Path
        from lora_mnist_cli.settings.adapter_config import AdapterConfig
        from lora_mnist_cli.settings.config import BaseConfig
        from lora_mnist_cli.stages import Workspace, finetune, sweep, train_base
        workspace = Workspace(Path(sys.argv[1]), Path(sys.argv[2]))
        made = [
            train_base(BaseConfig(dataset="fashion-mnist", hidden_sizes=(16, 12), epochs=2), workspace=workspace),
            finetune(AdapterConfig(rank=2, epochs=2, alpha=0.5), workspace=workspace),
            sweep([2], config=AdapterConfig(epochs=2, alpha=0.5), workspace=workspace),
        ]
        print(*(artifact.name for artifact in made))
        print(*({"torch", "pytorch_lightning", "numpy", "matplotlib", "typer"} & set(sys.modules)))
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(small.runs_dir), str(small.data_dir)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"{NAME} lora-fashion-mnist-5-9-r2 sweep-fashion-mnist-5-9\n\n"


def test_other_settings_under_the_name_are_refused_until_forced(workspace: Workspace) -> None:
    first = train_base(CONFIG, workspace=workspace)
    other = dataclasses.replace(CONFIG, epochs=0)
    with pytest.raises(OtherSettingsError, match="epochs 1 there, 0 asked for"):
        train_base(other, workspace=workspace)
    assert read_artifact(first.path) == first
    beside = train_base(other, workspace=workspace, name="beside")
    assert workspace.registry.names() == [NAME, "beside"]
    forced = train_base(other, workspace=workspace, force=True)
    assert forced.name == NAME
    assert forced.config["epochs"] == 0
    assert forced.digest == beside.digest


def test_no_epochs_publish_the_untouched_start(workspace: Workspace) -> None:
    artifact = train_base(dataclasses.replace(CONFIG, epochs=0, seed=5), workspace=workspace)
    with seeded(5, "init"):
        expected = MNISTModel((16, 12)).state_dict()
    state = safetensors.numpy.load_file(artifact.path / "model.safetensors")
    assert set(state) == set(expected)
    assert all(np.array_equal(value, expected[name].numpy()) for name, value in state.items())
    assert len((artifact.path / "history.csv").read_text().splitlines()) == 2


def test_all_digits_are_one_subset(workspace: Workspace) -> None:
    artifact = train_base(dataclasses.replace(CONFIG, digits=ALL_DIGITS, epochs=0), workspace=workspace)
    assert artifact.name == "base-fashion-mnist-0-9"
    assert [row["digits"] for row in artifact.scores["subsets"]] == ["0-9"]
    assert artifact.scores["subsets"][0]["count"] == 200


def test_it_learns_the_digits_that_it_is_given(workspace: Workspace) -> None:
    config = dataclasses.replace(CONFIG, digits=DigitSet.parse("1,7-8"), epochs=3, lr=0.01)
    artifact = train_base(config, workspace=workspace)
    assert artifact.name == "base-fashion-mnist-1,7-8"
    scores = {row["digits"]: row["accuracy"] for row in artifact.scores["subsets"]}
    assert list(scores) == ["1,7-8", "0,2-6,9", "0-9"]
    assert scores["1,7-8"] > 0.9
    assert scores["0,2-6,9"] < 0.05


def test_event_files_are_part_of_it_where_they_are_asked_for(workspace: Workspace, recorder: Any) -> None:
    plain = train_base(CONFIG, workspace=workspace)
    logged = dataclasses.replace(workspace, runtime=Runtime(logger="tensorboard"), reporter=recorder)
    assert train_base(CONFIG, workspace=logged) == plain
    assert "--force trains it again" in recorder.all("warn")[0]
    artifact = train_base(CONFIG, workspace=logged, force=True)
    events = [file for file in artifact.files if file.startswith("tensorboard/events.out.tfevents.")]
    assert len(events) == 1
    assert [file for file in artifact.files if "/" not in file] == [
        "history.csv", "model.safetensors", "statistics.safetensors",
    ]  # fmt: skip
    assert artifact.digest == plain.digest


def test_ctrl_c_leaves_nothing(workspace: Workspace, recorder: Any) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    recorder.advance = interrupt
    with pytest.raises(KeyboardInterrupt):
        train_base(CONFIG, workspace=dataclasses.replace(workspace, reporter=recorder))
    assert not workspace.runs_dir.exists()
    assert recorder.all("end") == [()]


@pytest.mark.parametrize("epochs", [1, 3])
def test_what_diverges_is_not_published(workspace: Workspace, epochs: int) -> None:
    """Not even where it was the very last step that left the finite numbers."""
    config = dataclasses.replace(CONFIG, lr=1e30, optimizer="sgd", batch_size=1000, epochs=epochs)
    with pytest.raises(DivergedError, match="diverged") as caught:
        train_base(config, workspace=workspace)
    assert "lower --lr" in caught.value.hint
    assert not workspace.runs_dir.exists()


def test_a_batch_size_beyond_all_bounds_is_one_batch_or_refused(workspace: Workspace) -> None:
    def attempt() -> Any:
        try:
            config = dataclasses.replace(CONFIG, batch_size=10**18)
        except ConfigError:
            return None
        return train_base(config, workspace=workspace)

    artifact = attempt()
    assert artifact is None or artifact.config["batch_size"] == 10**18


def test_data_that_can_not_be_had_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision.datasets

    def unreachable(*_: object, **__: object) -> None:
        raise RuntimeError("no network")

    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", unreachable)
    with pytest.raises(DataError, match="no network"):
        train_base(CONFIG, workspace=Workspace(tmp_path / "runs", tmp_path / "data"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../x", "a/b", ".x", "-x", "", "x\n", "x" * 300])
def test_a_bad_name_is_refused_before_anything_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    import torchvision.datasets

    def unreachable(*_: object, **__: object) -> None:
        raise RuntimeError("the name comes first")

    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", unreachable)
    with pytest.raises(UsageError, match="name"):
        train_base(CONFIG, workspace=Workspace(tmp_path / "runs", tmp_path / "data"), name=name)
    assert list(tmp_path.iterdir()) == []


def test_the_callers_randomness_is_left_alone(workspace: Workspace) -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    train_base(CONFIG, workspace=workspace)
    assert torch.equal(torch.rand(3), expected)
