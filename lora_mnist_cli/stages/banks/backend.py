"""The contract of a backend, a place that trains banks, and the progress that it reports. No torch here."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Protocol

from lora_mnist_cli.stages import costs
from lora_mnist_cli.stages.banks.job import Answer, Images, Job
from lora_mnist_cli.system.progress import Reporter, Work
from lora_mnist_cli.system.work import LOADING, SCORING, STATISTICS, TRAINING

TRIES = 3
"""How often a bank is begun before it counts as lost: lack of memory kills one process, and maybe the next."""

Task = tuple[Job, Images]


@dataclass(frozen=True)
class Lost:
    """A bank that was begun :data:`TRIES` times, and each time its process or machine died, at last by ``cause``."""

    cause: str


Answers = Generator[tuple[int, "Answer | Lost"], None, None]
"""Each bank's number with what became of it, in the order in which banks are done."""


class CombinedProgress:
    """Adds up the progress of banks that train at the same time, and reports it as one training.

    An epoch counts as done when as many steps are done as it has in all banks together. The epochs are those of every
    bank; ``steps`` are the optimiser steps per epoch of each, and ``works`` all that each takes.
    """

    def __init__(
        self, reporter: Reporter, title: str, epochs: int, steps: Sequence[int], works: Sequence[Work] = ()
    ) -> None:
        self.reporter, self.title = reporter, title
        self._seconds = sum(seconds for work in works for seconds in work.values())
        self._last = works[-1] if works else {}
        self._loaded = False
        self._epochs, self._steps = epochs, steps
        self._done = [0] * len(steps)
        self._loss = math.nan
        self._epochs_told = 0
        self._scores: dict[int, tuple[float | None, float | None]] = {}

    def begin(self) -> None:
        """Report that training starts: processes load their packages first."""
        last = {phase: self._last.get(phase, 0.0) for phase in (STATISTICS, SCORING)}
        loading = costs.loading_in_processes()
        self.reporter.plan({LOADING: loading, TRAINING: self._seconds - sum(last.values()), **last})
        self.reporter.begin(self.title, self._epochs, sum(self._steps))
        self.reporter.phase(LOADING, loading)

    def loaded(self) -> None:
        """Report that processes have their packages and train, if nobody said so before."""
        if not self._loaded:
            self._loaded = True
            last = self._last.get(STATISTICS, 0.0) + self._last.get(SCORING, 0.0)
            self.reporter.phase(TRAINING, self._seconds - last, "", self._epochs * sum(self._steps))

    def advance(self, bank: int, steps: int, loss: float) -> None:
        """Report more steps of a bank."""
        self._done[bank] += steps
        self._loss = loss
        self._advance(steps)

    def epoch_done(self, bank: int, val_loss: float | None, val_accuracy: float | None) -> None:
        """Note the scores of a bank's epoch; report them as part of the mean when the whole has done the epoch."""
        self._scores[bank] = val_loss, val_accuracy
        self._tell_epochs()

    def again(self, bank: int) -> None:
        """Take back the steps of a bank that begins again."""
        self._advance(-self._done[bank])
        self._done[bank] = 0

    def done(self, bank: int) -> None:
        """Report the steps of a finished bank that were not reported one by one."""
        missing = self._epochs * self._steps[bank] - self._done[bank]
        if missing > 0:
            self.advance(bank, missing, self._loss)
        self._tell_epochs()

    def phase(self, name: str, seconds: float, part: str = "", steps: int = 0) -> None:
        """Report what a bank does when all are trained; before that, others still train meanwhile."""
        if name != TRAINING and self._epochs_done() == self._epochs:
            self.reporter.phase(name, seconds, part, steps)

    def _advance(self, steps: int) -> None:
        self.loaded()
        self.reporter.advance(steps, min(self._epochs, self._epochs_done() + 1), self._loss)

    def _epochs_done(self) -> int:
        whole = sum(self._steps)
        return sum(self._done) // whole if whole else self._epochs

    def _tell_epochs(self) -> None:
        while self._epochs_told < self._epochs_done():
            self._epochs_told += 1
            losses, accuracies = zip(*self._scores.values(), strict=True) if self._scores else ((), ())
            self.reporter.epoch_done(self._epochs_told, _mean(losses), _mean(accuracies))


def _mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of those values that are known."""
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


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
