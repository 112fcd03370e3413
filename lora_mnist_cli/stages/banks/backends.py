"""The backend of worker processes on this machine, and the choice between it and Ray. No torch here."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
from collections.abc import Sequence
from multiprocessing.connection import Connection

from lora_mnist_cli.settings.lists import counted
from lora_mnist_cli.settings.runtime import Runtime
from lora_mnist_cli.stages.banks.backend import TRIES, Answers, Backend, CombinedProgress, Lost, Task
from lora_mnist_cli.stages.banks.job import Answer, Made, train_bank
from lora_mnist_cli.stages.banks.ray_backend import RayBackend
from lora_mnist_cli.system import machine
from lora_mnist_cli.system.errors import UsageError
from lora_mnist_cli.system.extras import install_command
from lora_mnist_cli.system.processes import Pool, SendingReporter, answer_tasks


def check_backend(runtime: Runtime) -> None:
    """Refuse a backend that is not installed, by a UsageError that says what to install."""
    if runtime.backend == "ray" and importlib.util.find_spec("ray") is None:
        raise UsageError("Ray is not installed", hint=install_command("ray"), value="ray")


def make_backend(runtime: Runtime, banks: int) -> Backend:
    """Return the backend that the runtime names, for a number of banks; ``local`` has none."""
    return RayBackend(runtime) if runtime.backend == "ray" else ProcessBackend(workers(runtime, banks))


def workers(runtime: Runtime, banks: int) -> int:
    """Return how many processes train a number of banks.

    By default as many as leave each thread a core. How much they gain depends on other load: docs/performance.md.
    """
    if runtime.workers is not None:
        return min(banks, runtime.workers)
    # Importing torch to ask it takes longer than looking for the tool that comes with the driver.
    if runtime.accelerator != "cpu" and shutil.which("nvidia-smi"):
        import torch

        if torch.cuda.is_available():
            return 1  # a device is one queue, however many processes wait for it
    return max(1, min(banks, machine.cores() // runtime.threads))


def about_backend(runtime: Runtime, banks: int) -> str:
    """Say in words where a number of banks are trained."""
    threads = f"{counted(runtime.threads, 'thread')} each"
    if runtime.backend == "ray":
        return f"tasks of a Ray cluster, {threads}"
    processes = 1 if runtime.backend == "local" else workers(runtime, banks)
    return f"{counted(processes, 'process', 'processes')}, {threads}, on a machine of {machine.cores()} cores"


class ProcessBackend:
    """Trains banks in some processes of this machine, each with an interpreter of its own."""

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def run(self, tasks: Sequence[Task], progress: CombinedProgress) -> Answers:
        """See :meth:`Backend.run`."""
        with contextlib.closing(Pool(serve, tasks, tries=TRIES).run(self.workers)) as messages:
            for message in messages:
                number, payload = message.task, message.payload
                bank, process = f"bank {number + 1} of {len(tasks)}", f"process {message.pid}"
                if message.kind == "begun":
                    progress.reporter.detail(f"{process} trains {bank}")
                elif message.kind == "advance":
                    steps, _, loss = payload
                    progress.advance(number, steps, loss)
                elif message.kind == "epoch_done":
                    _, val_loss, val_accuracy = payload
                    progress.epoch_done(number, val_loss, val_accuracy)
                elif message.kind == "phase":
                    progress.phase(*payload)
                elif message.kind == "again":
                    progress.again(number)
                    progress.reporter.warn(f"{process} {payload[0]}; {bank}, which it trained, is trained again")
                elif message.kind == "lost":
                    progress.again(number)
                    yield number, Lost(f"its process {payload[0]}, as {TRIES - 1} before it ended too")
                else:
                    progress.done(number)
                    yield number, payload[0]


def serve(connection: Connection) -> None:
    """Train the banks that come over the connection, in a worker process, until the connection is closed."""
    reporter = SendingReporter(connection, "advance", "epoch_done", "phase")
    made: Made = {}  # banks of one split often come one after the other

    def train(task: Task) -> tuple[Answer]:
        return (train_bank(*task, reporter, made),)

    answer_tasks(connection, train)
