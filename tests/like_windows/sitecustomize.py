"""Linux made as like Windows as it gets, for every Python process that has this folder in its ``PYTHONPATH``.

Modules and flags of POSIX are gone, ``msvcrt`` locks bytes of files, a folder can't be opened, a file that may only be
read can't be flushed, and whatever somebody has open can be neither removed, renamed nor replaced. How processes start
and end stays Linux's.
"""

from __future__ import annotations

import builtins
import contextlib
import ctypes  # noqa: F401 - before the system has another name
import errno
import fcntl
import io
import os
import shutil
import signal
import stat
import struct
import subprocess
import sys
import tempfile  # noqa: F401 - before the flags are gone
import threading
import types
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any

MODULES = ("fcntl", "resource", "termios", "pwd", "grp", "pty", "tty", "syslog")
GONE = ("O_NOFOLLOW", "O_NONBLOCK", "O_DIRECTORY", "O_CLOEXEC", "O_ASYNC", "O_SYNC", "pwrite", "pread", "mkfifo",
        "sysconf", "sched_getaffinity", "getpgid", "killpg", "setsid", "nice", "lockf", "chown")  # fmt: skip
TOOLS = ("fork", "geteuid", "getuid", "getloadavg", "WNOHANG", "wait", "waitid", "WIFSIGNALED", "statvfs")
"""Gone too, but for tests that start and kill processes themselves, and for pytest."""
SIGNALS = ("SIGKILL", "SIGALRM", "SIGHUP", "SIGPIPE", "SIGIO", "setitimer", "pause", "pthread_sigmask")
BINARY = 1 << 29
OFD_SETLK = 37

_open, _close, _unlink, _rename, _replace, _fsync = os.open, os.close, os.unlink, os.rename, os.replace, os.fsync
_NO_LINK, _NO_WAIT, _io_open = os.O_NOFOLLOW, os.O_NONBLOCK, io.open
_writable: dict[int, int] = {}
"""Handle that may only be read → another of its file, which has its lock: Linux wants one that may be written."""


def _busy(path: object) -> PermissionError:
    return PermissionError(errno.EACCES, "another process has it open", os.fsdecode(str(path)))


def _opened(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
    """Open a file, shared with all who read and write it, and with nobody who takes it away."""
    assert dir_fd is None, "no folder can be open"
    if str(sys._getframe(1).f_globals.get("__name__")).startswith("lora_mnist_cli"):
        assert flags & BINARY, "Windows would change the ends of lines"
    while True:
        handle = _open(path, flags & ~BINARY, mode)
        kind = os.fstat(handle).st_mode
        if stat.S_ISDIR(kind):
            _close(handle)
            raise PermissionError(errno.EACCES, "Permission denied", path)
        if not stat.S_ISREG(kind) or flags & os.O_TMPFILE == os.O_TMPFILE:
            return handle
        fcntl.flock(handle, fcntl.LOCK_SH)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), os.stat(path)):
                return handle
        _close(handle)  # it was taken away meanwhile


class _File(io.FileIO):
    def __init__(self, file: Any, mode: str = "r", closefd: bool = True, opener: Any = None) -> None:
        super().__init__(file, mode, closefd, opener or (lambda path, flags: _opened(path, flags, 0o666)))


def _io(file: Any, mode: str = "r", buffering: int = -1, encoding: Any = None, errors: Any = None,
        newline: Any = None, closefd: bool = True, opener: Any = None) -> Any:  # fmt: skip
    opener = opener or (lambda path, flags: _opened(path, flags, 0o666))
    return _io_open(file, mode, buffering, encoding, errors, newline, closefd, opener)


def _closed(handle: int) -> None:
    if (other := _writable.pop(handle, None)) is not None:
        _close(other)
    _close(handle)


@contextlib.contextmanager
def _alone(*paths: Any) -> Iterator[None]:
    """Refuse what somebody has open, or anything in it."""
    handles: dict[int, int] = {}
    try:
        for path in paths:
            top = os.fsdecode(path)
            inside = [os.path.join(place, name) for place, _, names in os.walk(top) for name in names]
            for file in inside if os.path.isdir(top) and not os.path.islink(top) else [top]:
                try:
                    handle = _open(file, os.O_RDONLY | _NO_LINK | _NO_WAIT)
                except OSError:
                    continue  # a link, or nothing
                if (inode := os.fstat(handle).st_ino) in handles:
                    _close(handle)
                    continue
                handles[inode] = handle
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise _busy(file) from None
        yield
    finally:
        for handle in handles.values():
            _close(handle)


def _removed(path: Any, *, dir_fd: int | None = None) -> None:
    assert dir_fd is None
    with _alone(path):
        _unlink(path)


def _renamed(source: Any, target: Any) -> None:
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, "File exists", os.fsdecode(target))
    with _alone(source):
        _rename(source, target)


def _replaced(source: Any, target: Any) -> None:
    with _alone(source, target):
        _replace(source, target)


def _flushed(handle: int) -> None:
    if fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    _fsync(handle)


def _locking(handle: int, mode: int, count: int) -> None:
    """Lock bytes from the present place on, as ``msvcrt.locking`` does: at once or not at all."""
    assert mode == 2
    there, holder = os.lseek(handle, 0, os.SEEK_CUR), handle
    if fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        holder = _writable.setdefault(handle, _open(f"/proc/self/fd/{handle}", os.O_RDWR))
    try:
        fcntl.fcntl(holder, OFD_SETLK, struct.pack("@hhlli0l", fcntl.F_WRLCK, os.SEEK_SET, there, count, 0))
    except OSError as error:
        raise PermissionError(errno.EACCES, "Permission denied") from error


def _start(command: Any, far: Connection, **options: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, pass_fds=[far.fileno()], **options)


def _end_with_parent() -> None:
    def wait() -> None:
        os.read(0, 1)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def take_away() -> None:
    """Take POSIX away from this process, and have the package choose what it has for Windows."""
    sys.modules.update(dict.fromkeys(MODULES))
    for name in GONE:
        delattr(os, name)
    shutil._use_fd_functions = False  # type: ignore[attr-defined]
    os.O_BINARY = BINARY  # type: ignore[attr-defined]
    os.open, os.close, os.fsync = _opened, _closed, _flushed  # type: ignore[assignment]
    os.unlink = os.remove = _removed  # type: ignore[assignment]
    os.rename, os.replace = _renamed, _replaced  # type: ignore[assignment]
    io.FileIO, io.open, builtins.open = _File, _io, _io  # type: ignore[assignment, misc]
    msvcrt: Any = types.ModuleType("msvcrt")
    msvcrt.locking, msvcrt.LK_NBLCK = _locking, 2
    sys.modules["msvcrt"], sys.platform = msvcrt, "win32"
    try:
        from lora_mnist_cli.system.platforms import here
    finally:
        del sys.modules["msvcrt"]  # other packages would take it for a sign
        sys.platform = "linux"
    chosen: Any = here
    assert chosen.__name__.endswith(".windows")
    chosen.start_worker, chosen.connection_of, chosen.end_with_parent = _start, Connection, _end_with_parent


def take_tools_away() -> None:
    """Take away the rest, which only tests need."""
    for name in TOOLS:
        delattr(os, name)
    for name in SIGNALS:
        delattr(signal, name)


take_away()
