"""Make a user's own pictures or arrays into a data set like the others: 28 × 28 pixels, light on dark, in IDX files.

Each image is fitted as ``predict`` fits a picture (:mod:`~lora_mnist_cli.data.pictures`), so that a model sees in a
user's later pictures what it learned. An image that has 28 × 28 pixels and is light on dark stays as it is.
"""

from __future__ import annotations

import hashlib
import math
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lora_mnist_cli.data.own_pictures import find_pictures, stamp_of
from lora_mnist_cli.data.own_source import FOLDER, RECORD, Record, place_of, read_record
from lora_mnist_cli.data.source import MNIST_FILES, SPLITS, Split
from lora_mnist_cli.settings.config import BaseConfig, training_images
from lora_mnist_cli.settings.lists import counted, some
from lora_mnist_cli.settings.own_data import own_name, problem_of_classes
from lora_mnist_cli.system.errors import DataError
from lora_mnist_cli.system.files import machine_errors, whole_file

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from lora_mnist_cli.data.picture_decoding import Picture

MAX_IMAGES = 250_000
"""Of a split: its IDX file is then no larger than that of any other data set."""
_FEW_STEPS = 100
"""Of a training; with fewer, small ranks learn little or nothing."""
_FORM = 1
"""Goes up when the same pictures become other pixels."""


class Listener(Protocol):
    """Hears what is left out, and how many of all images are done."""

    def notice(self, text: str) -> None:
        """Something was left out, or has changed."""

    def reading(self, done: int, count: int) -> None:
        """The next image is read; ``done`` of ``count`` are."""


@dataclass(frozen=True)
class Given:
    """What a user gave: the class of each image, the classes in order if they have one, and how to read an image.

    ``image`` returns an image of a split in grey, 0 to 1, and what it is called in a message.
    """

    labels: dict[Split, list[str]]
    order: list[str] | None
    image: Callable[[Split, int], tuple[Picture, str]]


def take_in(path: Path, data_dir: Path, listener: Listener) -> str:
    """Read a folder of pictures or an ``.npz`` file into the data directory, and return the data set's name.

    What was read before and has not changed since is not read again.

    Raises:
        DataError: where it is no data set: empty, uneven, with too few or too many classes, or with a file that is no
            picture.
        MachineError: where the data directory can't be written to.
    """
    if not path.exists():
        raise DataError(f"there is no folder or file {path}", value=str(path))
    is_folder = path.is_dir()
    name = own_name(path.resolve().name if is_folder else path.resolve().stem)
    if not name:
        raise DataError(f"'{path.name}' can't be a data set's name", hint="use letters and digits", value=str(path))
    if not is_folder and path.suffix.lower() != ".npz":
        raise DataError(f"{path} is neither a folder nor an .npz file", value=str(path))
    files = find_pictures(path, listener.notice) if is_folder else None
    made_from = f"{_FORM} {stamp_of(path, [file for of in files.values() for file, _ in of] if files else [path])}"
    before = read_record(name, data_dir)
    if before is not None and before.made_from == made_from and _is_there(name, data_dir, before):
        return name
    given = _of_files(files) if files else _of_arrays(path)
    classes = _classes(given, path)
    record = _write(given, classes, made_from, place_of(name, data_dir), listener)
    if few := _few_steps(name, len(given.labels["train"])):
        listener.notice(few)
    if before is not None and (before.classes, before.folder) != (record.classes, record.folder):
        listener.notice(f"{name} has changed: what was trained on it before needs the earlier images")
    return name


def _few_steps(name: str, count: int) -> str:
    """Say that a training on so many images is short, where the usual one is."""
    usual = BaseConfig()
    steps = usual.epochs * math.ceil(training_images(count, usual.val_split) / usual.batch_size)
    if steps >= _FEW_STEPS:
        return ""
    short = f"{name} has {count:,} training images: the usual {usual.epochs} epochs are {steps} steps"
    return f"{short}; more --epochs or a smaller --batch-size give more"


def _of_files(files: dict[Split, list[tuple[str, str]]]) -> Given:
    from lora_mnist_cli.data.picture_decoding import read_grey

    def image(split: Split, row: int) -> tuple[Picture, str]:
        file = files[split][row][0]
        return read_grey(file), file

    return Given({split: [name for _, name in files[split]] for split in SPLITS}, None, image)


def _of_arrays(path: Path) -> Given:
    from lora_mnist_cli.data.own_arrays import read_arrays
    from lora_mnist_cli.data.picture_decoding import grey_of

    arrays = read_arrays(path)

    def image(split: Split, row: int) -> tuple[Picture, str]:
        return grey_of(arrays.images[split][row]), f"x_{split}[{row}] of {path}"

    return Given(arrays.classes, arrays.order, image)


def _classes(given: Given, path: Path) -> list[str]:
    """Return the classes in the order of their digits; refuse splits that don't have the same ones."""
    found = {split: set(given.labels[split]) for split in SPLITS}
    classes = given.order or sorted(found["train"] | found["test"], key=_number_or_name)
    if problem := problem_of_classes(classes):
        raise DataError(f"{path}: {problem}", hint="up to ten classes are possible", value=str(path))
    for split in SPLITS:
        if missing := [name for name in classes if name not in found[split]]:
            problem = f"{path} has no {split} images of class {some(missing)}"
            raise DataError(problem, hint="each class needs images to train on and to test with", value=missing)
        if len(given.labels[split]) > MAX_IMAGES:
            problem = f"{path} has {len(given.labels[split]):,} {split} images"
            raise DataError(problem, hint=f"{MAX_IMAGES:,} at most", value=str(path))
    return classes


def _number_or_name(name: str) -> tuple[bool, int, str]:
    """Order numbers by their value, and before all other names."""
    is_number = name.isascii() and name.isdigit()
    return not is_number, int(name) if is_number else 0, name


def _is_there(name: str, data_dir: Path, record: Record) -> bool:
    raw = place_of(name, data_dir) / record.folder / "raw"
    return all((raw / file).is_file() for file in record.sha256)


def _write(given: Given, classes: list[str], made_from: str, place: Path, listener: Listener) -> Record:
    """Fit all images and write the files; the record last, and what it took the place of is removed."""
    import numpy as np

    digits = {name: digit for digit, name in enumerate(classes)}
    contents: dict[str, bytes] = {}
    images = _fitted(given, digits, listener)
    for split in SPLITS:
        image_file, label_file = MNIST_FILES[split]
        labels = np.array([digits[given.labels[split][row]] for row in by_turns(given.labels[split], digits)], np.uint8)
        pixels = np.stack([next(images) for _ in range(len(labels))])
        contents |= {image_file: _idx(pixels), label_file: _idx(labels)}
    sums = {file: hashlib.sha256(content).hexdigest() for file, content in contents.items()}
    folder = hashlib.sha256("".join(sums.values()).encode()).hexdigest()[:16]
    record = Record(tuple(classes), folder, sums, made_from)
    with machine_errors(f"can't write to {place}", "--data-dir"):
        (place / folder / "raw").mkdir(parents=True, exist_ok=True)
        for file, content in contents.items():
            with whole_file(place / folder / "raw" / file) as target:
                target.write(content)
        with whole_file(place / RECORD) as target:
            target.write(record.to_json())
        for other in place.iterdir():
            if FOLDER.fullmatch(other.name) and other.name != folder and not other.is_symlink():
                shutil.rmtree(other, ignore_errors=True)
    return record


def by_turns(labels: Sequence[str], digits: Mapping[str, int]) -> list[int]:
    """Return the rows of images in the order that a data set gets: the first of each class, the second, and so on.

    The first images, which pictures show, are then of all classes.
    """
    seen: Counter[str] = Counter()
    places = []
    for row, name in enumerate(labels):
        places.append((seen[name], digits[name], row))
        seen[name] += 1
    return [row for _, _, row in sorted(places)]


def _fitted(given: Given, digits: Mapping[str, int], listener: Listener) -> Iterator[npt.NDArray[np.uint8]]:
    """Give the images of all splits, those of each :func:`by_turns`, as 28 × 28 bytes; refuse all bad ones at once."""
    from lora_mnist_cli.data.pictures import as_bytes

    count, done = sum(map(len, given.labels.values())), 0
    refused: list[DataError] = []
    for split in SPLITS:
        for row in by_turns(given.labels[split], digits):
            listener.reading(done, count)
            try:
                image = as_bytes(*given.image(split, row))
            except DataError as error:
                refused.append(error)
            if not refused:
                yield image
            done += 1
    if refused:
        raise _all_of(refused)


def _all_of(refused: list[DataError]) -> DataError:
    """Return the first error, with the names of the other images that have one."""
    first, others = refused[0], [str(error.value) for error in refused[1:]]
    if not others:
        return first
    more = f"; nor can {counted(len(others), 'other image')} be used: {some(others)}"
    return DataError(first.problem + more, hint=first.hint, value=first.value)


def _idx(values: npt.NDArray[np.uint8]) -> bytes:
    header = bytes([0, 0, 8, values.ndim]) + b"".join(side.to_bytes(4, "big") for side in values.shape)
    return header + values.tobytes()
