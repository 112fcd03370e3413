"""The line at a terminal that says what a command is doing, until there is a result to see.

It comes before anything is imported, stands below all notices, makes room for a training's bar, and is gone when the
result is printed. In a pipe, with ``--quiet`` and with ``--json`` there is none.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence

STARTING = "loading …"
ACTIVITIES = {
    "train-base": "training a base …",
    "finetune": "training an adapter …",
    "sweep": "training adapters …",
    "evaluate": "scoring …",
    "forgetting": "measuring what is forgotten …",
    "chain": "learning the tasks …",
    "predict": "recognising …",
    "compare": "comparing …",
    "gate": "comparing with the thresholds …",
    "merge": "merging …",
    "combine": "combining …",
    "export": "exporting …",
    "import-adapter": "importing …",
    "conformance": "testing the laws …",
    "plot": "drawing …",
    "explore": "making the page …",
    "reproduce": "reproducing the study …",
    "runs verify": "verifying …",
    "runs export": "packing …",
    "runs import": "unpacking …",
}
"""What each command that takes a second or more is doing when its packages are loaded."""
_USUAL_COLUMNS = 80
_UNSEEN = {"--quiet", "--json", "--version", "--help", "-h"}


class StatusLine:
    """One line at the end of what stderr shows; it does nothing until it is told to begin.

    A terminal that can't take a line back (``TERM=dumb``) gets each text once, as a line that stays.
    """

    def __init__(self) -> None:
        self._text, self._visible, self._resting = "", False, False
        self._lasting: set[str] | None = None

    def begin(self, text: str) -> None:
        """Show a text, from now on until :meth:`end`."""
        self._lasting = set() if os.environ.get("TERM", "dumb") in ("dumb", "unknown") else None
        self._text = text
        self._show()

    def change(self, text: str) -> None:
        """Show another text, where there is a line."""
        if self._text:
            with self.aside():
                self._text = text

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Take the line off the screen while something else is printed."""
        self._erase()
        yield
        self._show()

    def rest(self) -> None:
        """Make room for something that moves, until :meth:`resume`."""
        self._erase()
        self._resting = True

    def resume(self) -> None:
        """Show the line again."""
        self._resting = False
        self._show()

    def end(self) -> None:
        """Take the line off the screen for good."""
        self._erase()
        self._text, self._resting = "", False

    def _show(self) -> None:
        if not self._text or self._resting:
            return
        if self._lasting is None:
            self._visible = True
            _write(self._text[: _columns() - 1])  # a line that wraps can't be taken back
        elif self._text not in self._lasting:
            self._lasting.add(self._text)
            _write(f"{self._text}\n")

    def _erase(self) -> None:
        if self._visible:
            self._visible = False
            _write("\r\x1b[K")


LINE = StatusLine()
"""The one line of this process."""


def activity(arguments: Sequence[str]) -> str | None:
    """Return what a command is doing, by what follows the program's name; None for one that is soon done."""
    words = [word for word in arguments if not word.startswith("-")]
    return None if _UNSEEN & set(arguments) else ACTIVITIES.get(" ".join(words[: 2 if words[:1] == ["runs"] else 1]))


@contextlib.contextmanager
def shown_line(arguments: Sequence[str]) -> Iterator[None]:
    """Show the line while a command runs, where stderr is a terminal and the command takes its time."""
    if activity(arguments) is not None and sys.stderr.isatty():
        LINE.begin(STARTING)
    try:
        yield
    finally:
        LINE.end()


def _columns() -> int:
    """Return the width of stderr's terminal; one that does not know its width says 0."""
    with contextlib.suppress(OSError, ValueError):
        return os.get_terminal_size(sys.stderr.fileno()).columns or _USUAL_COLUMNS
    return _USUAL_COLUMNS


def _write(text: str) -> None:
    with contextlib.suppress(OSError):
        print(text, end="", file=sys.stderr, flush=True)
