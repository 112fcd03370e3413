"""The IDX format of MNIST's files: two zero bytes, a type byte, the number of axes, their lengths, the values."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy.typing as npt

_TYPES = {0x08: "u1", 0x0C: ">i4"}
"""The type bytes that the data sets use, as NumPy writes them: bytes and big-endian 32-bit integers."""


def parse(raw: bytes) -> npt.NDArray[Any]:
    """Return the array in the bytes of an IDX file; it is read-only.

    Raises:
        ValueError: where it is no IDX file, or has more or fewer values than its header says.
    """
    import numpy as np

    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] not in _TYPES or not 1 <= raw[3] <= 3:
        raise ValueError("it does not begin as an IDX file does")
    dtype, header = np.dtype(_TYPES[raw[2]]), 4 + 4 * raw[3]
    shape = [int.from_bytes(raw[start : start + 4], "big") for start in range(4, header, 4)]
    # Python's integers don't overflow, so an absurd shape is refused here and nothing is allocated for it.
    size = math.prod(shape) * dtype.itemsize
    if len(raw) - header != size:
        raise ValueError(f"its header promises {size} bytes of values and it has {len(raw) - header}")
    return np.frombuffer(raw, dtype=dtype, offset=header).reshape(shape)
