"""Banks in worker processes of this machine. No torch here."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from multiprocessing.connection import Connection

from lora_mnist_cli.stages.banks.backend import TRIES, Answers, Lost, Task
from lora_mnist_cli.stages.banks.combined_progress import CombinedProgress
from lora_mnist_cli.stages.banks.job import train_bank
from lora_mnist_cli.system.processes import Pool, SendingReporter, sendable


class ProcessBackend:
    """Trains banks in processes of this machine, each with an interpreter of its own.

    Args:
        workers: how many at once.
    """

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
    reporter = SendingReporter(connection, "advance", "epoch_done")
    while True:
        job, images = connection.recv()
        try:
            answer = train_bank(job, images, reporter)
        except Exception as error:  # noqa: BLE001 - the parent shows it
            connection.send(("raised", sendable(error)))
        else:
            connection.send(("answer", answer))
