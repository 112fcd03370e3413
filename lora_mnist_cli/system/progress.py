"""How a stage reports its progress. The stage says what happens; the caller decides who shows it, and where."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

Work = Mapping[str, float]
"""Phase → seconds that its work takes on an ordinary machine. Whoever shows the time left measures how much faster or
slower this one is; what counts is how the phases relate to each other."""


class Reporter(Protocol):
    """Receives the progress of a stage.

    A stage calls its reporter in the process and on the thread that called the stage, one call at a time, also where
    worker processes do the work. ``begin`` and ``end`` enclose each training, and trainings do not overlap; ``part``,
    ``advance`` and ``epoch_done`` come between them, the others at any time. An exception that a reporter raises ends
    the stage, as ``KeyboardInterrupt`` does. No method may block for long: training waits for it.

    A stage says by ``plan`` how much work it has, and by ``phase`` what it begins; a training is a piece of a phase as
    well.
    """

    def plan(self, work: Work) -> None:
        """About this much work is left from now on; the current piece is over."""

    def phase(self, name: str, seconds: float, part: str = "", steps: int = 0) -> None:
        """A piece of a phase begins, and the one before it is over.

        Args:
            seconds: what it takes of the plan's seconds for this phase.
            part: which of several pieces it is, as ``3/10``.
            steps: steps by ``advance`` until it is over; by default those of the next ``begin``.
        """

    def reached(self, share: float) -> None:
        """The current piece is done to this share, from 0 to 1."""

    def notice(self, text: str) -> None:
        """Something worth knowing: which artifact was taken, that work is up to date."""

    def detail(self, text: str) -> None:
        """Something for those who want to know more: what trains, and where."""

    def warn(self, text: str) -> None:
        """Something that the user may not have meant."""

    def begin(self, title: str, epochs: int, steps: int) -> None:
        """Training starts, with ``steps`` optimiser steps per epoch; the steps of a bank's seeds add up."""

    def part(self, number: int, parts: int) -> None:
        """The next of several parts of a training starts, as one bank of a grid; counted from 1."""

    def advance(self, steps: int, epoch: int, loss: float) -> None:
        """More steps are done, in this epoch (from 1). They are negative where lost work is taken back.

        The steps of all calls add up to the epochs times the steps of :meth:`begin`. ``loss`` is that of the last
        batch, or the mean over a bank's members.
        """

    def epoch_done(self, epoch: int, val_loss: float | None, val_accuracy: float | None) -> None:
        """An epoch is done and scored, as the mean over a bank's members; None without a validation split."""

    def end(self) -> None:
        """Training ended, for whatever reason."""


class Silent:
    """A reporter that drops everything; the base of those that pass a part of it on."""

    def plan(self, work: Work) -> None: ...
    def phase(self, name: str, seconds: float, part: str = "", steps: int = 0) -> None: ...
    def reached(self, share: float) -> None: ...
    def notice(self, text: str) -> None: ...
    def detail(self, text: str) -> None: ...
    def warn(self, text: str) -> None: ...
    def begin(self, title: str, epochs: int, steps: int) -> None: ...
    def part(self, number: int, parts: int) -> None: ...
    def advance(self, steps: int, epoch: int, loss: float) -> None: ...
    def epoch_done(self, epoch: int, val_loss: float | None, val_accuracy: float | None) -> None: ...
    def end(self) -> None: ...


class Forwarding:
    """Passes everything on to another reporter; the base of those that change a part of it."""

    def __init__(self, reporter: Reporter) -> None:
        self.reporter = reporter

    def plan(self, work: Work) -> None:
        self.reporter.plan(work)

    def phase(self, name: str, seconds: float, part: str = "", steps: int = 0) -> None:
        self.reporter.phase(name, seconds, part, steps)

    def reached(self, share: float) -> None:
        self.reporter.reached(share)

    def notice(self, text: str) -> None:
        self.reporter.notice(text)

    def detail(self, text: str) -> None:
        self.reporter.detail(text)

    def warn(self, text: str) -> None:
        self.reporter.warn(text)

    def begin(self, title: str, epochs: int, steps: int) -> None:
        self.reporter.begin(title, epochs, steps)

    def part(self, number: int, parts: int) -> None:
        self.reporter.part(number, parts)

    def advance(self, steps: int, epoch: int, loss: float) -> None:
        self.reporter.advance(steps, epoch, loss)

    def epoch_done(self, epoch: int, val_loss: float | None, val_accuracy: float | None) -> None:
        self.reporter.epoch_done(epoch, val_loss, val_accuracy)

    def end(self) -> None:
        self.reporter.end()


class Inside(Forwarding):
    """Passes everything on, except the plan and the phases: the work is a piece of a phase of its caller."""

    def plan(self, work: Work) -> None: ...
    def phase(self, name: str, seconds: float, part: str = "", steps: int = 0) -> None: ...
    def reached(self, share: float) -> None: ...


class WithoutNotices(Inside):
    """Passes on what :class:`Inside` does, except notices and the warnings already given, ``warned``."""

    def __init__(self, reporter: Reporter, warned: Collection[str] = ()) -> None:
        super().__init__(reporter)
        self._warned = warned

    def notice(self, text: str) -> None: ...

    def warn(self, text: str) -> None:
        if text not in self._warned:
            super().warn(text)


class _Parts(Forwarding):
    """Reports trainings that follow each other as the parts of one."""

    def __init__(self, reporter: Reporter, title: str, steps: Sequence[int]) -> None:
        super().__init__(reporter)
        self._title, self._steps, self.begun = title, steps, 0

    def begin(self, title: str, epochs: int, steps: int) -> None:  # noqa: ARG002 - the whole has its own title and steps
        if not self.begun:
            super().begin(self._title, epochs, sum(self._steps))
        self.begun += 1
        super().part(self.begun, len(self._steps))

    def part(self, number: int, parts: int) -> None: ...
    def end(self) -> None: ...


@contextmanager
def as_one(reporter: Reporter, title: str, steps: Sequence[int]) -> Iterator[Reporter]:
    """Give a reporter that turns the trainings inside into parts of one, with one progress bar.

    Args:
        steps: optimiser steps per epoch of each part; all parts have the same number of epochs.
    """
    parts = _Parts(reporter, title, steps)
    try:
        yield parts
    finally:
        if parts.begun:
            reporter.end()
