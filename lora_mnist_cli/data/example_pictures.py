"""Pictures to try ``predict`` with: test images of MNIST, large and dark on light, as a scanner would give them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from lora_mnist_cli.data.sources import load_split
from lora_mnist_cli.system.files import machine_errors, whole_file

EXAMPLES = {"seven.png": 0, "scans/two.png": 1, "scans/four.png": 4, "scans/nine.png": 7}
"""File → number of the test image of MNIST: its first seven, two, four and nine."""
_TIMES, _MARGIN = 5, 20


def write_examples(folder: Path, data_dir: Path) -> tuple[list[Path], list[Path]]:
    """Write :data:`EXAMPLES` into a folder; return the paths that were written, and those of files that were there.

    A file that is there stays as it is.

    Each has 180 × 180 pixels and a few kB: the digit five times as large as in MNIST, with paper around it.

    Raises:
        DataError: where MNIST is not available.
        MachineError: where they can't be written.
    """
    images, _ = load_split("mnist", "test", data_dir)
    written: list[Path] = []
    kept: list[Path] = []
    for name, number in EXAMPLES.items():
        path = folder / name
        if os.path.lexists(path):
            kept.append(path)
            continue
        ink = Pillow.fromarray(images[number].reshape(28, 28)).resize((28 * _TIMES,) * 2, Pillow.Resampling.BICUBIC)
        paper = Pillow.fromarray(255 - np.pad(np.asarray(ink), _MARGIN))
        with machine_errors(f"can't write {path}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(path) as file:
                paper.save(file, "png", optimize=True)
        written.append(path)
    return written, kept
