"""A table of text, aligned and fitted into a terminal; no cell can steer the terminal, whoever wrote its text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from lora_mnist_cli.cli.basics import escaped
from lora_mnist_cli.cli.table_width import Layout, cell_width, fit_columns, fold, wrap

_NARROWEST = 10
"""Characters that are left to a column of running text in any case."""


@dataclass(frozen=True)
class Line:
    """A line of text, and whether it is shown bold."""

    text: str
    bold: bool = False


@dataclass
class _Row:
    cells: tuple[str, ...]
    bold: bool
    closes: bool = False


class Table:
    """Rows under heads, with a line below the heads and a blank line before and after.

    Columns are aligned to the right, those with ``text_columns`` as heads to the left. Where the table is too wide for
    a terminal, cells are folded except those of ``whole`` columns; where that is not enough, ``optional`` columns are
    left out, the first one first, and named below. A ``tight`` table has its columns closer to each other; in a
    ``running`` one the last column is running text, which is wrapped at any blank.
    """

    def __init__(
        self, heads: Sequence[str], rows: Iterable[Sequence[str]] = (), *, title: str = "",
        text_columns: Sequence[str] = (), optional: Sequence[str] = (), whole: Sequence[str] = (),
        tight: bool = False, running: bool = False,
    ) -> None:  # fmt: skip
        self.title = escaped(title)
        self.heads = tuple(map(escaped, heads))
        self._left = [head in text_columns for head in heads]
        self._optional, self._whole = ([heads.index(head) for head in some] for some in (optional, whole))
        self._gap = 2 if tight else 3
        self._running = running
        self._rows: list[_Row] = []
        for cells in rows:
            self.add_row(*cells)

    def add_row(self, *cells: str, bold: bool = False) -> None:
        """Add a row; cells that it lacks at its end are empty."""
        shown = tuple(map(escaped, cells)) + ("",) * (len(self.heads) - len(cells))
        self._rows.append(_Row(shown, bold))

    def add_section(self) -> None:
        """Leave a blank line after the last row."""
        if self._rows:
            self._rows[-1].closes = True

    def lines(self, width: int | None = None) -> list[Line]:
        """Give the table's lines, for a terminal of that width in characters or with room for everything."""
        layout, gap = self._layout(width)
        made = [Line(text, bold=True) for text in wrap(self.title, width)] if self.title else []
        made += [Line(""), *self._shown(_Row(self.heads, bold=True), layout, gap, low=True)]
        made += [Line(f" {'─' * (sum(layout.widths) + gap * len(layout.widths) - 1)}")]
        for row in self._rows:
            made += self._shown(row, layout, gap)
            made += [Line("")] if row.closes and row is not self._rows[-1] else []
        made.append(Line(""))
        if layout.dropped and width is not None:
            heads = ", ".join(self.heads[place] for place in layout.dropped)
            told = f"Left out, as {width} columns are too few: {heads}. {layout.natural} are enough; --json has all."
            made += [Line(text) for text in wrap(told, width)]
        return made

    def _layout(self, width: int | None) -> tuple[Layout, int]:
        """Give the layout, and the blanks in front of each column but the first, which has two."""
        columns = list(zip(self.heads, *(row.cells for row in self._rows), strict=True))
        widths = [max(map(cell_width, set(column))) for column in columns]
        natural = sum(widths) + self._gap * len(widths) + 1
        if width is None or natural <= width:
            return Layout(list(range(len(columns))), widths, [], natural, folded=False), self._gap
        if self._running:
            rest = width - (natural - widths[-1])
            return Layout(list(range(len(columns))), [*widths[:-1], max(rest, _NARROWEST)], [], natural), self._gap
        total = lambda widths: sum(widths) + 2 * len(widths) + 1  # noqa: E731 - a table that is folded is tight
        return fit_columns(columns, width, total, whole=self._whole, optional=self._optional), 2

    def _shown(self, row: _Row, layout: Layout, gap: int, *, low: bool = False) -> Iterator[Line]:
        """Give a row's lines; a low one has blank lines above its shorter cells, and not below."""
        left = [self._left[place] for place in layout.kept]
        for texts in self._broken(row, layout, low=low) if layout.folded else [row.cells]:
            cells = map(_filled, texts, layout.widths, left)
            yield Line("  " + (" " * gap).join(cells), row.bold)

    def _broken(self, row: _Row, layout: Layout, *, low: bool) -> Iterable[Sequence[str]]:
        """Break a row's cells, and give the texts of each line."""
        stacks = [
            wrap(row.cells[place], width) if self._running and place == len(self.heads) - 1
            else fold(row.cells[place], width)
            for place, width in zip(layout.kept, layout.widths, strict=True)
        ]  # fmt: skip
        height = max(map(len, stacks))
        stacks = [[""] * (height - len(s)) + s if low else s + [""] * (height - len(s)) for s in stacks]
        return zip(*stacks, strict=True)


def _filled(text: str, width: int, to_left: bool) -> str:
    """Fill a text up with blanks to a width."""
    blanks = " " * (width - cell_width(text))
    return text + blanks if to_left else blanks + text


def facts_table(title: str, facts: Sequence[tuple[str, str]]) -> Table:
    """Make a row per fact: its name and its value."""
    heads = ("what", "value")
    return Table(heads, facts, title=title, text_columns=heads, running=True)
