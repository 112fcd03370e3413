"""What the registry asks of the file system: flushed writes, atomic exchange, folders that may come to nothing."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from lora_mnist_cli.errors import MachineError


@contextlib.contextmanager
def machine_errors(what: str) -> Iterator[None]:
    """Turns the operating system's refusals inside into one line with an exit code.

    Raises:
        MachineError: for a full disk, a missing permission, a read-only file system and the like.
    """
    try:
        yield
    except OSError as error:
        hints = {
            errno.ENOSPC: "free some space, or choose another --runs-dir",
            errno.EDQUOT: "free some space, or choose another --runs-dir",
            errno.EACCES: "choose a --runs-dir that you may write to",
            errno.EPERM: "choose a --runs-dir that you may write to",
            errno.EROFS: "choose a --runs-dir that you may write to",
        }
        reason = error.strerror or str(error)
        raise MachineError(f"{what}: {reason}", hint=hints.get(error.errno or 0, ""), value=error) from error


def missing_folders(path: Path) -> list[Path]:
    """The folders that would have to be made for ``path`` to be there, the innermost first."""
    return [folder for folder in (path, *path.parents) if not folder.exists()]


def remove_empty(folders: Sequence[Path]) -> None:
    """Remove those of the folders that are there and empty, in their order."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def flush(path: Path) -> None:
    """Bring a file or folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some network file systems have no such thing for a folder.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP) or not path.is_dir():
            raise
    finally:
        os.close(handle)


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, that takes the path's place in one step at the end of the block, flushed.

    A reader sees the old content or the new, and never a part of either; where the block fails, the old stays.
    """
    # A name of its own length: beside the longest that a file can have there is no room for more.
    new = path.with_name(f".{os.urandom(16).hex()}.new")
    try:
        with new.open("xb") as file:
            yield file
        flush(new)
        os.replace(new, path)
    finally:
        with contextlib.suppress(OSError):
            new.unlink()


def read_regular(path: Path, limit: int) -> bytes:
    """The content of a regular file of at most ``limit`` bytes, which is not a symbolic link.

    Raises:
        OSError: where it is missing, something else than a regular file, or larger. Nothing was read then: neither a
            device without an end nor a file that fills the memory can do harm.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        if found.st_size > limit:
            raise OSError(errno.EFBIG, f"it has {found.st_size:,} bytes, and {limit:,} at most make sense")
        with os.fdopen(handle, "rb", closefd=False) as file:
            return file.read(limit + 1)
    finally:
        os.close(handle)


def exchange(first: Path, second: Path) -> bool:
    """Let two folders of one file system change places in one step; False where the system can't.

    Raises:
        OSError: where it can, and failed.
    """
    call = _exchange_call()
    if call is None:
        return False
    if call(os.fsencode(first), os.fsencode(second)) == 0:
        return True
    number = ctypes.get_errno()
    # The kernel knows the call, but not every file system does.
    if number in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(number, os.strerror(number))


@lru_cache(maxsize=1)
def _exchange_call() -> Any:
    """The system's exchange of two paths, as a function of both; None where there is none."""
    here, swap = -100 if sys.platform == "linux" else -2, 2
    libc = ctypes.CDLL(None, use_errno=True)
    if sys.platform == "linux" and hasattr(libc, "renameat2"):
        return lambda first, second: libc.renameat2(here, first, here, second, swap)
    if sys.platform == "darwin" and hasattr(libc, "renamex_np"):
        return lambda first, second: libc.renamex_np(first, second, swap)
    return None
