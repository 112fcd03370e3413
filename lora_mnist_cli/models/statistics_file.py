"""The content of a file of class statistics, checked on NumPy. No torch, so that ``runs verify`` is fast.

:class:`~lora_mnist_cli.models.densities.ClassStatistics` says what each tensor is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lora_mnist_cli.models.architecture import PIXELS

if TYPE_CHECKING:
    import numpy.typing as npt

    Arrays = Mapping[str, npt.NDArray[Any]]

TYPES = {
    "digits": "I64", "counts": "I64", "components": "I64", "mean": "F32", "basis": "F32", "weights": "F32",
    "centres": "F16", "directions": "F16", "noise": "F32",
}  # fmt: skip
"""Key → type of each tensor, as safetensors names it."""

MAX_BYTES = 10**6
"""Of a file; of ten digits it has three quarters of that."""

_NUMPY_TYPES = {"I64": "<i8", "F32": "<f4", "F16": "<f2"}
_MOST = 2**31
"""The largest count that makes sense."""


def problems(content: bytes, dimensions: int = PIXELS) -> list[str]:
    """Return what is wrong with a file of statistics: keys and types, then shapes, then values.

    Args:
        dimensions: of the space that the densities are over.

    Raises:
        SafetensorError: where it is no safetensors file.
    """
    import numpy as np
    from safetensors import deserialize

    tensors = dict(deserialize(content))  # type: ignore[no-untyped-call]
    wrong = [f"{key} is missing" for key in TYPES if key not in tensors]
    wrong += [f"{key} is unknown" for key in tensors if key not in TYPES]
    for key, kind in TYPES.items():
        if key in tensors and tensors[key]["dtype"] != kind:
            wrong.append(f"{key} is {tensors[key]['dtype']}, not {kind}")
    if wrong:
        return wrong
    arrays = {
        key: np.frombuffer(tensors[key]["data"], _NUMPY_TYPES[kind]).reshape(tensors[key]["shape"])
        for key, kind in TYPES.items()
    }
    return _problems_of_shapes(arrays, dimensions) or _problems_of_values(arrays)


def _problems_of_shapes(arrays: Arrays, dimensions: int) -> list[str]:
    import numpy as np

    wrong = []
    digits, basis, directions = arrays["digits"], arrays["basis"], arrays["directions"]
    if digits.ndim != 1 or not len(digits) or (np.diff(digits) <= 0).any() or digits[0] < 0 or digits[-1] > 9:
        wrong.append("digits are none, or not ascending from 0 to 9")
    for key in ("counts", "components"):
        if arrays[key].shape != digits.shape or (arrays[key] < 1).any() or (arrays[key] > _MOST).any():
            wrong.append(f"{key} are not one positive number per digit")
    if basis.ndim != 2 or directions.ndim != 3 or not 0 < directions.shape[2] <= basis.shape[1] <= dimensions:
        wrong.append("basis or directions are not matrices of their kind")
    if wrong:
        return wrong
    total, width = int(arrays["components"].sum()), basis.shape[1]
    shapes: dict[str, tuple[int, ...]] = {
        "mean": (dimensions,), "basis": (dimensions, width), "weights": (total,), "centres": (total, width),
        "directions": (total, width, directions.shape[2]), "noise": (total,),
    }  # fmt: skip
    return [
        f"{key} has the shape {arrays[key].shape}, not {shape}"
        for key, shape in shapes.items()
        if arrays[key].shape != shape
    ]


def _problems_of_values(arrays: Arrays) -> list[str]:
    import numpy as np

    if odd := [key for key, array in arrays.items() if not np.isfinite(array).all()]:
        return [f"{key} has values that are no finite numbers" for key in odd]
    wrong = []
    weights, basis = arrays["weights"].astype(np.float64), arrays["basis"].astype(np.float64)
    if (arrays["noise"] <= 0).any():
        wrong.append("noise is not positive, so that no covariance is positive definite")
    components = arrays["components"]
    sums = np.add.reduceat(weights, np.cumsum(components) - components)
    if (weights <= 0).any() or not np.allclose(sums, 1, atol=1e-3):
        wrong.append("weights are not positive or don't add up to 1 for each digit")
    if not np.allclose(basis.T @ basis, np.eye(basis.shape[1]), atol=1e-3):
        wrong.append("basis is not orthonormal")
    return wrong
