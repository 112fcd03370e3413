"""What the tests of the command line share: small artifacts, and the program here, in pipes and at a terminal.

``runs`` and ``trained`` are artifacts on the small data here, not on MNIST. Only tests of a process start one: of
signals, imports, closed streams and real terminals.
"""

from __future__ import annotations

import contextlib
import io
import os
import selectors
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lora_mnist_cli.cli import main
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.config import BaseConfig
from lora_mnist_cli.settings.runtime import Runtime
from lora_mnist_cli.stages import Workspace, sweep, train_base

sys.path.append(str(Path(__file__).parent))  # tests are imported by path, so their helpers have to be found


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, small_data: Path) -> Path:
    """A base of one epoch, adapters of rank 1 and 2 of one epoch and their sweep, on small data. Don't write to it."""
    runs = tmp_path_factory.mktemp("trained") / "runs"
    workspace = Workspace(runs, small_data, runtime=Runtime())
    base = BaseConfig(dataset="fashion-mnist", hidden_sizes=(16, 12), batch_size=100, epochs=1)
    train_base(base, workspace=workspace)
    sweep([1, 2], config=AdapterConfig(epochs=1), workspace=workspace)
    return runs


@pytest.fixture
def data(small_data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The small data, which every command of the test takes."""
    monkeypatch.setenv("LORA_MNIST_DATA", str(small_data))
    return small_data


@pytest.fixture
def runs(trained: Path, data: Path, tmp_path: Path) -> Path:
    """A copy of the trained folder, as ``runs`` in the test's own folder, to do anything with."""
    # A copy has no links to the shared statistics, so the next command would tidy them away.
    return Path(shutil.copytree(trained, tmp_path / "runs", ignore=shutil.ignore_patterns(".statistics")))


PROGRAM = (sys.executable, "-m", "lora_mnist_cli")
TIMEOUT = 600
"""Seconds that only a hang takes, however busy the machine is."""


@dataclass
class Ended:
    """What a process printed and how it ended."""

    code: int
    out: str
    err: str


def _environment(changes: dict[str, str]) -> dict[str, str]:
    """This process's environment without what steers output, and with some changes."""
    # In this process, where stdout is no terminal, the program has set the first one for itself.
    steering = ("TERMINAL_WIDTH", "COLUMNS", "LINES", "PYTHONUNBUFFERED", "CI")
    kept = {name: value for name, value in os.environ.items() if name not in steering}
    return kept | {"TERM": "xterm-256color"} | changes


@pytest.fixture
def program() -> Callable[..., Ended]:
    """Runs the program in a process of its own, in pipes: ``program("runs", "list", env={"COLUMNS": "40"})``."""

    def call(*arguments: object, env: dict[str, str] | None = None, stdout: Any = subprocess.PIPE) -> Ended:
        ended = subprocess.run(
            [*PROGRAM, *map(str, arguments)], env=_environment(env or {}), stdin=subprocess.DEVNULL, stdout=stdout,
            stderr=subprocess.PIPE, text=True, encoding="utf-8", timeout=TIMEOUT, check=False,
        )  # fmt: skip
        return Ended(ended.returncode, ended.stdout or "", ended.stderr)

    return call


# What a shell starts in the background ignores SIGINT, and so would all that the tests start.
INTERRUPTIBLE = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
    "from lora_mnist_cli.cli import entry; entry()"
)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., tuple[subprocess.Popen[str], Path]]]:
    """Starts the program and returns its process, stdout a pipe, and the file that its stderr goes to."""
    with contextlib.ExitStack() as stack:

        def call(*arguments: object) -> tuple[subprocess.Popen[str], Path]:
            log = tmp_path / "stderr.txt"
            handle = stack.enter_context(log.open("w"))
            command = [sys.executable, "-c", INTERRUPTIBLE, *map(str, arguments)]
            streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": handle}
            process = stack.enter_context(subprocess.Popen(command, env=_environment({}), text=True, **streams))
            stack.callback(process.kill)
            return process, log

        yield call


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def at_terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ended]:
    """Runs the program in this process, with streams that say that they are terminals of that many columns."""

    def call(*arguments: object, columns: int = 120) -> Ended:
        monkeypatch.setenv("TERM", "xterm-256color")
        monkeypatch.setenv("COLUMNS", str(columns))
        out, err = _Terminal(), _Terminal()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main([str(argument) for argument in arguments])
        return Ended(code, out.getvalue(), err.getvalue())

    return call


@pytest.fixture
def terminal() -> Callable[..., Ended]:
    """Runs the program with stdout and stderr at a terminal each, 120 columns wide by default."""
    fcntl, termios = pytest.importorskip("fcntl"), pytest.importorskip("termios")

    def call(*arguments: object, env: dict[str, str] | None = None, columns: int = 120) -> Ended:
        with contextlib.ExitStack() as stack:
            masters, slaves = [], []
            for _ in range(2):
                master, slave = os.openpty()
                stack.callback(os.close, master)
                fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
                masters.append(master)
                slaves.append(slave)
            process = subprocess.Popen(
                [*PROGRAM, *map(str, arguments)], env=_environment(env or {}), stdin=subprocess.DEVNULL,
                stdout=slaves[0], stderr=slaves[1],
            )  # fmt: skip
            for slave in slaves:
                os.close(slave)
            printed = _read_all(masters)
            code = process.wait(TIMEOUT)
        return Ended(code, *(text.decode() for text in printed))

    return call


def _read_all(masters: list[int]) -> list[bytes]:
    """What comes out of the terminals until their other ends are closed."""
    printed = dict.fromkeys(masters, b"")
    with selectors.DefaultSelector() as selector:
        for master in masters:
            selector.register(master, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(TIMEOUT)
            assert ready, "the program prints nothing and does not end"
            for key, _ in ready:
                try:
                    chunk = os.read(key.fd, 65536)
                except OSError:  # how Linux says that the last writer is gone
                    chunk = b""
                printed[key.fd] += chunk
                if not chunk:
                    selector.unregister(key.fd)
    return [printed[master] for master in masters]
