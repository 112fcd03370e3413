"""The README and the tutorial: every command in its order, in one folder, with the outputs that they show.

The fast tests run nothing. The slow one runs all of it on 1,000 images, where figures mean nothing and gates may not be
met; that of the study on MNIST, and compares what the page shows.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import re
import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from readme.page import PAGES, ROOT, Block, Command, blocks, commands, unlike

from lora_mnist_cli.cli import main
from lora_mnist_cli.data.sources import SOURCES, load_split

pytestmark = pytest.mark.usefixtures("one_thread")

PROGRAM = "lora-mnist"
NOT_RUN = {
    "pip": "it installs",
    "uv": "it installs",
    "docker": "it is another machine",
    "pytest": "these are the tests",
    "mlflow": "it serves until it is stopped",
}
"""Programs of the pages that are not started, and why."""
EXTRAS = {"mlflow": ["--logger", "mlflow"], "onnxscript": [".onnx"], "pandas": ["pandas"],
          "pytorch_lightning": ["pytorch_lightning"]}  # fmt: skip
"""Package → words of a command or of code by which it is needed."""
A_PLACEHOLDER = "HOST:"
"""In a command that needs a cluster; the tests of Ray start one."""
A_GATE = ("--min-accuracy", "--require")
BLOCKS = [block for page in PAGES for block in blocks(page)]
COMMANDS = [command for block in BLOCKS if block.language == "sh" for command in commands(block.text)]


def lacking(words: str) -> str | None:
    """Return a package that is needed and not installed."""
    needed = (extra for extra, marks in EXTRAS.items() if all(mark in words for mark in marks))
    return next((extra for extra in needed if importlib.util.find_spec(extra) is None), None)


def pictures(page: str) -> list[str]:
    """Return the names of the pictures on a page that its own commands draw."""
    return re.findall(r"\(images/tutorial/([^)]+)\)", (ROOT / page).read_text(encoding="utf-8"))


def call(command: Command) -> tuple[int, str]:
    """Run a command in this process; returns its exit code and what it printed to stdout."""
    if command.words[0] == "echo":
        return 0, " ".join(command.words[1:])
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    with contextlib.ExitStack() as stack:
        if command.stdin:
            stack.enter_context(pytest.MonkeyPatch.context()).setattr(
                sys, "stdin", stack.enter_context(open(command.stdin))
            )
        stack.enter_context(contextlib.redirect_stdout(out))
        code = main(list(command.words[1:]))
    out.flush()
    printed = out.buffer.getvalue().decode()  # type: ignore[attr-defined]
    if command.stdout:
        Path(command.stdout).write_text(printed, encoding="utf-8")
    return code, printed


class Walk:
    """A walk through a page in the present folder: runs commands and code, writes files, and keeps the outputs."""

    def __init__(self, *, gates_hold: bool) -> None:
        self.printed: dict[str, str] = {}
        self.left_out: list[str] = []
        self._gates_hold = gates_hold
        self._failed = False

    def take(self, block: Block) -> None:
        if block.language == "sh":
            for command in commands(block.text):
                self._run(command)
        elif block.language == "toml":
            name = block.before.rpartition("This is `")[2].rstrip("`:")
            Path(name).write_text(block.text)
        elif block.language == "yaml":
            for line in block.text.splitlines():
                if f"run: {PROGRAM}" in line:
                    for command in commands(line.partition("run: ")[2]):
                        self._run(command)
        elif block.language == "python":
            if package := lacking(block.text):
                self.left_out.append(f"Python that needs {package}")
            else:
                exec(compile(block.text, "a page", "exec"), {})

    def _run(self, command: Command) -> None:
        if command.words[0] in NOT_RUN or (command.otherwise and not self._failed):
            return
        if A_PLACEHOLDER in command.line:
            self.left_out.append(f"{command.line} (needs a cluster)")
            return
        if package := lacking(command.line):
            self.left_out.append(f"{command.line} (needs {package})")
            return
        code, printed = call(command)
        self._failed = code != 0
        is_gate = any(option in command.words for option in A_GATE)
        allowed = {0} | ({1} if command.may_fail or (is_gate and not self._gates_hold) else set())
        assert code in allowed, (command.line, code)
        assert printed or command.stdout, command.line
        self.printed[shlex.join(command.words)] = printed


@pytest.fixture
def small_mnist(idx: Callable[[Any], bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes every command of the test take the first 1,000 training and 300 test images of MNIST for all of it."""
    folder, source = Path("data", "mnist"), SOURCES["mnist"]
    folder.mkdir(parents=True)
    sums = {}
    for split, count in (("train", 1_000), ("test", 300)):
        for name, values in zip(source.files[split], load_split("mnist", split, Path("none")), strict=True):
            content = idx(values[:count])
            (folder / name).write_bytes(content)
            sums[name] = hashlib.sha256(content).hexdigest()
    monkeypatch.setitem(SOURCES, "mnist", replace(source, sha256=sums))
    # A process of its own would read the files by the sums of the whole MNIST.
    monkeypatch.setattr("lora_mnist_cli.stages.chains.run.train_in_processes", lambda *_: None)
    monkeypatch.setattr("lora_mnist_cli.stages.papers.study._in_processes", lambda *_: {})


def test_every_command_and_option_is_there(run):
    """Fast, and without running anything: ``--help`` comes after the words, which are checked before it is shown."""
    ours = [command.words[1:] for command in COMMANDS if command.words[0] == PROGRAM]
    assert len(ours) > 80
    # Once for the same command with the same options.
    asked = {(*words[:2], *(word for word in words if word.startswith("-"))): words for words in ours}
    for words in asked.values():
        assert run(*words, "--help").code == 0, words


def test_every_program_is_ours_or_one_that_is_not_run():
    assert {command.words[0] for command in COMMANDS} <= {PROGRAM, "echo", *NOT_RUN}


@pytest.mark.parametrize("page", PAGES)
def test_every_output_is_that_of_a_command_of_the_page(page):
    texts = [block.text for block in blocks(page) if block.language == "sh"]
    lines = {shlex.join(command.words) for text in texts for command in commands(text)}
    shown = [block.text.splitlines()[0] for block in blocks(page) if block.language == "text"]
    assert shown
    assert [line for line in shown if not line.startswith("$ ") or line.removeprefix("$ ") not in lines] == []


def test_every_picture_of_the_tutorial_is_drawn_by_one_of_its_commands():
    drawn = [command.words[-1] for command in COMMANDS if command.words[1:2] == ("plot",)]
    assert pictures("docs/tutorial.md")
    assert set(pictures("docs/tutorial.md")) <= set(drawn)
    assert {path.name for path in (ROOT / "docs/images/tutorial").iterdir()} == set(pictures("docs/tutorial.md"))


@pytest.mark.parametrize("package", EXTRAS)
def test_commands_that_need_a_package_run_where_it_is_installed(package):
    """They do in the long tests below; here it is said where they do not."""
    texts = [command.line for command in COMMANDS] + [each.text for each in BLOCKS if each.language == "python"]
    needing = [text for text in texts if all(mark in text for mark in EXTRAS[package])]
    assert needing
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed, so what needs it in the README is not run: {needing[0]}")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Lightning advises
@pytest.mark.usefixtures("small_mnist")
@pytest.mark.parametrize(("page", "least"), [("README.md", 80), ("docs/tutorial.md", 10)])
def test_every_command_runs_in_its_order_in_one_folder(page, least):
    walk = Walk(gates_hold=False)
    for block in blocks(page):
        walk.take(block)
    assert len(walk.printed) + len(walk.left_out) > least
    assert [name for name in pictures(page) if not Path(name).is_file()] == []


@pytest.mark.alone
@pytest.mark.study
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("page", PAGES)
def test_every_command_prints_what_the_page_shows(page):
    walk = Walk(gates_hold=True)
    for block in blocks(page):
        walk.take(block)
        if block.language == "text":
            command, _, shown = block.text.partition("\n")
            assert unlike(shown, walk.printed[command.removeprefix("$ ")]) == "", command
    assert [line for line, printed in walk.printed.items() if "cannot reach significance" in printed] == []
