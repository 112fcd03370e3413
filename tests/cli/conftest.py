"""What the tests of the command line share: the program in a process of its own, in pipes and at a terminal."""

from __future__ import annotations

import contextlib
import fcntl
import os
import selectors
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

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
    # Loaded in this process, where stdout is no terminal, the program has set the first two for itself.
    steering = ("_TYPER_FORCE_DISABLE_TERMINAL", "TERMINAL_WIDTH", "COLUMNS", "LINES", "PYTHONUNBUFFERED", "CI")
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


@pytest.fixture
def terminal() -> Callable[..., Ended]:
    """Runs the program with stdout and stderr at a terminal each, 120 columns wide by default."""

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
