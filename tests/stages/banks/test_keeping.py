"""A sweep that keeps some of its adapters has the same rows as one that keeps all, and can make the others again."""

from __future__ import annotations

import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lora_mnist_cli.cli.again import line_of
from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.registry.verification import verify
from lora_mnist_cli.settings.runtime import Runtime
from lora_mnist_cli.stages import Workspace, compare, explore, plan_sweep, sweep
from lora_mnist_cli.system.errors import ArtifactError, UsageError

GRID: dict[str, Any] = {
    "ranks": [1, 2], "seeds": [0, 1], "grid": {"lrs": [1e-2, 3e-2]}, "epochs": 2, "name": "some"
}  # fmt: skip


def _keep(workspace: Workspace, keep: str, **more: Any) -> Artifact:
    return sweep(workspace=workspace, keep=keep, **(GRID | more))


def _weights(workspace: Workspace) -> dict[str, bytes]:
    paths = workspace.runs_dir.glob("*-r[12]-lr*/adapter_model.safetensors")
    return {path.parent.name: path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def whole(make_once: Any, small_trained: Path, small_data: Path) -> Workspace:
    """The sweep with all of its adapters. Not to be written to."""

    def make(folder: Path) -> None:
        shutil.copytree(small_trained, folder / "runs")
        _keep(Workspace(folder / "runs", small_data, runtime=Runtime(accelerator="cpu")), "all")

    return Workspace(make_once("kept-whole", make) / "runs", small_data, runtime=Runtime(accelerator="cpu"))


def _best(rows: list[dict[str, Any]], count: int) -> set[str]:
    """Return the best by an order of its own: sort by loss, then by accuracy, which is stable."""
    by_loss = sorted(rows, key=lambda row: float(row["last_epoch"]["val_loss"]))
    by_accuracy = sorted(by_loss, key=lambda row: float(row["last_epoch"]["val_accuracy"]), reverse=True)
    return {row["artifact"] for row in by_accuracy[:count]}


def test_every_row_is_there_with_the_end_of_its_history_whatever_is_kept(small, whole):
    of_all, none = whole.registry.get("some"), _keep(small, "none")
    assert none.details["results"] == of_all.details["results"]
    assert (none.digest, none.read("results.csv")) == (of_all.digest, of_all.read("results.csv"))
    assert {parent.role for parent in none.parents} == {"base"}
    assert not _weights(small)
    for row in none.details["results"]:
        history = (whole.runs_dir / row["artifact"] / "history.csv").read_text().splitlines()
        last = dict(zip(history[0].split(","), history[-1].split(","), strict=True))
        names = ("epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy")
        assert row["last_epoch"] == {name: float(last[name]) for name in names}


@pytest.mark.parametrize("backend", ["local", pytest.param("processes", marks=pytest.mark.slow)])
def test_the_best_are_kept_with_the_bytes_that_they_have_where_all_are(small, whole, backend):
    runtime = Runtime(accelerator="cpu", backend=backend, workers=1 if backend == "processes" else None)
    kept = _keep(replace(small, runtime=runtime), "best:3")
    names = _best(whole.registry.get("some").details["results"], 3)
    assert _weights(small) == {name: content for name, content in _weights(whole).items() if name in names}
    assert {parent.name for parent in kept.parents if parent.role == "member"} == names
    assert len(_weights(small)) == 3
    assert not any(verdict.problems for verdict in verify(small.registry))


def test_more_is_kept_later_with_the_same_bytes_and_what_was_kept_before_stays(small, whole, recorder):
    heard = replace(small, reporter=recorder)
    everything = _weights(whole)
    _keep(small, "best:1")
    (best,) = _weights(small)
    other = next(name for name in everything if name != best)
    assert plan_sweep(workspace=small, keep="best:1", **GRID).up_to_date
    assert plan_sweep(workspace=small, keep=other, **GRID).missing == [other]
    both = _keep(heard, other)
    assert f"some did not keep {other}: trained again, with the same bytes" in recorder.all("notice")
    assert _weights(small) == {name: everything[name] for name in (best, other)}
    for less in ("none", "best:1", other):
        assert _keep(small, less) == both
    assert _keep(small, "all").details.get("keep") is None
    assert _weights(small) == everything
    assert plan_sweep(workspace=small, keep="none", **GRID).up_to_date


def test_a_sweep_that_kept_nothing_knows_on_how_many_threads_and_in_which_banks_its_adapters_are_made(small, recorder):
    two = replace(small, runtime=Runtime(accelerator="cpu", threads=2, bank_megabytes=3))
    made = sweep([1], epochs=0, name="two", keep="none", workspace=two)
    options = line_of(small.registry, made).options
    assert (options["threads"], options["bank_memory"]) == ("2", "3")
    made = sweep([1], epochs=0, name="two", keep="best:1", workspace=replace(small, reporter=recorder))
    told = "two did not keep lora-fashion-mnist-5-9-r1: trained again, with another engine, threads or memory of banks"
    assert told in recorder.all("notice")
    assert not {"threads", "bank_memory"} & set(line_of(small.registry, made).options)
    assert not {"threads", "bank_megabytes"} & set(made.environment)


def test_what_is_missing_of_what_was_kept_is_made_again(small, whole):
    kept = _keep(small, "best:2")
    names = sorted(_weights(small))
    shutil.rmtree(small.runs_dir / names[0])
    assert plan_sweep(workspace=small, keep="none", **GRID).missing == [names[0]]
    assert _keep(small, "best:2").parents == kept.parents
    assert _weights(small) == {name: _weights(whole)[name] for name in names}


def test_the_command_that_a_row_gives_makes_its_adapter_with_the_same_bytes(small, whole, run):
    places = ("--runs-dir", small.runs_dir, "--data-dir", small.data_dir)
    asked = ("sweep", "--ranks", "1,2", "--seeds", "0,1", "--lrs", "1e-2,3e-2", "--epochs", "2", "--name", "some")
    first = run(*asked, "--keep", "none", *places, "--json")
    rows = first.json["results"]
    assert all(row["kept"] is False for row in rows)
    name, line = rows[3]["artifact"], shlex.split(rows[3]["again"])
    assert line[0] == "lora-mnist"
    assert f"--keep {name}" in run("evaluate", name, *places).err
    assert run(*line[1:], *places).code == 0
    assert _weights(small) == {name: _weights(whole)[name]}
    assert shlex.split(run("runs", "command", name, "--runs-dir", small.runs_dir).out) == line
    table = run(*asked, "--keep", "none", *places).out
    assert "1 of 8 adapters kept; another is made, with the same bytes, by: lora-mnist sweep" in table


def test_an_adapter_that_was_there_before_is_taken_for_its_row_and_not_trained(small):
    _keep(small, "all", ranks=[1], name="one")
    before = _weights(small)
    _keep(small, "none")
    assert _weights(small) == before


def test_what_diverges_is_counted_and_never_the_best(small, recorder):
    heard = replace(small, reporter=recorder)
    kept = _keep(heard, "best:8", grid={"lrs": [1e-2, 1e30]})
    failed = [row for row in kept.details["results"] if row["failed"]]
    assert len(failed) == 4
    assert len(_weights(small)) == 4
    assert any("4 adapters diverged, for example" in text for text in recorder.all("warn"))


def test_comparing_and_choosing_need_no_adapter_and_a_page_shows_what_was_kept(small, run):
    _keep(small, "none")
    _keep(small, "best:2", name="other", grid={"lrs": [2e-2, 4e-2]})
    assert len(compare("some", "other", tune=True, workspace=small)["tuned"]) == 4
    with pytest.raises(ArtifactError, match="did not keep the weights") as refused:
        explore(["some"], workspace=small)
    assert "runs command some" in refused.value.hint
    assert explore(["other"], workspace=small).adapters
    places = ("--runs-dir", small.runs_dir, "--data-dir", small.data_dir)
    assert run("plot", "learning-rate", "some", *places).code == 0
    assert "did not keep the weights" in run("plot", "spectrum", "some", "--where", "lr=0.01", *places).err
    assert run("gate", "5-9=0.01", "some", *places).code in (0, 1, 2)


def test_a_choice_that_cannot_be_made_is_refused_before_anything_is_trained(small):
    with pytest.raises(UsageError, match="leaves none"):
        _keep(small, "best:2", val_split=0.0)
    with pytest.raises(UsageError, match="no adapter 'lora' to keep"):
        _keep(small, "lora")
    assert not small.registry.has("some")
