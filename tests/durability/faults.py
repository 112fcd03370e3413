"""Sees every operation of this process on files below a folder: kills it there, lets it fail, or cuts the power.

It works at the lowest layer that Python offers: audit events (opening, making, renaming, removing, listing, locking)
and, for what raises none, the functions themselves (write, flush, exchange). An audit hook can't be taken back, so
this is for processes of their own, see ``apart.py``.
"""

from __future__ import annotations

import builtins
import contextlib
import errno
import io
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from lora_mnist_cli.system.platforms import here

MAKING = ("create", "mkdir", "rename", "exchange", "write", "fsync", "link", "symlink")
"""What a full disk may refuse; removing always works there."""
TAKING = ("remove", "rmdir", "truncate")
LOOKING = ("read", "list", "lock")

_EVENTS = {
    "os.mkdir": "mkdir",
    "os.rename": "rename",
    "os.remove": "remove",
    "os.rmdir": "rmdir",
    "os.truncate": "truncate",
    "os.link": "link",
    "os.symlink": "symlink",
    "os.listdir": "list",
    "os.scandir": "list",
    "fcntl.flock": "lock",
}

Watcher = Callable[[str, list[str], bytes], None]
"""Hears what is about to be done, to which paths, and the bytes that are about to be written."""
_watcher: Watcher | None = None
_flushed: Callable[[int], None] | None = None
_box = ""


@contextlib.contextmanager
def _unwatched() -> Iterator[None]:
    global _watcher  # noqa: PLW0603 - a process has one audit hook
    kept, _watcher = _watcher, None
    try:
        yield
    finally:
        _watcher = kept


def _about_to(what: str, paths: list[str], content: bytes = b"") -> None:
    if _watcher is None or not any(path == _box or path.startswith(f"{_box}/") for path in paths):
        return
    watcher = _watcher
    with _unwatched():
        watcher(what, paths, content)


def _full(path: object, folder: object = -1) -> str:
    """A path as an audit event tells it: it may be relative to an open folder, or itself an open file."""
    if isinstance(path, int):
        return _of_handle(path)
    text = os.fsdecode(path) if isinstance(path, (str, bytes, os.PathLike)) else ""
    if not os.path.isabs(text) and isinstance(folder, int) and folder >= 0:
        return f"{_of_handle(folder)}/{text}"
    return os.path.abspath(text)


def _of_handle(handle: int) -> str:
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/self/fd/{handle}")
    return ""


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _watcher is None:
        return
    if event == "open" and not isinstance(arguments[0], int):
        _opening(_full(arguments[0]), arguments[2])
    elif event in ("os.rename", "os.link"):
        _about_to(_EVENTS[event], [_full(arguments[0], arguments[2]), _full(arguments[1], arguments[3])])
    elif event in _EVENTS:
        folder = arguments[-1] if event in ("os.mkdir", "os.remove", "os.rmdir") else -1
        _about_to(_EVENTS[event], [_full(arguments[0], folder)])


def _opening(path: str, flags: int) -> None:
    creates = flags & os.O_CREAT and not os.path.lexists(path)
    _about_to("create" if creates else "truncate" if flags & os.O_TRUNC else "read", [path])


class _File(io.FileIO):
    """A file whose writes are seen; opening it is seen by the audit hook."""

    def write(self, content: Any) -> int:
        _about_to("write", [_of_handle(self.fileno())], bytes(content))
        return super().write(content)


def _install() -> None:
    real_open, real_io, real_fsync, real_write = os.open, io.open, os.fsync, os.write

    def open_(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if dir_fd is not None:
            _opening(_full(path, dir_fd), flags)
        return real_open(path, flags, mode, dir_fd=dir_fd)

    def io_open(
        file: Any, mode: str = "r", buffering: int = -1, encoding: str | None = None, errors: str | None = None,
        newline: str | None = None, closefd: bool = True, opener: Any = None,
    ) -> Any:  # fmt: skip
        if _watcher is None or not set(mode) & set("wxa+"):
            return real_io(file, mode, buffering, encoding, errors, newline, closefd, opener)
        raw = _File(file, mode.replace("b", "").replace("t", ""), closefd, opener)
        buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding, errors, newline)

    def fsync(handle: int) -> None:
        _about_to("fsync", [_of_handle(handle)])
        real_fsync(handle)
        if _flushed is not None and _watcher is not None:
            with _unwatched():
                _flushed(handle)

    def write(handle: int, content: bytes) -> int:
        _about_to("write", [_of_handle(handle)], content)
        return real_write(handle, content)

    real_exchange = here.exchange_call() if hasattr(here, "exchange_call") else None

    def exchange(first: bytes, second: bytes) -> Any:
        _about_to("exchange", [os.fsdecode(first), os.fsdecode(second)])
        return real_exchange(first, second)

    real_flush = here.flush_call() if hasattr(here, "flush_call") else None

    def flush_all(handle: int) -> Any:
        _about_to("fsync", [_of_handle(handle)])
        done = real_flush(handle)
        if _flushed is not None and _watcher is not None:
            with _unwatched():
                for place, _, names in os.walk(_box):
                    for path in (*(f"{place}/{name}" for name in names), place):
                        one = real_open(path, os.O_RDONLY)
                        _flushed(one)
                        os.close(one)
        return done

    os.open, os.fsync, os.write = open_, fsync, write  # type: ignore[assignment]
    io.open = builtins.open = io_open  # type: ignore[assignment]
    if real_exchange is not None:
        here.exchange_call = lambda: exchange  # type: ignore[assignment]
    if real_flush is not None:
        here.flush_call = lambda: flush_all  # type: ignore[assignment]
    sys.addaudithook(_hook)


@contextlib.contextmanager
def watched(box: Path, watcher: Watcher, flushed: Callable[[int], None] | None = None) -> Iterator[None]:
    """Inside, ``watcher`` hears of each operation below a folder before it is done, and ``flushed`` of each flush."""
    global _watcher, _flushed, _box  # noqa: PLW0603 - a process has one audit hook
    if "installed" not in globals():
        globals()["installed"] = True
        _install()
    _box, _flushed, _watcher = str(box), flushed, watcher
    try:
        yield
    finally:
        _watcher = _flushed = None


@dataclass
class Counter:
    """Counts operations, and lets the process meet its fate at one of them.

    Args:
        at: the number of the operation, from 0 on.
        fate: what happens there; it gets the operation, its paths, and what was to be written.
        kinds: operations that count.
    """

    at: int
    fate: Watcher
    kinds: tuple[str, ...] = MAKING + TAKING
    count: int = 0
    seen: list[str] = field(default_factory=list)

    def __call__(self, what: str, paths: list[str], content: bytes) -> None:
        if what in self.kinds:
            self.seen.append(what)
            self.count += 1
            if self.count == self.at + 1:
                self.fate(what, paths, content)


def die() -> NoReturn:
    """As ``kill -9`` does it."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def torn(paths: list[str], content: bytes) -> None:
    """Half of what was to be written is, as where the process or the disk stops in the middle."""
    with contextlib.suppress(OSError), open(paths[0], "r+b") as file:
        file.seek(0, io.SEEK_END)
        file.write(content[: len(content) // 2])


Tree = dict[str, tuple[int, bool]]
"""Path below the box → inode, and whether it is a folder; parents first."""


class Power:
    """What a disk holds for certain, as a journaling file system promises it.

    A file has the content that it had when it was last flushed: none, if it never was. Changes of folders are done in
    their order, and a flushed folder brings everything up to its own last change to the disk. So ``short`` is the
    least that a power cut leaves, and ``long`` the most: every folder as it was, of the files what was flushed.
    """

    def __init__(self, box: Path, *, short: bool) -> None:
        self.box, self.short = box, short
        self.contents: dict[int, bytes] = {}
        start = self._tree()
        for path, (inode, is_folder) in start.items():
            if not is_folder:
                self.contents[inode] = (box / path).read_bytes()
        self._durable, self._sure = start, -1
        self._before: list[Tree] = []
        self._touched: list[set[int]] = []

    def note(self, what: str, paths: list[str]) -> None:
        """A folder is about to change."""
        if what in ("create", "mkdir", "rename", "exchange", "remove", "rmdir", "link", "symlink"):
            self._before.append(self._tree())
            parents = [os.path.dirname(path) for path in paths]
            self._touched.append({os.stat(parent).st_ino for parent in parents if os.path.exists(parent)})

    def flushed(self, handle: int) -> None:
        """A file or folder came to the disk."""
        inode, tree = os.fstat(handle).st_ino, self._tree()
        for path, (other, is_folder) in tree.items():
            if other == inode and not is_folder:
                self.contents[inode] = (self.box / path).read_bytes()
        last = max((i for i, touched in enumerate(self._touched) if inode in touched), default=-1)
        if last > self._sure:
            self._sure = last
            self._durable = self._before[last + 1] if last + 1 < len(self._before) else tree

    def cut(self) -> None:
        """Leave below the box what the disk holds."""
        tree = self._durable if self.short else self._tree()
        kept = {path: self.contents.get(inode, b"") for path, (inode, is_folder) in tree.items() if not is_folder}
        for path in self.box.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        first: dict[int, Path] = {}
        for path, (inode, is_folder) in tree.items():
            if is_folder:
                (self.box / path).mkdir()
            elif inode in first:
                os.link(first[inode], self.box / path)
            else:
                first[inode] = self.box / path
                first[inode].write_bytes(kept[path])

    def _tree(self) -> Tree:
        found: Tree = {}
        pending = [""]
        while pending:
            folder = pending.pop()
            with os.scandir(self.box / folder) as entries:
                for entry in entries:
                    path, is_folder = f"{folder}{entry.name}", entry.is_dir(follow_symlinks=False)
                    found[path] = (entry.inode(), is_folder)
                    if is_folder:
                        pending.append(f"{path}/")
        return dict(sorted(found.items()))


def failing(number: int, *, for_good: bool) -> tuple[Watcher, Callable[[], bool]]:
    """A fate that refuses the operation with an error of the system; and whether all later ones are refused too."""
    hit = False

    def fate(what: str, paths: list[str], content: bytes) -> None:
        nonlocal hit
        hit = True
        if what == "write":
            torn(paths, content)
        raise OSError(number, os.strerror(number), *paths[:1])

    return fate, lambda: hit and for_good and number in (errno.ENOSPC, errno.EDQUOT)
