"""Files that a user names for a command to write: plain ones, links, devices, pipes and standard output."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from lora_mnist_cli.system.files import machine_errors, whole_file

STDOUT = "-"
"""The name that stands for standard output."""


@contextlib.contextmanager
def output_file(path: Path) -> Iterator[BinaryIO]:
    """Open the file that a user named: a plain one as :func:`.whole_file`, and what a link leads to in its place.

    A device, a pipe and standard output (also as ``-``) are written into at the end of the block, and never replaced.
    """
    if is_plain(path):
        with whole_file(Path(os.path.realpath(path))) as file:
            yield file
        return
    content = io.BytesIO()
    yield content
    sys.stdout.flush()
    with open(1, "wb", closefd=False) if is_stdout(path) else path.open("wb", buffering=0) as stream:
        stream.write(content.getbuffer())


def is_plain(path: Path) -> bool:
    """Return whether a path is a regular file or one that is not there yet, behind any links."""
    if is_stdout(path):
        return False
    return not path.exists() or stat.S_ISREG(path.stat().st_mode)


def check_writable(path: Path, option: str) -> None:
    """Refuse a path that can't be written, before the work whose result it is to hold.

    Raises:
        MachineError: where its folder is missing or may not be written to, or it is a folder itself.
    """
    with machine_errors(f"can't write {path}", option):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        if is_plain(path):
            folder = Path(os.path.realpath(path)).parent
            folder.stat()  # says that it is missing
            if not os.access(folder, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def is_stdout(path: Path) -> bool:
    """Return whether a path is standard output: ``-``, ``/dev/stdout``, or the file that the shell opened for it."""
    if str(path) == STDOUT:
        return True
    with contextlib.suppress(OSError, ValueError):
        return os.path.samestat(path.stat(), os.fstat(1)) and not stat.S_ISCHR(path.stat().st_mode)
    return False
