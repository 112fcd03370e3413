"""Creation times in order: each artifact of a folder is newer than all that were published before it. No torch.

Where the clock does not jump back the clock is enough. To notice a jump without reading every manifest, a large folder
has a small file with the newest creation time and the number of folders there were. It decides nothing alone: where
it is missing or damaged, or folders were added by hand, the manifests are read again. A small folder needs no file.

The functions are for a process that holds the lock of the folder.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from lora_mnist_cli.registry.manifest_types import MAX_YEAR, is_created
from lora_mnist_cli.system.files import read_regular
from lora_mnist_cli.system.platforms import here

NEWEST = ".newest"
LARGE = 50
"""Artifacts from which on a folder has the file; to read fewer takes some milliseconds."""
_MAX_BYTES = 100


def next_created(root: Path, published: Callable[[], list[str]]) -> str:
    """Return the time of now, or just after the newest artifact where the clock is behind that.

    Args:
        published: reads the creation times of all artifacts, oldest first.
    """
    newest = _remembered(root)
    if newest is None:
        times = published()
        newest = times[-1] if times else ""
        if len(times) < LARGE:
            forget_created(root)
        else:
            _remember(root, newest)
    now = datetime.now(UTC)
    if now.isoformat(timespec="microseconds") <= newest:
        later = datetime.fromisoformat(newest) + timedelta(microseconds=1)
        now = later if later.year <= MAX_YEAR else now
    return now.isoformat(timespec="microseconds")


def later(created: str, microseconds: int) -> str:
    """Return a creation time so much later: artifacts that are published together have an order, too."""
    then = datetime.fromisoformat(created) + timedelta(microseconds=microseconds)
    return then.isoformat(timespec="microseconds") if then.year <= MAX_YEAR else created


def remember_created(root: Path, created: str, *, new_folders: int) -> None:
    """Write down the time of the newest of the artifacts that are about to appear in a folder.

    Args:
        new_folders: how many appear as one folder more, rather than in place of another artifact.
    """
    newest = _remembered(root)
    if newest is not None:
        _remember(root, max(newest, created), more=new_folders)


def forget_created(root: Path) -> None:
    """Have the next publication read all creation times again."""
    with contextlib.suppress(OSError):
        os.unlink(root / NEWEST)


def _remembered(root: Path) -> str | None:
    """Return the newest creation time; None where it is not known, or there are more folders than there were."""
    try:
        newest, count = read_regular(root / NEWEST, _MAX_BYTES).decode().split()
        known = is_created(newest) and os.stat(root).st_nlink <= int(count)
    except (OSError, ValueError):
        return None
    return newest if known else None


def _remember(root: Path, newest: str, more: int = 0) -> None:
    """Write the file, with as many folders as there are and ``more``; what can't be written is not remembered."""
    # On most file systems a folder has a link for each folder in it; elsewhere the number never changes.
    content = f"{newest} {os.stat(root).st_nlink + more}\n".encode()
    try:
        handle = here.open_file(root / NEWEST, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            os.write(handle, content)
        finally:
            os.close(handle)
    except OSError:
        forget_created(root)
