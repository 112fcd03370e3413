"""The contract of a backend: a place that trains banks. No torch here."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Protocol

from lora_mnist_cli.stages.banks.combined_progress import CombinedProgress
from lora_mnist_cli.stages.banks.job import Answer, Images, Job

TRIES = 3
"""How often a bank is begun before it counts as lost: lack of memory kills one process, and maybe the next."""

Task = tuple[Job, Images]


@dataclass(frozen=True)
class Lost:
    """A bank that was begun :data:`TRIES` times, and each time its process or machine died.

    Args:
        cause: how the last one ended.
    """

    cause: str


Answers = Generator[tuple[int, "Answer | Lost"], None, None]
"""Each bank's number with what became of it, in the order in which banks are done."""


class Backend(Protocol):
    """Trains banks, as many at once as it can.

    :class:`~lora_mnist_cli.stages.banks.work.AdapterJobs` makes a backend, calls :meth:`run` once, and takes the
    answers from the generator, all on the thread that called the stage. A backend gets jobs by value and has them
    trained by :func:`~lora_mnist_cli.stages.banks.job.train_bank` in other processes or on other machines; it neither
    reads nor writes ``runs/``. It reports progress from inside the generator, on that same thread. A process or machine
    that dies costs the bank that it was training, and the backend begins that bank again.
    """

    def run(self, tasks: Sequence[Task], progress: CombinedProgress) -> Answers:
        """Train the banks and yield an answer for each. Close the generator in any case: that ends what still trains.

        Args:
            tasks: a job and its images for each bank. Banks of the same digits share one ``Images``.
            progress: is told of each bank by its number.

        Raises:
            LoraMnistError: the error that :func:`train_bank` raised for a bank; the other banks are given up.
        """
