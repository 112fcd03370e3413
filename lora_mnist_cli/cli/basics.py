"""What every command needs before anything is loaded: a line on stderr, and ``--version``."""

from __future__ import annotations

import contextlib
import sys
import textwrap
from typing import Annotated

import typer

from lora_mnist_cli.cli.status_line import LINE, columns_of_stderr


def escaped(text: str) -> str:
    """Escape whatever in a text could steer a terminal or begin another line."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def say(line: str) -> None:
    """Print one line to stderr, escaped; a stderr that takes nothing stops no work.

    A terminal would break the line within words, so it is broken between them.
    """
    text = escaped(line)
    if sys.stderr.isatty() and len(text) > (width := columns_of_stderr()):
        text = textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)
    with LINE.aside(), contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def _print_version(wanted: bool) -> None:
    if wanted:
        from lora_mnist_cli.system.version import version

        print(f"lora-mnist {version()}")
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option("--version", callback=_print_version, is_eager=True, metavar="", help="Print the version and exit."),
]
