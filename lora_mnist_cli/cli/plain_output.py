"""Plain text where stdout is no terminal, whatever the environment says: help in a log has no colours."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

FORCING = ("GITHUB_ACTIONS", "FORCE_COLOR", "PY_COLORS", "TTY_COMPATIBLE")
"""Variables by which Typer or Rich takes any stream for a terminal."""
HELP_WIDTH = "120"


@contextlib.contextmanager
def plain_off_terminal() -> Iterator[None]:
    """Hide :data:`FORCING` from Typer's help while a command runs, and give help a fixed width, off a terminal.

    Typer reads these variables when it first writes help.
    """
    if sys.stdout.isatty():
        yield
        return
    hidden = {name: os.environ.pop(name) for name in FORCING if name in os.environ}
    os.environ.setdefault("TERMINAL_WIDTH", HELP_WIDTH)
    try:
        yield
    finally:
        os.environ.update(hidden)
