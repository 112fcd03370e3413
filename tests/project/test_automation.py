"""What runs elsewhere: the action, the workflows and the container, as far as they can be tried here."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = [ROOT / "action.yml", *sorted((ROOT / ".github" / "workflows").glob("*.yml"))]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_actions_of_others_are_pinned_by_their_digest(file):
    used = re.findall(r"uses: (\S+)", file.read_text(encoding="utf-8"))
    assert used
    assert [each for each in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", each)] == []


def test_the_action_gives_its_script_every_variable_that_it_reads():
    action = (ROOT / "action.yml").read_text(encoding="utf-8")
    script = (ROOT / ".github" / "stages").read_text(encoding="utf-8")
    given = set(re.findall(r"^ {8}([A-Z]+): \$\{\{ inputs\.", action, re.MULTILINE)) - {"PACKAGE"}
    assert given == set(re.findall(r"\$\{?([A-Z]+)\b", script)) - {"GITHUB_OUTPUT"}
    inputs = set(re.findall(r"inputs\.([\w-]+)", action))
    assert inputs == set(re.findall(r"^ {2}([\w-]+):\n {4}description", action.split("outputs:")[0], re.MULTILINE))


def test_every_python_that_is_promised_is_tried_and_the_next_one():
    promised = re.findall(r"Python :: (3\.\d+)\"", (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    tried = re.search(r"\$\{@:-([\d. ]+)\}", (ROOT / ".ci" / "pythons").read_text(encoding="utf-8"))
    assert tried is not None
    assert tried[1].split() == [*promised, f"3.{int(promised[-1].partition('.')[2]) + 1}"]


def test_the_container_gets_what_the_wheel_is_built_from():
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[0] == "!"}
    assert {"pyproject.toml", "README.md", "LICENSE", "lora_mnist_cli", "data"} <= kept


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="the action's script needs a POSIX shell")
def test_the_actions_steps_run_in_an_empty_folder_and_again(tmp_path):
    program = tmp_path / "bin" / "lora-mnist"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m lora_mnist_cli "$@"\n')
    program.chmod(0o755)
    work = tmp_path / "work"
    work.mkdir()

    def steps(require: str, sweep: str) -> tuple[int, str]:
        output = tmp_path / "output"
        output.write_text("")
        environment = os.environ | {
            "PATH": f"{program.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "GITHUB_OUTPUT": str(output),
            "RANKS": "1", "SEEDS": "0-1", "REQUIRE": require, "SWEEP": sweep, "TAG": "champion",
        }  # fmt: skip
        done = subprocess.run([str(ROOT / ".github" / "stages")], cwd=work, env=environment, check=False)
        return done.returncode, output.read_text()

    assert steps("5-9=99.9%", "--epochs 1") == (1, "passed=false\n")
    assert not (work / "runs" / ".tags" / "champion").exists()
    assert steps("5-9=10%", "--epochs 2") == (0, "passed=true\n")
    assert (work / "runs" / ".tags" / "champion").exists()
    assert {path.name for path in work.iterdir()} == {"runs", "gate.xml", "explore.html"}
