"""A user's own data set for tests: shapes of different sizes and colours, as arrays and as folders of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]


def draw(digit: int, number: int, side: int = 45) -> Pixels:
    """Draw a bar whose place says the class: ``side`` × ``side`` × 3, light on dark or dark on light by turns."""
    picture = np.full((side, side, 3), (20, 30, 10), np.uint8)
    step = side // 15
    picture[step * (1 + digit) : step * (4 + digit), 2 * step : (4 + number % 5 + digit) * step] = (250, 240, 200)
    picture[2 * step : 12 * step, 2 * step : 4 * step] = (250, 240, 200)
    return 255 - picture if number % 2 else picture


def arrays(classes: int = 4, train: int = 10, test: int = 5, side: int = 45) -> dict[str, Any]:
    """Return ``x_train``, ``y_train``, ``x_test`` and ``y_test``, each class in turn, with so many images of each."""
    made: dict[str, Any] = {}
    for split, count, first in (("train", train, 0), ("test", test, 100)):
        labels = np.arange(classes * count) % classes
        made[f"x_{split}"] = np.stack([draw(digit, first + n // classes, side) for n, digit in enumerate(labels)])
        made[f"y_{split}"] = labels
    return made


def write_folder(folder: Path, given: dict[str, Any], names: Sequence[str] | None = None) -> Path:
    """Write arrays as pictures, ``SPLIT/CLASS/NUMBER.png``."""
    for split in ("train", "test"):
        for number, (image, label) in enumerate(zip(given[f"x_{split}"], given[f"y_{split}"], strict=True)):
            path = folder / split / (names[label] if names else str(label)) / f"{number:05}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    return folder


def write_npz(path: Path, given: dict[str, Any], **more: Any) -> Path:
    """Write arrays as an ``.npz`` file."""
    np.savez(path, **{name: values for name, values in (given | more).items() if values is not None})
    return path
