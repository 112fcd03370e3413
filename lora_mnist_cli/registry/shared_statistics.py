"""Class statistics that artifacts share: made once for the same images, and once on the disk. No torch.

The hidden folder :data:`STORE` of ``runs/`` has a file per recipe, which is a digest of everything that the bytes
depend on; the file's name also has their SHA-256. An artifact's file is a hard link to it. So each artifact is whole
by itself, and the folder may be deleted at any time. A file with a single link is shared by no artifact any more.

A file system without hard links gets a copy per artifact, and the folder stays away. No lock is needed: the worst that
processes can do to each other is that one more copy is made.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lora_mnist_cli.models import statistics_file
from lora_mnist_cli.models.architecture import PIXELS
from lora_mnist_cli.registry.creation import forget_created
from lora_mnist_cli.registry.digests import canonical
from lora_mnist_cli.settings.config import TRAINING_CODE
from lora_mnist_cli.system.files import machine_errors, read_regular, remove_empty

STORE = ".statistics"
_NAME = re.compile(r"[0-9a-f]{64}-[0-9a-f]{64}\.safetensors", re.ASCII)
_NO_LINK = (
    errno.EXDEV, errno.EMLINK, errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOTDIR,
    errno.EROFS,  # their folder may be mounted on its own
    errno.EEXIST, errno.ENOENT,  # another process has just made or removed it
)  # fmt: skip


def statistics_recipe(
    dataset: Mapping[str, Any], digits: str, pixel_stats: tuple[float, float], split: tuple[float, int], *,
    like: bytes | None = None, made_by: str, features: bool = False,
) -> str:  # fmt: skip
    """Return the digest of everything that a file of statistics depends on, as 64 hexadecimal digits.

    Args:
        dataset: its name and the digest of its files.
        pixel_stats: mean and standard deviation that the images are normalised with.
        split: the share of images that is held out, and the seed that picks it.
        like: the file of statistics whose basis is used.
        made_by: the packages and the processor that compute them; others may round in other ways.
        features: whether they are those of features.
    """
    basis = None if like is None else hashlib.sha256(like).hexdigest()
    fields = [dict(dataset), digits, pixel_stats, split, basis, made_by, TRAINING_CODE]
    fields += ["features"] if features else []
    return hashlib.sha256(canonical(fields)).hexdigest()


def find_statistics(root: Path, recipe: str, dimensions: int = PIXELS) -> bytes | None:
    """Return the shared file of a recipe, or None where there is none; a damaged one is removed.

    Args:
        root: the folder of artifacts.
        dimensions: of the space that the densities are over.
    """
    for path in _files(root):
        if not path.name.startswith(recipe):
            continue
        if (content := _read(path, dimensions)) is not None:
            return content
        with contextlib.suppress(OSError):
            path.unlink()
    return None


def write_shared(content: bytes, recipe: str, target: Path, root: Path) -> None:
    """Write an artifact's file of statistics: as a link to the shared one, or as the one that others share from now on.

    Args:
        target: its place in a staging folder.
        root: the folder of artifacts.

    Raises:
        MachineError: where it can't be written.
    """
    store = root / STORE
    shared = store / f"{recipe}-{hashlib.sha256(content).hexdigest()}.safetensors"
    with machine_errors(f"can't write {target.name}"):
        if store.is_symlink():
            target.write_bytes(content)
        elif not _linked(target, shared, content):
            target.write_bytes(content)
            with contextlib.suppress(FileExistsError):
                store.mkdir()
            if not _link(target, shared):
                remove_empty([store])


def write_linked(content: bytes, source: Path, target: Path) -> None:
    """Write a file: as a link to another artifact's file where that holds the same.

    Raises:
        MachineError: where it can't be written.
    """
    with machine_errors(f"can't write {target.name}"):
        if not _linked(target, source, content):
            target.write_bytes(content)


def unused_statistics(root: Path) -> list[Path]:
    """Return the shared files that no artifact has any more; where nothing else is there, at last their folder."""
    alone = [path for path in _files(root) if _links(path) == 1]
    store = root / STORE
    try:
        empty = not store.is_symlink() and len(os.listdir(store)) == len(alone)
    except OSError:
        return alone
    return [*alone, store] if empty else alone


def drop_unused_statistics(root: Path) -> None:
    """Remove :func:`unused_statistics`, as far as that is possible."""
    for path in unused_statistics(root):
        with contextlib.suppress(OSError):
            if path.name != STORE:
                path.unlink()
            else:
                path.rmdir()
                forget_created(root)  # it counts the folders


def _files(root: Path) -> list[Path]:
    """Return the shared files, sorted; nothing else in the folder is ours, and nothing is followed."""
    store = root / STORE
    if store.is_symlink():
        return []
    try:
        return [store / name for name in sorted(os.listdir(store)) if _NAME.fullmatch(name)]
    except OSError:
        return []


def _links(path: Path) -> int:
    """Return how many names a regular file has, or 0 where it is something else or is gone."""
    with contextlib.suppress(OSError):
        if path.is_file() and not path.is_symlink():
            return path.lstat().st_nlink
    return 0


def _read(path: Path, dimensions: int) -> bytes | None:
    """Return a shared file's content, or None where it is not what its name says, or no statistics."""
    from safetensors import SafetensorError

    try:
        content = read_regular(path, statistics_file.MAX_BYTES)
        sound = path.stem.endswith(hashlib.sha256(content).hexdigest())
        sound = sound and not statistics_file.problems(content, dimensions)
    except (OSError, SafetensorError):
        return None
    return content if sound else None


def _linked(target: Path, source: Path, content: bytes) -> bool:
    """Make a file a link to another one of that content; tell whether there is one."""
    if not _link(source, target):
        return False
    with contextlib.suppress(OSError):
        if read_regular(target, len(content)) == content:
            return True
    target.unlink()
    return False


def _link(source: Path, target: Path) -> bool:
    """Give a file another name; False where there are no hard links, or another process was faster."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        return False
    return True
