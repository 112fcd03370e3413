"""All commands, found in the program itself, so that a new one is held to the same contract."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer.main
from PIL import Image

from lora_mnist_cli.cli import app
from lora_mnist_cli.registry.archive import export_artifact
from lora_mnist_cli.registry.registry import Registry

README = Path(__file__).resolve().parents[2] / "README.md"
ROOT = typer.main.get_command(app.program())
COMMON = {"--json", "--quiet", "--verbose", "--version", "--runs-dir"}
# These have nothing to do with artifacts or images.
APART = {"conformance"}


def _walk(command: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every command and group of commands, by its words."""
    yield name, command
    for word, child in getattr(command, "commands", {}).items():
        yield from _walk(child, f"{name} {word}".strip())


ALL = dict(_walk(ROOT))
COMMANDS = {name: command for name, command in ALL.items() if not hasattr(command, "commands")}

# What each command is run with on the trained folder, and what it then says on stderr, if anything.
# A command that can run once only has other arguments the second time.
CALLS: dict[str, tuple[list[str], list[str], str]] = {
    "train-base": (["--epochs", "1"], ["--epochs", "1"], "base-0-4 is up to date"),
    "finetune": (["--rank", "1", "--epochs", "1"], ["--rank", "1", "--epochs", "1"], "lora-5-9-r1 is up to date"),
    "sweep": (["--ranks", "1,2", "--epochs", "1"], ["--ranks", "1,2", "--epochs", "1"], "sweep-5-9 is up to date"),
    "evaluate": ([], [], "taking the newest adapter: lora-5-9-r2"),
    "compare": (["lora-5-9-r1", "lora-5-9-r2"], ["lora-5-9-r1", "lora-5-9-r2"], ""),
    "forgetting": ([], [], "taking the newest adapter: lora-5-9-r2"),
    "gate": (
        ["--require", "5-9=0", "--allow-inconclusive"], ["--require", "5-9=0", "--allow-inconclusive"],
        "taking the newest sweep: sweep-5-9",
    ),
    "chain": (
        ["--epochs", "0", "--cures", "plain,routed", "--workers", "1", "--runs-dir", "chained"],
        ["--epochs", "0", "--cures", "plain,routed", "--workers", "1", "--runs-dir", "chained"],
        "table and picture: chained",
    ),
    "predict": (["digit.png"], ["digit.png"], "taking the newest adapter: lora-5-9-r2"),
    "export": (["base-0-4"], ["base-0-4", "--force"], ""),
    "import-adapter": (
        ["runs/lora-5-9-r1", "--base", "base-0-4", "--force"],
        ["runs/lora-5-9-r1", "--base", "base-0-4", "--force"],
        "",
    ),
    "merge": ([], [], "taking the newest adapter: lora-5-9-r2"),
    "combine": (["lora-5-9-r1", "lora-5-9-r2"], ["lora-5-9-r1", "lora-5-9-r2", "--name", "another"], ""),
    "conformance": (["ours"], ["ours"], ""),
    "plot": (["history"], ["history"], "taking the newest adapter: lora-5-9-r2"),
    "reproduce": (
        ["--epochs", "0", "--runs-dir", "study"], ["--epochs", "0", "--runs-dir", "study"], "table and pictures: study",
    ),
    "runs list": ([], [], ""),
    "runs latest": ([], [], ""),
    "runs path": (["base-0-4"], ["base-0-4"], ""),
    "runs show": (["base-0-4"], ["base-0-4"], ""),
    "runs lineage": (["sweep-5-9"], ["sweep-5-9"], ""),
    "runs diff": (["lora-5-9-r1", "lora-5-9-r2"], ["lora-5-9-r1", "lora-5-9-r2"], ""),
    "runs verify": ([], [], ""),
    "runs clean": ([], [], ""),
    "runs remove": (["sweep-5-9"], ["lora-5-9-r1"], ""),
    "runs tag": (["lora-5-9-r1", "best"], ["lora-5-9-r1", "best"], ""),
    "runs untag": (["one"], ["two"], ""),
    "runs export": (["sweep-5-9", "sweep.zip"], ["sweep-5-9", "sweep.zip", "--force"], ""),
    "runs import": (["exported.zip"], ["exported.zip"], ""),
}  # fmt: skip


# These take something away, or write a file that they refuse to write twice.
ONCE = ("export", "runs remove", "runs untag", "runs export")


@pytest.fixture
def prepared(runs: Path) -> Path:
    """The trained folder with what the calls above speak of: two aliases, an exported file and a picture."""
    picture = np.zeros((28, 28), np.uint8)
    picture[4:24, 12:16] = 255
    Image.fromarray(picture).save("digit.png")
    registry = Registry(runs)
    registry.tag("base-0-4", "one")
    registry.tag("base-0-4", "two")
    export_artifact(registry, "lora-5-9-r1", Path("exported.zip"))
    return runs


def _options(command: Any) -> dict[str, Any]:
    return {flag: parameter for parameter in command.params for flag in parameter.opts if flag.startswith("-")}


def test_the_walk_finds_commands_and_every_one_has_a_call() -> None:
    assert {"train-base", "runs list"} <= set(COMMANDS)
    assert set(CALLS) == set(COMMANDS)


@pytest.mark.parametrize("name", app.COMMANDS)
def test_a_command_that_is_not_loaded_says_what_it_does_as_if_it_were(name: str) -> None:
    other = next(each for each in app.COMMANDS if each != name)
    stub = dict(_walk(typer.main.get_command(app.program(other))))[name]
    assert stub.help == ALL[name].help.splitlines()[0]


@pytest.mark.parametrize("name", ALL)
def test_help_names_the_command_and_what_it_does(name: str, run: Callable[..., Any]) -> None:
    outcome = run(*name.split(), "--help")
    assert (outcome.code, outcome.err) == (0, "")
    assert f"Usage: lora-mnist {name}".strip() in outcome.out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_option_and_argument_has_help(name: str) -> None:
    command = COMMANDS[name]
    assert (command.help or "").strip().endswith(".")
    assert [p.name for p in command.params if not (getattr(p, "help", None) or "").strip()] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_the_common_options(name: str) -> None:
    assert set(_options(COMMANDS[name])) >= COMMON - ({"--runs-dir"} if name in APART else set())


def test_the_commands_that_read_images_have_a_data_folder_and_the_others_none() -> None:
    assert {name for name in COMMANDS if "--data-dir" in _options(COMMANDS[name])} == {
        name for name in COMMANDS if not name.startswith("runs ") and name not in APART
    }


@pytest.mark.parametrize("name", COMMANDS)
def test_the_readme_mentions_every_command(name: str) -> None:
    lines = README.read_text(encoding="utf-8").splitlines()
    if not "".join(lines).strip():
        pytest.skip("the README is not written yet")
    words = [re.compile(rf"(?<![\w-]){re.escape(word)}(?![\w-])") for word in name.split()]
    assert any(all(word.search(line) for word in words) for line in lines)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_prints_its_version_and_nothing_else(name: str, run: Callable[..., Any]) -> None:
    outcome = run(*name.split(), "--version")
    assert outcome.code == 0
    assert re.fullmatch(r"lora-mnist [0-9]+\.[0-9]+\.[0-9]+\S*\n", outcome.out)
    assert outcome.err == ""


@pytest.mark.parametrize("name", COMMANDS)
def test_stdout_has_the_result_and_stderr_the_rest(
    name: str, prepared: Path, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The report's pictures take longer than all else here, and have tests of their own.
    if name == "reproduce":
        monkeypatch.setattr("lora_mnist_cli.stages.plotting.plot", lambda *_, **__: None)
    first, second, notice = CALLS[name]
    as_json = run(*name.split(), *first, "--json")
    assert as_json.code == 0
    document = json.loads(as_json.out)
    assert document["schema_version"] == 1
    assert document["command"] == name
    assert notice in as_json.err

    plain = run(*name.split(), *second)
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


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ("reproduce", *ONCE)])
def test_quiet_and_verbose_change_stderr_alone(name: str, prepared: Path, run: Callable[..., Any]) -> None:
    arguments, _, notice = CALLS[name]
    plain, quiet, verbose = (run(*name.split(), *arguments, *more) for more in ((), ("--quiet",), ("--verbose",)))
    assert plain.out == quiet.out == verbose.out
    assert quiet.err == ""
    assert notice in verbose.err


@pytest.mark.parametrize("name", ALL)
def test_help_in_a_pipe_is_plain_and_whole(name: str, program: Callable[..., Any]) -> None:
    ended = program(*name.split(), "--help", env={"GITHUB_ACTIONS": "true", "FORCE_COLOR": "1"})
    assert (ended.code, ended.err) == (0, "")
    assert "\x1b" not in ended.out
    assert "…" not in ended.out
    for flag in {**_options(ALL[name]), "--help": None}:
        assert re.search(rf"{flag}(?![\w-])", ended.out), flag
