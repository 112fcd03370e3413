"""Processes of this machine that work beside the one that publishes or asks. No torch here."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any

from lora_mnist_cli.system.errors import LoraMnistError


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


@dataclass(frozen=True)
class Heard:
    """Something that was heard of a task.

    Args:
        task: its number.
        pid: of the process that it is with.
        what: ``begun``; ``again`` or ``lost`` where the process died, ``told`` being how; or whatever the process sent.
        told: with it.
    """

    task: int
    pid: int
    what: str
    told: tuple[Any, ...] = ()


class Pool:
    """Tasks that worker processes do, each once; where its process dies, it is done again by another one.

    Args:
        serve: as :class:`Worker` has it. It receives tasks, and sends for each ``("answer", …)`` as the last thing, or
            ``("raised", error)``; and before that whatever else it has to say.
        tasks: what is sent.
        tries: how often a task is begun before it counts as lost.
        after: of each task, the numbers of those that have to be over before it can begin; none by default.
    """

    def __init__(
        self, serve: Callable[[Connection], None], tasks: Sequence[Any], *, tries: int,
        after: Sequence[Collection[int]] | None = None,
    ) -> None:  # fmt: skip
        self._serve, self._tasks, self._limit = serve, tasks, tries
        self._after = [()] * len(tasks) if after is None else after
        self._waiting = list(range(len(tasks)))
        self._tries = [0] * len(tasks)
        self._busy: dict[Connection, tuple[Worker, int]] = {}
        self._idle: list[Worker] = []

    def run(self, workers: int) -> Generator[Heard, None, None]:
        """All that is heard until all tasks are over; to be closed in any case, and no process is left then.

        Args:
            workers: how many processes, at most.

        Raises:
            Exception: what a task raised.
        """
        try:
            while len(self._idle) < min(workers, len(self._tasks)):
                self._idle.append(Worker(self._serve))
            yield from self._begin()
            while self._busy:
                for line in wait(list(self._busy)):
                    assert isinstance(line, Connection)
                    yield from self._hear(line)
        finally:
            for worker in (*self._idle, *(worker for worker, _ in self._busy.values())):
                worker.kill()

    def _begin(self) -> Iterator[Heard]:
        """Give idle processes what can begin; those that there is nothing left for may go."""
        open_ = {*self._waiting, *(number for _, number in self._busy.values())}
        ready = [number for number in self._waiting if open_.isdisjoint(self._after[number])]
        for number, worker in zip(ready, list(self._idle), strict=False):
            self._idle.remove(worker)
            self._waiting.remove(number)
            self._tries[number] += 1
            self._busy[worker.line] = worker, number
            with contextlib.suppress(OSError):  # it is dead, and the line will say so
                worker.line.send(self._tasks[number])
            yield Heard(number, worker.pid, "begun")
        if not self._waiting:
            while self._idle:
                self._idle.pop().kill()

    def _hear(self, line: Connection) -> Iterator[Heard]:
        """Take what a process has to say."""
        worker, number = self._busy[line]
        try:
            what, *told = line.recv()
        except (EOFError, OSError):
            yield from self._died(line)
            return
        if what == "raised":
            raise told[0]
        if what == "answer":
            del self._busy[line]
            self._idle.append(worker)
            yield from self._begin()  # before what is done with the answer, so that it does not wait for that
        yield Heard(number, worker.pid, what, tuple(told))

    def _died(self, line: Connection) -> Iterator[Heard]:
        worker, number = self._busy.pop(line)
        how, again = worker.died(), self._tries[number] < self._limit
        if again:
            self._waiting.append(number)
        if self._waiting:
            self._idle.append(Worker(self._serve))
        yield Heard(number, worker.pid, "again" if again else "lost", (how,))
        yield from self._begin()


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
