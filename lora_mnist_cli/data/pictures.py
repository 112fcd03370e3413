"""From a picture of a digit, of any size, to the 784 pixels that a model was trained on. No torch; Pillow reads files.

MNIST's authors fitted each digit into a box of 20 × 20 pixels, its proportions kept, and put that into 28 × 28 with the
centre of mass in the middle (http://yann.lecun.com/exdb/mnist/). The same is done here, after the digit was told from
its background. One thing is added: MNIST's writers had pens of one kind, and a line that would be thinner than most of
theirs is blurred, to scale, until it is as wide. What comes in is a stranger's file: formats, bytes, pixels and
frames are limited.
"""

from __future__ import annotations

import io
import math
import sys
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_mnist_cli.system.errors import DataError, UsageError
from lora_mnist_cli.system.files import open_regular

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Picture = NDArray[np.float32]

SUFFIXES = (".png", ".jpg", ".jpeg")
STDIN = "-"
MAX_BYTES = 64 * 2**20
MAX_PIXELS = 64_000_000
"""A photograph of the largest telephones; some 200 MB where it is unpacked."""
_FORMATS = ("PNG", "JPEG", "GIF")
_ENOUGH = 1120
"""Pixels a side from which on a picture is made smaller first: forty for each of the model's."""
_BOX, _SIDE, _CENTRE = 20, 28, 14
_LEAST_CONTRAST = 0.1
_EDGE = 0.3
"""Share of full ink from which on a pixel belongs to the digit. Of 1,000 training images that a base had not seen,
enlarged five times and inverted, 97.8 % were recognised with 0.3, 97.6 with 0.2, 96.9 with 0.1; of the originals 97.5.
"""
_LINE = 2.2
"""Pixels of 28 × 28 that a line is wide at least; 36 % of those 1,000 training images have thinner ones. With their
lines thinned to medians of 1.65 and 1.25 pixels, 96.8 and 91.2 % of them were recognised with 2.2, and 96.4 and 88.3
without; 1.8 and 2.6 did no better. As they were, it made no difference: 97.8.
"""
_FINE = 8
"""Pixels that a line is blurred at, to each pixel of 28 × 28."""


@dataclass(frozen=True)
class Image:
    """A digit as a model sees it.

    Args:
        source: the file it came from, or ``-``.
        pixels: 28 × 28, light on dark, 0 to 1.
        inverted: whether it was dark on light.
    """

    source: str
    pixels: Picture
    inverted: bool


def find_images(names: Iterable[str]) -> list[str]:
    """The files that are named: of a folder its PNG and JPEG files, in the order of their names.

    Raises:
        UsageError: where stdin is named twice.
        DataError: where there is no such file, or none in a folder.
    """
    found: list[str] = []
    for name in names:
        path = Path(name)
        if name == STDIN or not path.is_dir():
            if name != STDIN and not path.exists():
                raise DataError(f"there is no image {name}", value=name)
            found.append(name)
            continue
        inside = sorted(str(each) for each in path.iterdir() if each.suffix.lower() in SUFFIXES and each.is_file())
        if not inside:
            raise DataError(f"the folder {name} has no {', '.join(SUFFIXES)}", value=name)
        found += inside
    if found.count(STDIN) > 1:
        raise UsageError("stdin can be read once only", hint="name - once", value=STDIN)
    return found


def read_image(source: str, *, invert: bool | None = None) -> Image:
    """A picture of one digit from a file, or from stdin (``-``), as a model sees it.

    Args:
        invert: whether it is dark on light; by default that is found out.

    Raises:
        DataError: where it is no picture, damaged, too large, animated, or nothing is on it.
    """
    shown = "stdin" if source == STDIN else source
    grey = _read_grey(_read_bytes(source, shown), shown)
    inverted = is_dark_on_light(grey) if invert is None else invert
    ink = _ink(1 - grey if inverted else grey)
    if ink is None:
        raise DataError(f"nothing is drawn on {shown}", hint="a digit has to differ from its background", value=source)
    return Image(source, normalise(ink), inverted)


def is_dark_on_light(grey: Picture) -> bool:
    """Whether a picture's edge is nearer to its lightest pixel than to its darkest: the digit is in the middle."""
    import numpy as np

    return bool(np.median(_border(grey)) > (float(grey.min()) + float(grey.max())) / 2)


def normalise(ink: Picture) -> Picture:
    """A digit, light on dark, as MNIST's authors put it into 28 × 28: in a 20 × 20 box, by its centre of mass.

    Lines that would be thinner than :data:`_LINE` are made so wide first.
    """
    import numpy as np
    from PIL import Image as Pillow

    cut = _thickened(_cut(ink))
    height, width = (max(1, round(side * _BOX / max(cut.shape))) for side in cut.shape)
    small = np.asarray(Pillow.fromarray(cut).resize((width, height), Pillow.Resampling.BICUBIC)).clip(0)
    small = small / small.max()  # a thin line has become grey, and the digits of the data set have white in them
    made = np.zeros((_SIDE, _SIDE), np.float32)
    top, left = (
        int(np.clip(round(_CENTRE - _centre(small.sum(other))), 0, _SIDE - side))
        for other, side in ((1, height), (0, width))
    )
    made[top : top + height, left : left + width] = small
    return made


def _cut(ink: Picture) -> Picture:
    """What is inside the digit's edges."""
    import numpy as np

    rows, columns = (np.flatnonzero((ink > _EDGE).any(axis)) for axis in (1, 0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def line_width(ink: Picture) -> float:
    """How many pixels wide the lines of a drawing are, on average: twice its area over the length of its outline.

    A line of width w and length l has the area w·l, and the outline 2·l; in grey, the outline is the total variation.
    """
    import numpy as np

    down, right = np.gradient(np.pad(ink, 2))  # differences at the rim itself would be of one pixel, not of two
    return 2 * float(ink.sum()) / float(np.hypot(down, right).sum())


def _thickened(cut: Picture) -> Picture:
    """A digit whose lines are at least :data:`_LINE` wide once it is in its box.

    A Gaussian makes a line wider by as much as is missing, and all lines of one width equally dark whatever their
    direction; divided by what it leaves in the middle of a line, they are full ink again.
    """
    import numpy as np
    from PIL import Image as Pillow

    width = line_width(cut) * _BOX / max(cut.shape)
    if width >= _LINE:
        return cut
    # The width at half height of a Gaussian is 2·√(2·ln 2) deviations, and widths add up as squares.
    sigma = math.sqrt(_LINE**2 - width**2) / (2 * math.sqrt(2 * math.log(2)))
    middle = math.erf(width / (2 * math.sqrt(2) * sigma))
    rows, columns = (max(1, round(side * _BOX * _FINE / max(cut.shape))) for side in cut.shape)
    fine = np.asarray(Pillow.fromarray(cut).resize((columns, rows), Pillow.Resampling.BILINEAR))
    fine = np.pad(fine, math.ceil(3 * sigma * _FINE))
    for side in fine.shape:
        away = np.subtract.outer(np.arange(side), np.arange(side)) / (sigma * _FINE)
        weights = np.exp(-0.5 * away**2) / (math.sqrt(2 * math.pi) * sigma * _FINE)
        fine = (weights @ fine).T  # down, and by the turn, across
    return _cut((fine / middle).clip(0, 1).astype(np.float32))


def drawn(pixels: Picture) -> list[str]:
    """A picture in characters, two a pixel, a line a row."""
    ramp = " .:-=+*#%@"
    return ["".join(2 * ramp[min(9, int(value * 10))] for value in row).rstrip() for row in pixels.tolist()]


def _centre(mass: Any) -> float:
    import numpy as np

    return float((mass * np.arange(len(mass))).sum() / mass.sum())


def _border(grey: Picture) -> Any:
    import numpy as np

    wide = max(1, min(grey.shape) // 20)
    return np.concatenate([grey[:wide].ravel(), grey[-wide:].ravel(), grey[:, :wide].ravel(), grey[:, -wide:].ravel()])


def _ink(light: Picture) -> Picture | None:
    """How much ink each pixel has, 0 to 1: its background is taken away, with the background's own noise."""
    import numpy as np

    border = _border(light)
    ground = float(np.median(border))
    noise = min(0.3, 3 * 1.4826 * float(np.median(np.abs(border - ground))))
    full = float(light.max())
    if full - ground - noise < _LEAST_CONTRAST:
        return None
    return ((light - ground - noise) / (full - ground - noise)).clip(0, 1).astype(np.float32)


def _read_bytes(source: str, shown: str) -> bytes:
    try:
        if source == STDIN:
            content = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with open_regular(Path(source).resolve(), MAX_BYTES) as stream:
                content = stream.read()
    except OSError as error:
        raise DataError(f"can't read {shown}: {error.strerror or error}", value=source) from error
    if not content:
        raise DataError(f"{shown} is empty", value=source)
    if len(content) > MAX_BYTES:
        raise DataError(f"{shown} has more than {MAX_BYTES // 2**20} MiB", hint="make it smaller", value=source)
    return content


def _read_grey(content: bytes, shown: str) -> Picture:
    """The picture in grey, 0 (black) to 1 (white).

    Raises:
        DataError: as :func:`read_image`.
    """
    from PIL import Image as Pillow
    from PIL import ImageOps, UnidentifiedImageError

    too_large = f"{shown} has more than {MAX_PIXELS // 10**6} million pixels"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Pillow.open(io.BytesIO(content), formats=_FORMATS) as image:
                # The size is in the header: what is too large is never unpacked.
                if image.width * image.height > MAX_PIXELS:
                    size = f"{shown} has {image.width:,} × {image.height:,} pixels"
                    raise DataError(size, hint=f"{MAX_PIXELS // 10**6} million at most", value=shown)
                if getattr(image, "is_animated", False):
                    raise DataError(f"{shown} is animated", hint="save the frame that you mean", value=shown)
                image.load()
                return _grey(ImageOps.exif_transpose(image))
        except UnidentifiedImageError as error:
            raise DataError(f"{shown} is not an image", hint="PNG or JPEG", value=shown) from error
        except Pillow.DecompressionBombError as error:
            raise DataError(too_large, hint="make it smaller", value=shown) from error
        except (DataError, MemoryError):
            raise
        except Exception as error:
            # Whatever the parser stumbles over in a stranger's bytes.
            raise DataError(f"{shown} is damaged: {' '.join(str(error).split())}", value=shown) from error


def _grey(image: Any) -> Picture:
    import numpy as np

    if image.mode.startswith("I"):  # 16 bits a pixel, which Pillow would cut off at 255
        values = np.asarray(image).astype(np.float32) / np.float32(65535)
        step = -(-max(values.shape) // _ENOUGH)
        return values[::step, ::step]
    if "A" in image.getbands() or "transparency" in image.info:
        image = _on_ground(image.convert("LA"))
    image = image.convert("L")
    image.thumbnail((_ENOUGH, _ENOUGH))
    return np.asarray(image).astype(np.float32) / np.float32(255)


def _on_ground(image: Any) -> Any:
    """A picture with see-through parts, on white, or on black where what is seen is light itself."""
    import numpy as np
    from PIL import Image as Pillow

    grey, alpha = (np.asarray(band).astype(np.float64) for band in image.split())
    light = alpha.sum() > 0 and (grey * alpha).sum() / alpha.sum() > 127
    # Where nothing is seen through, there is no ground.
    ground = Pillow.new("LA", image.size, (0 if light and alpha.min() < 255 else 255, 255))
    return Pillow.alpha_composite(ground.convert("RGBA"), image.convert("RGBA"))
