"""Markdown tables of reports."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]], text: Collection[str] = ()) -> list[str]:
    """Return the lines of a Markdown table; figures stand at the right of their column.

    Args:
        rows: cells as text, one per entry of ``head``.
        text: entries of ``head`` whose columns hold words, which stand at the left.
    """
    rule = "|".join("---" if column in text else "---:" for column in head)
    return [f"| {' | '.join(head)} |", f"|{rule}|", *(f"| {' | '.join(row)} |" for row in rows)]
