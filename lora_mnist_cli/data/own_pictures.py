"""A user's pictures in folders by class: ``train/CLASS/*.png`` and ``test/CLASS/*.png``, or ``CLASS/*.png`` alone.

Without ``train`` and ``test``, every fifth picture of a class, in the order of their names, is a test picture.
No NumPy.
"""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path

from lora_mnist_cli.data.picture_files import find_images
from lora_mnist_cli.data.source import SPLITS, Split
from lora_mnist_cli.settings.own_data import problem_of_classes
from lora_mnist_cli.system.errors import DataError

SHAPE = "a folder has train/CLASS/*.png and test/CLASS/*.png, or CLASS/*.png alone"
_EVERY = 5
"""One in five pictures of a class is a test picture, where the user did not say which."""

Files = dict[Split, list[tuple[str, str]]]
"""Split → each picture, with its class."""


def find_pictures(folder: Path, notice: Callable[[str], None] = lambda _: None) -> Files:
    """Find the pictures of each split and class.

    Args:
        notice: is told what there is beside pictures; hidden files are not worth a word.

    Raises:
        DataError: where the folders are others than :data:`SHAPE` says, or one has no pictures.
    """
    try:
        top = _folders(folder)
        missing = [split for split in SPLITS if split not in top]
        if len(missing) == len(SPLITS):
            return _split(_classes(folder, top, notice))
        if missing:
            raise DataError(f"{folder} has no folder {missing[0]}", hint=SHAPE, value=str(folder))
        return {split: _listed(_classes(top[split], _folders(top[split]), notice)) for split in SPLITS}
    except OSError as error:
        raise DataError(f"can't read {folder}: {error.strerror or error}", value=str(folder)) from error


def stamp_of(root: Path, files: Iterable[str | Path]) -> str:
    """Return what tells files from others, or from what they were before: names, sizes and times of change.

    Raises:
        DataError: where one is gone.
    """
    found = hashlib.sha256()
    try:
        for file in files:
            there = os.stat(file)
            name = str(file).removeprefix(str(root))
            found.update(f"{name}\0{there.st_size}\0{there.st_mtime_ns}\n".encode(errors="surrogateescape"))
    except OSError as error:
        raise DataError(f"can't read {file}: {error.strerror or error}", value=str(file)) from error
    return found.hexdigest()


def _folders(folder: Path) -> dict[str, Path]:
    """Return the folders in a folder by their names, which some systems write in another form of Unicode."""
    inside = (path for path in sorted(folder.iterdir()) if path.is_dir() and path.name[0] not in "._")
    return {unicodedata.normalize("NFC", path.name): path for path in inside}


def _classes(folder: Path, classes: dict[str, Path], notice: Callable[[str], None]) -> dict[str, list[str]]:
    """Return the pictures of each class."""
    if not classes:
        raise DataError(f"{folder} has no folder for each class", hint=SHAPE, value=str(folder))
    if problem := problem_of_classes(list(classes)):
        raise DataError(f"{folder}: {problem}", hint=SHAPE, value=str(folder))
    return {name: find_images([str(path)], notice) for name, path in classes.items()}


def _split(classes: dict[str, list[str]]) -> Files:
    """Take every fifth picture of a class as a test picture."""
    for name, pictures in classes.items():
        if len(pictures) < _EVERY:
            problem = f"the class {name} has {len(pictures)} pictures; to take one in {_EVERY} as a test picture"
            raise DataError(f"{problem} needs {_EVERY}", hint=SHAPE, value=name)
    test = {name: pictures[_EVERY - 1 :: _EVERY] for name, pictures in classes.items()}
    train = {name: [each for n, each in enumerate(of, 1) if n % _EVERY] for name, of in classes.items()}
    return {"train": _listed(train), "test": _listed(test)}


def _listed(classes: dict[str, list[str]]) -> list[tuple[str, str]]:
    return [(file, name) for name, files in classes.items() for file in files]
