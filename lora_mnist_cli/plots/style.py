"""Shared by all figures: colours with a meaning, legends, and how a figure becomes a file.

Sizes are for a picture 8 inches wide that is shown about 800 pixels wide. The colours are Okabe and Ito's, which
colour-blind readers can tell apart; no figure says anything by colour alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex, to_rgb
from matplotlib.figure import Figure

from lora_mnist_cli.plots.lettering import FONT, MARGIN, NORMAL, SMALL, TITLE, write_header
from lora_mnist_cli.settings.digits import ALL_DIGITS
from lora_mnist_cli.system.errors import MachineError, UsageError
from lora_mnist_cli.system.files import machine_errors
from lora_mnist_cli.system.output_file import is_stdout, output_file

Picture = Figure
"""The type that every kind draws, for rooms that do not import matplotlib."""
WIDTH = 8.0
"""Inches; every figure has this width."""
INK, MUTED, FAINT = "#222222", "#666666", "#e4e4e4"
MISTAKE = "#D55E00"


@dataclass(frozen=True)
class Role:
    """The look of one thing in every figure that shows it."""

    colour: str
    marker: str
    dashes: str = "-"


OLD = Role("#0072B2", "s")
NEW = Role("#009E73", "o")
ALL = Role("#CC79A7", "^", "--")
OTHERS = Role("#E69F00", "D", "-.")
STUDY = Role("#000000", "D")
TRAINING = Role("#0072B2", "o")
VALIDATION = Role("#E69F00", "s", "--")

_SERIES = ("#440154", "#3B528B", "#21918C", "#5DC863", "#E0B400")
"""Viridis, its pale end darkened: for things in an order, dark to light, told apart by colour-blind readers too."""
_SERIES_MARKERS = "os^DvPphX"
MOST_NAMED = 14
"""Lines that a legend names at most: the first, the last and some between them."""

_FORMATS: dict[str, dict[str, Any]] = {
    ".png": {"Software": None},
    ".svg": {"Date": None, "Creator": None},
    ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
"""Suffix of a picture → the metadata that would otherwise differ from run to run."""

_SETTINGS: dict[str, Any] = {
    "font.family": FONT,
    "font.size": NORMAL,
    "figure.titlesize": TITLE,
    "figure.titleweight": "bold",
    "axes.titlesize": NORMAL,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "lines.linewidth": 2.0,
    "lines.markersize": 6.0,
    "errorbar.capsize": 3.0,
    "legend.frameon": False,
    "legend.fontsize": SMALL,
    "savefig.dpi": 200,
    "svg.hashsalt": "lora-mnist",
    "pdf.fonttype": 42,
}


@contextlib.contextmanager
def house_style() -> Iterator[None]:
    """Apply the style of every figure, as a context or a decorator; the user's matplotlib settings change nothing."""
    with matplotlib.style.context(["default", _SETTINGS]):
        yield


def new_figure(title: str, *, height: float, subtitle: str = "") -> Figure:
    """Return an empty figure with its title at the left, above ``height`` inches for axes that arrange themselves."""
    figure = Figure(figsize=(WIDTH, height))
    header = write_header(figure, title, subtitle, MUTED)
    # The engine's own padding (3/72 inch) lets labels touch the edge of the picture.
    figure.set_layout_engine("constrained", w_pad=MARGIN, h_pad=MARGIN, rect=(0, 0, 1, height / (height + header)))
    return figure


def tidy(axes: Axes) -> None:
    """Set tick marks and labels; matplotlib makes them late, so a figure shown outside this style would lose theirs."""
    axes.tick_params(which="major", labelsize=SMALL, color=MUTED, labelcolor=INK, length=3.5, width=0.8)
    axes.tick_params(which="minor", color=MUTED, length=2.0, width=0.6)


def say_nothing_to_draw(axes: Axes, why: str) -> None:
    """Put a sentence where the data would be, so that an empty panel is not taken for a broken one."""
    axes.text(0.5, 0.5, why, transform=axes.transAxes, ha="center", va="center", color=MUTED)


def dark(colour: str) -> tuple[float, ...]:
    """Return a colour for thin text: the same hue, dark enough to be read on white."""
    return tuple(0.7 * part for part in to_rgb(colour))


def light(colour: str) -> str:
    """Return a colour for a bar that points are drawn on: the same hue, mixed with white."""
    red, green, blue = (1 - 0.45 * (1 - part) for part in to_rgb(colour))
    return to_hex((red, green, blue))


def luminance(rgba: Sequence[float] | npt.NDArray[np.floating[Any]]) -> float:
    """Return the relative luminance of an sRGB colour, 0 black to 1 white, as the WCAG contrast rules define it."""
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgba[:3])
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def role_of(digits: str, *, new_digits: str) -> Role:
    """Return the look of a digit set's accuracy: all ten, what the adapter learned, or else what the base knew."""
    if digits == str(ALL_DIGITS):
        return ALL
    return NEW if digits == new_digits else OLD


def series(count: int) -> list[Role]:
    """Return the looks of lines that have an order, as ranks have; neighbours differ by more than their colour."""
    ramp = LinearSegmentedColormap.from_list("series", _SERIES)
    shares = [i / max(1, count - 1) for i in range(count)]
    return [Role(to_hex(ramp(share)), _SERIES_MARKERS[i % len(_SERIES_MARKERS)]) for i, share in enumerate(shares)]


def named(count: int) -> set[int]:
    """Return the numbers of the lines that a legend names, so that it fits into the picture."""
    if count <= MOST_NAMED:
        return set(range(count))
    return {round(i * (count - 1) / (MOST_NAMED - 1)) for i in range(MOST_NAMED)}


def legend_entry(axes: Axes, label: str, **look: Any) -> None:
    """Add an entry to the legend of the axes by a line without points, which is not drawn."""
    axes.plot([], [], label=label, **look)


def legend_beside(axes: Axes, *, title: str = "") -> None:
    """Put the legend at the right of the axes, where it hides nothing."""
    axes.legend(
        loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0, handlelength=1.8, title=title,
        title_fontsize=SMALL, alignment="left",
    )  # fmt: skip


def legend_above(axes: Axes) -> None:
    """Put the legend above the axes, where it hides nothing, an entry per line."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), borderaxespad=0.2, borderpad=0.2)


def check_suffix(path: Path) -> str:
    """Return the format that a path's suffix asks for: ``png``, ``svg`` or ``pdf``; standard output gets a PNG.

    Raises:
        UsageError: for any other suffix, or none.
    """
    suffix = path.suffix.lower()
    if suffix not in _FORMATS and is_stdout(path):
        return "png"
    if suffix not in _FORMATS:
        what = f"the suffix '{path.suffix}' of '{path.name}'" if suffix else f"'{path.name}', which has no suffix,"
        raise UsageError(f"{what} names no picture format", hint="end the name in .png, .svg or .pdf", value=path)
    return suffix[1:]


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, SVG or PDF by the path's suffix; equal figures give equal bytes.

    The file appears whole or not at all, and replaces one that is there.

    Raises:
        UsageError: for another suffix.
        MachineError: where the folder is missing or can't be written to, or the disk is full.
    """
    format_name = check_suffix(path)
    try:
        with machine_errors(f"can't write {path}"), house_style(), output_file(path) as file:
            figure.savefig(file, format=format_name, metadata=_FORMATS[f".{format_name}"])
    except MachineError as error:
        # The registry's hint is about the folder of artifacts, and a picture may lie elsewhere.
        error.hint = "choose a path in a folder that exists, has space and may be written to"
        raise
