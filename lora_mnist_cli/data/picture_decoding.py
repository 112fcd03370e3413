"""From a picture file to its grey values. It may come from a stranger: bytes, pixels and memory are limited.

Headers are read first, and what is too large is refused before it is unpacked. A large picture is made smaller, while
a JPEG is decoded and right after anything else is.
"""

from __future__ import annotations

import io
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import UnidentifiedImageError

from lora_mnist_cli.data.picture_files import STDIN
from lora_mnist_cli.system.errors import DataError
from lora_mnist_cli.system.files import open_regular

Picture = NDArray[np.float32]
MAX_BYTES = 24 * 2**20
"""Of a file. Pillow copies all of a JPEG's EXIF for each 64 KiB of it, which takes 0.6 s here, and 19 s at 59 MiB."""
MAX_PIXELS = 64_000_000
"""A photograph of a large telephone."""
MAX_SIDE = 65_535
"""The longest side that a JPEG can have."""
MAX_UNPACKED = 200_000_000
"""Bytes that may be needed to decode a picture: 64 million pixels in grey, 40 in colour, 16 with transparent parts."""
MAX_SCANS = 640_000_000
"""Pixels times scans of a JPEG; a progressive one has about ten scans, and each goes through all pixels."""
MAX_READS = 500_000
"""Parts in which a file may be read. Millions of tiny comments, which 24 MiB have room for, took a parser 15 s."""
_FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP")
_MOVING = ("PNG", "GIF", "WEBP")
"""Formats whose further pictures are moments of a film. In others they are previews, depths or pages."""
_ENOUGH = 1120
"""Pixels per side above which a picture is made smaller first: forty per pixel of the model."""
_BYTES = {"1": 2, "L": 2, "P": 2, "I;16": 2, "RGB": 5, "I": 4, "F": 4}
"""Bytes per pixel while a picture of a mode becomes grey, with its copies; of others :data:`_MOST_BYTES`."""
_MOST_BYTES = 12
_BYTES_OF_WEBP = 17
"""Its decoder keeps two pictures in four channels, and gives a third."""
_TURNS = (
    None, None, Pillow.Transpose.FLIP_LEFT_RIGHT, Pillow.Transpose.ROTATE_180, Pillow.Transpose.FLIP_TOP_BOTTOM,
    Pillow.Transpose.TRANSPOSE, Pillow.Transpose.ROTATE_270, Pillow.Transpose.TRANSVERSE, Pillow.Transpose.ROTATE_90,
)  # fmt: skip
"""How a picture is turned upright, by the EXIF tag of its orientation."""
_ORIENTATION = 0x0112
_BEYOND = 0.1
"""How far real numbers may be outside 0 to 1 by resizing; and the least white, below which a range is another one."""

logging.getLogger("PIL").addHandler(logging.NullHandler())  # what it logs of odd files is not for users


class _Content(io.BytesIO):
    """The content of a file, which is read in :data:`MAX_READS` parts at most."""

    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as :meth:`io.BytesIO.read` does.

        Raises:
            ValueError: where it was read too often.
        """
        self.reads += 1
        if self.reads > MAX_READS:
            raise ValueError("it has too many parts")
        return super().read(size)


def read_grey(source: str) -> Picture:
    """Read a picture in grey, 0 (black) to 1 (white), from a file or from stdin (``-``), at most 1120 pixels per side.

    Raises:
        DataError: where it is no picture, damaged, too large or animated.
    """
    shown = "stdin" if source == STDIN else source
    content = _read_bytes(source, shown)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Pillow.open(_Content(content), formats=_FORMATS) as image:
                return _decode(image, content, shown)
        except UnidentifiedImageError as error:
            known = "PNG, JPEG, WebP, TIFF, BMP or GIF"
            raise DataError(f"{shown} is not an image", hint=known, value=shown) from error
        except Pillow.DecompressionBombError as error:
            raise _too_large(f"{shown} has too many pixels") from error
        except (DataError, MemoryError):
            raise
        except Exception as error:
            # A stranger's bytes can make the parser raise anything.
            why = " ".join(str(error).split())
            what = "can't be read" if "not supported" in why else "is damaged"
            raise DataError(f"{shown} {what}: {why}", value=shown) from error


def grey_of(values: NDArray[np.uint8]) -> Picture:
    """Return an array of bytes (height × width, or × 3 for colours, or × 4 with transparency) as :func:`read_grey`."""
    return _grey(Pillow.fromarray(values))


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


def _decode(image: Any, content: bytes, shown: str) -> Picture:
    size = f"{shown} has {image.width:,} × {image.height:,} pixels"
    pixels, format_ = image.width * image.height, image.format
    if pixels > MAX_PIXELS or max(image.size) > MAX_SIDE:
        raise _too_large(size)
    if format_ in _MOVING and getattr(image, "is_animated", False):
        raise DataError(f"{shown} is animated", hint="save the frame that you mean", value=shown)
    if format_ in ("JPEG", "MPO") and pixels * content.count(b"\xff\xda") > MAX_SCANS:
        raise _too_large(f"{size} in {content.count(bytes([0xFF, 0xDA])):,} scans")
    # The decoder of a progressive JPEG keeps three coefficients of two bytes for each pixel, at any size.
    kept = 6 * pixels if image.info.get("progressive") else 0
    image.draft(None, (_ENOUGH, _ENOUGH))
    per_pixel = _BYTES.get(image.mode, 2 if image.mode.startswith("I;16") else _MOST_BYTES)
    if _is_transparent(image):
        per_pixel = _MOST_BYTES
    if format_ == "WEBP":
        per_pixel = _BYTES_OF_WEBP
    if format_ == "TIFF":  # its strips are unpacked before the picture, and turned in a copy
        per_pixel *= 2
    if kept + image.width * image.height * per_pixel > MAX_UNPACKED:
        raise _too_large(size)
    image.load()
    grey = _deep_grey(image) if image.mode[0] in "IF" else _grey(image)
    turn = dict(enumerate(_TURNS)).get(image.getexif().get(_ORIENTATION))
    return grey if turn is None else np.asarray(Pillow.fromarray(grey).transpose(turn))


def _too_large(problem: str) -> DataError:
    return DataError(f"{problem}, too many to unpack", hint="make it smaller, to 10 million pixels or fewer")


def _is_transparent(image: Any) -> bool:
    return (image.mode != "LAB" and "A" in image.getbands()) or "transparency" in image.info


def _grey(image: Any) -> Picture:
    if _is_transparent(image):
        image = image.convert("LA")
        image.thumbnail((_ENOUGH, _ENOUGH))
        image = _on_ground(image)
    image = image.getchannel("L") if image.mode == "LAB" else image.convert("L")
    if image.getextrema() == (0, 1):  # a mask, of which 1 is white
        image = image.point((0, 255) * 128)
    image.thumbnail((_ENOUGH, _ENOUGH))
    return np.asarray(image).astype(np.float32) / np.float32(255)


def _deep_grey(image: Any) -> Picture:
    """Decode more than 8 bits per pixel, which Pillow would cut off at 255.

    White is the largest number of the fewest bits that hold all values: a file of 16 bits may have been written by a
    camera of 12. Of a picture in real numbers up to 1 it is 1, also where resizing went a little beyond. Real numbers
    of any other range go from their smallest, black, to their largest.
    """
    step = -(-max(image.size) // _ENOUGH)
    columns = np.arange(0, image.width, step)
    rows = []
    for top in range(0, image.height, step):
        band = np.asarray(image.crop((0, top, image.width, min(image.height, top + step)))).astype(np.float64)
        sums = np.add.reduceat(band.sum(0), columns)
        rows.append(sums / (len(band) * np.diff(columns, append=image.width)))
    values = np.stack(rows)
    least, most = float(values.min()), float(values.max())
    if not np.isfinite(values).all():
        raise ValueError("it has values that are no finite numbers")
    white = float(2 ** max(1, int(most).bit_length()) - 1)
    if image.mode == "F" and (least < 0 or most < 2):
        is_usual = least >= -_BEYOND and _BEYOND <= most <= 1 + _BEYOND
        white, values = (1.0, values) if is_usual else (most - least or 1.0, values - least)
    return (values / white).clip(0, 1).astype(np.float32)


def _on_ground(image: Any) -> Any:
    """Put a picture with transparent parts on white, or on black where its visible part is light."""
    grey, alpha = (np.asarray(band).astype(np.float64) for band in image.split())
    light = alpha.sum() > 0 and (grey * alpha).sum() / alpha.sum() > 127
    # A picture without transparent parts needs no ground.
    ground = Pillow.new("LA", image.size, (0 if light and alpha.min() < 255 else 255, 255))
    return Pillow.alpha_composite(ground.convert("RGBA"), image.convert("RGBA"))
