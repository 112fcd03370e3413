"""stderr for all but results: notices, warnings and the progress of training."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from lora_mnist_cli.cli.basics import say
from lora_mnist_cli.cli.console import terminal_console
from lora_mnist_cli.cli.status_line import LINE
from lora_mnist_cli.settings.lists import counted

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class StderrReporter:
    """Shows notices, warnings and progress on stderr: a moving bar at a terminal, else a line when training ends.

    A quiet one shows warnings only, a verbose one also a line per epoch.
    """

    def __init__(self, *, quiet: bool, verbose: bool) -> None:
        self.quiet, self.verbose = quiet, verbose
        self._said: set[str] = set()
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._start = 0.0
        self._title = self._val = ""
        self._epochs = self._epoch = 0
        self._part = self._parts = 1

    def notice(self, text: str) -> None:
        """Print a line once, unless quiet."""
        if not self.quiet and text not in self._said:
            self._said.add(text)
            say(text)

    def detail(self, text: str) -> None:
        """Print a line, if verbose."""
        if self.verbose:
            self._above_bar(text)

    def warn(self, text: str) -> None:
        """Print a line in any case."""
        say(f"warning: {text}")

    def begin(self, title: str, epochs: int, steps: int) -> None:
        """Start a bar at a terminal."""
        self._title, self._epochs, self._epoch, self._val = title, epochs, 0, ""
        self._part = self._parts = 1
        self._start = time.perf_counter()
        if self.quiet or not sys.stderr.isatty():
            return
        LINE.rest()
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = ("{task.description}", "epoch {task.fields[epoch]}", "loss {task.fields[loss]}", "{task.fields[val]}")
        name, *figures = (TextColumn(column, markup=False) for column in columns)
        self._progress = Progress(
            name, BarColumn(), *figures, TimeRemainingColumn(), console=terminal_console(sys.stderr), transient=True
        )
        self._task = self._progress.add_task(title, total=epochs * steps, epoch=f"0/{epochs}", loss="–", val="")
        self._progress.start()

    def part(self, number: int, parts: int) -> None:
        """Show which of several parts is trained."""
        self._part, self._parts, self._epoch, self._val = number, parts, 0, ""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, description=self._shown, epoch=f"0/{self._epochs}", val="")

    @property
    def _shown(self) -> str:
        return self._title + (f", part {self._part}/{self._parts}" if self._parts > 1 else "")

    def advance(self, steps: int, epoch: int, loss: float) -> None:
        """Move the bar."""
        self._epoch = epoch
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, advance=steps, epoch=f"{epoch}/{self._epochs}", loss=f"{loss:.4f}")

    def epoch_done(self, epoch: int, val_loss: float | None, val_accuracy: float | None) -> None:
        """Show the epoch's validation accuracy."""
        self._epoch = epoch
        self._val = "" if val_accuracy is None else f"val. accuracy {100 * val_accuracy:.2f} %"
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, val=self._val)
        if self.verbose:
            loss = "" if val_loss is None else f", val. loss {val_loss:.4f}"
            self._above_bar(f"{self._shown}: epoch {epoch}/{self._epochs}{loss}{', ' if self._val else ''}{self._val}")

    def _above_bar(self, line: str) -> None:
        if self._progress is not None:
            self._progress.console.print(line, markup=False, highlight=False)
        else:
            say(line)

    def end(self) -> None:
        """Replace the bar by a line."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
            LINE.resume()
        if self._epoch == self._epochs and self._part == self._parts:
            # The last part's accuracy is not that of the whole.
            val = f", {self._val}" if self._val and self._parts == 1 else ""
            self.notice(
                f"trained {self._title}: {counted(self._epochs, 'epoch')} in "
                f"{time.perf_counter() - self._start:.1f} s{val}"
            )
