"""How much work a stage has, in which phases, and how much of it is left. Nothing here measures or shows.

A stage plans its work before it begins (``Reporter.plan``) and names each piece (``Reporter.phase``). A stage that
calls others gives each a reporter of :func:`in_turn`, so that their plans add up to one; processes at the same time
report through :class:`SideBySide`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from lora_mnist_cli.system.progress import Forwarding, Reporter, Silent, Work

LOADING, IMAGES, TRAINING, STATISTICS = "loading", "reading images", "training", "statistics"
SCORING, DRAWING, LEARNING = "scoring", "drawing", "learning"
"""Phases that several stages have, as they are shown."""


class Followed(Forwarding):
    """Adds the work that comes later to every plan."""

    def __init__(self, reporter: Reporter, later: Work) -> None:
        super().__init__(reporter)
        self._later = later

    def plan(self, work: Work) -> None:
        """Pass on the plan, with what comes later."""
        super().plan(total([work, self._later]))


def piece(number: int, pieces: int) -> str:
    """Say which of several pieces one is, as ``3/10``; a single one needs no number."""
    return f"{number}/{pieces}" if pieces > 1 else ""


def total(works: Iterable[Work]) -> dict[str, float]:
    """Add up works, phase by phase."""
    whole: dict[str, float] = defaultdict(float)
    for work in works:
        for phase, seconds in work.items():
            whole[phase] += seconds
    return whole


def in_turn(reporter: Reporter, works: Sequence[Work]) -> Iterator[Reporter]:
    """Yield a reporter for each of several pieces of work, whose plans then count the pieces after it as well.

    Take the next one when the next piece begins. A piece may take less than its work, as where a stage finds its
    artifact up to date: a new plan is then reported.
    """
    for number, work in enumerate(works):
        later = total(works[number + 1 :])
        reporter.plan(total([work, later]))
        yield Followed(reporter, later)


class WorkLeft(Silent):
    """A reporter that counts the work that is left.

    Attributes:
        name: the current phase; empty before the first piece of a plan.
        seconds: what its current piece takes.
        share: how much of that piece is done, from 0 to 1.
        told: whether somebody told that share; if not, it is known only that the piece began.
    """

    def __init__(self) -> None:
        self._work = total([])
        self._begin("", 0.0, 0)

    def _begin(self, name: str, seconds: float, steps: int) -> None:
        self.name, self.seconds, self.share, self.told = name, seconds, 0.0, False
        self._steps, self._steps_done = steps, 0

    def plan(self, work: Work) -> None:
        """Replace the work that is left."""
        self._work = total([work])
        self._begin("", 0.0, 0)

    def phase(self, name: str, seconds: float, part: str = "", steps: int = 0) -> None:  # noqa: ARG002
        """End the current piece and begin another one."""
        self._work[self.name] = max(0.0, self._work[self.name] - self.seconds)
        self._begin(name, seconds, steps)

    def begin(self, title: str, epochs: int, steps: int) -> None:  # noqa: ARG002
        """Take the steps of a piece that has none yet."""
        self._steps = self._steps or epochs * steps

    def advance(self, steps: int, epoch: int, loss: float) -> None:  # noqa: ARG002
        """Count steps."""
        if self._steps:
            self._steps_done += steps
            self.reached(self._steps_done / self._steps)

    def reached(self, share: float) -> None:
        """Note how much of the piece is done."""
        self.share, self.told = min(1.0, share), True

    def left(self) -> dict[str, float]:
        """Return the work that is left, without what is done of the current piece."""
        left = total([self._work])
        left[self.name] = max(left[self.name], self.seconds) - self.share * self.seconds
        return left


class SideBySide:
    """Reports pieces of work that are done at the same time, in processes, as one phase.

    Args:
        works: of each piece.
        loading: seconds of work until processes have their packages.
        workers: how many pieces are done at once.
    """

    def __init__(self, reporter: Reporter, name: str, works: Sequence[Work], loading: float, workers: int) -> None:
        self._reporter, self._name, self._workers, self._over = reporter, name, workers, 0
        self._pieces = [WorkLeft() for _ in works]
        for piece, work in zip(self._pieces, works, strict=True):
            piece.plan(work)
        self._whole = 0.0
        reporter.plan({LOADING: loading, name: self._left()})
        reporter.phase(LOADING, loading)

    def heard(self, number: int, method: str, *arguments: object) -> None:
        """Take what the process of a piece reports: the name of a reporter's method, and its arguments."""
        getattr(self._pieces[number], method)(*arguments)
        if not self._whole and method == "advance":
            self._begin()
        if self._whole:
            self._reporter.reached(max(0.0, 1 - self._left() / self._whole))

    def over(self, number: int, *, done: bool) -> None:
        """End a piece; where it was not ``done``, as it was up to date, there was less work than planned."""
        self._over += 1
        self._pieces[number].plan({})
        if done and self._whole:
            self._reporter.reached(max(0.0, 1 - self._left() / self._whole))
        self._begin()

    def _begin(self) -> None:
        self._whole = self._left()
        self._reporter.plan({self._name: self._whole})
        self._reporter.phase(self._name, self._whole, f"{self._over}/{len(self._pieces)}")
        self._reporter.reached(0.0)

    def _left(self) -> float:
        return sum(seconds for piece in self._pieces for seconds in piece.left().values()) / self._workers


def duration(seconds: float) -> str:
    """Write a time in a unit that suits its length."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
