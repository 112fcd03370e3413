"""What the registry asks of the file system: flushed writes, files read with a limit, folders removed if empty."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from lora_mnist_cli.system.errors import MachineError
from lora_mnist_cli.system.platforms import here

_MANY = 20
"""From this many folders on, the whole file system is flushed at once: it is then no longer mostly others' files."""
_AHEAD = 2**16
"""Bytes of files that wait: fewer than the processor's caches have."""
_NEW = re.compile(r"\.[0-9a-f]{32}\.new", re.ASCII)
"""What :func:`whole_file` calls a file until it is whole."""


@contextlib.contextmanager
def machine_errors(what: str, place: str = "--runs-dir") -> Iterator[None]:
    """Turn the operating system's refusals inside into one line that names ``place``, the option for another folder.

    Raises:
        MachineError: for a full disk, a missing permission, a read-only file system and the like.
    """
    try:
        yield
    except OSError as error:
        full = f"free some space, or choose another {place}"
        forbidden = f"choose another {place}, one that you may write to"
        hints = dict.fromkeys((errno.ENOSPC, errno.EDQUOT), full)
        hints |= dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), forbidden)
        if place != "--runs-dir":  # a folder of artifacts is made where there is none
            hints[errno.ENOENT] = f"make the folder, or choose another {place}"
        reason = error.strerror or str(error)
        raise MachineError(f"{what}: {reason}", hint=hints.get(error.errno or 0, ""), value=error) from error


def missing_folders(path: Path) -> list[Path]:
    """Return the folders that would have to be made for ``path`` to be there, the innermost first."""
    return [folder for folder in (path, *path.parents) if not folder.exists()]


def make_folder(folder: Path) -> None:
    """Make a folder, and those around it, where there is none.

    ``Path.mkdir`` by itself takes one that was there at first, and that another process then removed, for a file.

    Raises:
        FileNotFoundError: where another process has just removed it; try again.
        OSError: where it can't be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        if not (stat.S_ISDIR(os.lstat(folder).st_mode) or folder.is_dir()):
            raise


def remove_empty(folders: Sequence[Path]) -> None:
    """Remove those of the folders that are there and empty, in their order."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def flush(path: Path) -> None:
    """Bring a file or folder to the disk."""
    here.flush(path)


def flush_trees(folders: Sequence[Path]) -> None:
    """Bring folders of one file system, with all that is in them, to the disk, as :func:`flush_all` does."""
    walks = (walk for folder in folders for walk in os.walk(folder, topdown=False))
    paths = (path for place, _, names in walks for path in (*(Path(place) / name for name in names), Path(place)))
    flush_all(paths, len(folders))


def flush_all(paths: Iterable[Path], folders: int) -> None:
    """Bring files and folders of one file system to the disk.

    Those of many artifacts by a call for the whole file system, where there is one: a flush per file takes 20 times as
    long.

    Args:
        folders: the number of artifacts that they are of.
    """
    waiting = iter(paths)
    for first in waiting:
        if folders >= _MANY and here.flush_file_system(first):
            return
        for path in (first, *waiting):
            flush(path)


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes the path's place in one step at the end of the block, flushed.

    A reader sees the old content or the new, and never a part of either; where the block fails, the old stays. What
    killed processes left in the folder is removed first.
    """
    _remove_dead(path.parent)
    new, file = _begin(path.parent)
    try:
        with file:
            yield file
            file.flush()
            flush(new)
            here.replace(file, new, path)
    finally:
        with contextlib.suppress(OSError):
            new.unlink()


def _begin(folder: Path) -> tuple[Path, BinaryIO]:
    """Open a new hidden file in a folder, locked for as long as it is open."""
    for _ in range(100):
        # A name of fixed length: one made from the longest possible name would be too long.
        new = folder / f".{os.urandom(16).hex()}.new"
        file = new.open("xb")
        try:
            # A process that looks for dead files may remove it before it is locked.
            if not here.lock(file.fileno()) or is_still(file.fileno(), new):
                return new, file
        except BaseException:
            file.close()
            with contextlib.suppress(OSError):
                new.unlink()
            raise
        file.close()
    raise OSError(f"files in {folder} are removed again and again")


def _remove_dead(folder: Path) -> None:
    """Remove the files that :func:`whole_file` was writing in a folder when its process was killed."""
    try:
        with os.scandir(folder) as found:
            names = [e.name for e in found if _NEW.fullmatch(e.name) and e.is_file(follow_symlinks=False)]
    except OSError:
        return  # whoever writes there is told what is wrong with it
    for name in names:
        path = folder / name
        with contextlib.suppress(OSError):
            handle = here.open_file(path, os.O_RDONLY)
            try:
                settled = not here.GRACE or time.time() - os.fstat(handle).st_mtime > here.GRACE
                if settled and here.try_lock(handle) and is_still(handle, path):
                    handle, ours = -1, handle
                    here.remove_locked(ours, path)
            finally:
                if handle >= 0:
                    os.close(handle)


def is_still(handle: int, path: Path) -> bool:
    """Tell whether an open file is still the one of that path: another process may have removed it."""
    with contextlib.suppress(FileNotFoundError):
        here, there = os.fstat(handle), os.stat(path, follow_symlinks=False)
        return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)
    return False


def read_regular(path: Path | str, limit: int) -> bytes:
    """Return the content of a regular file of at most ``limit`` bytes, which is not a symbolic link.

    Raises:
        OSError: as :func:`open_regular`.
    """
    return read_stamped(path, limit)[0]


def read_stamped(path: Path | str, limit: int) -> tuple[bytes, tuple[int, ...]]:
    """Return the content of a file, as :func:`read_regular`, and its ``stamp`` before it was read."""
    handle, found = _open_regular(path, limit)
    try:
        size = found.st_size
        content = os.read(handle, size + 1)
        # One call reads a whole file, as a rule.
        while len(content) < size and (part := os.read(handle, size - len(content))):
            content += part
        return content, here.stamp(found)
    finally:
        os.close(handle)


def read_ahead(paths: Iterable[str], limit: int) -> Iterator[tuple[bytes, tuple[int, ...]] | OSError]:
    """Yield what :func:`read_stamped` returns or raises for each of some files.

    Several are read in a row, and wait: after every call of the system the processor has to fetch its caches again, and
    whatever is done with a file takes longer.
    """
    waiting: list[tuple[bytes, tuple[int, ...]] | OSError] = []
    size = 0
    for path in paths:
        try:
            found = read_stamped(path, limit)
            size += len(found[0])
            waiting.append(found)
        except OSError as error:
            waiting.append(error)
        if size > _AHEAD:
            yield from waiting
            waiting, size = [], 0
    yield from waiting


@contextlib.contextmanager
def open_regular(path: Path | str, limit: int) -> Iterator[BinaryIO]:
    """Open a regular file of at most ``limit`` bytes, which is not a symbolic link, for reading.

    Raises:
        OSError: where it is missing, something other than a regular file, or larger. Nothing has been read then:
            neither a device without end nor a file that fills the memory can do harm.
    """
    handle, _ = _open_regular(path, limit)
    try:
        with os.fdopen(handle, "rb", closefd=False) as file:
            yield file
    finally:
        os.close(handle)


def _open_regular(path: Path | str, limit: int) -> tuple[int, os.stat_result]:
    """Return the open file and its status."""
    try:
        handle = here.open_file(path, os.O_RDONLY)
    except OSError as error:
        if error.errno == errno.ELOOP and os.path.islink(path):  # the system speaks of too many levels of them
            raise OSError(errno.ELOOP, "it is a symbolic link") from error
        raise
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        if found.st_size > limit:
            raise OSError(errno.EFBIG, f"it has {found.st_size:,} bytes, and at most {limit:,} make sense")
    except BaseException:
        os.close(handle)
        raise
    return handle, found
