"""How much of a command's work is done, and how long the rest takes: by what was measured, phase by phase."""

from __future__ import annotations

import time
from collections.abc import Callable

from lora_mnist_cli.system.work import LOADING, WorkLeft, total

MEASURED = 0.5
"""Seconds after which a phase shows how fast this machine is: the first steps of a training are slow."""
_FIRST = 0.25
"""Seconds of work of a phase that weigh as much as the guess that it has the speed of an ordinary machine."""
_TELLING = 0.1
"""Share of a piece after which its own speed counts, and no longer that of its phase."""
_USUAL = 1.0
"""Seconds of work that weigh as much as the guess that a phase has the speed of an ordinary machine: one short piece
says little about the other phases."""
_ALMOST = 0.9
"""Share of a piece that counts as done at most while nobody knows how much of it is."""


class Pace(WorkLeft):
    """Counts the work that is left, and measures how long it takes here.

    Each phase has a speed, seconds here per second of the plan. A phase that was not measured has the speed of the
    others together, without the loading of packages, which says more about the disk. The current piece has a speed of
    its own as soon as that is known.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._since = clock()
        self._spent = total([])
        self._done = total([])
        self.name, self.seconds = "", 0.0
        super().__init__()

    def _begin(self, name: str, seconds: float, steps: int) -> None:
        now = self._clock()
        if self.name:
            self._spent[self.name] += now - self._since
            self._done[self.name] += self.seconds * (self.share if self.told else 1.0)
        self._since = now
        super()._begin(name, seconds, steps)

    def begin(self, title: str, epochs: int, steps: int) -> None:
        """Take the steps of a training, and start its clock: what it loaded before says nothing about its speed."""
        super().begin(title, epochs, steps)
        if not self.share:
            self._since = self._clock()

    def seconds_left(self) -> float | None:
        """Return how many seconds the rest takes; None before anything was measured."""
        return self._rest() if self._speed(self.name) else None

    def share_done(self) -> float:
        """Return the share of the work that is done, from 0 to 1."""
        share = self.share or min(_ALMOST, self._past() / (self._whole_piece() or 1.0))
        done = sum(self._done.values()) + share * self.seconds
        left = sum(self.left().values()) - (share - self.share) * self.seconds
        return done / (done + left) if done + left > 0 else 0.0

    def _rest(self) -> float:
        """Return the seconds that the rest takes here, or on an ordinary machine before anything was measured."""
        left = self.left()
        left[self.name] -= (1 - self.share) * self.seconds
        later = sum(work * (self._speed(name) or 1.0) for name, work in left.items())
        return later + self._rest_of_piece()

    def _past(self) -> float:
        return self._clock() - self._since

    def _whole_piece(self) -> float:
        return self.seconds * (self._speed(self.name) or 1.0)

    def _rest_of_piece(self) -> float:
        past, whole = self._past(), self._whole_piece()
        if self.share >= _TELLING and past >= MEASURED:
            return past * (1 - self.share) / self.share
        return whole * (1 - self.share) if self.share else max(whole - past, (1 - _ALMOST) * whole)

    def _speed(self, phase: str) -> float | None:
        spent, done = total([self._spent]), total([self._done])
        if self.share:
            spent[self.name] += self._past()
            done[self.name] += self.share * self.seconds
        if spent[phase] >= MEASURED and done[phase]:
            return float((spent[phase] / done[phase]) ** (done[phase] / (done[phase] + _FIRST)))
        others = [name for name in spent if name != LOADING and done[name]]
        past, work = (sum(seconds[name] for name in others) for seconds in (spent, done))
        return (past / work) ** (work / (work + _USUAL)) if past >= MEASURED else None
