"""The files of a user's own data set, as :mod:`~lora_mnist_cli.data.own_import` left them. No NumPy.

``DATA_DIR/own/NAME/data.json`` names the classes, the folder beside it with the images as IDX files, and their SHA-256.
It is written last, in one step, so that images and classes always fit. Nothing in it is believed: it may be copied
from another machine.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_mnist_cli.data.source import MNIST_FILES, Source
from lora_mnist_cli.settings.own_data import PREFIX, problem_of_classes
from lora_mnist_cli.system.errors import DataError
from lora_mnist_cli.system.files import read_regular

RECORD = "data.json"
GIVE_AGAIN = "give it again: lora-mnist train-base --dataset FOLDER, or FILE.npz"
_MAX_RECORD = 10_000
_SUM = re.compile(r"[0-9a-f]{64}", re.ASCII)
FOLDER = re.compile(r"[0-9a-f]{16}", re.ASCII)
"""The form of the folder with the images: a part of their digest."""


@dataclass(frozen=True)
class Record:
    """What ``data.json`` says.

    Args:
        classes: their names, in the order of their digits.
        folder: of the images, beside it.
        sha256: of each IDX file.
        made_from: tells the folder or file that they were made from, as it was then.
    """

    classes: tuple[str, ...]
    folder: str
    sha256: dict[str, str]
    made_from: str

    def to_json(self) -> bytes:
        """Return the content of the file."""
        return (json.dumps(vars(self), indent=2) + "\n").encode()


def place_of(dataset: str, data_dir: Path) -> Path:
    """Return the folder of a user's own data set."""
    return data_dir / "own" / dataset.removeprefix(PREFIX)


def own_source(dataset: str, data_dir: Path) -> Source:
    """Return the files of a user's own data set.

    Raises:
        DataError: where it is not in the data directory, or its record is damaged.
    """
    record = read_record(dataset, data_dir)
    if record is None:
        problem = f"your data set {dataset} is not in {data_dir}"
        place = place_of(dataset, Path())
        hint = f"give it again: lora-mnist train-base --dataset {place.name}, or {place.name}.npz; or copy the folder "
        hint += f"{place} into {data_dir}, from the data directory of the machine that has it"
        raise DataError(problem, hint=hint, value=dataset)
    folder = str(place_of(dataset, Path()) / record.folder)
    return Source(folder, MNIST_FILES, sha256=record.sha256, classes=record.classes, own=True)


def read_record(dataset: str, data_dir: Path) -> Record | None:
    """Return what the record of a user's own data set says; None where there is none.

    Raises:
        DataError: where it is damaged.
    """
    path = place_of(dataset, data_dir) / RECORD
    try:
        return _checked(json.loads(read_regular(path, _MAX_RECORD)))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise DataError(f"the data file {path} is damaged: {why}", hint=f"delete it, and {GIVE_AGAIN}") from error


def _checked(content: Any) -> Record:
    """Return the record that a file holds; a ValueError says what is wrong with it."""
    names = {name for files in MNIST_FILES.values() for name in files}
    fields = Record.__dataclass_fields__.keys()
    if not isinstance(content, dict) or content.keys() != fields:
        raise ValueError("it has other fields than a data set's")
    classes, folder, sums, made_from = (content[name] for name in fields)
    types = (isinstance(classes, list), isinstance(folder, str), isinstance(sums, dict), isinstance(made_from, str))
    if not all(types) or not FOLDER.fullmatch(folder):
        raise ValueError("this program did not write it")
    if problem := problem_of_classes(classes):
        raise ValueError(problem)
    if sums.keys() != names or not all(_SUM.fullmatch(str(each)) for each in sums.values()):
        raise ValueError("it has not the SHA-256 of each file")
    return Record(tuple(classes), folder, sums, made_from)
