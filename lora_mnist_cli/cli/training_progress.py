"""stderr for all but results: notices, warnings and the progress of the work."""

from __future__ import annotations

import sys
import time

from lora_mnist_cli.cli.basics import say
from lora_mnist_cli.cli.pace import Pace
from lora_mnist_cli.cli.status_line import LINE
from lora_mnist_cli.settings.lists import counted
from lora_mnist_cli.system.progress import Work
from lora_mnist_cli.system.work import duration

WORTH_A_LINE = 20
"""Seconds left that are worth a line in a log, which shows no bar."""
_BAR, _NARROW = 12, 60


class StderrReporter:
    """Shows notices, warnings and progress on stderr: a moving bar at a terminal, else a line when training ends.

    The bar is one for all the work of a command: it stands in front of the status line. A quiet one shows warnings
    only, a verbose one also a line per epoch.
    """

    def __init__(self, *, quiet: bool, verbose: bool) -> None:
        self.quiet, self.verbose = quiet, verbose
        self._said: set[str] = set()
        self._pace = Pace()
        self._told_time = self._shown_share = 0.0
        self._start = 0.0
        self._title = self._val = self._loss = ""
        self._epochs = self._epoch = 0
        self._part = self._parts = 1

    def plan(self, work: Work) -> None:
        """Begin the bar at a terminal, or take another plan."""
        with LINE.lock:
            self._pace.plan(work)
        if not self.quiet:
            LINE.follow(self._front)

    def phase(self, name: str, seconds: float, part: str = "", steps: int = 0) -> None:
        """Show what is done."""
        with LINE.lock:
            self._pace.phase(name, seconds, part, steps)
            LINE.change(f"{name} {part} …" if part else f"{name} …")

    def reached(self, share: float) -> None:
        """Move the bar."""
        with LINE.lock:
            self._pace.reached(share)
        self._tell_time()

    def notice(self, text: str) -> None:
        """Print a line once, unless quiet."""
        if not self.quiet and text not in self._said:
            self._said.add(text)
            say(text)

    def detail(self, text: str) -> None:
        """Print a line, if verbose."""
        if self.verbose:
            say(text)

    def warn(self, text: str) -> None:
        """Print a line in any case."""
        say(f"warning: {text}")

    def begin(self, title: str, epochs: int, steps: int) -> None:
        """Show what is trained."""
        with LINE.lock:
            self._pace.begin(title, epochs, steps)
        self._title, self._epochs, self._epoch, self._val, self._loss = title, epochs, 0, "", ""
        self._part = self._parts = 1
        self._start = time.perf_counter()
        if not LINE.text and not self.quiet and sys.stderr.isatty():
            LINE.begin(self._shown)
            LINE.follow(self._front)
        self._show()

    def part(self, number: int, parts: int) -> None:
        """Show which of several parts is trained."""
        self._part, self._parts, self._epoch, self._val = number, parts, 0, ""
        self._show()

    @property
    def _shown(self) -> str:
        return self._title + (f", part {self._part}/{self._parts}" if self._parts > 1 else "")

    def _show(self) -> None:
        more = (f"epoch {self._epoch}/{self._epochs}", self._val.replace(" accuracy", ""), self._loss)
        LINE.change(f"training {self._shown}", tuple(filter(None, more)))

    def advance(self, steps: int, epoch: int, loss: float) -> None:
        """Move the bar."""
        with LINE.lock:
            self._pace.advance(steps, epoch, loss)
            self._epoch, self._loss = epoch, f"loss {loss:.4f}"
            self._show()
        self._tell_time()

    def epoch_done(self, epoch: int, val_loss: float | None, val_accuracy: float | None) -> None:
        """Show the epoch's validation accuracy."""
        self._epoch = epoch
        self._val = "" if val_accuracy is None else f"val. accuracy {100 * val_accuracy:.2f} %"
        self._show()
        if self.verbose:
            loss = "" if val_loss is None else f", val. loss {val_loss:.4f}"
            say(f"{self._shown}: epoch {epoch}/{self._epochs}{loss}{', ' if self._val else ''}{self._val}")

    def end(self) -> None:
        """Say that training ended."""
        if self._epoch == self._epochs and self._part == self._parts:
            # The last part's accuracy is not that of the whole.
            val = f", {self._val}" if self._val and self._parts == 1 else ""
            self.notice(
                f"trained {self._title}: {counted(self._epochs, 'epoch')} in "
                f"{time.perf_counter() - self._start:.1f} s{val}"
            )

    def _front(self, columns: int) -> str:
        """Return the bar, how much is done in percent, and the time left; all of the same width throughout."""
        share = self._shown_share = max(self._shown_share, min(0.99, self._pace.share_done()))
        full = round(_BAR * share)
        done, open_ = "━─" if (sys.stderr.encoding or "").lower().startswith("utf") else "#-"
        bar = f"{done * full}{open_ * (_BAR - full)} " if columns >= _NARROW else ""
        left = self._pace.seconds_left()
        return f"{bar}{share:3.0%} {'' if left is None else f'{clock(left)} left':>10}  "

    def _tell_time(self) -> None:
        """Say once how long the rest takes where no bar shows it."""
        if self._told_time or LINE.text or (left := self._pace.seconds_left()) is None:
            return
        self._told_time = True
        if left >= WORTH_A_LINE:
            self.notice(f"about {duration(left)} left")


def clock(seconds: float) -> str:
    """Show a time as ``0:07`` or ``1:02:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
