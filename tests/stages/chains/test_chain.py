"""Chains of tasks: what is trained, what a report says of it, and what no later stage can read."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from recorder import Recorder

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
from lora_mnist_cli.stages.chains.holding import load_penalty
from lora_mnist_cli.stages.chains.run import MEASURES, make_plan
from lora_mnist_cli.stages.chains.strategies import STRATEGIES, USUAL, protected_config
from lora_mnist_cli.system.errors import ArtifactError, OtherSettingsError, UsageError
from lora_mnist_cli.system.progress import Forwarding

TASKS = "0-3,4-6,7-9"
EXPERTS = ("plain", "densities", "routed", "fused")
"""Strategies that one process learns, because they share adapters."""
SMALL: dict[str, Any] = {"rank": 2, "epochs": 1, "dataset": "fashion-mnist", "name": "three", "workers": 1}


@pytest.fixture(scope="module")
def chained(tmp_path_factory: pytest.TempPathFactory, small_data: Path) -> Workspace:
    """A chain of three tasks with every strategy and two seeds. Not to be written to."""
    workspace = Workspace(tmp_path_factory.mktemp("chained") / "runs", small_data)
    chain(TASKS, seeds=[0, 1], workspace=workspace, **SMALL)
    return workspace


@pytest.fixture(scope="module")
def report(chained: Workspace) -> Artifact:
    return chained.registry.get("three")


def strategies(report: Artifact) -> dict[str, Any]:
    return {row["cure"]: row for row in report.details["chain"]["cures"]}


def test_every_strategy_is_in_the_report_with_every_seed(report):
    assert list(strategies(report)) == list(USUAL)
    for strategy in strategies(report).values():
        assert [run["seed"] for run in strategy["runs"]] == [0, 1]
        assert strategy["summary"]["all"]["n"] == 2
        assert (
            strategy["summary"]["all"]["low"]
            <= strategy["summary"]["all"]["mean"]
            <= strategy["summary"]["all"]["high"]
        )
    assert {path.name for path in report.path.iterdir()} == {"artifact.json", "cures.png", "report.md"}
    assert report.rows()[0]["what"] == "Plain LoRA"


@pytest.mark.parametrize("name", [name for name in USUAL if name not in ("joint", "ewc")])
def test_the_matrix_is_what_evaluating_the_artifacts_by_hand_gives(chained, report, name):
    run = strategies(report)[name]["runs"][1]
    digits = [DigitSet.parse(task) for task in TASKS.split(",")]
    assert [len(names) for names in run["artifacts"]] == ([1, 2, 3] if STRATEGIES[name].by else [1, 1, 1])
    for row, names in zip(run["R"], run["artifacts"], strict=True):
        by = STRATEGIES[name].by
        if len(names) > 1 or by in ("fused", "densities"):
            scores = evaluate_routed(names, by=by, digit_sets=digits, workspace=chained).scores
        else:
            (evaluation,) = evaluate(names[0], digit_sets=digits, workspace=chained)
            scores = evaluation.scores
        assert row == pytest.approx([subset["accuracy"] for subset in scores["subsets"]])


def test_the_networks_of_ewc_are_kept_with_their_penalties_and_go_on_from_each_other(chained, report):
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


def test_the_measures_are_those_of_the_matrix_and_joint_training_has_none(report):
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


def test_each_strategy_trains_what_it_says(chained, report):
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


def test_the_same_chain_twice_does_the_work_once_and_a_seed_more_only_that(chained, report, monkeypatch):
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


class Killer(Forwarding):
    """A reporter that kills the process that begins to learn a certain part.

    Args:
        recorder: receives everything.
        times: words of a part → how often its process is killed.
    """

    def __init__(self, recorder: Any, times: dict[str, int]) -> None:
        super().__init__(recorder)
        self._times = times

    def detail(self, text: str) -> None:
        super().detail(text)
        for part, times in self._times.items():
            if part in text and times:
                self._times[part] -= 1
                os.kill(int(text.split()[1]), signal.SIGKILL)


FIRST_TASK, LAST_EWC = "the first task of 0-3,4-6,7-9, seed 0", "ewc of 0-3,4-6,7-9, seed 1"


FOR_PROCESSES = (
    "lora_mnist_cli.stages.chains.chain_run.evaluate_routed",
    "lora_mnist_cli.stages.chains.run.score_before",
    "lora_mnist_cli.training.trainer.fit",
    "lora_mnist_cli.training.ewc.learn",
    "lora_mnist_cli.stages.banks.job.train_bank",
)
"""Functions that train or score."""


@dataclass
class InProcesses:
    """The chain of :func:`chained` once more, in two processes."""

    workspace: Workspace
    made: Artifact
    heard: Recorder
    trained_or_scored_here: list[str]


@pytest.fixture(scope="module")
def in_processes(tmp_path_factory: pytest.TempPathFactory, small_data: Path) -> InProcesses:
    """A chain in processes, two of which are killed at their work. Not to be written to."""
    recorder, here = Recorder(), []
    killer = Killer(recorder, {FIRST_TASK: 1, LAST_EWC: 1})
    workspace = Workspace(tmp_path_factory.mktemp("in_processes") / "runs", small_data, reporter=killer)
    with pytest.MonkeyPatch.context() as patch:
        for function in FOR_PROCESSES:
            patch.setattr(function, lambda *_, name=function, **__: here.append(name))
        made = chain(TASKS, seeds=[0, 1], workspace=workspace, **(SMALL | {"workers": 2}))
    return InProcesses(workspace, made, recorder, here)


def test_processes_make_the_same_though_two_are_killed(chained, report, in_processes):
    assert in_processes.made.digest == report.digest
    names = [sorted(path.name for path in where.runs_dir.iterdir()) for where in (chained, in_processes.workspace)]
    assert names[0] == names[1]
    assert in_processes.trained_or_scored_here == []


def test_a_part_whose_process_died_is_learned_by_another_and_waited_for(in_processes):
    warned = in_processes.heard.all("warn")
    assert len(warned) == 2
    for part in (FIRST_TASK, LAST_EWC):
        assert [f"was ended by SIGKILL; learning once more: {part}" in text for text in warned].count(True) == 1
    begun = [text.partition(" learns ")[2] for text in in_processes.heard.all("detail")]
    assert (begun.count(FIRST_TASK), begun.count(LAST_EWC), len(begun)) == (2, 2, 14)
    again = len(begun) - 1 - begun[::-1].index(FIRST_TASK)
    waiting = [place for place, part in enumerate(begun) if "seed 0" in part and not part.startswith(("the", "joint"))]
    assert min(waiting) > again


def test_each_part_is_reported_once_when_it_is_done(in_processes):
    begins, *done = in_processes.heard.all("notice")
    assert begins == "learning in 2 processes"
    strategies_of = [text.partition(f" of {TASKS}, seed ")[0] for text in done]
    parts = ["the first task", "plain and densities and routed and fused", "full", "ewc", "protected", "joint"]
    assert sorted(strategies_of) == sorted(2 * parts)
    assert [text.partition(": learned ")[2] for text in done] == [f"({count} of 12)" for count in range(1, 13)]


def test_what_is_up_to_date_is_not_learned_again_and_a_warning_is_given_once(in_processes, recorder):
    workspace = replace(in_processes.workspace, runtime=Runtime(threads=2), reporter=recorder)
    again = chain(TASKS, seeds=[0, 1], workspace=workspace, **(SMALL | {"workers": 2}))
    assert again.digest == in_processes.made.digest
    notices = recorder.all("notice")
    assert sum(": up to date (" in text for text in notices) == 12
    assert "three is up to date" in notices
    warned = recorder.all("warn")
    assert "base-fashion-mnist-0-3 was trained with --threads 1; --force trains it again" in warned
    assert len(set(warned)) == len(warned)


def test_a_part_that_kills_two_processes_is_learned_at_the_end(report, tmp_path, small_data, recorder):
    workspace = Workspace(tmp_path / "runs", small_data, reporter=Killer(recorder, {LAST_EWC: 9}))
    made = chain(TASKS, seeds=[1], workspace=workspace, **(SMALL | {"strategies": ["ewc"], "workers": 2}))
    first, second, third = recorder.all("warn")
    assert f"was ended by SIGKILL; learning once more: {LAST_EWC}" in first
    assert f"was ended by SIGKILL; left for the end: {LAST_EWC}" in second
    assert third == "1 of 2 parts are learned without processes"
    assert strategies(made)["ewc"]["runs"] == strategies(report)["ewc"]["runs"][1:]


def assert_ended(recorder: Any, workspace: Workspace) -> None:
    """Two processes had begun, and are gone with all that they had not published."""
    pids = [int(text.split()[1]) for text in recorder.all("detail")]
    assert len(set(pids)) == 2
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert not (workspace.runs_dir / ".staging").exists()


def test_an_interrupt_ends_the_processes_and_leaves_nothing_half_done(tmp_path, small_data, recorder):
    class Interrupted(Killer):
        def detail(self, text: str) -> None:
            recorder.detail(text)
            if len(recorder.all("detail")) == 3:
                raise KeyboardInterrupt

    workspace = Workspace(tmp_path / "runs", small_data, reporter=Interrupted(recorder, {}))
    with pytest.raises(KeyboardInterrupt):
        chain(TASKS, workspace=workspace, **(SMALL | {"strategies": ["plain", "ewc"], "workers": 2}))
    assert_ended(recorder, workspace)


def test_an_error_in_a_process_is_raised_here_and_ends_the_others(chained, tmp_path, recorder):
    workspace = replace(chained, runs_dir=shutil.copytree(chained.runs_dir, tmp_path / "runs"), reporter=recorder)
    with pytest.raises(OtherSettingsError, match="base-fashion-mnist-0-3") as caught:
        chain(TASKS, seeds=[2, 0], workspace=workspace, **(SMALL | {"strategies": ["ewc"], "epochs": 2, "workers": 2}))
    assert "--runs-dir NEW" in caught.value.hint
    assert not recorder.all("warn")
    assert_ended(recorder, workspace)


@pytest.mark.parametrize(
    ("cores", "memory", "threads", "workers"),
    [(1, 64, 1, 1), (2, 24, 1, 2), (16, 8, 1, 4), (16, 64, 4, 4), (2, 1, 1, 1), (4, None, 1, 4), (2, 24, 8, 1)],
)
def test_processes_are_as_many_as_cores_and_memory_allow(monkeypatch, cores, memory, threads, workers):
    monkeypatch.setattr("lora_mnist_cli.system.machine.cores", lambda: cores)
    monkeypatch.setattr("lora_mnist_cli.system.machine.memory", lambda: memory and memory * 10**9)
    assert parallel.default_workers(Runtime(accelerator="cpu", threads=threads)) == workers


def test_parts_wait_for_the_first_task_alone_and_the_longest_begin_first(small):
    plans = [
        make_plan(tasks, seeds=[0, 1], epochs=10, dataset="fashion-mnist", workspace=small)
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
    assert sorted(longest) == 2 * [("plain+densities+routed+fused", 5)] + 2 * [("protected", 5)]
    assert {part.strategies for part in parts[-4:]} == {("ewc",), EXPERTS}
    assert {len(part.chain_run.tasks) for part in parts[-4:]} == {2}
    assert len(parts[4:]) == 2 * (4 + 4 + 1)
    names = {part.strategies for part in parts[4:]}
    assert names == {EXPERTS, ("full",), ("ewc",), ("protected",), ("joint",)}


def test_at_its_turn_a_task_has_its_own_images_and_no_earlier_one(tmp_path, small_data, monkeypatch):
    """Every way to training images is watched: what is asked for at a turn is the digits of that task."""
    asked: list[str] = []
    load_digits, load_split = sources.load_digits, sources.load_split

    def digits_only(dataset: str, split: Any, digits: DigitSet, data_dir: Path) -> Any:
        if split == "train":
            asked.append(str(digits))
        return load_digits(dataset, split, digits, data_dir)

    def test_only(dataset, split, data_dir):
        assert split == "test"
        return load_split(dataset, split, data_dir)

    monkeypatch.setattr(dataset, "load_digits", digits_only)
    monkeypatch.setattr(work, "load_digits", digits_only)
    monkeypatch.setattr(work, "load_split", test_only)
    kept = [strategy for strategy in STRATEGIES if strategy not in ("joint", "ridge_2000", "ridge_5000")]
    workspace = Workspace(tmp_path / "runs", small_data)
    for strategy in kept:
        asked.clear()
        made = chain(TASKS, strategies=[strategy], workspace=workspace, **(SMALL | {"name": strategy, "epochs": 0}))
        turns = [task for task, before in zip(asked, ["", *asked], strict=False) if task != before]
        # The base, and the first adapter of plain LoRA, are there from the strategy before.
        assert turns == [task for task in TASKS.split(",") if task in turns]
        assert turns[-2:] == ["4-6", "7-9"]
        assert made.config["cures"] == [strategy]


def test_what_can_not_be_is_refused(small):
    for more, said in (
        ({"strategies": ["plain", "plain"]}, "strategies are given once each"),
        ({"strategies": ["rooted"]}, "did you mean 'routed'"),
        ({"seeds": []}, "at least one"), ({"seeds": [1, 1]}, "seeds are given once each"), ({"rank": 0}, "rank"),
        ({"recipe_name": "best"}, "recipe"), ({"dataset": "mnits"}, "mnist"), ({"epochs": -1}, "epochs"),
        ({"workers": 0}, "at least one worker"),
    ):  # fmt: skip
        with pytest.raises(UsageError) as caught:
            chain(TASKS, workspace=small, **(SMALL | more))
        assert said in str(caught.value), more
    assert not [path for path in small.runs_dir.iterdir() if path.name.startswith("three")]


def test_a_name_with_other_settings_is_refused_with_what_helps(small):
    chain(TASKS, strategies=["plain"], workspace=small, **SMALL)
    with pytest.raises(OtherSettingsError) as caught:
        chain(TASKS, strategies=["plain"], workspace=small, **(SMALL | {"rank": 3}))
    assert "--runs-dir NEW" in caught.value.hint


def test_every_strategy_names_a_paper_and_is_told_in_the_help(run):
    told = run("chain", "--help").out
    for name, strategy in STRATEGIES.items():
        assert strategy.states.__name__ == name
        assert re.search(r"(19|20)\d\d.*(arXiv:|Neural|Psychology)", strategy.states.__doc__ or "", re.DOTALL), name
        assert f"{name}:" in told
    assert len({strategy.title for strategy in STRATEGIES.values()}) == len(STRATEGIES)


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory, small_data: Path) -> Workspace:
    """The study of forgetting with one seed and untrained networks. Not to be written to."""
    workspace = Workspace(tmp_path_factory.mktemp("studied") / "runs", small_data)
    reproduce(study="forgetting", seed=5, epochs=0, dataset="fashion-mnist", workers=1, workspace=workspace)
    return workspace


@pytest.fixture
def run_studied(studied: Workspace, run: Callable[..., Any]) -> Callable[..., Any]:
    """Runs a command with the settings of :func:`studied`."""
    options = ("--dataset", "fashion-mnist", "--runs-dir", studied.runs_dir, "--data-dir", studied.data_dir)
    return lambda *arguments: run(*arguments, "--epochs", "0", "--workers", "1", *options)


def test_the_command_prints_a_table_of_80_columns(run_studied, report):
    plain = run_studied("chain", "--tasks", "0-4,5-9", "--seeds", "5")
    assert plain.code == 0, plain.err
    assert max(map(len, plain.out.splitlines())) <= 80
    assert all(f"  {name} " in plain.out for name in USUAL)
    document = run_studied("chain", "--tasks", "0-4,5-9", "--seeds", "5", "--json").json
    assert document["artifact"] == "chain-fashion-mnist-0-4_5-9-tuned-r16-s5"
    assert (document["old"], document["new"], document["published"]) == ("0-4", "5-9", [])
    for path, seeds in ((Path(document["report"]), "1 seed,"), (report.path / "report.md", "2 seeds,")):
        text = path.read_text(encoding="utf-8")
        assert seeds in text
        assert "![Old against new digits for every strategy](cures.png)" in text
    refused = run_studied("chain", "--tasks", "0-4,4-9")
    assert (refused.code, "digit 4 is in two tasks" in refused.err) == (2, True)


def test_the_widest_figures_fit_into_80_columns():
    from lora_mnist_cli.cli.commands.chain import chain_tables

    wide = {"mean": 0.9999, "low": 0.7, "high": 1.2998, "worst": 0.9999, "worst_seed": 9}
    summary = {key: wide | {"mean": 0.9999 if key in ("all", "old", "new") else -0.9999} for key in MEASURES}
    document = {
        "tasks": [str(task) for task in FIVE_TASKS], "old": "0-7", "new": "8-9", "config": {"seeds": list(range(10))},
        "cures": [
            {"cure": name, "summary": summary, "kept_bytes": 10**7, "seconds": 1234.5} for name in STRATEGIES
        ],
        "published": [*literature_results(TWO_TASKS), *literature_results(FIVE_TASKS)],
    }  # fmt: skip
    lines = [line.text for table in chain_tables(document) for line in table.lines()]
    assert any("-100.0" in line for line in lines)
    assert max(len(line.rstrip()) for line in lines) <= 80


def test_the_study_of_forgetting_has_both_chains_in_one_report(studied, run_studied):
    made = run_studied("reproduce", "--study", "forgetting", "--seed", "5")
    assert made.code == 0, made.err
    assert "0-4 then 5-9" in made.out
    assert "0-1 then 2-3 then 4-5 then 6-7 then 8-9" in made.out
    assert max(map(len, made.out.splitlines())) <= 80
    report = studied.registry.get("study-forgetting-fashion-mnist-seeds-5")
    assert {path.name for path in report.path.iterdir()} == {
        "artifact.json", "cures-five.png", "cures-two.png", "report.md"
    }  # fmt: skip
    assert len(report.details["rows"]) == 2 * 3 * len(USUAL)
    assert [each["config"]["seeds"] for each in report.details["chains"]] == [[5], [5]]
    with pytest.raises(UsageError, match="ceiling"):
        reproduce(study="forgetting", ceiling=True, workspace=studied)
    with pytest.raises(UsageError, match="study"):
        reproduce(study="forgetful", workspace=studied)
    with pytest.raises(UsageError, match="no workers"):
        reproduce(workers=2, workspace=studied)


def test_a_report_says_what_each_strategy_keeps_beside_the_network(chained, report):
    def sizes(names: list[str], *files: str) -> int:
        return sum(chained.registry.get(name).files[file]["bytes"] for name in names for file in files)

    kept = {name: row["kept_bytes"] for name, row in strategies(report).items()}
    experts = strategies(report)["routed"]["runs"][0]["artifacts"][-1]
    adapters = sizes(experts[1:], "adapter_model.safetensors")
    assert (kept["plain"], kept["full"], kept["joint"]) == (0, 0, None)
    assert kept["densities"] == sizes(experts, "features.safetensors")
    assert kept["fused"] == kept["densities"] + adapters
    assert kept["routed"] == sizes(experts, "statistics.safetensors") + adapters
    assert kept["ewc"] == sizes(["three-ewc-after-3"], "springs.safetensors")
    (last,) = strategies(report)["protected"]["runs"][0]["artifacts"][-1]
    base = chained.registry.parent(chained.registry.get(last)).name
    assert kept["protected"] == sizes([base, last], "statistics.safetensors")
    assert "| all images |" in (report.path / "report.md").read_text(encoding="utf-8")
    assert all(row["seconds"] > 0 for row in strategies(report).values())


def test_strategies_with_the_same_experts_train_them_once_and_have_their_own_answers(chained, report):
    rows = {name: strategies(report)[name]["runs"][0] for name in ("densities", "routed", "fused")}
    assert rows["densities"]["artifacts"] == rows["routed"]["artifacts"] == rows["fused"]["artifacts"]
    # On the first task alone, one network answers for `routed`, and the others ask the densities too.
    base = chained.registry.get(rows["routed"]["artifacts"][0][0])
    alone = {row["digits"]: row["accuracy"] for row in base.scores["subsets"]}
    assert rows["routed"]["R"][0][0] == alone["0-3"]
    for name in ("densities", "fused"):
        found = evaluate_routed([base.name], by=name, digit_sets=[DigitSet.parse("0-3")], workspace=chained)
        assert rows[name]["R"][0][0] == found.scores["subsets"][0]["accuracy"]
