"""A user's images as arrays in an ``.npz`` file: ``x_train``, ``y_train``, ``x_test`` and ``y_test``.

Images are n × height × width in grey, or with a last axis of 1 (grey), 3 (colour) or 4 (and transparency). Their values
are from 0 to 255, or all from 0 to 1. Labels are whole numbers or names; ``classes`` may hold a name per number. The
file may come from a stranger: nothing is unpickled, and what is too large is refused before it is unpacked.
"""

from __future__ import annotations

import math
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from lora_mnist_cli.data.source import SPLITS, Split
from lora_mnist_cli.system.errors import DataError
from lora_mnist_cli.system.files import open_regular

SHAPE = "an .npz file has x_train, y_train, x_test and y_test, and may have classes, a name per label"
MAX_BYTES = 2**30
"""Of the file, and of its arrays together."""
_MAX_ENTRIES = 1000
_NAMES = ("x_train", "y_train", "x_test", "y_test")


@dataclass(frozen=True)
class Arrays:
    """Images of each split as bytes (n × height × width, or × 3 or 4), the class of each, and the classes in order.

    The order is None where the file names no classes.
    """

    images: dict[Split, npt.NDArray[np.uint8]]
    classes: dict[Split, list[str]]
    order: list[str] | None


def read_arrays(path: Path) -> Arrays:
    """Read the arrays of a file.

    Raises:
        DataError: where it is no such file, damaged or too large, or its arrays are none that :data:`SHAPE` allows.
    """
    try:
        with open_regular(path.resolve(), MAX_BYTES) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _read(file)
    except OSError as error:
        raise DataError(f"can't read {path}: {error.strerror or error}", value=str(path)) from error
    except _RefusedError as error:
        raise DataError(f"{path}: {error}", hint=SHAPE, value=str(path)) from error
    except MemoryError:
        raise
    except Exception as error:  # a stranger's bytes can make the parsers raise anything
        why = " ".join(str(error).split())[:100]
        raise DataError(f"{path} can't be read as an .npz file: {why}", hint=SHAPE, value=str(path)) from error


class _RefusedError(Exception):
    """An array is none that a data set can have."""


def _read(file: IO[bytes]) -> Arrays:
    found = _unpacked(file)
    white = _white([found[f"x_{split}"] for split in SPLITS])
    images = {split: _images(found[f"x_{split}"], f"x_{split}", white) for split in SPLITS}
    order = _order(found["classes"]) if "classes" in found else None
    classes = {split: _labels(found[f"y_{split}"], f"y_{split}", len(images[split]), order) for split in SPLITS}
    return Arrays(images, classes, order)


def _unpacked(file: IO[bytes]) -> dict[str, npt.NDArray[Any]]:
    with zipfile.ZipFile(file) as archive:
        entries = archive.namelist()
        if len(entries) > _MAX_ENTRIES:
            raise _RefusedError(f"it has {len(entries):,} entries")
        if missing := [name for name in _NAMES if f"{name}.npy" not in entries]:
            raise _RefusedError(f"it has no {missing[0]}")
        wanted = [name for name in (*_NAMES, "classes") if f"{name}.npy" in entries]
        sizes = {name: _promised(archive, name) for name in wanted}
        if sum(sizes.values()) > MAX_BYTES:
            raise _RefusedError(f"its arrays have {sum(sizes.values()):,} bytes, and at most {MAX_BYTES:,} are read")
        found = {}
        for name in wanted:
            with archive.open(f"{name}.npy") as stream:
                found[name] = np.lib.format.read_array(stream, allow_pickle=False)
                if stream.read(1):  # at the end, the checksum is compared
                    raise _RefusedError(f"{name} has more values than its header promises")
        return found


def _promised(archive: zipfile.ZipFile, name: str) -> int:
    """Return how many bytes an array has, by its header."""
    with archive.open(f"{name}.npy") as stream:
        version = np.lib.format.read_magic(stream)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version)  # fmt: skip
        if read_header is None:
            raise _RefusedError(f"{name} is of version {version[0]}.{version[1]} of the format, which no images need")
        shape, _, dtype = read_header(stream)
    if dtype.hasobject:
        raise _RefusedError(f"{name} holds Python objects, which are not read")
    # Python's integers don't overflow.
    return math.prod(shape) * dtype.itemsize


def _white(images: list[npt.NDArray[Any]]) -> int:
    """Return the value that white has: 1 where no value is larger, else 255."""
    largest = [values.max() for values in images if values.size and values.dtype.kind in "buif"]
    return 1 if largest and all(value <= 1 for value in largest) else 255


def _images(values: npt.NDArray[Any], name: str, white: int) -> npt.NDArray[np.uint8]:
    """Return images as bytes, without an axis for a single channel."""
    if values.dtype.kind not in "buif":
        raise _RefusedError(f"{name} holds {values.dtype}, and pixels are numbers")
    if values.ndim == 4 and values.shape[3] == 1:
        values = values[..., 0]
    if not (values.ndim == 3 or (values.ndim == 4 and values.shape[3] in (3, 4))):
        raise _RefusedError(f"{name} is {_by(values.shape)}, and images are n × height × width, or × 3 for colours")
    if values.size == 0:
        raise _RefusedError(f"{name} is empty: {_by(values.shape)}")
    least, most = float(values.min()), float(values.max())
    if not (math.isfinite(least) and math.isfinite(most)):
        raise _RefusedError(f"{name} has values that are no finite numbers")
    if least < 0 or most > white:
        raise _RefusedError(
            f"{name} has values from {least:g} to {most:g}, and pixels are from 0 to 1 or from 0 to 255"
        )
    if values.dtype == np.uint8 and white == 255:
        return values
    scaled = np.empty(values.shape, np.uint8)
    for row, image in enumerate(values):  # one by one: a float copy of all would take eight times the memory
        scaled[row] = np.rint(image.astype(np.float64) * (255 / white))
    return scaled


def _order(names: npt.NDArray[Any]) -> list[str]:
    if names.ndim != 1 or names.dtype.kind != "U":
        raise _RefusedError(f"classes is {_by(names.shape)} of {names.dtype}, and has to be a list of names")
    return [str(name) for name in names]


def _labels(values: npt.NDArray[Any], name: str, count: int, order: list[str] | None) -> list[str]:
    """Return the class of each image."""
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise _RefusedError(f"{name} is {_by(values.shape)}, and labels are one per image")
    if len(values) != count:
        raise _RefusedError(f"{name} has {len(values):,} labels for {count:,} images")
    if values.dtype.kind not in ("iu" if order else "iuU"):
        raise _RefusedError(f"{name} holds {values.dtype}, and labels are whole numbers{'' if order else ' or names'}")
    if order is None:
        return [str(value) for value in values.tolist()]
    if int(values.min()) < 0 or int(values.max()) >= len(order):
        raise _RefusedError(
            f"{name} has labels from {values.min()} to {values.max()}, and classes has {len(order)} names"
        )
    return [order[value] for value in values.tolist()]


def _by(shape: tuple[int, ...]) -> str:
    return " × ".join(f"{side:,}" for side in shape) or "a single value"
