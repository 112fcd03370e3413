"""Processes of this machine that work beside the one that publishes or asks. No torch here."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection, Pipe

from lora_mnist_cli.errors import LoraMnistError


class Worker:
    """A process with an interpreter of its own, and the line to it.

    It is started as a program and not by ``multiprocessing``, which would run the caller's script once more in it.

    Args:
        serve: a function of a module, called there with the other end of the line. That the line is closed, from either
            side, is the end of it.
    """

    def __init__(self, serve: Callable[[Connection], None]) -> None:
        names = f"{serve.__module__!r}, {serve.__name__!r}"
        self.line, far = Pipe()
        with far:
            # In a session of its own: Ctrl-C at the terminal is for the one that publishes, which ends this one then.
            self._process = subprocess.Popen(
                [sys.executable, "-c", f"from {__name__} import run; run({names}, {far.fileno()})"],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=[far.fileno()], start_new_session=True,
                # Until training sets its threads, one: several processes that each take all cores wait for each other.
                env=os.environ
                | {"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path), "OMP_NUM_THREADS": "1"},
            )  # fmt: skip
        self.pid = self._process.pid

    def kill(self) -> None:
        """End the process; what it was at is lost."""
        self.line.close()
        self._process.kill()
        self._process.wait()

    def died(self) -> str:
        """How the process ended, whose line is closed at the other end."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)  # a line is closed a little before its process is gone
        self.kill()
        code = self._process.returncode
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def run(module: str, serve: str, handle: int) -> None:
    """What a worker process is started with."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # An end of the line, from either side, is the end of the work; that the other side died is nothing to tell of.
    with contextlib.suppress(EOFError, OSError), Connection(handle) as line:
        getattr(importlib.import_module(module), serve)(line)
    os._exit(0)


def sendable(error: Exception) -> Exception:
    """An error as a line can carry it, to be shown at the other end."""
    if isinstance(error, LoraMnistError):
        error.value = None  # it may be anything, and not everything can be sent
        return error
    if isinstance(error, MemoryError):
        return MemoryError("a process that trains has no memory left")
    return RuntimeError(f"{type(error).__name__}: {error}")
