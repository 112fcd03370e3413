"""Locks between processes: one for the short moments that change ``runs/``, one for each staging folder.

Both are the kernel's (``flock``), so a killed process lets go of them. Whoever held the first removes its file; a
waiter therefore checks that its file is still the one of that name.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lora_mnist_cli.system.errors import MachineError
from lora_mnist_cli.system.files import is_still, read_regular

LOCK = ".lock"
WAIT_VARIABLE = "LORA_MNIST_LOCK_WAIT"
DEFAULT_WAIT = 60.0
"""Seconds that a process waits for another's change of ``runs/``, which takes milliseconds."""
_SAY_AFTER = 1.0
_MAX_OWNER = 1_000_000

HOST = "".join(c if c.isalnum() or c in ".-" else "_" for c in socket.gethostname()) or "unknown"


def owner(**more: Any) -> bytes:
    """Say who holds a lock, for those who wait for it or find it dead."""
    started = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
    return json.dumps({"pid": os.getpid(), "host": HOST, "started": started, **more}).encode()


def read_owner(path: Path) -> dict[str, Any]:
    """Return what :func:`owner` wrote; empty where it can't be read."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        found = json.loads(read_regular(path, _MAX_OWNER))
        return found if isinstance(found, dict) else {}
    return {}


def wait_seconds() -> float:
    """Return how long to wait for the lock: what the environment says, or a minute."""
    with contextlib.suppress(ValueError):
        seconds = float(os.environ.get(WAIT_VARIABLE, DEFAULT_WAIT))
        if 0 <= seconds < float("inf"):
            return seconds
    return DEFAULT_WAIT


def try_lock(handle: int) -> bool:
    """Take the lock of an open file if it is free; tell whether it was."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise
    return True


@contextlib.contextmanager
def exclusive(root: Path, doing: str, say: Callable[[str], None]) -> Iterator[None]:
    """Let one process at a time inside, of all that know the folder ``root``, which has to be there.

    Those who wait read what it is ``doing``; after a second, ``say`` is told what this process waits for.

    Raises:
        MachineError: where another process stays inside for longer than :func:`wait_seconds`.
        OSError: where the lock's file can't be made.
    """
    path = root / LOCK
    handle = _acquire(path, say)
    try:
        with contextlib.suppress(OSError):  # a full disk does not keep anyone from holding a lock
            os.ftruncate(handle, 0)
            os.pwrite(handle, owner(doing=doing), 0)
        yield
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)
        os.close(handle)


def _acquire(path: Path, say: Callable[[str], None]) -> int:
    start, told, pause, wait = time.monotonic(), False, 0.002, wait_seconds()
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            if try_lock(handle) and is_still(handle, path):
                kept, handle = handle, -1
                return kept
        finally:
            if handle >= 0:
                os.close(handle)
        waited = time.monotonic() - start
        if waited > _SAY_AFTER and not told:
            told = True
            say(f"waiting for {_holder(path)}")
        if waited > wait:
            hint = f"{WAIT_VARIABLE} says how many seconds to wait"
            raise MachineError(f"waited {waited:.0f} s for {_holder(path)}", hint=hint, value=str(path))
        time.sleep(pause)
        pause = min(2 * pause, 0.1)


def _holder(path: Path) -> str:
    found = read_owner(path)
    who = f"process {found.get('pid')} on {found.get('host')} ({found.get('doing')})" if found else "another process"
    return f"{who}, which is changing {path.parent}"
