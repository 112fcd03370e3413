"""Which data set a user asks for: one by its name, or a folder of pictures or an ``.npz`` file, which is read in."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from lora_mnist_cli.data.own_import import take_in
from lora_mnist_cli.data.own_source import read_record
from lora_mnist_cli.data.sources import source_of
from lora_mnist_cli.settings.choices import DATASETS
from lora_mnist_cli.settings.digits import ALL_DIGITS, DigitSet
from lora_mnist_cli.settings.own_data import is_own, known_digits
from lora_mnist_cli.system.caller import plain
from lora_mnist_cli.system.errors import refuse_unknown
from lora_mnist_cli.system.work import IMAGES

if TYPE_CHECKING:
    from lora_mnist_cli.stages.workspace import Workspace
    from lora_mnist_cli.system.progress import Reporter

_SECONDS_OF_IMAGE = 0.004
_EVERY = 0.1
"""Seconds between two reports of how many images are read."""


def named_dataset(workspace: Workspace, dataset: str | Path) -> str:
    """Return the name of the data set that a user asks for; a user's own is read into the data directory first.

    Args:
        dataset: one of :data:`~lora_mnist_cli.settings.choices.DATASETS`, the name of a user's own that was read before
            (``own-NAME``), or the path of a folder of pictures by class or of an ``.npz`` file.

    Raises:
        UsageError: where it is none of these.
        DataError: where the folder or file is no data set.
        MachineError: where the data directory can't be written to.
    """
    text, path = str(plain(dataset)), Path(str(plain(dataset)))
    if text in DATASETS:
        return text
    if is_own(text) and (read_record(text, workspace.data_dir) or not path.exists()):
        source_of(text, workspace.data_dir)
        return text
    looks_like_path = path.suffix.lower() == ".npz" or len(path.parts) > 1 or path.is_absolute()
    if not text or not (path.exists() or looks_like_path):
        refuse_unknown("data set", text, DATASETS, "a folder of pictures, an .npz file, or one of the data sets:")
    return take_in(path, workspace.data_dir, _Progress(workspace.reporter))


def digits_of(workspace: Workspace, dataset: str) -> DigitSet:
    """Return the digits that a data set has: all ten, or one per class of a user's own.

    Raises:
        DataError: where it is a user's own and not in the data directory.
    """
    return known_digits(workspace.dataset_settings(dataset)) if is_own(dataset) else ALL_DIGITS


class _Progress:
    """Reports how many images are read; nothing where they are there."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter, self._told = reporter, 0.0

    def notice(self, text: str) -> None:
        """Pass on what is worth knowing."""
        self._reporter.notice(text)

    def reading(self, done: int, count: int) -> None:
        """Begin the work at the first image, and say how much of it is done."""
        if not done:
            self._reporter.plan({IMAGES: count * _SECONDS_OF_IMAGE})
        if not done or time.monotonic() - self._told > _EVERY:
            self._told = time.monotonic()
            self._reporter.phase(IMAGES, count * _SECONDS_OF_IMAGE, f"{done:,}/{count:,}")
            self._reporter.reached(done / count)
