"""The IDX format of MNIST's files: two zero bytes, a type byte, the number of axes, their lengths, the values."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy.typing as npt

_TYPES = {0x08: ("u1", 1), 0x0C: (">i4", 4)}
"""The type bytes that the data sets use, as NumPy writes them and with their sizes: bytes and big-endian integers."""

MAX_BYTES = 200_000_000
"""Of a file. The largest, the training images of EMNIST's digits, has 240,000 images of 784 bytes: 188,160,016."""


def file_size(start: bytes) -> int:
    """Return how many bytes an IDX file has, by its header, of which ``start`` has to have all.

    Raises:
        ValueError: where it is no IDX file, or larger than any data set's.
    """
    _, size, shape = _read_header(start)
    # Python's integers don't overflow, so an absurd shape is refused here and nothing is allocated for it.
    values = math.prod(shape) * size
    if values > MAX_BYTES:
        raise ValueError(f"its header promises {values} bytes of values, and no data set has more than {MAX_BYTES}")
    return 4 + 4 * len(shape) + values


def parse(raw: bytes) -> npt.NDArray[Any]:
    """Return the array in the bytes of an IDX file; it is read-only.

    Raises:
        ValueError: where it is no IDX file, or has more or fewer values than its header says.
    """
    import numpy as np

    dtype, _, shape = _read_header(raw)
    refuse_other_size(len(raw), file_size(raw))
    return np.frombuffer(raw, dtype=dtype, offset=4 + 4 * len(shape)).reshape(shape)


def refuse_other_size(size: int, promised: int) -> None:
    """Refuse a file of other than the promised number of bytes; one that is longer may not have been read to its end.

    Raises:
        ValueError: where the two differ.
    """
    if size != promised:
        found = "more" if size > promised else size
        raise ValueError(f"its header promises {promised} bytes in all and it has {found}")


def _read_header(start: bytes) -> tuple[str, int, list[int]]:
    """Return the type of the values, the bytes of each, and their shape."""
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in _TYPES or not 1 <= start[3] <= 3:
        raise ValueError("it does not begin as an IDX file does")
    ends = range(8, 8 + 4 * start[3], 4)
    return *_TYPES[start[2]], [int.from_bytes(start[end - 4 : end], "big") for end in ends]
