"""Where banks are trained: in processes of this machine, or as tasks of a Ray cluster. No torch here.

A backend gets jobs by value and gives their answers as they come; it neither reads nor writes ``runs/``. A process or
a machine that dies costs the bank that it was training, which is trained again, a bounded number of times.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import io
import math
import os
import shutil
import signal
import socket
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

from lora_mnist_cli.settings.runtime import Runtime
from lora_mnist_cli.stages.banks.job import Answer, Images, Job, train_bank
from lora_mnist_cli.system.errors import UsageError
from lora_mnist_cli.system.processes import Pool, sendable
from lora_mnist_cli.system.progress import Reporter
from lora_mnist_cli.training.bank.grouping import cohorts

TRIES = 3
"""How often a bank is trained before it counts as lost: what kills one process, as memory does, may kill the next."""

_CONTAINER_MEMORY = Path("/sys/fs/cgroup/memory.max")

Task = tuple[Job, Images]


@dataclass(frozen=True)
class Lost:
    """A bank that was trained :data:`TRIES` times by what died of it, and how the last one did."""

    how: str


Answers = Generator[tuple[int, "Answer | Lost"], None, None]
"""Each bank's number and what became of it, in the order in which they are done."""


class Backend(Protocol):
    """Trains banks, as many at once as it can."""

    def run(self, work: Sequence[Task], ear: Ear) -> Answers:
        """Train them all; to be closed in any case.

        Raises:
            LoraMnistError: what :func:`train_bank` raises, in its place.
        """


def cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory() -> int | None:
    """The memory in bytes that this machine, or the container that this process is in, has; where the system tells."""
    known = []
    with contextlib.suppress(AttributeError, OSError, ValueError):
        known.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    with contextlib.suppress(OSError, ValueError):  # elsewhere than on Linux there is no such file; "max" is no number
        known.append(int(_CONTAINER_MEMORY.read_text(encoding="ascii")))
    return min(known, default=None)


def check_backend(runtime: Runtime) -> None:
    """Refuse a backend that is not installed.

    Raises:
        UsageError: then; it says what to install.
    """
    if runtime.backend == "ray" and importlib.util.find_spec("ray") is None:
        raise UsageError("Ray is not installed", hint="pip install 'lora-mnist[ray]'", value="ray")


def make_backend(runtime: Runtime, banks: int) -> Backend:
    """The backend that the runtime names, for so many banks; not for ``local``, which needs none."""
    if runtime.backend == "ray":
        return RayTasks(runtime)
    return Processes(workers(runtime, banks))


def workers(runtime: Runtime, banks: int) -> int:
    """How many processes train so many banks.

    By default as many as leave each thread a core. What that gains depends on how busy they are: docs/performance.md.
    """
    if runtime.workers is not None:
        return min(banks, runtime.workers)
    # To load torch for the question takes longer than to look for the tool that comes with the driver.
    if runtime.accelerator != "cpu" and shutil.which("nvidia-smi"):
        import torch

        if torch.cuda.is_available():
            return 1  # a device is one queue, whoever waits for it
    return max(1, min(banks, cores() // runtime.threads))


def alone(runtime: Runtime) -> Runtime:
    """The runtime as one process has it that trains a bank."""
    return dataclasses.replace(runtime, backend="local", workers=None, address=None)


def about_backend(runtime: Runtime, banks: int) -> str:
    """What trains so many banks, in words."""
    threads = f"{runtime.threads} thread{'s' if runtime.threads != 1 else ''}"
    if runtime.backend == "ray":
        return f"tasks of a Ray cluster, {threads} each"
    count = 1 if runtime.backend == "local" else workers(runtime, banks)
    return f"{count} process{'es' if count != 1 else ''}, {threads} each, on a machine of {cores()} cores"


class Ear:
    """Makes one progress of what several banks tell at the same time.

    Args:
        reporter: is told of the whole.
        title: of the whole.
        work: the banks; each has its own number of steps.
    """

    def __init__(self, reporter: Reporter, title: str, work: Sequence[Task]) -> None:
        self.reporter, self.title = reporter, title
        self._steps = [_steps(job, len(images.train[1])) for job, images in work]
        self._epochs = max(job.configs()[0].epochs for job, _ in work)
        self._done = [0] * len(work)
        self._loss = math.nan
        self._told = 0
        self._scores: dict[int, tuple[float | None, float | None]] = {}

    def begin(self) -> None:
        """All begins."""
        self.reporter.begin(self.title, self._epochs, sum(epoch for epoch, _ in self._steps))

    def advance(self, bank: int, steps: int, loss: float) -> None:
        """A bank has done so many more steps."""
        self._done[bank] += steps
        self._loss = loss
        self.reporter.advance(steps, min(self._epochs, self._epoch() + 1), loss)

    def epoch_done(self, bank: int, val_loss: float | None, val_accuracy: float | None) -> None:
        """A bank has done an epoch; all have, when the slowest has."""
        self._scores[bank] = val_loss, val_accuracy
        self._tell()

    def again(self, bank: int) -> None:
        """A bank begins anew."""
        self.reporter.advance(-self._done[bank], self._epoch() + 1, self._loss)
        self._done[bank] = 0

    def done(self, bank: int) -> None:
        """A bank is done, whether or not its steps were told one by one."""
        _, whole = self._steps[bank]
        if self._done[bank] < whole:
            self.advance(bank, whole - self._done[bank], self._loss)
        self._tell()

    def _epoch(self) -> int:
        """Epochs that are done, if all steps were of one training."""
        whole = sum(each for _, each in self._steps)
        return self._epochs * sum(self._done) // whole if whole else self._epochs

    def _tell(self) -> None:
        while self._told < self._epoch():
            self._told += 1
            losses, accuracies = (
                (
                    [value for value in values if value is not None]
                    for values in zip(*self._scores.values(), strict=True)
                )
                if self._scores
                else ([], [])
            )
            self.reporter.epoch_done(self._told, _mean(losses), _mean(accuracies))


def _steps(job: Job, images: int) -> tuple[int, int]:
    """Optimiser steps of a bank in an epoch, and in all of them."""
    configs = job.configs()
    alone = configs[0].precision == "bf16-mixed"
    firsts = configs if alone else [configs[members[0]] for members, _ in cohorts(configs)]
    each = [math.ceil(int(round(images * (1 - one.val_split), 6)) / one.batch_size) for one in firsts]
    return sum(each), sum(each) * configs[0].epochs


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


class Processes:
    """Trains banks in processes of this machine, each with an interpreter of its own.

    Args:
        workers: how many at once.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def run(self, work: Sequence[Task], ear: Ear) -> Answers:
        """See :meth:`Backend.run`."""
        with contextlib.closing(Pool(serve, work, tries=TRIES).run(self.workers)) as all_that_is_heard:
            for heard in all_that_is_heard:
                bank, process = f"bank {heard.task + 1} of {len(work)}", f"process {heard.pid}"
                if heard.what == "begun":
                    ear.reporter.detail(f"{process} trains {bank}")
                elif heard.what == "advance":
                    ear.advance(heard.task, *heard.told)
                elif heard.what == "epoch_done":
                    ear.epoch_done(heard.task, *heard.told)
                elif heard.what == "again":
                    ear.again(heard.task)
                    ear.reporter.warn(f"{process} {heard.told[0]}; {bank}, which it trained, is trained again")
                elif heard.what == "lost":
                    ear.again(heard.task)
                    yield heard.task, Lost(f"its process {heard.told[0]}, as {TRIES - 1} before it ended too")
                else:
                    ear.done(heard.task)
                    yield heard.task, heard.told[0]


def serve(line: Connection) -> None:
    """What a worker process does: train the banks that come, tell of it, and answer; until its line is closed."""
    while True:
        job, images = line.recv()
        try:
            answer: Any = train_bank(job, images, _Teller(line))
        except Exception as error:  # noqa: BLE001 - it is told where it can be shown
            line.send(("raised", sendable(error)))
        else:
            line.send(("answer", answer))


class _Teller:
    """A reporter in a worker process, which tells what it hears over the line."""

    def __init__(self, line: Connection) -> None:
        self.line = line

    def notice(self, text: str) -> None: ...

    def detail(self, text: str) -> None: ...

    def warn(self, text: str) -> None: ...

    def begin(self, title: str, epochs: int, steps: int) -> None: ...

    def part(self, number: int, parts: int) -> None: ...

    def advance(self, steps: int, epoch: int, loss: float) -> None:  # noqa: ARG002 - what all are in is another
        self.line.send(("advance", steps, loss))

    def epoch_done(self, epoch: int, val_loss: float | None, val_accuracy: float | None) -> None:  # noqa: ARG002
        self.line.send(("epoch_done", val_loss, val_accuracy))

    def end(self) -> None: ...


class RayTasks:
    """Trains banks as tasks of a Ray cluster, which has lora-mnist installed on its machines and shares no disk.

    Args:
        runtime: its ``address`` names the cluster; by default, the one that Ray finds, or one on this machine alone.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime

    def run(self, work: Sequence[Task], ear: Ear) -> Answers:
        """See :meth:`Backend.run`; progress is told by the bank."""
        import ray
        from ray.exceptions import RayError, RayTaskError

        # Ray prints what it has to say of nodes that die to stdout, which is for results alone.
        with contextlib.redirect_stdout(_Lines(ear.reporter.detail)), _connected(self.runtime.address):
            ear.reporter.detail(f"Ray has {ray.cluster_resources().get('CPU', 0):g} cores")
            # Only what died is tried again: what a bank itself complains of would be the same another time.
            task = ray.remote(train_bank).options(
                num_cpus=self.runtime.threads, num_gpus=1 if self.runtime.accelerator == "gpu" else 0,
                max_retries=TRIES - 1, retry_exceptions=False,
            )  # fmt: skip
            shared = {id(images): ray.put(images) for _, images in work}
            pending = {task.remote(job, shared[id(images)]): number for number, (job, images) in enumerate(work)}
            try:
                while pending:
                    (first, *_), _ = ray.wait(list(pending))
                    number = pending.pop(first)
                    try:
                        answer: Answer | Lost = ray.get(first)
                    except RayTaskError as error:
                        raise error.cause from None
                    except RayError as error:
                        answer = Lost(f"{type(error).__name__}: {str(error).splitlines()[0]}")
                    else:
                        ear.done(number)
                    yield number, answer
            finally:
                for reference in pending:
                    ray.cancel(reference, force=True)


class _Lines(io.TextIOBase):
    """A stream that tells each line of what is written to it."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say

    def write(self, text: str) -> int:
        for line in text.splitlines():
            if line.strip():
                self._say(line)
        return len(text)


@contextlib.contextmanager
def _connected(address: str | None) -> Iterator[None]:
    """A connection to a cluster; one that is there already is taken, and left as it is.

    Raises:
        UsageError: where there is no cluster at the address.
    """
    # Nothing is told to Ray's makers that the user has not agreed to.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    if ray.is_initialized():
        yield
        return
    _refuse_unreachable(address)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    stops: list[SystemExit] = []

    def stop(number: int, frame: Any) -> None:
        """What was to happen at a signal; where it is to end the program, Ray would make another exit of it."""
        handler = handlers[signal.Signals(number)]
        assert callable(handler)
        try:
            handler(number, frame)
        except SystemExit as error:
            stops.append(error)
            raise

    try:
        ray.init(
            address=address, include_dashboard=None if address else False, log_to_driver=False, logging_level="ERROR"
        )
    except (ConnectionError, ValueError) as error:
        raise _no_cluster(address, error) from error
    try:
        # Ray takes the signals for itself; who asked for the work is to hear what ended it.
        with contextlib.suppress(ValueError):  # not the main thread: then they are not ours
            for number, handler in handlers.items():
                signal.signal(number, stop if callable(handler) else handler)
        yield
    except SystemExit:
        if stops:
            raise stops[0] from None
        raise
    finally:
        ray.shutdown()
        with contextlib.suppress(ValueError):
            for number, handler in handlers.items():
                signal.signal(number, handler)


def _refuse_unreachable(address: str | None) -> None:
    """Refuse ``HOST:PORT`` where nobody listens: Ray would go on asking for minutes.

    Raises:
        UsageError: then.
    """
    host, colon, port = (address or "").rpartition(":")
    if not colon or not port.isdecimal() or "/" in host:
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, error) from error


def _no_cluster(address: str | None, error: Exception) -> UsageError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return UsageError(
        f"no Ray cluster at '{address or 'auto'}': {reason}", hint="ray start --head begins one", value=address
    )
