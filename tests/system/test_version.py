"""A checkout that is not installed runs as well, and knows its version and its extras."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Python runs this before the program: nothing tells of an installed lora-mnist.
NOT_INSTALLED = """
from importlib import metadata
find = metadata.Distribution.from_name.__func__
def from_name(cls, name):
    if name == "lora-mnist":
        raise metadata.PackageNotFoundError(name)
    return find(cls, name)
metadata.Distribution.from_name = classmethod(from_name)
"""


def test_commands_run_from_a_checkout_that_is_not_installed(tmp_path, small_data):
    (tmp_path / "sitecustomize.py").write_text(NOT_INSTALLED)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}

    def call(*arguments: str) -> str:
        command = [sys.executable, "-m", "lora_mnist_cli", *arguments]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    assert call("--version") == f"lora-mnist {metadata.version('lora-mnist')}\n"
    places = ("--dataset", "fashion-mnist", "--data-dir", str(small_data))
    assert "new" in call("train-base", *places, "--epochs", "0", "--name", "new")
    assert metadata.version("lora-mnist") in (tmp_path / "runs" / "new" / "artifact.json").read_text()
