"""stdout for results, stderr for all else; plain text where neither is a terminal."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from lora_mnist_cli.cli.basics import escaped, say
from lora_mnist_cli.data.sources import class_names
from lora_mnist_cli.settings.runtime import Runtime
from lora_mnist_cli.stages.workspace import DEFAULT_DATA, Workspace

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.progress import Progress, TaskID

SCHEMA_VERSION = 1
_PIPE_WIDTH = 10_000
"""Columns off a terminal: wider than any table, so that none is cut."""


def console(stream: TextIO) -> Console:
    """A Rich console on a stream, coloured only where that is a terminal and ``NO_COLOR`` is not set."""
    from rich.console import Console

    terminal = stream.isatty()
    return Console(
        file=stream, force_terminal=terminal, width=None if terminal else _PIPE_WIDTH, highlight=False, markup=False,
        emoji=False,
    )  # fmt: skip


def print_result(command: str, document: dict[str, Any], tables: Sequence[RenderableType], *, as_json: bool) -> None:
    """Print a command's result to stdout: one JSON document, or its tables."""
    if as_json:
        print(json.dumps({"schema_version": SCHEMA_VERSION, "command": command, **document}, indent=2, allow_nan=False))
        return
    if all(isinstance(table, str) for table in tables):
        for line in tables:
            print(escaped(str(line)))
        return
    out = console(sys.stdout)
    for table in tables:
        shown = escaped(table) if isinstance(table, str) else table
        if out.is_terminal:
            # A figure that is cut is no figure: what can't be made to fit is wrapped by the terminal.
            out.print(shown, crop=False)
            continue
        # Rich fills every line of a table up with blanks, which a file or a program has no use for.
        with out.capture() as captured:
            out.print(shown)
        out.file.writelines(f"{line.rstrip()}\n" for line in captured.get().splitlines())


def classes(dataset: str) -> dict[str, list[str]]:
    """For a JSON document: what the digits of a data set stand for, where they are no digits."""
    names = class_names(dataset)
    return {"classes": list(names)} if names else {}


def workspace(
    runs_dir: Path,
    data_dir: Path = DEFAULT_DATA,
    *,
    quiet: bool,
    verbose: bool,
    runtime: Runtime | None = None,
    note: str = "",
) -> Workspace:
    """Where a command works, with a reporter on stderr."""
    return Workspace(runs_dir, data_dir, runtime or Runtime(), StderrReporter(quiet=quiet, verbose=verbose), note)


class StderrReporter:
    """Shows notices, warnings and progress on stderr: a moving bar at a terminal, else a line when training ends.

    Args:
        quiet: warnings alone.
        verbose: a line an epoch as well.
    """

    def __init__(self, *, quiet: bool, verbose: bool) -> None:
        self.quiet = quiet
        self.verbose = verbose
        self._said: set[str] = set()
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._start = 0.0
        self._title = ""
        self._epochs = self._epoch = 0
        self._part = self._parts = 1
        self._loss: float | None = None
        self._val = ""

    def notice(self, text: str) -> None:
        """A line, unless quiet; the same one only once."""
        if not self.quiet and text not in self._said:
            self._said.add(text)
            say(text)

    def detail(self, text: str) -> None:
        """A line, if verbose."""
        if self.verbose:
            self._above_bar(text)

    def warn(self, text: str) -> None:
        """A line in any case."""
        say(f"warning: {text}")

    def begin(self, title: str, epochs: int, steps: int) -> None:
        """Start a bar at a terminal."""
        self._title, self._epochs, self._epoch, self._loss, self._val = title, epochs, 0, None, ""
        self._part = self._parts = 1
        self._start = time.perf_counter()
        if self.quiet or not sys.stderr.isatty():
            return
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = ("{task.description}", "epoch {task.fields[epoch]}", "loss {task.fields[loss]}", "{task.fields[val]}")
        name, *figures = (TextColumn(column, markup=False) for column in columns)
        self._progress = Progress(
            name, BarColumn(), *figures, TimeRemainingColumn(), console=console(sys.stderr), transient=True
        )
        self._task = self._progress.add_task(title, total=epochs * steps, epoch=f"0/{epochs}", loss="–", val="")
        self._progress.start()

    def part(self, number: int, parts: int) -> None:
        """Say at the bar which part it is, where there are several."""
        self._part, self._parts, self._epoch, self._val = number, parts, 0, ""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, description=self._shown, epoch=f"0/{self._epochs}", val="")

    @property
    def _shown(self) -> str:
        return self._title + (f", part {self._part}/{self._parts}" if self._parts > 1 else "")

    def advance(self, steps: int, epoch: int, loss: float) -> None:
        """Move the bar."""
        self._epoch, self._loss = epoch, loss
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, advance=steps, epoch=f"{epoch}/{self._epochs}", loss=f"{loss:.4f}")

    def epoch_done(self, epoch: int, val_loss: float | None, val_accuracy: float | None) -> None:
        """Show the epoch's validation accuracy."""
        self._epoch = epoch
        self._val = "" if val_accuracy is None else f"val. accuracy {val_accuracy:.2%}"
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, val=self._val)
        if self.verbose:
            loss = "" if val_loss is None else f", val. loss {val_loss:.4f}"
            line = f"{self._shown}: epoch {epoch}/{self._epochs}{loss}{', ' if self._val else ''}{self._val}"
            self._above_bar(line)

    def _above_bar(self, line: str) -> None:
        if self._progress is not None:
            self._progress.console.print(line, markup=False, highlight=False)
        else:
            say(line)

    def end(self) -> None:
        """Take the bar away and leave a line."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
        if self._epoch == self._epochs and self._part == self._parts:
            # The last part's accuracy is not that of the whole.
            val = f", {self._val}" if self._val and self._parts == 1 else ""
            self.notice(
                f"trained {self._title}: {self._epochs} epoch{'s' if self._epochs != 1 else ''} in "
                f"{time.perf_counter() - self._start:.1f} s{val}"
            )
