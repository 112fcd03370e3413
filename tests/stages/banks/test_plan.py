"""What a sweep says before it trains, and sweeps over more than ranks and seeds."""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
from pathlib import Path
from typing import Any

import pytest

from lora_mnist_cli.registry.artifact import Settings
from lora_mnist_cli.registry.file_names import ADAPTER_FILE
from lora_mnist_cli.registry.verification import verify
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.stages import PlotOptions, Workspace, evaluate, finetune, plan_sweep, plot, sweep
from lora_mnist_cli.stages.banks import estimate
from lora_mnist_cli.stages.banks.estimate import Estimate, StopWatch
from lora_mnist_cli.stages.records.resolving import adapter_name, adapter_settings, resolve
from lora_mnist_cli.stages.records.results import study_accuracies
from lora_mnist_cli.system.errors import ArtifactError, OtherSettingsError, UsageError
from lora_mnist_cli.system.work import TRAINING

CONFIG = AdapterConfig(epochs=1, batch_size=16)
GRID = {"lrs": [1e-3, 1e-2], "scalings": ["constant", "rslora"]}
PREFIX = "lora-fashion-mnist-5-9"


def everything(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}


def test_a_plain_sweep_has_the_fingerprint_and_names_that_it_always_had(example):
    """Golden values, made when a sweep had ranks and seeds alone; the code's number is held, as it may go up."""
    workspace = Workspace(example)
    workspace.registry.remove("sweep-5-9")
    workspace.registry.remove("lora-5-9-r1")
    heard: list[tuple[str, str]] = []

    def settings_of(**asked: Any) -> None:
        def remember(self: Any, name: str, settings: Settings, force: bool = False) -> None:
            heard.append((name, dataclasses.replace(settings, code=2).fingerprint()))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("lora_mnist_cli.registry.registry.Registry.up_to_date", remember)
            plan_sweep(workspace=workspace, **asked)

    settings_of(ranks=[1, 2, 4], seeds=[0, 1])
    other = AdapterConfig(lr=0.003, alpha=2, scaling="rslora", weight_decay=0.1, dropout=0.1, init="kaiming")
    settings_of(ranks=[8], seeds=[0], config=other)
    lists = {"lrs": [0.003], "alphas": [2], "scalings": ["rslora"], "weight_decays": [0.1], "dropouts": "0.1"}
    settings_of(ranks=[8], grid={**lists, "inits": "kaiming"})
    marked = "lr0.003-a2-rslora-kaiming-wd0.1-d0.1"
    names = ["sweep-5-9", f"sweep-5-9-{marked}"]
    sweeps = [each for each in heard if each[0] in names]
    one = "sha256:98091662ab1362afd51da3f41be6d1e25d0eea04a044bb63f266b4a44741a0a7"
    two = "sha256:733b571d4574b83a63bf2c91fa5c7f504958a9b39d41c1db0f264c58ba851fcf"
    assert [digest for _, digest in sweeps] == [one, two, two]
    assert [name for name, _ in heard if name not in names] == [
        "lora-5-9-r1", "lora-5-9-r1-s1", "lora-5-9-r2", "lora-5-9-r2-s1", "lora-5-9-r4", "lora-5-9-r4-s1",
        f"lora-5-9-r8-{marked}", f"lora-5-9-r8-{marked}",
    ]  # fmt: skip
    base = workspace.registry.get("base-0-4")
    config = resolve(AdapterConfig(rank=4, seed=3), base)
    assert adapter_name(base, config) == "lora-5-9-r4-s3"
    assert dataclasses.replace(adapter_settings(base, config), code=2).fingerprint() == (
        "sha256:004e9893de844eee4b6867c6bad369dafb7eba452a0dbe83f22a268bac8ff3e3"
    )


def test_a_sweep_over_more_axes(small, recorder, tmp_path):
    heard = dataclasses.replace(small, reporter=recorder)
    made = sweep([1, 3], seeds=[0, 2], grid=GRID, config=CONFIG, workspace=heard, name="wide")
    ends = [
        f"r{r}{lr}{s}{seed}" for r in (1, 3) for lr in ("", "-lr0.01") for s in ("", "-rslora") for seed in ("", "-s2")
    ]
    assert [row["artifact"] for row in made.details["results"]] == [f"{PREFIX}-{end}" for end in ends]
    assert (made.config["lrs"], made.config["scalings"]) == ([0.001, 0.01], ["constant", "rslora"])
    assert not {"lr", "scaling", "rank", "seed"} & set(made.config)
    assert made.config["alpha"] == 1.0
    for row in made.details["results"]:
        config = small.registry.get(row["artifact"]).config
        assert {key: config[key] for key in ("rank", "lr", "scaling", "seed")} == {
            key: row[key] for key in ("rank", "lr", "scaling", "seed")
        }
        assert "alpha" not in row
    rows = list(csv.DictReader(io.StringIO((made.path / "results.csv").read_text())))
    assert list(rows[0])[:5] == ["artifact", "rank", "lr", "scaling", "seed"]
    assert [(row["lr"], row["scaling"]) for row in rows[:8:2]] == [
        ("0.001", "constant"), ("0.001", "rslora"), ("0.01", "constant"), ("0.01", "rslora"),
    ]  # fmt: skip
    assert recorder.all("begin")[0][0] == "16 adapters on 5-9"
    assert not any(verdict.problems for verdict in verify(small.registry))
    # What one sweep has made, another takes: its adapters have the same names where they are the same.
    recorder.events.clear()
    sweep([1], seeds=[0], grid={"lrs": [1e-2, 1e-3], "alphas": [1, 2]}, config=CONFIG, workspace=heard, name="other")
    assert [name for name in recorder.all("notice") if name.endswith("is up to date")] == [
        f"{PREFIX}-r1-lr0.01 is up to date", f"{PREFIX}-r1 is up to date",
    ]  # fmt: skip
    assert small.registry.get(f"{PREFIX}-r1-lr0.01-a2").config["alpha"] == 2.0


def test_where_names_have_other_settings_a_named_sweep_names_its_adapters_with_their_marks(small):
    sweep([3], grid={"lrs": [1e-3, 1e-2]}, config=CONFIG, workspace=small, name="first")
    other = dataclasses.replace(CONFIG, batch_size=32)
    made = sweep([3], seeds=[0, 1], grid={"lrs": [1e-3, 1e-2]}, config=other, workspace=small, name="km")
    assert [row["artifact"] for row in made.details["results"]] == [
        "km-r3", "km-r3-s1", "km-r3-lr0.01", "km-r3-lr0.01-s1",
    ]  # fmt: skip


def test_ranks_and_seeds_may_be_in_the_grid_and_not_twice(small):
    plan = plan_sweep(grid={"ranks": [5], "seeds": "1-2"}, config=CONFIG, workspace=small, name="new")
    assert plan.missing == [f"{PREFIX}-r5-s1", f"{PREFIX}-r5-s2"]
    with pytest.raises(UsageError, match="ranks are given twice"):
        plan_sweep([1], grid={"ranks": [5]}, config=CONFIG, workspace=small)
    assert plan_sweep(config=CONFIG, workspace=small, name="new").axes == {
        "ranks": [1, 2, 4, 8, 16, 32, 64],
        "seeds": [0],
    }


def test_a_plan_tells_what_is_there_and_changes_nothing(small, recorder):
    finetune(dataclasses.replace(CONFIG, rank=3), workspace=small)
    before = everything(small.runs_dir)
    asked: dict[str, Any] = {"seeds": [0, 1], "grid": GRID, "config": CONFIG, "name": "wide"}
    plan = plan_sweep([1, 3], workspace=dataclasses.replace(small, reporter=recorder), **asked)
    assert everything(small.runs_dir) == before
    assert plan.there == [f"{PREFIX}-r3"]
    assert len(plan.missing) == 15
    assert [len(bank) for bank in plan.banks] == [15]
    assert not plan.up_to_date
    tight = dataclasses.replace(small, runtime=dataclasses.replace(small.runtime, bank_megabytes=1))
    cut = plan_sweep([1, 3], workspace=tight, **asked)
    assert {each.name for bank in cut.banks for each in bank} == {each.name for each in plan.banks[0]}
    assert len(cut.banks) > 1
    assert all(cut.megabytes(bank) <= 1 for bank in cut.banks)
    document = cut.to_json()
    assert document["grid"] == {"ranks": [1, 3], "seeds": [0, 1], **GRID}
    assert [bank["adapters"] for bank in document["banks"]] == [[each.name for each in bank] for bank in cut.banks]
    # And then it is done as it was planned.
    sweep([1, 3], workspace=small, **asked)
    after = plan_sweep([1, 3], workspace=small, **asked)
    assert (after.missing, after.banks, after.up_to_date, after.estimate) == ([], [], True, None)
    assert str(after) == "plan for wide: 16 adapters, 16 there already; time: nothing to train"
    forced = plan_sweep([1, 3], workspace=small, force=True, **asked)
    assert (forced.there, len(forced.missing), forced.up_to_date) == ([], 16, False)


def test_banks_that_are_whole_are_not_cut_again(small, monkeypatch):
    """A thousand adapters that were trained alone would else be a thousand looks at the whole grid."""
    for rank in (1, 3):
        finetune(dataclasses.replace(CONFIG, rank=rank), workspace=small)
    sweep([4, 5], config=CONFIG, workspace=small, name="two")
    from lora_mnist_cli.stages.banks import cut

    sizes: list[int] = []
    cut_into_banks = cut.cut_into_banks
    monkeypatch.setattr(
        cut, "cut_into_banks", lambda requests, *rest: sizes.append(len(requests)) or cut_into_banks(requests, *rest)
    )
    plan = plan_sweep([1, 3, 4, 5, 6, 7, 8], config=CONFIG, workspace=small, name="all")
    assert [len(bank) for bank in plan.banks] == [3]
    assert sorted(sizes) == [1, 1, 2, 3, 7]  # the whole grid once


def test_a_plan_is_refused_for_what_the_sweep_would_be(small):
    with pytest.raises(OtherSettingsError, match="lrs none there"):
        plan_sweep([2], grid=GRID, config=AdapterConfig(epochs=2, alpha=0.5), workspace=small)
    small.registry.remove("sweep-fashion-mnist-5-9-a0.5")
    half = dataclasses.replace(CONFIG, alpha=0.5)
    with pytest.raises(OtherSettingsError, match=f"'{PREFIX}-r2-a0.5' exists with other settings") as caught:
        plan_sweep([2], config=half, workspace=small)
    assert caught.value.hint == "--name NEW keeps both: its adapters are then named for it"
    assert plan_sweep([2], config=half, workspace=small, name="other").missing == ["other-r2"]
    with pytest.raises(ArtifactError, match="no artifact"):
        plan_sweep([2], base="nothing", workspace=small)


def test_adapters_are_named_for_their_sweep_where_that_is_asked_for(small):
    assert plan_sweep([2], config=CONFIG, workspace=small, name="mine", own_names=True).missing == ["mine-r2"]
    with pytest.raises(UsageError, match="a name of its own"):
        plan_sweep([2], config=CONFIG, workspace=small, own_names=True)


def test_a_plan_counts_what_is_trained_again_for_its_bank(small):
    sweep([2, 3], config=CONFIG, workspace=small, name="none-kept", keep="none", own_names=True)
    plan = plan_sweep([2, 3], config=CONFIG, workspace=small, name="none-kept", keep="none-kept-r3", own_names=True)
    assert "2 adapters, 1 to train in 1 bank, with 1 other of the same bank" in str(plan)


def test_what_is_trained_alone_is_made_again_without_the_others(small):
    """Its bytes depend on no other adapter, so one that is missing costs one training."""
    asked: dict[str, Any] = {
        "seeds": [1, 2, 3], "config": dataclasses.replace(CONFIG, method="full", rank=0), "workspace": small,
        "own_names": True,
    }  # fmt: skip
    sweep(**asked, name="kept")
    before = small.registry.get("kept-s2").read(ADAPTER_FILE)
    sweep(**asked, name="none", keep="none", force=True)
    for name in ("kept", "kept-s1", "kept-s2"):
        small.registry.remove(name)
    for name, keep, missing in (("kept", "all", ["kept-s1", "kept-s2"]), ("none", "none-s2", ["none-s2"])):
        plan = plan_sweep(**asked, name=name, keep=keep)
        assert [[member.name for member in bank] for bank in plan.banks] == [missing]
        assert "other" not in str(plan)
    sweep(**asked, name="kept")
    assert small.registry.get("kept-s2").read(ADAPTER_FILE) == before


def forged(small: Workspace, forge: Any, name: str, seconds: float, more: Any = None) -> None:
    def change(manifest: Any) -> None:
        manifest["wall_seconds"] = seconds
        manifest["details"].update(more or {})

    forge(small.runs_dir / name, change)


def test_an_estimate_is_the_median_cost_of_a_step_of_what_is_like_it(small, forge, monkeypatch):
    """Of 250 images of 5-9, 200 are trained on: 13 steps an epoch of 16 each."""
    monkeypatch.setattr(estimate, "measured_seconds", lambda _: 7.0)
    small.registry.remove("sweep-fashion-mnist-5-9-a0.5")
    small.registry.remove(f"{PREFIX}-r2-a0.5")
    asked: dict[str, Any] = {"config": CONFIG, "name": "new"}
    nothing = plan_sweep([5], workspace=small, **asked)
    assert nothing.estimate == Estimate(7.0, 7.0, 7.0, 0)
    assert str(nothing).endswith("; time: about 7.0 s (by 1 s of its first steps)")
    for seed, seconds in ((7, 1.0), (8, 2.0), (9, 6.0)):
        made = finetune(dataclasses.replace(CONFIG, seed=seed), workspace=small)
        forged(small, forge, made.name, seconds)
    two = plan_sweep([5, 6], seeds=[0], workspace=small, **asked)
    # Banks of one each are near to a bank of two.
    assert two.estimate == Estimate(pytest.approx(4.0), pytest.approx(2.0), pytest.approx(12.0), 3)
    assert two.time() == "about 4.0 s (2.0 s to 12 s, by 3 adapters on this base)"
    large = plan_sweep(range(1, 9), workspace=small, **asked).estimate
    assert large is not None
    assert large.samples == 0
    small.registry.remove(f"{PREFIX}-r8-s9")
    sweep(range(1, 7), config=CONFIG, workspace=small, name="six")
    for rank in range(1, 7):
        forged(small, forge, f"{PREFIX}-r{rank}", 0.5)
    large = plan_sweep(range(1, 9), workspace=small, name="new", config=dataclasses.replace(CONFIG, val_split=0.1))
    steps = 15  # of 225 images
    assert large.estimate is not None
    assert large.estimate.samples == 6
    assert large.estimate.seconds == pytest.approx(8 * steps * 0.5 / 13)
    # What takes another time per step tells nothing: an epoch has much work beside its steps, twenty have little.
    for other in ({"epochs": 20}, {"precision": "64-true"}, {"batch_size": 8}, {"method": "full", "rank": 0}):
        unlike = plan_sweep(seeds=[3], workspace=small, config=dataclasses.replace(CONFIG, **other), name="new")
        assert unlike.estimate is not None
        assert unlike.estimate.samples == 0
    threads = dataclasses.replace(small, runtime=dataclasses.replace(small.runtime, threads=2))
    assert plan_sweep([5], seeds=[3], workspace=threads, **asked).estimate.samples == 0


def test_the_first_steps_are_measured_and_thrown_away(small, monkeypatch):
    """The training is as long as they say, and the work beside it as it was planned."""
    watches: list[estimate.StopWatch] = []

    def made() -> estimate.StopWatch:
        watches.append(StopWatch(itertools.count(0.0, 0.25).__next__))
        return watches[-1]

    monkeypatch.setattr("lora_mnist_cli.stages.banks.estimate.StopWatch", made)
    before = everything(small.runs_dir)
    plan = plan_sweep([3, 4], config=dataclasses.replace(CONFIG, epochs=40, val_split=0.0), workspace=small, name="new")
    assert plan.estimate is not None
    (watch,) = watches
    assert watch.seconds > 0
    beside = sum(seconds for name, seconds in plan.jobs.work(plan.banks[0]).items() if name != TRAINING)
    assert plan.estimate.seconds == pytest.approx(watch.seconds + beside)
    assert everything(small.runs_dir) == before


def test_a_stopwatch_ends_the_training_when_it_knows_enough():
    watch = StopWatch(itertools.count(0.0, 0.4).__next__)
    watch.begin("bank", 10, 20)
    for _ in range(3):
        watch.advance(2, 1, 0.5)
    with pytest.raises(estimate._EnoughError):
        watch.advance(2, 1, 0.5)
    assert watch.seconds == pytest.approx(200 / 6 * 1.2)


def test_processes_side_by_side_share_the_time(small, monkeypatch):
    monkeypatch.setattr(estimate, "measured_seconds", lambda _: 8.0)
    runtime = dataclasses.replace(small.runtime, backend="processes", workers=2, bank_megabytes=1)
    plan = plan_sweep([200, 210], workspace=dataclasses.replace(small, runtime=runtime), config=CONFIG, name="new")
    assert plan.estimate is not None
    assert plan.estimate.seconds == 4.0


def test_a_sweep_that_runs_measures_as_it_runs(small, recorder, monkeypatch):
    monkeypatch.setattr(estimate, "measured_seconds", lambda _: pytest.fail("it takes time"))
    heard = dataclasses.replace(small, reporter=recorder)
    sweep([7], config=dataclasses.replace(CONFIG, epochs=5), workspace=heard, name="new")
    assert "plan for new: 1 adapter, 1 to train in 1 bank" in recorder.all("notice")


def test_the_plan_is_told_before_the_training(small, recorder):
    heard = dataclasses.replace(small, reporter=recorder)
    sweep([1, 3], config=CONFIG, workspace=heard, name="wide")
    told = [event for event in recorder.events if event[0] == "begin" or "plan for" in str(event[1:])]
    assert [event[0] for event in told] == ["notice", "begin"]
    assert told[0][1].startswith("plan for wide: 2 adapters, 2 to train in 1 bank")
    recorder.events.clear()
    sweep([1, 3], config=CONFIG, workspace=heard, name="wide")
    assert not any("plan for" in text for text in recorder.all("notice"))


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_all_banks_have_one_bar(small, recorder, precision):
    runtime = dataclasses.replace(small.runtime, bank_megabytes=1)
    heard = dataclasses.replace(small, reporter=recorder, runtime=runtime)
    config = dataclasses.replace(CONFIG, precision=precision)
    made = sweep([1, 3], seeds=[0, 1, 2], config=config, workspace=heard, name="wide")
    assert len(made.details["results"]) == 6
    ((title, epochs, steps),) = recorder.all("begin")
    assert (title, epochs) == ("6 adapters on 5-9", 1)
    assert steps == sum(count for count, _, _ in recorder.all("advance"))
    assert len(recorder.all("end")) == 1
    assert recorder.events[-1][0] != "advance"
    numbers = recorder.all("part")
    assert len(numbers) > 1
    assert numbers == [(number, len(numbers)) for number in range(1, len(numbers) + 1)]


def test_a_sweep_of_several_recipes_has_none_of_the_studys_figures(small):
    made = sweep([3], grid={"lrs": [1e-3, 1e-2]}, config=CONFIG, workspace=small, name="wide")
    assert study_accuracies(small, made) == {}
    assert study_accuracies(small, made, {"lr": 1e-3}) == {}  # another data set, and one epoch


def test_ranks_are_drawn_of_one_combination(small, monkeypatch, tmp_path):
    made = sweep([1, 3], seeds=[0, 1], grid=GRID, config=CONFIG, workspace=small, name="wide")
    with pytest.raises(UsageError, match=r"several adapters per rank and seed: lrs 0\.001, 0\.01; scalings") as caught:
        plot("ranks", "wide", workspace=small)
    assert caught.value.hint == "draw one combination: --where lr=0.001 --where scaling=constant"
    for where, shown in (
        ({"lr": 0.01}, "several adapters per rank and seed: scalings constant, rslora"),
        ({"lr": 0.5}, "no lr 0.5"),
        ({"alpha": 1.0}, "does not vary alpha"),
    ):
        with pytest.raises(UsageError, match=shown):
            plot("ranks", "wide", options=PlotOptions(where=where), workspace=small)
    with pytest.raises(UsageError, match="does not vary lr"):
        plot("ranks", "sweep-fashion-mnist-5-9-a0.5", options=PlotOptions(where={"lr": 0.1}), workspace=small)
    with pytest.raises(UsageError, match="no use for --where"):
        plot("history", options=PlotOptions(where={"lr": 0.1}), workspace=small)
    seen: list[Any] = []
    from lora_mnist_cli.plots import ranks

    draw = ranks.draw
    monkeypatch.setattr(ranks, "draw", lambda rows, **more: seen.append((rows, more)) or draw(rows, **more))
    _, path = plot("ranks", "wide", options=PlotOptions(where={"lr": 0.01, "scaling": "rslora"}), workspace=small)
    assert path.name == "ranks-wide-lr-0.01-scaling-rslora.png"
    ((rows, more),) = seen
    assert [(row["rank"], row["seed"]) for row in rows] == [(1, 0), (1, 1), (3, 0), (3, 1)]
    assert all((row["lr"], row["scaling"]) == (0.01, "rslora") for row in rows)
    assert "lr 0.01; scaling rslora" in more["subtitle"]
    assert [row for row in made.details["results"] if row in rows] == rows
    (evaluation,) = evaluate(rows[0]["artifact"], workspace=small)
    assert evaluation.alpha == 1.0


def test_a_bank_has_one_method_that_banks_train_and_what_is_trained_alone_shares_one(small):
    plan = plan_sweep([2], grid={"methods": "lora,vera,full,dora"}, config=CONFIG, workspace=small, seeds=[0, 1])
    methods = [sorted({member.config.method for member in bank}) for bank in plan.banks]
    assert methods == [["lora"], ["vera"], ["dora", "full"]]
    lora = plan_sweep([2], config=CONFIG, workspace=small, seeds=[0, 1])
    assert [m.config for m in lora.banks[0]] == [m.config for m in plan.banks[0]]


def test_what_is_trained_by_vera_is_made_again_with_its_bank(small):
    vera = dataclasses.replace(CONFIG, method="vera", rank=2)
    asked: dict[str, Any] = {"seeds": [1, 2, 3], "config": vera, "workspace": small, "own_names": True}
    sweep([2], **asked, name="kept")
    before = small.registry.get("kept-r2-s2").read(ADAPTER_FILE)
    small.registry.remove("kept")
    small.registry.remove("kept-r2-s2")
    assert "1 to train in 1 bank, with 2 others of the same bank" in str(plan_sweep([2], **asked, name="kept"))
    sweep([2], **asked, name="kept")
    assert small.registry.get("kept-r2-s2").read(ADAPTER_FILE) == before
