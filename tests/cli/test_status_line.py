"""The line at a terminal that says what a command is doing, before anything heavy is imported."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_artifacts import BASE, R1, R2, SWEEP, TRAIN_BASE

from lora_mnist_cli.cli import status_line
from lora_mnist_cli.cli.groups import COMMANDS
from lora_mnist_cli.cli.status_line import ACTIVITIES, STARTING, StatusLine, fitted
from lora_mnist_cli.registry.archive import export_artifact
from lora_mnist_cli.registry.registry import Registry

SMALL = ["--dataset", "fashion-mnist", "--epochs", "0"]
# What each command is run with so that there is work to do.
WITH_TORCH = {
    "train-base": [*SMALL, "--name", "new"],
    "finetune": ["--rank", "3", "--epochs", "0"],
    "sweep": ["--ranks", "3", "--epochs", "0", "--name", "new"],
    "evaluate": [],
    "forgetting": [],
    "chain": [*SMALL, "--strategies", "plain", "--workers", "1", "--runs-dir", "chained"],
    "predict": ["digit.png"],
    "compare": [R1, R2],
    "merge": [],
    "combine": [R1, R2, "--name", "new"],
    "export": [R1, "--output", "new.safetensors"],
    "import-adapter": [f"runs/{R1}", "--base", BASE, "--name", "new"],
    "conformance": ["ours"],
    "plot": ["confusion"],
    "explore": [],
    "reproduce": [*SMALL, "--runs-dir", "study"],
    "runs rerun": [BASE],
}
WITHOUT_TORCH = {
    "gate": ["--require", "5-9=0", "--allow-inconclusive"],
    "runs verify": [],
    "runs export": [SWEEP, "sweep.zip"],
    "runs import": ["exported.zip"],
}
CALLS = WITH_TORCH | WITHOUT_TORCH

# Python runs this before the program. PyTorch is not loaded: at its import, the command is interrupted.
SPY = """
import sys
from importlib.machinery import ModuleSpec
def tell(name):
    sys.stderr.write(f"<{name}>")
    sys.stderr.flush()
class Spy:
    def find_spec(self, name, *_):
        if name == "typer":
            tell(name)
        return ModuleSpec(name, self) if name == "torch" else None
    def create_module(self, spec):
        return None
    def exec_module(self, module):
        tell("torch")
        raise KeyboardInterrupt
sys.meta_path.insert(0, Spy())
"""


@pytest.fixture
def spied(runs: Path, tmp_path: Path) -> dict[str, str]:
    """The environment in which a process says what it imports; what the calls above speak of is there."""
    (tmp_path / "spy").mkdir()
    (tmp_path / "spy" / "sitecustomize.py").write_text(SPY)
    picture = np.zeros((28, 28), np.uint8)
    picture[4:24, 12:16] = 255
    Image.fromarray(picture).save("digit.png")
    export_artifact(Registry(runs), R1, Path("exported.zip"))
    path = os.pathsep.join(filter(None, [str(tmp_path / "spy"), os.environ.get("PYTHONPATH")]))
    return {"PYTHONPATH": path}


def screen(printed: str) -> str:
    """What stands on a terminal after that was printed: a return begins the line again, and ``ESC [K`` empties it."""
    lines = []
    for line in printed.replace("\r\n", "\n").split("\n"):
        shown = ""
        for part in line.split("\r"):
            shown = part.removeprefix("\x1b[K") if part.startswith("\x1b[K") else part + shown[len(part) :]
        lines.append(shown)
    return "\n".join(lines)


def test_every_command_has_a_call_and_says_what_it_does_but_for_those_that_are_soon_done():
    assert set(CALLS) == set(ACTIVITIES)
    assert set(COMMANDS) - set(ACTIVITIES) == {"runs"}
    assert all(text.endswith(" …") for text in ACTIVITIES.values())


@pytest.mark.parametrize("name", CALLS)
def test_the_line_comes_before_anything_heavy_is_imported(name, spied, terminal):
    ended = terminal(*name.split(), *CALLS[name], env=spied)
    assert ended.err.startswith(f"{STARTING}<typer>")
    if name in WITH_TORCH:
        before, torch, after = ended.err.partition("<torch>")
        assert torch
        assert ended.code == 130
        assert before.endswith("loading PyTorch …")
        assert screen(after).splitlines()[-1] == "interrupted; nothing half done is left"
    else:
        assert ended.code == 0
        assert "…" not in screen(ended.err)


# Runs all calls in turn, as one process can: what PyTorch's import interrupts leaves nothing of it.
IN_TURN = """
import json, sys
from lora_mnist_cli.cli import main
for arguments in json.loads(sys.argv[1]):
    print(main(arguments), file=sys.stderr)
"""


def test_in_a_pipe_there_is_none(spied):
    calls = json.dumps([[*name.split(), *arguments] for name, arguments in CALLS.items()])
    command = [sys.executable, "-c", IN_TURN, calls]
    ended = subprocess.run(command, env=os.environ | spied, capture_output=True, text=True, check=True)
    assert ended.stderr.startswith("<typer>")
    assert [line for line in ended.stderr.splitlines() if line in ("0", "130")] == (
        ["130"] * len(WITH_TORCH) + ["0"] * len(WITHOUT_TORCH)
    )
    assert ended.stderr.count("<torch>") == len(WITH_TORCH)
    assert "…" not in ended.stderr
    assert "\r" not in ended.stderr


@pytest.mark.parametrize("flag", ["--json", "--quiet", "--help", "--version"])
def test_with_these_there_is_none_at_a_terminal(flag, runs, at_terminal):
    err = at_terminal("evaluate", R1, flag).err
    assert err == ""
    assert at_terminal("evaluate", R1).err != ""


@pytest.mark.parametrize("arguments", [["runs", "list"], ["runs", "show", R1], [], ["bogus"]])
def test_what_is_soon_done_has_none(arguments, runs, at_terminal, run):
    assert at_terminal(*arguments).err == run(*arguments).err


@pytest.mark.parametrize(
    "arguments",
    [
        ["evaluate"],
        ["evaluate", "nothing"],
        ["evaluate", R1, "--alpha", "nan"],
        ["evaluate", "--min-accuracy", "0-9=1"],
        [*TRAIN_BASE, "--epochs", "1"],
        ["plot"],
        ["gate", "--require", "5-9=0", "--allow-inconclusive"],
        ["runs", "verify"],
    ],
)
def test_nothing_of_it_is_left_on_the_screen(arguments, runs, at_terminal, run):
    ended = at_terminal(*arguments)
    assert screen(ended.err) == run(*arguments).err
    doing = ACTIVITIES[" ".join(arguments[: 2 if arguments[0] == "runs" else 1])]
    assert f"{STARTING}\r\x1b[K{doing}" in ended.err


def test_it_stands_below_a_notice_and_is_gone_when_the_result_is_printed(runs, at_terminal, monkeypatch):
    seen = []
    monkeypatch.setattr("lora_mnist_cli.cli.console._lines", lambda *_: seen.append(status_line.LINE._text) or [])
    err = at_terminal("evaluate").err
    assert f"taking the newest adapter: {R2}\n{ACTIVITIES['evaluate']}" in err
    assert err.endswith("\r\x1b[K")
    assert set(seen) == {""}


def test_a_traceback_begins_at_the_left(runs, at_terminal):
    assert screen(at_terminal("evaluate", "nothing", "--verbose").err).startswith("Traceback")


@pytest.mark.usefixtures("data")
def test_a_bar_stands_in_front_of_it_until_the_result_and_it_names_the_phases(at_terminal):
    err = at_terminal(*TRAIN_BASE, "--epochs", "1", "--verbose").err
    named = list(dict.fromkeys(re.findall(r"% .{10}  ([a-z ]+) …", err)))
    assert named[-4:] == ["reading images", "training", "scoring", "statistics"]
    assert "trained base-fashion-mnist-0-4: 1 epoch" in screen(err)
    assert "%  " not in screen(err)


@pytest.mark.usefixtures("data")
def test_with_json_there_is_a_bar_while_something_trains(at_terminal):
    ended = at_terminal(*TRAIN_BASE, "--epochs", "1", "--json")
    assert "training base-fashion-mnist-0-4, epoch 1/1" in ended.err
    assert ended.out.startswith("{")
    assert "%  " not in screen(ended.err)


def test_it_has_as_many_parts_as_fit_and_cuts_what_is_long_in_its_middle():
    more = ("epoch 3/10", "val. 98.64%", "loss 0.0102")
    assert fitted("training base", more, 60) == "training base, epoch 3/10, val. 98.64%, loss 0.0102"
    assert fitted("training base", more, 40) == "training base, epoch 3/10, val. 98.64%"
    assert fitted("training base", more, 37) == "training base, epoch 3/10"
    assert fitted("training chain-0-4_5-9-plain-5-9", more, 32) == "traini…5-9-plain-5-9, epoch 3/10"


def test_what_moves_is_redrawn_from_time_to_time_and_in_front_of_a_new_text_at_once(monkeypatch, capsys):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(status_line, "_EVERY", 0.001)
    line, drawn = StatusLine(), threading.Event()
    line.begin("loading …")
    seen: list[int] = []

    def front(columns: int) -> str:
        seen.append(columns)
        if len(seen) > 2:
            drawn.set()
        return f"{len(seen)} "

    line.follow(front)
    assert drawn.wait(60)
    line.change("scoring …")
    line.end()
    err = capsys.readouterr().err
    assert "\r\x1b[K2 loading …" in err
    assert " scoring …" in err
    assert err.endswith("\r\x1b[K")
    assert line._ticking is None


def test_a_terminal_that_takes_nothing_back_gets_each_text_once(monkeypatch, capsys):
    monkeypatch.setenv("TERM", "dumb")
    line = StatusLine()
    line.begin("loading …")
    for text in ("loading PyTorch …", "scoring …", "loading PyTorch …", "scoring …"):
        line.change(text)
    with line.aside():
        pass
    line.end()
    assert capsys.readouterr().err == "loading …\nloading PyTorch …\nscoring …\n"


@pytest.mark.parametrize("no_color", ["", "1"])
def test_it_has_no_colour(no_color, monkeypatch, capsys):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", no_color)
    line = StatusLine()
    line.begin("loading …")
    line.change("scoring …")
    line.end()
    assert capsys.readouterr().err == "loading …\r\x1b[Kscoring …\r\x1b[K"


@pytest.mark.parametrize(("columns", "shown"), [(12, "comparing w"), (0, "comparing with the thresholds …")])
def test_it_never_wraps_since_a_line_that_does_cannot_be_taken_back(columns, shown, monkeypatch, capfd):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr(os, "get_terminal_size", lambda _: os.terminal_size((columns, 24)))
    StatusLine().begin("comparing with the thresholds …")
    assert capfd.readouterr().err == shown


def test_a_stderr_that_takes_nothing_stops_no_work(monkeypatch):
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("sys.stderr", Full())
    line = StatusLine()
    line.begin("loading …")
    line.end()
