"""Worker processes on this machine, and a pool that gives them tasks. No torch here.

A worker process runs one function, ``serve``, which receives tasks over a connection and sends messages back. The
process ends when either side closes the connection, and at once when its parent dies. The holder of the pool publishes
the results. Workers ignore Ctrl-C: it stops the holder, and the holder stops them.
"""

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
from typing import Any, cast

from lora_mnist_cli.system.caller import own_variables
from lora_mnist_cli.system.errors import LoraMnistError
from lora_mnist_cli.system.platforms import here
from lora_mnist_cli.system.progress import Silent


class Worker:
    """A process with an interpreter of its own, and the connection to it.

    It is started as a program and not by ``multiprocessing``, which would run the caller's script once more in it.
    There, ``serve``, a function of a module, is called with the other end of the connection.
    """

    def __init__(self, serve: Callable[[Connection], None]) -> None:
        names = f"{serve.__module__!r}, {serve.__name__!r}"
        self.connection: Any  # of one class on Windows, and of another elsewhere
        self.connection, far = Pipe()
        with far:
            # Ctrl-C at the terminal reaches the parent alone, which then ends this process.
            self._process = here.start_worker(
                [sys.executable, "-c", f"from {__name__} import run; run({names}, {far.fileno()})"],
                far,
                # Nothing is ever written to its stdin: the end of that pipe is the end of this process.
                stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                # Until training sets its threads, one: several processes that each take all cores wait for each other.
                env=os.environ
                | {"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path), "OMP_NUM_THREADS": "1"},
            )  # fmt: skip
        self.pid = self._process.pid

    def kill(self) -> None:
        """End the process; its unfinished work is lost."""
        self.connection.close()
        with self._process:  # it closes the pipe, and waits
            self._process.kill()

    def cause_of_death(self) -> str:
        """Say how the process ended, after its connection broke."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)  # the connection breaks a little before the process is gone
        self.kill()
        code = self._process.returncode
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


@dataclass(frozen=True)
class Message:
    """News of a task, by its number, from the process that has it.

    Args:
        kind: ``begun``; ``again`` or ``lost`` where the process died; or the first word that the process sent.
        payload: the rest that the process sent; for ``again`` and ``lost``, how the process ended.
    """

    task: int
    pid: int
    kind: str
    payload: tuple[Any, ...] = ()


class Pool:
    """Tasks for worker processes. A task whose process dies is begun again in another one.

    Args:
        serve: what each process runs; see :class:`Worker`. It receives tasks. For each it may send any messages,
            ``(kind, *payload)``, and the last one is ``("answer", …)`` or ``("raised", error)``.
        tasks: what is sent, each to one process.
        tries: how often a task is begun before it counts as lost.
        after: for each task the numbers of those that have to be over before it can begin; none by default.
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

    def run(self, workers: int) -> Generator[Message, None, None]:
        """Yield messages until all tasks are over, from that many processes at most; raise what a task raises.

        Close the generator in any case: that ends all processes.
        """
        try:
            while len(self._idle) < min(workers, len(self._tasks)):
                self._idle.append(Worker(self._serve))
            yield from self._begin()
            while self._busy:
                for connection in wait(list(self._busy)):
                    yield from self._receive(cast("Connection", connection))
        finally:
            for worker in (*self._idle, *(worker for worker, _ in self._busy.values())):
                worker.kill()

    def _begin(self) -> Iterator[Message]:
        """Give idle processes the tasks that can begin; end idle processes when no task is left."""
        open_ = {*self._waiting, *(number for _, number in self._busy.values())}
        ready = [number for number in self._waiting if open_.isdisjoint(self._after[number])]
        for number, worker in zip(ready, list(self._idle), strict=False):
            self._idle.remove(worker)
            self._waiting.remove(number)
            self._tries[number] += 1
            self._busy[worker.connection] = worker, number
            with contextlib.suppress(OSError):  # the process is dead, and the connection will say so
                worker.connection.send(self._tasks[number])
            yield Message(number, worker.pid, "begun")
        if not self._waiting:
            while self._idle:
                self._idle.pop().kill()

    def _receive(self, connection: Connection) -> Iterator[Message]:
        """Take one message of a process."""
        worker, number = self._busy[connection]
        try:
            kind, *payload = connection.recv()
        except (EOFError, OSError):
            yield from self._bury(connection)
            return
        if kind == "raised":
            raise payload[0]
        if kind == "answer":
            del self._busy[connection]
            self._idle.append(worker)
            yield from self._begin()  # first, so that no process waits while the answer is dealt with
        yield Message(number, worker.pid, kind, tuple(payload))

    def _bury(self, connection: Connection) -> Iterator[Message]:
        """Replace a dead process, and begin its task again unless it was tried often enough."""
        worker, number = self._busy.pop(connection)
        cause, again = worker.cause_of_death(), self._tries[number] < self._limit
        if again:
            self._waiting.append(number)
        if self._waiting:
            self._idle.append(Worker(self._serve))
        yield Message(number, worker.pid, "again" if again else "lost", (cause,))
        yield from self._begin()


class SendingReporter(Silent):
    """A reporter in a worker process: it sends calls of these methods to the parent, as ``(method, *arguments)``."""

    def __init__(self, connection: Connection, *methods: str) -> None:
        for method in methods:
            setattr(self, method, lambda *arguments, method=method: connection.send((method, *arguments)))


def run(module: str, serve: str, handle: int) -> None:
    """Run ``serve`` of a module in a worker process; the program that :class:`Worker` starts."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    own_variables()
    here.end_with_parent()
    # Either side may close the connection, and that is the normal end: no error to report.
    with contextlib.suppress(EOFError, OSError), here.connection_of(handle) as connection:
        getattr(importlib.import_module(module), serve)(connection)
    os._exit(0)


def answer_tasks(connection: Connection, work: Callable[[Any], tuple[Any, ...]]) -> None:
    """Answer every task of a connection by what ``work`` returns or raises, until the connection is closed."""
    while True:
        task = connection.recv()
        try:
            answer = work(task)
        except Exception as error:  # noqa: BLE001 - the parent shows it
            connection.send(("raised", sendable(error)))
        else:
            connection.send(("answer", *answer))


def sendable(error: Exception) -> Exception:
    """Return an error in a form that can be sent to another process and shown there."""
    if isinstance(error, LoraMnistError):
        error.value = None  # it may be anything, and not everything can be pickled
        return error
    if isinstance(error, MemoryError):
        return MemoryError("a process that trains has no memory left")
    return RuntimeError(f"{type(error).__name__}: {error}")
