"""Linux and macOS: locks by ``flock``, flushes of folders, and an exchange in one step where the kernel has it."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from functools import lru_cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, BinaryIO

assert sys.platform != "win32"

GRACE = 0.0
"""Seconds for which a file that is not locked may still be in use."""


def open_file(path: Path | str, flags: int) -> int:
    """Open a file as ``os.open``, but follow no symbolic link and wait for no pipe.

    Raises:
        OSError: ``ELOOP`` where it is a symbolic link.
    """
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)


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


def flush_file_system(path: Path) -> bool:
    """Bring everything on a folder's file system to the disk; False where the system has no such call."""
    call = flush_call()
    if call is None:
        return False
    handle = os.open(path, os.O_RDONLY)
    try:
        if call(handle) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    finally:
        os.close(handle)
    return True


def stamp(found: os.stat_result) -> tuple[int, ...]:
    """Return what changes whenever a file does, or another takes its place."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def try_lock(handle: int) -> bool:
    """Take the lock of an open file if it is free; tell whether it was."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise
    return True


def lock(handle: int) -> bool:
    """Wait for the lock of an open file; False where the file system has none."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno in (errno.ENOLCK, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS):
            return False
        raise
    return True


def remove_locked(handle: int, path: Path) -> None:
    """Remove a file while this process holds its lock, then let go: whoever waits for it finds it gone."""
    with contextlib.suppress(OSError):
        os.unlink(path)
    os.close(handle)


def rename(source: Path | str, target: Path | str) -> None:
    """Rename a file or folder to a name that is free."""
    os.rename(source, target)


def replace(file: BinaryIO, path: Path, target: Path) -> None:
    """Let a complete file take the target's place while it is open, and so locked: nobody takes it for a dead one."""
    del file
    os.replace(path, target)


def exchange(first: Path, second: Path) -> bool:
    """Let two folders of one file system change places in one step; False where the system can't.

    Raises:
        OSError: where it can, and failed.
    """
    call = exchange_call()
    if call is None:
        return False
    if call(os.fsencode(first), os.fsencode(second)) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):  # the kernel knows the call, this file system does not
        return False
    raise OSError(number, os.strerror(number))


@lru_cache(maxsize=1)
def exchange_call() -> Any:
    """Return the system's exchange of two paths, as a function of both; None where there is none."""
    here, swap = -100 if sys.platform == "linux" else -2, 2
    libc = ctypes.CDLL(None, use_errno=True)
    if sys.platform == "linux" and hasattr(libc, "renameat2"):
        return lambda first, second: libc.renameat2(here, first, here, second, swap)
    if sys.platform == "darwin" and hasattr(libc, "renamex_np"):
        return lambda first, second: libc.renamex_np(first, second, swap)
    return None


@lru_cache(maxsize=1)
def flush_call() -> Any:
    """Return the system's flush of an open folder's file system; None where there is none."""
    # Elsewhere than on Linux there is only a call that does not wait for the disk.
    return getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None) if sys.platform == "linux" else None


def start_worker(command: Sequence[str], far: Connection, **options: Any) -> subprocess.Popen[bytes]:
    """Start a process that has a connection's far end; Ctrl-C at the terminal does not reach it."""
    return subprocess.Popen(command, pass_fds=[far.fileno()], start_new_session=True, **options)


def connection_of(handle: int) -> Connection:
    """Return the connection of a handle that :func:`start_worker` passed on."""
    return Connection(handle)


def end_with_parent() -> None:
    """End this process as soon as its parent is dead, whatever it is doing then: stdin is a pipe that ends."""
    if sys.platform == "linux":  # its kernel sends a signal, which ends even a call that keeps all threads waiting
        fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(0, fcntl.F_SETFL, os.O_ASYNC)

    def wait_for_the_end() -> None:
        os.read(0, 1)
        os._exit(1)

    threading.Thread(target=wait_for_the_end, daemon=True).start()


def installed_memory() -> int | None:
    """Return the machine's bytes of memory; None where not known."""
    with contextlib.suppress(OSError, ValueError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None
