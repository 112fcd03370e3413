"""Chains of tasks: what is trained, what a report says of it, and what no later stage can read."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lora_mnist_cli.data import dataset, sources
from lora_mnist_cli.evaluation.forgetting import accuracy
from lora_mnist_cli.evaluation.literature import FIVE_TASKS, TWO_TASKS, literature_results
from lora_mnist_cli.evaluation.logits import predict
from lora_mnist_cli.evaluation.transfer import transfer
from lora_mnist_cli.models.mlp import MNISTModel
from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.registry.checkpoint import load_base
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.settings.runtime import Runtime
from lora_mnist_cli.stages import Workspace, chain, evaluate, evaluate_routed, reproduce
from lora_mnist_cli.stages.banks import work
from lora_mnist_cli.stages.chains import parallel
from lora_mnist_cli.stages.chains.ewc import load_penalty
from lora_mnist_cli.stages.chains.run import MEASURES, make_plan
from lora_mnist_cli.stages.chains.strategies import STRATEGIES, Strategy, protected_config
from lora_mnist_cli.system.errors import ArtifactError, OtherSettingsError, UsageError

Run = Callable[..., Any]
TASKS = "0-3,4-6,7-9"
SMALL: dict[str, Any] = {"rank": 2, "epochs": 1, "dataset": "fashion-mnist", "name": "three", "workers": 1}


@pytest.fixture(scope="module")
def chained(tmp_path_factory: pytest.TempPathFactory, small_data: Path) -> Workspace:
    """A chain of three tasks with every cure and two seeds. Not to be written to."""
    workspace = Workspace(tmp_path_factory.mktemp("chained") / "runs", small_data)
    chain(TASKS, seeds=[0, 1], workspace=workspace, **SMALL)
    return workspace


@pytest.fixture(scope="module")
def report(chained: Workspace) -> Artifact:
    return chained.registry.get("three")


def strategies(report: Artifact) -> dict[str, Any]:
    return {row["cure"]: row for row in report.details["chain"]["cures"]}


def test_every_cure_is_in_the_report_with_every_seed(report: Artifact) -> None:
    assert list(strategies(report)) == list(STRATEGIES)
    for strategy in strategies(report).values():
        assert [run["seed"] for run in strategy["runs"]] == [0, 1]
        assert strategy["summary"]["all"]["n"] == 2
        assert (
            strategy["summary"]["all"]["low"] < strategy["summary"]["all"]["mean"] < strategy["summary"]["all"]["high"]
        )
    assert {path.name for path in report.path.iterdir()} == {"artifact.json", "cures.png", "report.md"}
    assert report.rows()[0]["what"] == "Plain LoRA"


@pytest.mark.parametrize("name", [name for name in STRATEGIES if name not in ("joint", "ewc")])
def test_the_matrix_is_what_evaluating_the_artifacts_by_hand_gives(
    chained: Workspace, report: Artifact, name: str
) -> None:
    run = strategies(report)[name]["runs"][1]
    digits = [DigitSet.parse(task) for task in TASKS.split(",")]
    assert [len(names) for names in run["artifacts"]] == ([1, 2, 3] if name == "routed" else [1, 1, 1])
    for row, names in zip(run["R"], run["artifacts"], strict=True):
        if len(names) > 1:
            scores = evaluate_routed(names, digit_sets=digits, workspace=chained).scores
        else:
            (evaluation,) = evaluate(names[0], digit_sets=digits, workspace=chained)
            scores = evaluation.scores
        assert row == pytest.approx([subset["accuracy"] for subset in scores["subsets"]])


def test_the_networks_of_ewc_are_kept_with_their_springs_and_go_on_from_each_other(
    chained: Workspace, report: Artifact
) -> None:
    run = strategies(report)["ewc"]["runs"][0]
    assert run["artifacts"] == [["three-ewc-after-1"], ["three-ewc-after-2"], ["three-ewc-after-3"]]
    first, second, last = (chained.registry.get(names[0]) for names in run["artifacts"])
    base = chained.registry.get("base-fashion-mnist-0-3")
    assert [parent.digest for each in (first, second, last) for parent in each.parents] == [
        base.digest, first.digest, second.digest
    ]  # fmt: skip
    assert first.read("model.safetensors") == base.read("model.safetensors")
    model = MNISTModel()
    load_base(model, last)
    test = chained.test_images(last, tuple(base.details["pixel_stats"]))
    logits = predict(model, test.images)
    tasks = [DigitSet.parse(task) for task in TASKS.split(",")]
    assert run["R"][-1] == pytest.approx([accuracy(logits, test.labels, task) for task in tasks])
    before, after = load_penalty(model, first), load_penalty(model, second)
    assert all(bool((after.fisher[name] >= each).all()) for name, each in before.fisher.items())
    with pytest.raises(ArtifactError, match="does not fit"):
        load_penalty(MNISTModel((3,)), last)


def test_the_measures_are_those_of_the_matrix_and_joint_training_has_none(report: Artifact) -> None:
    for name, strategy in strategies(report).items():
        for run in strategy["runs"]:
            if name == "joint":
                assert (len(run["R"]), run["backward"], run["so_far"]) == (1, None, None)
                continue
            known = transfer(run["R"], run["untrained"])
            for measure in ("accuracy", "backward", "forward", "forgetting"):
                assert run[measure] == getattr(known, measure)
            # 80 images of 0-3, and 60 of each other task.
            last = run["R"][-1]
            assert run["all"] == pytest.approx((80 * last[0] + 60 * last[1] + 60 * last[2]) / 200)
            assert run["old"] == pytest.approx((80 * last[0] + 60 * last[1]) / 140)
            assert run["new"] == last[2]


def test_each_cure_trains_what_it_says(chained: Workspace, report: Artifact) -> None:
    last = {name: strategy["runs"][0]["artifacts"][-1] for name, strategy in strategies(report).items()}
    registry = chained.registry
    assert last["joint"] == ["base-fashion-mnist-0-9"]
    assert registry.get(last["full"][0]).config["method"] == "full"
    assert registry.get(last["protected"][0]).config["protect"] == ["replay", "mask"]
    (chain_run,) = make_plan(TASKS, seeds=[0], epochs=9, dataset="fashion-mnist", workspace=chained).chain_runs
    assert (chain_run.adapter.epochs, protected_config(chain_run).epochs) == (9, 5)
    assert registry.parent(registry.get(last["protected"][0])).config["digits"] == "0-6"
    base = registry.get("base-fashion-mnist-0-3")
    assert last["routed"] == [base.name, "three-plain-4-6", "three-routed-7-9"]
    assert all(registry.parent(registry.get(each)).digest == base.digest for each in last["routed"][1:])
    assert registry.parent(registry.get(last["plain"][0])).name == "three-plain-after-2"


def test_the_same_chain_twice_does_the_work_once_and_a_seed_more_only_that(
    chained: Workspace, report: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained(*_: Any, **__: Any) -> None:
        raise AssertionError("it was there")

    before = {path: path.stat().st_mtime_ns for path in chained.runs_dir.rglob("*.safetensors")}
    with monkeypatch.context() as inside:
        inside.setattr("lora_mnist_cli.stages.banks.job.train_bank", trained)
        inside.setattr("lora_mnist_cli.training.ewc.learn", trained)
        inside.setattr("lora_mnist_cli.training.trainer.fit", trained)
        again = chain(TASKS, seeds=[0, 1], workspace=chained, **SMALL)
    assert again.digest == report.digest
    assert {path: path.stat().st_mtime_ns for path in chained.runs_dir.rglob("*.safetensors")} == before


class Killer:
    """A reporter that kills the process that begins to learn a certain part.

    Args:
        recorder: hears all.
        part: what it is called.
        times: how often, at most.
    """

    def __init__(self, recorder: Any, part: str, times: int = 9) -> None:
        self._recorder, self._part, self._times = recorder, part, times

    def __getattr__(self, name: str) -> Callable[..., None]:
        return getattr(self._recorder, name)

    def detail(self, text: str) -> None:
        self._recorder.detail(text)
        if self._part in text and self._times:
            self._times -= 1
            os.kill(int(text.split()[1]), signal.SIGKILL)


def test_a_warning_of_the_processes_is_told_once(tmp_path: Path, small_data: Path, recorder: Any) -> None:
    few = SMALL | {"cures": ["plain", "full"], "epochs": 0}
    chain(TASKS, workspace=Workspace(tmp_path / "runs", small_data), **few)
    again = Workspace(tmp_path / "runs", small_data, Runtime(threads=2), recorder)
    chain(TASKS, workspace=again, **(few | {"workers": 2}))
    warned = recorder.all("warn")
    assert "base-fashion-mnist-0-3 was trained with --threads 1; --force trains it again" in warned
    assert len(set(warned)) == len(warned)


def test_processes_beside_each_other_make_the_same_though_one_is_killed(
    chained: Workspace, report: Artifact, tmp_path: Path, small_data: Path, recorder: Any
) -> None:
    killer = Killer(recorder, "ewc of 0-3,4-6,7-9, seed 1")
    workspace = Workspace(tmp_path / "runs", small_data, reporter=killer)
    made = chain(TASKS, seeds=[0, 1], workspace=workspace, **(SMALL | {"workers": 2}))
    assert made.digest == report.digest
    assert sorted(path.name for path in workspace.runs_dir.iterdir()) == sorted(
        path.name for path in chained.runs_dir.iterdir()
    )
    first, second, third = recorder.all("warn")
    assert "was ended by SIGKILL; ewc of 0-3,4-6,7-9, seed 1, is learned once more" in first
    assert "was ended by SIGKILL; ewc of 0-3,4-6,7-9, seed 1, is learned at the end" in second
    assert third == "1 of 12 parts are learned without processes"


def test_a_first_task_whose_process_died_is_learned_by_another_and_waited_for(
    report: Artifact, tmp_path: Path, small_data: Path, recorder: Any
) -> None:
    killer = Killer(recorder, "the first task", times=1)
    workspace = Workspace(tmp_path / "runs", small_data, reporter=killer)
    chain(TASKS, workspace=workspace, **(SMALL | {"cures": ["ewc", "full"], "workers": 2}))
    (warned,) = recorder.all("warn")
    assert "was ended by SIGKILL; the first task of 0-3,4-6,7-9, seed 0, is learned once more" in warned
    begun = [text.partition(" learns ")[2].partition(" of ")[0] for text in recorder.all("detail")]
    assert (begun[:2], sorted(begun[2:])) == (["the first task"] * 2, ["ewc", "full"])
    run = strategies(workspace.registry.get("three"))["ewc"]["runs"][0]
    assert run == strategies(report)["ewc"]["runs"][0]


def test_what_processes_did_is_told_once_and_scored_once(
    tmp_path: Path, small_data: Path, recorder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def here(*_: Any, **__: Any) -> None:
        raise AssertionError("that is for the processes")

    monkeypatch.setattr("lora_mnist_cli.stages.chains.figures.evaluate_routed", here)
    monkeypatch.setattr("lora_mnist_cli.stages.chains.run.score_before", here)
    monkeypatch.setattr("lora_mnist_cli.training.trainer.fit", here)
    monkeypatch.setattr("lora_mnist_cli.stages.banks.job.train_bank", here)
    workspace = Workspace(tmp_path / "runs", small_data, reporter=recorder)
    few = SMALL | {"cures": ["plain", "routed", "ewc"], "workers": 2}
    made = chain(TASKS, workspace=workspace, **few)
    learning, *told = recorder.all("notice")
    assert learning == "learning in 2 processes"
    what = f"of {TASKS}, seed 0, is learned"
    assert told[0] == f"the first task {what} (1 of 3)"
    assert {text.partition(f" {what}")[0] for text in told[1:]} == {"plain and routed", "ewc"}
    assert [text.rpartition(" (")[2] for text in told] == ["1 of 3)", "2 of 3)", "3 of 3)"]
    assert chain(TASKS, workspace=workspace, **few).digest == made.digest
    assert f"{made.name} is up to date" in recorder.all("notice")


def test_an_interrupt_ends_the_processes_and_leaves_nothing_half_done(
    tmp_path: Path, small_data: Path, recorder: Any
) -> None:
    class Interrupted(Killer):
        def detail(self, text: str) -> None:
            recorder.detail(text)
            if len(recorder.all("detail")) == 3:
                raise KeyboardInterrupt

    workspace = Workspace(tmp_path / "runs", small_data, reporter=Interrupted(recorder, ""))
    with pytest.raises(KeyboardInterrupt):
        chain(TASKS, workspace=workspace, **(SMALL | {"cures": ["plain", "ewc"], "workers": 2}))
    pids = {int(text.split()[1]) for text in recorder.all("detail")}
    assert len(pids) == 2
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert not (workspace.runs_dir / ".staging").exists()


def test_an_error_in_a_process_is_told_here_and_ends_the_others(
    tmp_path: Path, small_data: Path, recorder: Any
) -> None:
    workspace = Workspace(tmp_path / "runs", small_data, reporter=recorder)
    chain(TASKS, workspace=workspace, **(SMALL | {"cures": ["ewc"]}))
    with pytest.raises(OtherSettingsError, match="base-fashion-mnist-0-3") as caught:
        chain(TASKS, seeds=[1, 0], workspace=workspace, **(SMALL | {"cures": ["ewc"], "epochs": 2, "workers": 2}))
    assert "--runs-dir NEW" in caught.value.hint
    assert not recorder.all("warn")
    assert not (workspace.runs_dir / ".staging").exists()
    pids = [int(text.split()[1]) for text in recorder.all("detail")]
    assert len(pids) == 2
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.mark.parametrize(
    ("cores", "memory", "threads", "workers"),
    [(1, 64, 1, 1), (2, 24, 1, 2), (16, 8, 1, 4), (16, 64, 4, 4), (2, 1, 1, 1), (4, None, 1, 4), (2, 24, 8, 1)],
)
def test_processes_are_as_many_as_cores_and_memory_allow(
    monkeypatch: pytest.MonkeyPatch, cores: int, memory: int | None, threads: int, workers: int
) -> None:
    monkeypatch.setattr("lora_mnist_cli.stages.banks.backends.cores", lambda: cores)
    monkeypatch.setattr("lora_mnist_cli.stages.banks.backends.memory", lambda: memory and memory * 10**9)
    assert parallel.default_workers(Runtime(accelerator="cpu", threads=threads)) == workers


def test_parts_wait_for_the_first_task_alone_and_the_longest_begin_first(small: Workspace) -> None:
    plans = [
        make_plan(tasks, seeds=[0, 1], epochs=1, dataset="fashion-mnist", workspace=small)
        for tasks in (TWO_TASKS, FIVE_TASKS)
    ]
    parts = parallel.parts_of([(plan.chain_runs, plan.strategies) for plan in plans])
    assert [len(part.chain_run.tasks) for part in parts[:4]] == [2, 2, 5, 5]
    for part in parts[:4]:
        assert (part.strategies, part.after) == ((), frozenset())
    for part in parts[4:]:
        if part.strategies == ("joint",):
            assert not part.after
            continue
        (first,) = part.after
        assert parts[first].chain_run == part.chain_run
    # A network on all digits is the same for both chains.
    assert sorted(part.chain_run.base.seed for part in parts if part.strategies == ("joint",)) == [0, 1]
    longest = [("+".join(part.strategies), len(part.chain_run.tasks)) for part in parts[4:8]]
    assert sorted(longest) == 2 * [("plain+routed", 5)] + 2 * [("protected", 5)]
    assert {part.strategies for part in parts[-4:]} == {("full",), ("ewc",)}
    assert {len(part.chain_run.tasks) for part in parts[-4:]} == {2}
    assert len(parts[4:]) == 2 * (4 + 4 + 1)
    names = {part.strategies for part in parts[4:]}
    assert names == {("plain", "routed"), ("full",), ("ewc",), ("protected",), ("joint",)}


def test_at_its_turn_a_task_has_its_own_images_and_no_earlier_one(
    tmp_path: Path, small_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every way to training images is watched: what is asked for at a turn is the digits of that task."""
    asked: list[str] = []
    load_digits, load_split = sources.load_digits, sources.load_split

    def digits_only(dataset: str, split: Any, digits: DigitSet, data_dir: Path) -> Any:
        if split == "train":
            asked.append(str(digits))
        return load_digits(dataset, split, digits, data_dir)

    def test_only(dataset: str, split: Any, data_dir: Path) -> Any:
        assert split == "test"
        return load_split(dataset, split, data_dir)

    monkeypatch.setattr(dataset, "load_digits", digits_only)
    monkeypatch.setattr(work, "load_digits", digits_only)
    monkeypatch.setattr(work, "load_split", test_only)
    kept = [strategy for strategy in STRATEGIES if strategy != "joint"]
    workspace = Workspace(tmp_path / "runs", small_data)
    for strategy in kept:
        asked.clear()
        made = chain(TASKS, strategies=[strategy], workspace=workspace, **(SMALL | {"name": strategy}))
        turns = [task for task, before in zip(asked, ["", *asked], strict=False) if task != before]
        # The base, and the first adapter of plain LoRA, are there from the cure before.
        assert turns == [task for task in TASKS.split(",") if task in turns]
        assert turns[-2:] == ["4-6", "7-9"]
        assert made.config["cures"] == [strategy]


def test_what_can_not_be_is_refused(small: Workspace) -> None:
    for more, said in (
        ({"cures": ["plain", "plain"]}, "cures are given once each"), ({"cures": ["rooted"]}, "did you mean 'routed'"),
        ({"seeds": []}, "at least one"), ({"seeds": [1, 1]}, "seeds are given once each"), ({"rank": 0}, "rank"),
        ({"recipe_name": "best"}, "recipe"), ({"dataset": "mnits"}, "mnist"), ({"epochs": -1}, "epochs"),
        ({"workers": 0}, "at least one worker"),
    ):  # fmt: skip
        with pytest.raises(UsageError) as caught:
            chain(TASKS, workspace=small, **(SMALL | more))
        assert said in str(caught.value), more
    assert not [path for path in small.runs_dir.iterdir() if path.name.startswith("three")]


def test_a_name_with_other_settings_is_refused_with_what_helps(small: Workspace) -> None:
    chain(TASKS, strategies=["plain"], workspace=small, **SMALL)
    with pytest.raises(OtherSettingsError) as caught:
        chain(TASKS, strategies=["plain"], workspace=small, **(SMALL | {"rank": 3}))
    assert "--runs-dir NEW" in caught.value.hint


def test_every_cure_names_a_paper_and_is_told_in_the_help(run: Run) -> None:
    told = run("chain", "--help").out
    for name, strategy in STRATEGIES.items():
        assert name == strategy.name
        assert re.search(r"(19|20)\d\d.*(arXiv:|Neural|Psychology)", strategy.__doc__ or "", re.DOTALL), name
        assert strategy.__doc__ != Strategy.__doc__
        assert f"{name}:" in told
    assert len({strategy.title for strategy in STRATEGIES.values()}) == len(STRATEGIES)


def test_the_command_prints_a_table_of_80_columns(small: Workspace, run: Run) -> None:
    where = ["--dataset", "fashion-mnist", "--runs-dir", small.runs_dir, "--data-dir", small.data_dir]
    arguments = [
        "chain",
        "--tasks",
        "0-4,5-9",
        "--epochs",
        "0",
        "--rank",
        "2",
        "--seeds",
        "3-4",
        "--workers",
        "1",
        *where,
    ]
    plain = run(*arguments)
    assert plain.code == 0, plain.err
    assert max(map(len, plain.out.splitlines())) <= 80
    assert all(f"  {name} " in plain.out for name in STRATEGIES)
    told = run(*arguments, "--json").json
    assert told["artifact"] == "chain-fashion-mnist-0-4_5-9-tuned-r2-s3-4"
    assert (told["old"], told["new"], told["published"]) == ("0-4", "5-9", [])
    text = Path(told["report"]).read_text(encoding="utf-8")
    assert "2 seeds" in text
    assert "![Old against new digits for every cure](cures.png)" in text
    refused = run("chain", "--tasks", "0-4,4-9", *where)
    assert (refused.code, "digit 4 is in two tasks" in refused.err) == (2, True)


def test_the_widest_figures_fit_into_80_columns() -> None:
    from lora_mnist_cli.cli.commands.chain import chain_tables

    wide = {"mean": 0.9999, "low": 0.7, "high": 1.2, "worst": 0.9999, "worst_seed": 9}
    summary = {key: wide | {"mean": 0.9999 if key in ("all", "old", "new") else -0.9999} for key in MEASURES}
    document = {
        "tasks": [str(task) for task in FIVE_TASKS], "old": "0-7", "new": "8-9", "config": {"seeds": list(range(10))},
        "cures": [{"cure": name, "summary": summary} for name in STRATEGIES],
        "published": [*literature_results(TWO_TASKS), *literature_results(FIVE_TASKS)],
    }  # fmt: skip
    lines = [line.text for table in chain_tables(document) for line in table.lines()]
    assert any("-100.0" in line for line in lines)
    assert max(len(line.rstrip()) for line in lines) <= 80


def test_the_study_of_forgetting_has_both_chains_in_one_report(small: Workspace, run: Run) -> None:
    where = ["--dataset", "fashion-mnist", "--runs-dir", small.runs_dir, "--data-dir", small.data_dir]
    made = run("reproduce", "--study", "forgetting", "--epochs", "0", "--seed", "5", "--workers", "1", *where)
    assert made.code == 0, made.err
    assert "0-4 then 5-9" in made.out
    assert "0-1 then 2-3 then 4-5 then 6-7 then 8-9" in made.out
    assert max(map(len, made.out.splitlines())) <= 80
    report = small.registry.get("study-forgetting-fashion-mnist-seeds-5")
    assert {path.name for path in report.path.iterdir()} == {
        "artifact.json", "cures-five.png", "cures-two.png", "report.md"
    }  # fmt: skip
    assert len(report.details["rows"]) == 2 * 3 * len(STRATEGIES)
    assert [each["config"]["seeds"] for each in report.details["chains"]] == [[5], [5]]
    with pytest.raises(UsageError, match="ceiling"):
        reproduce(study="forgetting", ceiling=True, workspace=small)
    with pytest.raises(UsageError, match="study"):
        reproduce(study="forgetful", workspace=small)
    with pytest.raises(UsageError, match="no workers"):
        reproduce(workers=2, workspace=small)
