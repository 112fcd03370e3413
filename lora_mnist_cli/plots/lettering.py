"""Words in figures that fit: measured and broken into lines, long names shortened, titles and legends outside the axes.

Nothing here stands on data: a title is above all axes, and a legend below them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.legend_handler import HandlerTuple
from matplotlib.textpath import text_to_path

FONT = "DejaVu Sans"
"""Comes with matplotlib, so it is the same everywhere."""
SMALL, NORMAL, TITLE = 9.5, 11.0, 13.5
"""Font sizes in points."""
MARGIN = 0.1
"""Inches between words and the edge of the picture."""
_LINE = 1.25 / 72
"""Height of a line of text in inches per point of its size."""
_LONGEST_NAME = 40
_HANDLE = 4.8 * SMALL
"""Points that a legend takes per column beside the label: the line before it, and the gaps."""


def text_width(text: str, size: float, weight: str = "normal") -> float:
    """Return the width of a line of text in inches."""
    properties = FontProperties(family=FONT, size=size, weight=weight)
    return float(text_to_path.get_text_width_height_descent(text, properties, ismath=False)[0]) / 72


def wrap(text: str, width: float, size: float, weight: str = "normal") -> str:
    """Break a text between words into lines of at most ``width`` inches; a single word may be wider."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".lstrip()
        if lines[-1] and text_width(longer, size, weight) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return "\n".join(lines)


def elide(name: str) -> str:
    """Shorten a long name in its middle, as its beginning and its end tell it from others."""
    if len(name) <= _LONGEST_NAME:
        return name
    half = _LONGEST_NAME // 2
    return f"{name[:half]}…{name[1 - half :]}"


def name_of(digit: int, names: Sequence[str]) -> str:
    """Return the name of a class; one that a user's data set does not have is its digit."""
    return names[digit] if digit < len(names) else str(digit)


def fitted(name: str, width: float, size: float) -> str:
    """Shorten the name of a class, which a user chose, to a width in inches; what the font lacks becomes ``?``."""
    font = get_font(findfont(FONT))
    kept = "".join(letter if font.get_char_index(ord(letter)) else "?" for letter in name)
    while text_width(kept, size) > width and len(kept) > 2:
        kept = f"{kept[:-2]}…"
    return kept


def write_header(figure: Figure, title: str, subtitle: str, colour: str) -> float:
    """Write title and subtitle at the upper left, make the figure as much higher, and return their height in inches."""
    across, below = figure.get_size_inches()
    title = wrap(title, across - 2 * MARGIN, TITLE, "bold")
    subtitle = wrap(subtitle, across - 2 * MARGIN, SMALL)
    title_height = len(title.splitlines()) * TITLE * _LINE
    header = MARGIN + title_height + len(subtitle.splitlines()) * SMALL * _LINE
    height = below + header
    figure.set_figheight(height)
    figure.suptitle(title, x=MARGIN / across, y=1 - MARGIN / height, ha="left", va="top")
    if subtitle:
        y = 1 - (MARGIN + title_height) / height
        figure.text(MARGIN / across, y, subtitle, va="top", color=colour, fontsize=SMALL)
    return header


def legend_below(figure: Figure, handles: Sequence[Any]) -> None:
    """Put a legend below all axes, where it hides nothing, with as many columns as fit.

    An entry is a handle, or a list of those that share a label.
    """
    if not handles:
        return
    labels = [str((handle[0] if isinstance(handle, list) else handle).get_label()) for handle in handles]
    widths = [max(text_width(line, SMALL) for line in label.splitlines()) + _HANDLE / 72 for label in labels]
    room = figure.get_figwidth() - 2 * MARGIN
    for rows in range(1, len(widths) + 1):
        columns = math.ceil(len(widths) / rows)
        if sum(max(column) for column in _columns(widths, columns)) <= room:
            break
    figure.legend(
        handles=[tuple(handle) if type(handle) is list else handle for handle in handles], labels=labels,
        loc="outside lower center", ncols=columns, handler_map={tuple: HandlerTuple(ndivide=None)},
    )  # fmt: skip


def _columns(widths: Sequence[float], columns: int) -> list[list[float]]:
    """Return the entries of each column of a legend, as matplotlib deals them out: the first columns are longer."""
    rows, longer = divmod(len(widths), columns)
    entries = iter(widths)
    return [list(itertools.islice(entries, rows + (column < longer))) for column in range(columns)]
