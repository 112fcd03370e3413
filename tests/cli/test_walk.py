"""All commands, found in the program itself, so that a new one is held to the same contract."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer.main
from PIL import Image
from scripts import script
from small_artifacts import BASE, R1, R2, SWEEP

from lora_mnist_cli.cli import app, groups
from lora_mnist_cli.cli.text_table import Table
from lora_mnist_cli.data.picture_doubts import DOUBTS
from lora_mnist_cli.registry.archive import export_artifact
from lora_mnist_cli.registry.registry import Registry

README = Path(__file__).resolve().parents[2] / "README.md"
COMMON = {"--json", "--quiet", "--verbose", "--version", "--runs-dir"}
# These have nothing to do with artifacts or images.
APART = {"conformance"}


WALK = script("reference").walk
ALL: dict[str, Any] = dict(WALK(typer.main.get_command(app.program())))
COMMANDS = {name: command for name, command in ALL.items() if not hasattr(command, "commands")}

SMALL = ["--dataset", "fashion-mnist"]

# What each command is run with on the trained folder, and what it then says on stderr, if anything.
CALLS: dict[str, tuple[list[str], str]] = {
    "train-base": (
        [*SMALL, "--hidden-size", "16,12", "--batch-size", "100", "--epochs", "1"], f"{BASE} is up to date",
    ),
    "finetune": (["--rank", "1", "--epochs", "1"], f"{R1} is up to date"),
    "sweep": (["--ranks", "1,2", "--epochs", "1"], f"{SWEEP} is up to date"),
    "evaluate": ([], f"taking the newest adapter: {R2}"),
    "compare": ([R1, R2], ""),
    "forgetting": ([], f"taking the newest adapter: {R2}"),
    "gate": (["--require", "5-9=0", "--allow-inconclusive"], f"taking the newest sweep: {SWEEP}"),
    "chain": (
        [*SMALL, "--epochs", "0", "--strategies", "plain,routed", "--workers", "1", "--runs-dir", "chained"],
        "table and picture: chained",
    ),
    "predict": (["digit.png"], f"taking the newest adapter: {R2}"),
    "export": ([BASE, "--force"], ""),
    "import-adapter": ([f"runs/{R1}", "--base", BASE, "--force"], ""),
    "merge": ([], f"taking the newest adapter: {R2}"),
    "combine": ([R1, R2, "--force"], ""),
    "conformance": (["ours"], ""),
    "plot": (["history"], f"taking the newest adapter: {R2}"),
    "explore": ([], f"taking the newest sweep: {SWEEP}"),
    "reproduce": ([*SMALL, "--epochs", "0", "--runs-dir", "study"], "table and pictures: study"),
    "runs list": ([], ""),
    "runs latest": ([], ""),
    "runs path": ([BASE], ""),
    "runs show": ([BASE], ""),
    "runs lineage": ([SWEEP], ""),
    "runs diff": ([R1, R2], ""),
    "runs command": ([R1], ""),
    "runs settings": ([R1], ""),
    "runs rerun": ([R1], "lora-mnist sweep"),
    "runs verify": ([], ""),
    "runs clean": ([], ""),
    "runs remove": ([SWEEP], ""),
    "runs tag": ([R1, "best"], ""),
    "runs untag": (["one"], ""),
    "runs export": ([SWEEP, "sweep.zip", "--force"], ""),
    "runs import": (["exported.zip"], ""),
}  # fmt: skip
# These take something away, so the second run and the third have other arguments.
AGAIN = {"runs remove": [[R1], [R2]], "runs untag": [["two"], ["three"]]}


@pytest.fixture
def prepared(runs: Path) -> Path:
    """The trained folder with what the calls above speak of: aliases, an exported file and a picture."""
    picture = np.zeros((28, 28), np.uint8)
    picture[4:24, 12:16] = 255
    Image.fromarray(picture).save("digit.png")
    registry = Registry(runs)
    for alias in ("one", "two", "three"):
        registry.tag(BASE, alias)
    export_artifact(registry, R1, Path("exported.zip"))
    return runs


def _options(command: Any) -> dict[str, Any]:
    shown = (parameter for parameter in command.params if not getattr(parameter, "hidden", False))
    return {flag: parameter for parameter in shown for flag in parameter.opts if flag.startswith("-")}


def test_the_walk_finds_commands_and_every_one_has_a_call():
    assert {"train-base", "runs list"} <= set(COMMANDS)
    assert set(CALLS) == set(COMMANDS)


@pytest.mark.parametrize("name", groups.COMMANDS)
def test_a_command_that_is_not_loaded_says_what_it_does_as_if_it_were(name):
    other = next(each for each in groups.COMMANDS if each != name)
    stub = dict(WALK(typer.main.get_command(app.program(other))))[name]
    assert stub.help == ALL[name].help.splitlines()[0]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_option_and_argument_has_help(name):
    command = COMMANDS[name]
    assert (command.help or "").strip().endswith(".")
    assert [p.name for p in command.params if not (getattr(p, "help", None) or "").strip()] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_the_common_options(name):
    assert set(_options(COMMANDS[name])) >= COMMON - ({"--runs-dir"} if name in APART else set())


def test_the_commands_that_read_images_have_a_data_folder_and_the_others_none():
    assert {name for name in COMMANDS if "--data-dir" in _options(COMMANDS[name])} == {
        name for name in COMMANDS if name == "runs rerun" or (not name.startswith("runs ") and name not in APART)
    }


@pytest.mark.parametrize("name", COMMANDS)
def test_the_readme_mentions_every_command(name):
    lines = README.read_text(encoding="utf-8").splitlines()
    if not "".join(lines).strip():
        pytest.skip("the README is not written yet")
    words = [re.compile(rf"(?<![\w-]){re.escape(word)}(?![\w-])") for word in name.split()]
    assert any(all(word.search(line) for word in words) for line in lines)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_prints_its_version_and_nothing_else(name, run):
    outcome = run(*name.split(), "--version")
    assert outcome.code == 0
    assert re.fullmatch(r"lora-mnist [0-9]+\.[0-9]+\.[0-9]+\S*\n", outcome.out)
    assert outcome.err == ""


_table = Table.__init__


def _with_heads_of_their_own(self: Table, heads: Sequence[str], *rows: Any, **options: Any) -> None:
    """Check that no two columns of a table have the same head."""
    assert len(set(heads)) == len(heads), heads
    _table(self, heads, *rows, **options)


@pytest.mark.parametrize("name", COMMANDS)
def test_stdout_has_the_result_and_stderr_the_rest(name, prepared, run, monkeypatch):
    # The report's pictures take longer than all else here, and have tests of their own.
    if name == "reproduce":
        monkeypatch.setattr("lora_mnist_cli.stages.plotting.plot", lambda *_, **__: None)
    monkeypatch.setattr("lora_mnist_cli.cli.text_table.Table.__init__", _with_heads_of_their_own)
    arguments, notice = CALLS[name]
    second, third = AGAIN.get(name, [arguments, arguments])
    as_json = run(*name.split(), *arguments, "--json")
    assert as_json.code == 0
    document = json.loads(as_json.out)
    assert (document["schema_version"], document["command"]) == (1, name)
    assert notice in as_json.err

    plain = run(*name.split(), *second, "--verbose")
    assert plain.code == 0
    assert plain.out.strip()
    assert "\x1b" not in plain.out
    assert "schema_version" not in plain.out
    assert notice in plain.err
    for outcome in (as_json, plain):
        for line in outcome.err.splitlines():
            assert line not in outcome.out
        assert "warning" not in outcome.out
        assert "error" not in outcome.err
    if notice:
        assert notice not in as_json.out + plain.out
    else:
        assert as_json.err == plain.err == ""

    quiet = run(*name.split(), *third, "--quiet")
    # The small data have no handwriting, and warnings are told in any case.
    warned = f"warning: digit.png: {DOUBTS['unlike']}\n" if name == "predict" else ""
    assert (quiet.code, quiet.err) == (0, warned)
    assert quiet.out == plain.out or name in AGAIN


@pytest.mark.parametrize("name", ALL)
def test_help_in_a_pipe_is_plain_and_whole(name, run, monkeypatch):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("FORCE_COLOR", "1")
    outcome = run(*name.split(), "--help")
    assert (outcome.code, outcome.err) == (0, "")
    assert f"Usage: lora-mnist {name}".strip() in outcome.out
    assert "\x1b" not in outcome.out
    assert "…" not in outcome.out
    for flag in {**_options(ALL[name]), "--help": None}:
        assert re.search(rf"{flag}(?![\w-])", outcome.out), flag


def test_no_variable_makes_help_in_a_pipe_coloured(program):
    """In a process, as Typer reads them once."""
    ended = program("evaluate", "--help", env=dict.fromkeys(app.FORCING, "1"))
    assert (ended.code, ended.err) == (0, "")
    assert "Usage: lora-mnist evaluate" in ended.out
    assert "\x1b" not in ended.out


def test_the_variables_are_there_again_after_a_command(run, monkeypatch):
    for variable in app.FORCING:
        monkeypatch.setenv(variable, "1")
    assert run("plot").code == 0
    assert all(os.environ[variable] == "1" for variable in app.FORCING)


def test_the_former_name_of_an_option_is_accepted_and_hidden(run):
    assert "--cures" not in run("chain", "--help").out
    for option in ("--strategies", "--cures"):
        outcome = run("chain", option, "plain,bogus")
        assert outcome.code == 2
        assert "'bogus'" in outcome.err
    assert "give one of them" in run("chain", "--cures", "plain", "--strategies", "plain").err
