"""What a stage tells while it works. It says it here; who shows it, and where, is the caller's business."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol


class Reporter(Protocol):
    """The ear of a stage."""

    def notice(self, text: str) -> None:
        """Something worth knowing: which artifact was taken, that work is up to date."""

    def detail(self, text: str) -> None:
        """Something for those who want to know more: what trains, and where."""

    def warn(self, text: str) -> None:
        """Something that the user may not have meant."""

    def begin(self, title: str, epochs: int, steps: int) -> None:
        """Training starts: so many epochs, of so many optimiser steps each; a bank's seeds add up."""

    def part(self, number: int, parts: int) -> None:
        """The next of several parts of a training starts: a bank of a grid. Told after :meth:`begin`, from 1 on."""

    def advance(self, steps: int, epoch: int, loss: float) -> None:
        """So many more steps are done, in this epoch (from 1); ``loss`` is the last batch's, a bank's the mean."""

    def epoch_done(self, epoch: int, val_loss: float | None, val_accuracy: float | None) -> None:
        """An epoch is done and scored; None without a validation split. A bank tells the mean of its members."""

    def end(self) -> None:
        """Training ended, for whatever reason."""


class Silent:
    """A reporter that keeps everything to itself."""

    def notice(self, text: str) -> None: ...

    def detail(self, text: str) -> None: ...

    def warn(self, text: str) -> None: ...

    def begin(self, title: str, epochs: int, steps: int) -> None: ...

    def part(self, number: int, parts: int) -> None: ...

    def advance(self, steps: int, epoch: int, loss: float) -> None: ...

    def epoch_done(self, epoch: int, val_loss: float | None, val_accuracy: float | None) -> None: ...

    def end(self) -> None: ...


class WithoutNotices:
    """Tells all on but notices, and warnings that were told before.

    Args:
        warned: these.
    """

    def __init__(self, reporter: Reporter, warned: Collection[str] = ()) -> None:
        self.detail, self.begin, self.part = reporter.detail, reporter.begin, reporter.part
        self.advance, self.epoch_done, self.end = reporter.advance, reporter.epoch_done, reporter.end
        self._warn, self._warned = reporter.warn, warned

    def notice(self, text: str) -> None: ...

    def warn(self, text: str) -> None:
        if text not in self._warned:
            self._warn(text)


class _Parts:
    """Trainings that follow each other, told as the parts of one."""

    def __init__(self, reporter: Reporter, title: str, steps: Sequence[int]) -> None:
        self.reporter, self.title, self.steps, self.begun = reporter, title, steps, 0
        self.notice, self.detail, self.warn = reporter.notice, reporter.detail, reporter.warn
        self.advance, self.epoch_done = reporter.advance, reporter.epoch_done

    def begin(self, title: str, epochs: int, steps: int) -> None:  # noqa: ARG002 - the whole has a title of its own
        if not self.begun:
            self.reporter.begin(self.title, epochs, sum(self.steps))
        self.begun += 1
        self.reporter.part(self.begun, len(self.steps))

    def part(self, number: int, parts: int) -> None: ...

    def end(self) -> None: ...


@contextmanager
def as_one(reporter: Reporter, title: str, steps: Sequence[int]) -> Iterator[Reporter]:
    """What is told to the reporter that this gives is told on as one training, with one bar.

    Args:
        steps: optimiser steps an epoch of each part, which all have the same epochs.
    """
    parts = _Parts(reporter, title, steps)
    try:
        yield parts
    finally:
        if parts.begun:
            reporter.end()
