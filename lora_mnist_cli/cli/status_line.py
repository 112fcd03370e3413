"""The line at a terminal that says what a command is doing, until there is a result to see.

It comes before anything is imported, stands below all notices, has a bar in front when the work is known, and is
gone when the result is printed. In a pipe and with ``--quiet`` there is none; with ``--json`` there is one from the
first training on.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence

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
    "runs rerun": "making it again …",
    "runs verify": "verifying …",
    "runs export": "packing …",
    "runs import": "unpacking …",
}
"""What each command that takes a second or more is doing when its packages are loaded."""
_USUAL_COLUMNS = 80
_EVERY = 0.2
"""Seconds between two pictures of a line that moves."""
_ERASED = "\r\x1b[K"
_UNSEEN = {"--quiet", "--json", "--version", "--help", "-h"}


class StatusLine:
    """One line at the end of what stderr shows; it does nothing until it is told to begin.

    A terminal that can't take a line back (``TERM=dumb``) gets each text once, as a line that stays.

    Attributes:
        lock: held by whoever changes the line or what its front shows; a thread of its own redraws it.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._text, self._visible = "", False
        self._more: Sequence[str] = ()
        self._front: Callable[[int], str] | None = None
        self._lasting: set[str] | None = None
        self._ticking: threading.Thread | None = None

    @property
    def text(self) -> str:
        """What the line says; empty where there is none."""
        return self._text

    def begin(self, text: str) -> None:
        """Show a text, from now on until :meth:`end`."""
        with self.lock:
            self._lasting = set() if os.environ.get("TERM", "dumb") in ("dumb", "unknown") else None
            self._text = text
            self._show()

    def change(self, text: str, more: Sequence[str] = ()) -> None:
        """Show another text where there is a line, and what fits of ``more`` after it."""
        with self.lock:
            if not self._text:
                return
            drawn_soon = text == self._text and self._ticking is not None
            self._text, self._more = text, more
            if not drawn_soon:
                self._show()

    def follow(self, front: Callable[[int], str]) -> None:
        """Have what moves in front of the text, by the columns there are; it is redrawn from now on until the end."""
        with self.lock:
            self._front = front
            if self._ticking is None and self._text and self._lasting is None:
                self._ticking = threading.Thread(target=self._tick, daemon=True)
                self._ticking.start()

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Take the line off the screen while something else is printed."""
        with self.lock:
            self._erase()
            yield
            self._show()

    def end(self) -> None:
        """Take the line off the screen for good."""
        with self.lock:
            self._erase()
            self._text, self._more, self._front, self._ticking = "", (), None, None

    def _tick(self) -> None:
        while self._ticking is threading.current_thread():
            time.sleep(_EVERY)
            with self.lock:
                if self._ticking is threading.current_thread():
                    self._show()

    def _show(self) -> None:
        if not self._text:
            return
        if self._lasting is None:
            columns = columns_of_stderr() - 1  # a line that wraps can't be taken back
            front = self._front(columns) if self._front else ""
            line = front + fitted(self._text, self._more, columns - len(front))
            _write(f"{_ERASED if self._visible else ''}{line}")
            self._visible = True
        elif self._text not in self._lasting:
            self._lasting.add(self._text)
            _write(f"{self._text}\n")

    def _erase(self) -> None:
        if self._visible:
            self._visible = False
            _write(_ERASED)


def fitted(text: str, more: Sequence[str], width: int) -> str:
    """Return a text and as many of the parts after it as fit into a width; the first part takes room from the text."""
    if more and len(text) + len(more[0]) + 2 > width:
        text, more = _cut(text, width - len(more[0]) - 2), more[:1]
    for part in more:
        if len(text) + 2 + len(part) > width:
            break
        text += f", {part}"
    return text[:width]


def _cut(text: str, width: int) -> str:
    """Cut a text after its first word: the end of a name says more than its beginning."""
    if len(text) <= width:
        return text
    head = min(text.find(" ") + 1, max(0, width - 1) // 3)
    return f"{text[:head]}…{text[len(text) - max(0, width - 1 - head) :]}"


LINE = StatusLine()
"""The one line of this process."""


def command_of(arguments: Sequence[str]) -> str:
    """Return the words of the command in what follows the program's name: ``plot``, ``runs list``."""
    words = [word for word in arguments if not word.startswith("-")]
    return " ".join(words[: 2 if words[:1] == ["runs"] else 1])


def activity(arguments: Sequence[str]) -> str | None:
    """Return what a command is doing, by what follows the program's name; None for one that is soon done."""
    return None if _UNSEEN & set(arguments) else ACTIVITIES.get(command_of(arguments))


@contextlib.contextmanager
def shown_line(arguments: Sequence[str]) -> Iterator[None]:
    """Show the line while a command runs, where stderr is a terminal and the command takes its time."""
    if activity(arguments) is not None and sys.stderr.isatty():
        LINE.begin(STARTING)
    try:
        yield
    finally:
        LINE.end()


def columns_of_stderr() -> int:
    """Return the width of stderr's terminal; one that does not know its width says 0, and ``COLUMNS`` overrides it."""
    if (given := os.environ.get("COLUMNS", "")).isdigit() and int(given):
        return int(given)
    with contextlib.suppress(OSError, ValueError):
        return os.get_terminal_size(sys.stderr.fileno()).columns or _USUAL_COLUMNS
    return _USUAL_COLUMNS


def _write(text: str) -> None:
    with contextlib.suppress(OSError):
        print(text, end="", file=sys.stderr, flush=True)
