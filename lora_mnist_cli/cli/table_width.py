"""How a table fits into a terminal: cells are folded where that breaks no figure, then columns are left out and named.

Widths are those of a terminal, where some characters take two places.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len

# A sign stays with its figure, a unit with its number, the first bound of an interval with the "to" after it, and a
# value with its name.
_BREAK = re.compile(r"(?<![±≤≥=−|])(?<!\brank)(?<!\blr)(?<!\balpha)(?<!\bon) (?!to |[%=−|])")


@dataclass(frozen=True)
class Layout:
    """What of a table is shown, and how wide.

    Args:
        kept: places of its columns, in their order.
        widths: of those, in characters.
        dropped: places of the columns that are left out.
        natural: the width of the whole table with every column, folded as far as it can be.
    """

    kept: list[int]
    widths: list[int]
    dropped: list[int]
    natural: int


def parts(text: str) -> list[str]:
    """The pieces of a cell that may stand on lines of their own."""
    return _BREAK.split(text)


def fold(text: str, width: int) -> list[str]:
    """A cell's lines, none wider than the width, unless one of its pieces is."""
    if cell_len(text) <= width:
        return [text]
    lines: list[str] = []
    for part in parts(text):
        if lines and cell_len(lines[-1]) + 1 + cell_len(part) <= width:
            lines[-1] += f" {part}"
        else:
            lines.append(part)
    return lines


def fit(
    columns: Sequence[Iterable[str]], width: int, total: Callable[[Sequence[int]], int], *,
    whole: Sequence[int] = (), optional: Sequence[int] = (), heads_too: bool = False,
) -> Layout:  # fmt: skip
    """How a table fits: folded as little as does it; and where folding is not enough, without its optional columns.

    Args:
        columns: each column's texts, its head among them.
        width: that there is.
        total: of a table whose columns are so wide.
        whole: places of columns whose cells are not folded; their heads are, as far as the cells allow.
        optional: places of the columns that may be left out, the first one first.
        heads_too: whether a whole column's head is not folded either.

    Returns:
        The layout. One that is still too wide is as narrow as it can be, and has no optional column.
    """
    texts = [list(dict.fromkeys(column)) for column in columns]
    least = []
    for place, (head, *cells) in enumerate(texts):
        pieces = cells if place in whole else [part for cell in cells for part in parts(cell)]
        least.append(max(map(cell_len, (*pieces, *([head] if heads_too else parts(head))))))
    natural = total(least)
    for count in range(len(optional) + 1):
        kept = [place for place in range(len(texts)) if place not in optional[:count]]
        widths = [max(map(cell_len, texts[place])) for place in kept]
        floor = [least[place] for place in kept]
        if total(floor) <= width or count == len(optional):
            break
    while total(widths) > width and widths != floor:
        # The widest one that can be: as it falls to where its texts break, it may fall by more than one.
        widest = max((i for i, at_least in enumerate(floor) if widths[i] > at_least), key=lambda i: widths[i])
        folded = (line for text in texts[kept[widest]] for line in fold(text, widths[widest] - 1))
        widths[widest] = max(floor[widest], *map(cell_len, folded))
    return Layout(kept, widths, sorted(optional[:count]), natural)
