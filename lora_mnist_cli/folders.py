"""Folders that are made for work which may come to nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path


def missing_folders(path: Path) -> list[Path]:
    """The folders that would have to be made for ``path`` to be there, the innermost first."""
    return [folder for folder in (path, *path.parents) if not folder.exists()]


def remove_empty(folders: Sequence[Path]) -> None:
    """Remove those of the folders that are there and empty, in their order."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()
