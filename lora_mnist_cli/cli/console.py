"""stdout for results: one JSON document, or tables and lines, which are plain text off a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from lora_mnist_cli.cli.basics import escaped
from lora_mnist_cli.cli.status_line import LINE
from lora_mnist_cli.cli.table_width import wrap
from lora_mnist_cli.cli.text_table import Line, Table
from lora_mnist_cli.registry.artifact import Artifact

SCHEMA_VERSION = 1


def print_json(command: str, document: dict[str, Any]) -> None:
    """Print a command's document."""
    LINE.end()
    print(json.dumps({"schema_version": SCHEMA_VERSION, "command": command, **document}, indent=2, allow_nan=False))


def print_tables(tables: Sequence[Table | str]) -> None:
    """Print tables and lines of text; at a terminal they are fitted into its width."""
    LINE.end()
    if not sys.stdout.isatty():
        # Blanks at the ends of lines are of no use to a file or a program.
        sys.stdout.writelines(f"{line.text.rstrip()}\n" for table in tables for line in _lines(table, None))
        return
    from rich.console import Console
    from rich.segment import Segment, Segments
    from rich.style import Style

    # It has colours unless ``NO_COLOR`` is set.
    out = Console(file=sys.stdout, force_terminal=True, highlight=False, markup=False, emoji=False)
    bold = Style(bold=True)
    lines = (line for table in tables for line in _lines(table, out.width))
    segments = [s for line in lines for s in (Segment(line.text, bold if line.bold else None), Segment.line())]
    # A figure that is cut is no figure: the terminal wraps what can't be made to fit.
    out.print(Segments(segments), crop=False, end="")


def _lines(table: Table | str, width: int | None) -> list[Line]:
    if isinstance(table, Table):
        return table.lines(width)
    return [Line(text) for text in wrap(escaped(table), width)]


def classes(artifact: Artifact) -> dict[str, list[str]]:
    """Name what the digits of an artifact's data set stand for, for a JSON document; empty where they are digits."""
    return {"classes": list(artifact.classes)} if artifact.classes else {}
