"""What the tests share: trained artifacts, and the program run in-process."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lora_mnist_cli.cli import main
from lora_mnist_cli.config import AdapterConfig, BaseConfig
from lora_mnist_cli.stages import Workspace, sweep, train_base


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test works in an empty folder, whatever the caller's environment says."""
    monkeypatch.chdir(tmp_path)
    for name in ("LORA_MNIST_RUNS", "LORA_MNIST_DATA", "NO_COLOR", "FORCE_COLOR", "GITHUB_ACTIONS"):
        monkeypatch.delenv(name, raising=False)
    return


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder with a base of one epoch, adapters of rank 1 and 2 of one epoch and their sweep. Don't write to it."""
    runs = tmp_path_factory.mktemp("trained") / "runs"
    workspace = Workspace(runs)
    train_base(BaseConfig(epochs=1), workspace=workspace)
    sweep([1, 2], config=AdapterConfig(epochs=1), workspace=workspace)
    return runs


@pytest.fixture
def runs(trained: Path, tmp_path: Path) -> Path:
    """A copy of the trained folder, as ``runs`` in the test's own folder, to do anything with."""
    return Path(shutil.copytree(trained, tmp_path / "runs"))


@dataclass
class Outcome:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Runs a command in this process: ``run("evaluate", "--alpha", "0")``."""

    def call(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return call


