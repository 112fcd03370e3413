"""What a picky reader sees in a figure: words on words, words on points or bars, words beyond the edge."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from lora_mnist_cli.plots import style

_TOUCH = 1.5
"""Pixels of a hundred per inch by which the boxes of two things may overlap: a box has a little air."""
_SLANT = 45.0


def faults(figure: Figure) -> list[str]:
    """Lay a figure out, and return a sentence for everything in it that stands on something else or leaves it."""
    with style.house_style():
        figure.draw_without_rendering()
    words = [(text, text.get_window_extent()) for text in _shown_words(figure)]
    found = [f"{text.get_text()!r} leaves the figure" for text, box in words if not _within(box, figure.bbox)]
    for (one, box), (other, other_box) in itertools.combinations(words, 2):
        # The boxes of slanted words overlap where the words themselves are side by side.
        if _overlap(box, other_box) and not one.get_rotation() == other.get_rotation() == _SLANT:
            found.append(f"{one.get_text()!r} stands on {other.get_text()!r}")
    things = list(_things(figure))
    for text, box in words:
        found += [f"{text.get_text()!r} stands on {what}" for what, thing in things if _overlap(box, thing)]
    legends = [legend for legend in (*figure.legends, *(a.get_legend() for a in figure.axes)) if legend]
    for legend in legends:
        box = legend.get_window_extent()
        found += [f"a legend hides {what}" for what, thing in things if _overlap(box, thing)]
        found += ["a legend leaves the figure"] * (not _within(box, figure.bbox))
    return found


def _shown_words(figure: Figure) -> Iterator[Text]:
    """Yield every text that is drawn; an axis has labels of ticks beyond its ends, which are not."""
    beyond: set[Text] = set()
    for axes in figure.findobj(Axes):
        for axis in (axes.xaxis, axes.yaxis):
            beyond |= set(_beyond(axis))
    for text in figure.findobj(Text):
        if text.get_visible() and text.get_text().strip() and text not in beyond:
            yield text


def _beyond(axis: Axis) -> Iterator[Text]:
    low, high = sorted(axis.get_view_interval())
    slack = 1e-9 * (high - low)
    for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
        if not axis.axes.get_visible() or not low - slack <= tick.get_loc() <= high + slack:
            yield from (tick.label1, tick.label2)
        yield from (label for label, on in ((tick.label1, "label1On"), (tick.label2, "label2On")) if not on)


def _things(figure: Figure) -> Iterator[tuple[str, Bbox]]:
    """Yield every marker and every bar inside the axes, with its box."""
    for axes in figure.axes:
        for line in axes.lines:
            if line.get_marker() in ("None", "none", None, "", " "):
                continue
            points = np.asarray(line.get_transform().transform(line.get_xydata()))
            half = line.get_markersize() / 2 * figure.dpi / 72
            for x, y in points[np.isfinite(points).all(axis=1)]:
                if axes.bbox.padded(1).contains(x, y):
                    yield f"a marker of {line.get_label()}", Bbox.from_extents(x - half, y - half, x + half, y + half)
        for bars in axes.containers:
            if isinstance(bars, BarContainer):
                yield from (("a bar", bar.get_window_extent()) for bar in bars)


def _overlap(one: Bbox, other: Bbox) -> bool:
    shared = Bbox.intersection(one, other)
    return shared is not None and min(shared.width, shared.height) > _TOUCH


def _within(box: Bbox, outer: Bbox) -> bool:
    return box.x0 >= outer.x0 - 1 and box.y0 >= outer.y0 - 1 and box.x1 <= outer.x1 + 1 and box.y1 <= outer.y1 + 1
