"""The commands that made artifacts, worked out from manifests: run in an empty folder, they make the same bytes."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest

from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.stages import Workspace, chain, combine, finetune, merge, reproduce, sweep
from lora_mnist_cli.stages.workspace import environment

SHORT = AdapterConfig(epochs=1)
BASE, LORA = "base-fashion-mnist-0-4", "lora-fashion-mnist-5-9"


def make_everything(workspace: Workspace) -> None:
    """Make one artifact of each kind, with settings of each kind."""
    finetune(SHORT, rank=3, protect=("replay", "mask"), name="kept", workspace=workspace)
    finetune(SHORT, method="full", seed=2, workspace=workspace)
    finetune(SHORT, method="head", workspace=workspace)
    finetune(SHORT, rank=4, target_layers=("fc1", "fc3"), alpha=-0.5, scaling="rslora", workspace=workspace)
    sweep([1, 2], seeds=[0, 1], grid={"lrs": [1e-3, 3e-3]}, config=SHORT, name="rates", workspace=workspace)
    sweep([2], seeds=[3, 4], config=SHORT, vary="init", held_seed=5, workspace=workspace)
    sweep([1, 2], config=SHORT, batch_size=50, keep="best:1", name="named", workspace=workspace)
    sweep(grid={"methods": ["full", "dora"], "ranks": [2]}, config=SHORT, name="methods", workspace=workspace)
    merge("kept", alpha=0.5, merged="merged", workspace=workspace)
    finetune(SHORT, base="merged", name="on-merged", digits="5-9", workspace=workspace)
    combine(["kept", f"{LORA}-r2-lr0.003-s1"], method="ties", weights=[1.0, -0.5], name="ties", workspace=workspace)
    combine(["kept", f"{LORA}-r1"], method="dare", seed=7, name="dare", workspace=workspace)


@pytest.fixture(scope="module")
def everything(small_trained: Path, small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    runs = tmp_path_factory.mktemp("everything") / "runs"
    shutil.copytree(small_trained, runs)
    workspace = Workspace(runs, small_data)
    make_everything(workspace)
    return workspace


def folders(workspace: Workspace) -> list[str]:
    return ["--runs-dir", str(workspace.runs_dir), "--data-dir", str(workspace.data_dir)]


NAMES = (
    BASE, "kept", "full-fashion-mnist-5-9-s2", "head-fashion-mnist-5-9", f"{LORA}-r4-a-0.5-rslora", "rates",
    f"{LORA}-r1-lr0.003", "methods", "merged", "on-merged", "ties", "dare", f"{LORA}-r2-s4-init-h5", "named",
)  # fmt: skip


def test_an_adapter_that_was_there_before_its_sweep_is_made_before_it(run, small_trained, small_data, tmp_path):
    workspace = Workspace(Path(shutil.copytree(small_trained, tmp_path / "runs")), small_data)
    finetune(SHORT, rank=3, workspace=workspace)
    sweep([3, 5], config=SHORT, name="later", workspace=workspace)
    for name in ("later", f"{LORA}-r5"):
        told = run("runs", "command", name, "--all", *folders(workspace)[:2]).out.splitlines()
        assert [line.split()[1] for line in told] == ["train-base", "finetune", "sweep"]
    assert run("runs", "rerun", f"{LORA}-r5", *folders(workspace), "--json").code == 0


@pytest.mark.parametrize("name", NAMES)
def test_the_commands_make_the_same_bytes_in_an_empty_folder(run, everything, name):
    outcome = run("runs", "rerun", name, *folders(everything), "--json")
    assert outcome.code == 0, outcome.err
    rows = {row["artifact"]: row["same"] for row in outcome.json["artifacts"]}
    assert rows[name]
    assert all(rows.values())


@pytest.mark.parametrize(
    "name", ["kept", "full-fashion-mnist-5-9-s2", f"{LORA}-r4-a-0.5-rslora", "rates", f"{LORA}-r1-lr0.003"]
)
def test_settings_in_a_file_are_the_same_work(run, everything, tmp_path, name):
    printed = run("runs", "settings", name, *folders(everything)[:2]).out
    command = printed.split()[2]
    (tmp_path / "s.toml").write_text(printed, encoding="utf-8")
    made = run(command, "--settings", "s.toml", *folders(everything), "--json")
    assert made.code == 0, made.err
    assert made.json["artifact"] == name or command == "finetune"
    assert everything.registry.get(made.json["artifact"]).fingerprint == everything.registry.get(name).fingerprint


def test_a_chain_and_a_study_are_made_again_with_all_their_parts(run, small, monkeypatch, forge):
    monkeypatch.setattr("lora_mnist_cli.stages.reproducing._pictures", lambda *_: [])
    options = {"dataset": "fashion-mnist", "epochs": 1, "workspace": small}
    chained = chain("0-4,5-9", strategies=["plain", "ewc"], seeds=[1], rank=2, workers=1, **options)
    studied = reproduce(seed=1, ceiling=True, **options)
    for name in (chained.name, studied.name):
        outcome = run("runs", "rerun", name, *folders(small), "--json")
        assert outcome.code == 0, outcome.err
        assert name in {row["artifact"] for row in outcome.json["artifacts"]}
    made = run("runs", "command", chained.name, *folders(small)[:2]).out
    assert made.startswith("lora-mnist chain --dataset fashion-mnist --tasks 0-4,5-9 --strategies plain,ewc --seeds 1")
    ewc = next(name for name in small.registry.names() if "ewc" in name)
    assert run("runs", "command", ewc, *folders(small)[:2]).out == made
    for name in (chained.name, studied.name):
        forge(small.runs_dir / name, lambda manifest: manifest["environment"].update(threads=2))
        assert " --threads 2" in run("runs", "command", name, *folders(small)[:2]).out


def test_what_differs_is_shown_with_its_figures_and_exit_code_1(run, small, forge):
    def of_another_machine(manifest: Any) -> None:
        manifest["scores"]["subsets"][0]["accuracy"] = 0.125
        manifest["environment"]["versions"]["torch"] = "1.0"

    forge(small.runs_dir / BASE, of_another_machine, {"model.safetensors": b"other bytes"})
    outcome = run("runs", "rerun", BASE, *folders(small))
    assert outcome.code == 1
    assert outcome.err.splitlines()[-1] == f"error: other bytes than before: {BASE}"
    assert "12.50" in outcome.out
    assert f"{BASE}: other bytes in model.safetensors" in outcome.out
    assert f"torch: 1.0 before, {environment()['versions']['torch']} now" in outcome.out


def test_what_no_command_makes_says_so(run, example, forge):
    def imported(manifest: Any) -> None:
        manifest["config"] |= {"imported": "sha256:" + 64 * "0", "epochs": 0}

    adapter = next(path.name for path in example.iterdir() if path.name.startswith("lora"))
    forge(example / adapter, imported)
    outcome = run("runs", "command", adapter)
    assert outcome.code == 3
    assert "was trained elsewhere and imported: no command makes it again" in outcome.err


def test_a_missing_base_is_named_and_nothing_is_made_over_what_is_there(run, small):
    assert run("runs", "rerun", BASE, *folders(small), "--into", str(small.runs_dir)).code == 2
    adapter = next(name for name in small.registry.names() if name.startswith("lora"))
    (small.runs_dir / BASE).rename(small.runs_dir.parent / "elsewhere")
    outcome = run("runs", "command", adapter, *folders(small)[:2])
    assert outcome.code == 3
    assert BASE in outcome.err


def test_a_command_can_be_pasted_into_a_shell(run, everything):
    (line,) = run("runs", "command", "rates", *folders(everything)[:2]).out.splitlines()
    words = run("runs", "command", "rates", *folders(everything)[:2], "--json").json["commands"][0]
    assert shlex.split(line) == words
    assert words[:2] == ["lora-mnist", "sweep"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("rnk = 3", "there is no setting of finetune 'rnk' (did you mean 'rank'?)"),
        ("rank = ", "the settings file 's.toml' is not TOML"),
        ('rank = "many"', "'many' is not a whole number"),
        ("settings = 's.toml'", "there is no setting of finetune 'settings'"),
    ],
)
def test_a_settings_file_that_makes_no_sense_is_refused(run, tmp_path, text, problem):
    (tmp_path / "s.toml").write_text(text, encoding="utf-8")
    outcome = run("finetune", "--settings", "s.toml")
    assert outcome.code == 2
    assert problem in outcome.err
    assert run("finetune", "--settings", "missing.toml").code == 2


def test_options_override_a_settings_file(run, small, tmp_path):
    (tmp_path / "s.toml").write_text("rank = 3\nepochs = 1\nprotect = ['replay', 'mask']\njson = true\n")
    outcome = run("finetune", "--settings", "s.toml", "--rank", "2", *folders(small))
    config = small.registry.get(outcome.json["artifact"]).config
    assert (config["rank"], config["epochs"], config["protect"]) == (2, 1, ["replay", "mask"])
