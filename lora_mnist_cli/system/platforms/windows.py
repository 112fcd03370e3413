"""Windows: locks by ``msvcrt``, and files that can be neither removed nor renamed while somebody has them open.

A folder can't be flushed, and two folders can't change places in one step. After a kill nothing is lost or half done;
after a power cut the last artifacts may be missing. A replacement that is killed between its two renames leaves the
name free until the next command puts the old artifact back.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import msvcrt
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing import connection
from pathlib import Path
from typing import Any, BinaryIO

assert sys.platform == "win32"

GRACE = 60.0
"""Seconds for which a file that is not locked may still be in use: it is closed before it takes another's place."""
_LOCKED_BYTE = 2**30
"""Where a file is locked: no one else can read a locked byte, and nothing of ours is written there."""
_PATIENCE = 2.0
"""Seconds to wait for others, such as virus scanners, to close a file that is to be renamed."""
_SYNCHRONIZE = 0x00100000
"""The right to wait for the end of a process."""


def open_file(path: Path | str, flags: int) -> int:
    """Open a file as ``os.open``, in binary, but follow no symbolic link.

    Raises:
        OSError: ``ELOOP`` where it is a symbolic link.
    """
    with contextlib.suppress(FileNotFoundError):
        found = os.lstat(path)
        if stat.S_ISLNK(found.st_mode):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        if not stat.S_ISREG(found.st_mode):  # to open a folder is forbidden, which sounds like a missing permission
            raise OSError(errno.EINVAL, "it is not a regular file")
    return os.open(path, flags | os.O_BINARY, 0o644)


def flush(path: Path) -> None:
    """Bring a file to the disk; nothing is done for a folder."""
    if not path.is_dir():
        handle = os.open(path, os.O_RDWR | os.O_BINARY)  # one that may only be read can't be flushed
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def flush_file_system(path: Path) -> bool:
    """Tell that there is no flush of a whole file system."""
    del path
    return False


def stamp(found: os.stat_result) -> tuple[int, ...]:
    """Return what changes whenever a file does, or another takes its place."""
    # Open files and paths differ in st_ctime: it is the time of the last change or of the creation.
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def try_lock(handle: int) -> bool:
    """Take the lock of an open file if it is free; tell whether it was."""
    before = os.lseek(handle, 0, os.SEEK_CUR)
    os.lseek(handle, _LOCKED_BYTE, os.SEEK_SET)
    try:
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EDEADLOCK):
            return False
        raise
    finally:
        os.lseek(handle, before, os.SEEK_SET)
    return True


def lock(handle: int) -> bool:
    """Wait for the lock of an open file; False where the file system has none."""
    try:
        while not try_lock(handle):
            time.sleep(0.001)
    except OSError:
        return False
    return True


def remove_locked(handle: int, path: Path) -> None:
    """Let go of a locked file, then remove it: that fails, rightly, where another process has opened it meanwhile."""
    os.close(handle)
    with contextlib.suppress(OSError):
        os.unlink(path)


def rename(source: Path | str, target: Path | str) -> None:
    """Rename a file or folder to a name that is free; wait a moment for those who have it open."""
    _patiently(lambda: os.rename(source, target))


def replace(file: BinaryIO, path: Path, target: Path) -> None:
    """Let a complete file take the target's place; it is closed first."""
    file.close()
    _patiently(lambda: os.replace(path, target))


def exchange(first: Path, second: Path) -> bool:
    """Tell that two folders can't change places in one step."""
    del first, second
    return False


def start_worker(command: Sequence[str], far: connection.PipeConnection, **options: Any) -> subprocess.Popen[bytes]:
    """Start a process that has a connection's far end; Ctrl-C at the terminal does not reach it."""
    handle = far.fileno()
    os.set_handle_inheritable(handle, True)
    return subprocess.Popen(
        command, startupinfo=subprocess.STARTUPINFO(lpAttributeList={"handle_list": [handle]}),
        creationflags=subprocess.CREATE_NEW_PROCESS_GROUP, **options,
    )  # fmt: skip


def connection_of(handle: int) -> connection.PipeConnection:
    """Return the connection of a handle that :func:`start_worker` passed on."""
    return connection.PipeConnection(handle)


def end_with_parent() -> None:
    """End this process as soon as its parent is dead."""
    # Not by reading stdin, as elsewhere: a library that looks at stdin while it loads would wait for that.
    open_process = ctypes.WinDLL("kernel32", use_last_error=True).OpenProcess
    open_process.restype = ctypes.c_void_p
    parent = open_process(_SYNCHRONIZE, False, os.getppid())

    def wait_for_the_end() -> None:
        if parent:
            connection.wait([parent])
        os._exit(1)

    threading.Thread(target=wait_for_the_end, daemon=True).start()


def installed_memory() -> int | None:
    """Tell that the machine's memory is not known."""
    return None


def _patiently(work: Callable[[], None]) -> None:
    """Do what fails while another process has the file open, again and again for a while."""
    end, pause = time.monotonic() + _PATIENCE, 0.001
    while True:
        try:
            return work()
        except PermissionError:
            if time.monotonic() > end:
                raise
        time.sleep(pause)
        pause = min(2 * pause, 0.1)
