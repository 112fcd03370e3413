"""How a table fits into a terminal: cells are folded where that breaks no figure, then columns are left out and named.

Widths are those of a terminal, where some characters take two places.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

# A sign stays with its figure, a unit with its number, the first bound of an interval with the "to" after it, and a
# value with its name.
_BREAK = re.compile(r"(?<![±≤≥=−|])(?<!\brank)(?<!\blr)(?<!\balpha)(?<!\bon) (?!to |[%=−|])")


@dataclass(frozen=True)
class Layout:
    """The places of the columns that are shown, their widths in characters, and the places of those left out.

    ``natural`` is the width of the whole table with every column, folded as far as it can be. Where the table is not
    ``folded``, every column is shown, as wide as its widest cell.
    """

    kept: list[int]
    widths: list[int]
    dropped: list[int]
    natural: int
    folded: bool = True


def cell_width(text: str) -> int:
    """Count the places that a text takes at a terminal."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def wrap(text: str, width: int | None) -> list[str]:
    """Break running text at blanks, and words that are wider than the width within; None is any width."""
    if width is None or cell_width(text) <= width:
        return [text]
    lines = textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]
    return [line[start : start + width] for line in lines for start in range(0, len(line) or 1, width)]


def parts(text: str) -> list[str]:
    """Split a cell into the pieces that may stand on separate lines."""
    return _BREAK.split(text)


def fold(text: str, width: int) -> list[str]:
    """Break a cell into lines, none wider than the width unless one of its pieces is."""
    if cell_width(text) <= width:
        return [text]
    lines: list[str] = []
    for part in parts(text):
        if lines and cell_width(lines[-1]) + 1 + cell_width(part) <= width:
            lines[-1] += f" {part}"
        else:
            lines.append(part)
    return lines


def fit_columns(
    columns: Sequence[Iterable[str]], width: int, total: Callable[[Sequence[int]], int], *,
    whole: Sequence[int] = (), optional: Sequence[int] = (),
) -> Layout:  # fmt: skip
    """Fit a table's columns into a width: fold as little as possible; if that is not enough, leave out optional ones.

    A column has its head first; ``total`` gives a table's width from those of its columns. Columns at the places
    ``whole`` have only their heads folded, as far as the cells allow. Those at ``optional`` may be left out, the first
    one first. A layout that is still too wide has none of them, and is as narrow as it can be.
    """
    texts = [list(dict.fromkeys(column)) for column in columns]
    least = []
    for place, (head, *cells) in enumerate(texts):
        pieces = cells if place in whole else [part for cell in cells for part in parts(cell)]
        least.append(max(map(cell_width, (*pieces, *parts(head)))))
    natural = total(least)
    for count in range(len(optional) + 1):
        kept = [place for place in range(len(texts)) if place not in optional[:count]]
        widths = [max(map(cell_width, texts[place])) for place in kept]
        floor = [least[place] for place in kept]
        if total(floor) <= width or count == len(optional):
            break
    while total(widths) > width and widths != floor:
        # The widest one that can be: as it falls to where its texts break, it may fall by more than one.
        widest = max((i for i, at_least in enumerate(floor) if widths[i] > at_least), key=lambda i: widths[i])
        folded = (line for text in texts[kept[widest]] for line in fold(text, widths[widest] - 1))
        widths[widest] = max(floor[widest], *map(cell_width, folded))
    return Layout(kept, widths, sorted(optional[:count]), natural)
