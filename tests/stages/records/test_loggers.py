"""Loggers: one run a base or adapter, with its settings and scores, wherever it was trained."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.choices import LOGGERS
from lora_mnist_cli.settings.config import BaseConfig
from lora_mnist_cli.settings.runtime import Runtime
from lora_mnist_cli.stages import Workspace, finetune, sweep, train_base
from lora_mnist_cli.stages.records.loggers import LoggedRun, check_logger, log_beside, loggers
from lora_mnist_cli.system.errors import UsageError

CONFIG = BaseConfig(dataset="fashion-mnist", hidden_sizes=(16, 12), epochs=2, batch_size=100)
ADAPTER = AdapterConfig(epochs=2, batch_size=100)


def with_logger(workspace: Workspace, logger: str, **runtime: Any) -> Workspace:
    return dataclasses.replace(workspace, runtime=Runtime(logger=logger, **runtime))


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, LoggedRun]]:
    """MLflow's runs, as they are told, in place of MLflow."""
    runs: list[tuple[Path, LoggedRun]] = []
    monkeypatch.setitem(loggers, "mlflow", (lambda place, run: runs.append((place, run)), lambda place: f"{place}/db"))
    monkeypatch.setattr("lora_mnist_cli.stages.training_base.check_logger", lambda _: None)
    monkeypatch.setattr("lora_mnist_cli.stages.banks.work.check_logger", lambda _: None)
    return runs


@pytest.mark.parametrize("logger", [name for name in LOGGERS if name != "csv"])
def test_a_missing_package_is_refused_before_the_work_with_the_extra_that_brings_it(logger, small, monkeypatch):
    before = sorted(path.name for path in small.runs_dir.iterdir())
    asked: list[str] = []
    monkeypatch.setattr(importlib.util, "find_spec", asked.append)
    for work in (
        lambda: train_base(CONFIG, name="new", workspace=with_logger(small, logger)),
        lambda: finetune(ADAPTER, workspace=with_logger(small, logger)),
        lambda: sweep([1, 3], config=ADAPTER, name="new", workspace=with_logger(small, logger)),
    ):
        with pytest.raises(UsageError, match="is not installed") as caught:
            work()
        assert re.fullmatch(rf"pip install '{logger}>=[0-9.]+'", caught.value.hint)
    assert asked == 3 * [logger]
    assert sorted(path.name for path in small.runs_dir.iterdir() if not path.name.startswith(".")) == [
        name for name in before if not name.startswith(".")
    ]


def test_the_extras_are_those_of_the_project():
    project = (Path(__file__).resolve().parents[3] / "pyproject.toml").read_text(encoding="utf-8")
    extras = {name for name in LOGGERS if re.search(rf'^{name} = \["{name}>=', project, re.MULTILINE)}
    assert extras == {name for name in LOGGERS if name != "csv"}


@pytest.mark.skipif(importlib.util.find_spec("wandb") is not None, reason="it is installed")
def test_a_folder_of_logs_is_no_package(tmp_path, monkeypatch):
    (tmp_path / "wandb").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match="Weights & Biases is not installed"):
        check_logger(Runtime(logger="wandb"))


@pytest.mark.usefixtures("pool_in_this_process")
@pytest.mark.parametrize("backend", ["local", "processes"])
def test_each_adapter_is_one_run_with_its_settings_and_scores(backend, small, told, tmp_path):
    workspace = with_logger(small, "mlflow", backend=backend)
    made = sweep([1, 3], seeds=[0, 1], config=ADAPTER, workspace=workspace, name="logged")
    assert {place for place, _ in told} == {tmp_path}
    runs = {run.name: run for _, run in told}
    assert len(told) == len(runs) == 4
    for row in made.details["results"]:
        adapter, run = small.registry.get(row["artifact"]), runs[row["artifact"]]
        config = dict(adapter.config)
        assert run.settings == config | {
            "kind": "adapter", "base": "base-fashion-mnist-0-4", "dataset": "fashion-mnist",
            "trainable_parameters": row["trainable_parameters"],
        }  # fmt: skip
        assert [epoch["epoch"] for epoch in run.history] == [0, 1, 2]
        lines = adapter.read("history.csv").decode().splitlines()
        assert [str(epoch["val_loss"]) for epoch in run.history] == [line.split(",")[3] for line in lines[1:]]
        metrics = run.metrics()
        assert len(metrics) == 2 * (3 + 10)
        for scores in adapter.scores["subsets"]:
            assert metrics[f"test_accuracy/{scores['digits']}"] == scores["accuracy"]
            assert metrics[f"test_loss/{scores['digits']}"] == scores["loss"]
        assert metrics["test_accuracy/7"] == adapter.scores["per_digit"][7]["accuracy"]
        assert adapter.environment["logger"] == "mlflow"


def test_a_base_and_methods_that_are_trained_alone_are_runs_too(small, told):
    workspace = dataclasses.replace(with_logger(small, "mlflow"), note="a sentence")
    base = train_base(CONFIG, name="new", workspace=workspace)
    finetune(dataclasses.replace(ADAPTER, method="full", digits=None), base="new", workspace=workspace)
    (_, first), (_, second) = told
    assert (first.name, first.settings["kind"], first.settings["hidden_sizes"]) == ("new", "base", [16, 12])
    assert first.metrics()["test_accuracy/0-4"] == base.scores["subsets"][0]["accuracy"]
    assert first.note == "a sentence"
    assert (second.settings["method"], second.settings["base"]) == ("full", "new")


def test_what_diverged_is_a_failed_run_without_scores(small, told):
    sweep([1], grid={"lrs": [1e-3, 1e30]}, config=dataclasses.replace(ADAPTER, optimizer="sgd"), name="odd",
          workspace=with_logger(small, "mlflow"))  # fmt: skip
    sound, odd = (run for _, run in told)
    assert sound.failed is None
    assert "the loss became" in str(odd.failed)
    assert odd.metrics() == {}


def test_the_same_work_is_logged_once_and_what_lacks_a_log_is_told(small, told, recorder):
    plain, logged = (dataclasses.replace(with_logger(small, each), reporter=recorder) for each in ("csv", "mlflow"))
    sweep([1, 3], config=ADAPTER, name="twice", workspace=plain)
    sweep([1, 3], config=ADAPTER, name="twice", workspace=logged)
    assert told == []
    (warned,) = recorder.all("warn")
    assert warned.endswith("and 1 more were trained without --logger mlflow; --force trains all again")
    sweep([1, 3], config=ADAPTER, name="twice", workspace=logged, force=True)
    sweep([1, 3], config=ADAPTER, name="twice", workspace=logged)
    assert len(told) == 2
    assert len(recorder.all("warn")) == 1


def test_an_artifact_is_published_whatever_its_logger_stumbles_over(small, monkeypatch, told, recorder):
    def fail(*_: object) -> None:
        raise RuntimeError("database\nis locked")

    monkeypatch.setitem(loggers, "mlflow", (fail, str))
    workspace = dataclasses.replace(with_logger(small, "mlflow"), reporter=recorder)
    made = finetune(ADAPTER, workspace=workspace)
    assert made.path.is_dir()
    assert recorder.all("warn") == [f"{made.name} is published, but not logged to MLflow: database is locked"]


def test_a_digit_set_with_a_comma_has_a_name_that_passes_everywhere():
    run = LoggedRun("x", {}, [], {"subsets": [{"digits": "5,7-9", "accuracy": 0.5, "loss": None}]})
    assert run.metrics() == {"test_accuracy/5_7-9": 0.5}


def test_tensorboard_has_history_settings_and_scores(small):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    made = sweep([1, 3], config=ADAPTER, name="logged", workspace=with_logger(small, "tensorboard"))
    for row in made.details["results"]:
        adapter = small.registry.get(row["artifact"])
        files = [file for file in adapter.files if "/" in file]
        assert [file.split(".")[0] for file in files] == ["tensorboard/events"]
        events = EventAccumulator(str(adapter.path / "tensorboard"))
        events.Reload()
        lines = adapter.read("history.csv").decode().splitlines()
        for place, measure in enumerate(lines[0].split(",")[1:], start=1):
            scalars = events.Scalars(measure)
            assert [event.step for event in scalars] == [0, 1, 2]
            expected = [float(line.split(",")[place]) for line in lines[1:]]
            assert [event.value for event in scalars] == pytest.approx(expected, rel=1e-5)
        (accuracy,) = events.Scalars("test_accuracy/5-9")
        assert accuracy.value == pytest.approx(adapter.scores["subsets"][1]["accuracy"])
        start = HParamsPluginData.FromString(events.PluginTagToContent("hparams")["_hparams_/session_start_info"])
        settings = {name: value.number_value for name, value in start.session_start_info.hparams.items()}
        assert (settings["rank"], settings["epochs"]) == (row["rank"], 2)
    assert not any(path.name in ("mlflow.db", "wandb", "mlruns") for path in small.runs_dir.parent.iterdir())


@pytest.mark.filterwarnings("ignore")
def test_mlflow_has_a_run_each_in_a_store_beside_the_runs(small, tmp_path, monkeypatch, capsys):
    pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    made = sweep([1, 3], config=ADAPTER, name="logged", workspace=with_logger(small, "mlflow"))
    assert capsys.readouterr().out == ""
    assert "MLFLOW_TRACKING_URI" not in os.environ
    with sqlite3.connect(tmp_path / "mlflow.db") as store:
        runs = dict(store.execute("select name, run_uuid from runs where status = 'FINISHED'").fetchall())
        assert list(store.execute("select count(*) from runs")) == [(2,)]
        for row in made.details["results"]:
            run = runs[row["artifact"]]
            settings = dict(store.execute("select key, value from params where run_uuid = ?", (run,)).fetchall())
            assert (settings["rank"], settings["base"]) == (str(row["rank"]), "base-fashion-mnist-0-4")
            figures = store.execute("select key, step, value from metrics where run_uuid = ?", (run,)).fetchall()
            assert sorted(step for key, step, _ in figures if key == "val_loss") == [0, 1, 2]
            reached = next(value for key, _, value in figures if key == "test_accuracy/5-9")
            assert reached == pytest.approx(row["subsets"][1]["accuracy"])
    assert not [file for file in small.registry.get(row["artifact"]).files if "/" in file]


@pytest.mark.filterwarnings("ignore")
def test_wandb_has_an_offline_run_each_beside_the_runs(small, tmp_path, monkeypatch, capfd):
    wandb = pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    made = sweep([1, 3], config=ADAPTER, name="logged", workspace=with_logger(small, "wandb"))
    assert capfd.readouterr().out == ""
    assert wandb.run is None
    assert "WANDB_MODE" not in os.environ
    folders = sorted(tmp_path.glob("wandb/offline-run-*/*.wandb"))
    assert len(folders) == 2
    whole = [path.read_bytes() for path in folders]
    for row in made.details["results"]:
        (own,) = [content for content in whole if row["artifact"].encode() in content]
        assert b"trainable_parameters" in own
        assert b"test_accuracy/5-9" in own
        assert repr(row["subsets"][1]["accuracy"]).encode()[:12] in own


def test_nothing_is_told_where_csv_is_enough(small, told):
    made = finetune(ADAPTER, workspace=small)
    log_beside(made, Runtime(), small.reporter, LoggedRun("x", {}, [], {}))
    assert told == []
    assert "logger" not in made.environment
    assert sorted(path.name for path in small.runs_dir.parent.iterdir()) == ["runs"]


def test_every_logger_can_be_asked_for(run, refused):
    assert "mlflow or wandb" in " ".join(run("train-base", "--help").out.split())
    refused(["train-base", "--logger", "mlfow"], 2, "csv, tensorboard, mlflow, wandb", "did you mean 'mlflow'")
