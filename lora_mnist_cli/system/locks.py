"""Locks between processes: one for the short moments that change ``runs/``, one for each staging folder.

Both are the kernel's (``flock`` where there is one), so a killed process lets go of them. Whoever held the first
removes its file; a waiter therefore checks that its file is still the one of that name.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lora_mnist_cli.system.errors import MachineError
from lora_mnist_cli.system.files import is_still, read_regular
from lora_mnist_cli.system.platforms import here

LOCK = ".lock"
WAIT_VARIABLE = "LORA_MNIST_LOCK_WAIT"
DEFAULT_WAIT = 60.0
"""Seconds that a process waits for another's change of ``runs/``, which takes milliseconds."""
_SAY_AFTER = 1.0
_MAX_OWNER = 1_000_000

HOST = "".join(c if c.isalnum() or c in ".-" else "_" for c in socket.gethostname()) or "unknown"


def owner(**more: Any) -> bytes:
    """Describe who holds a lock, for those who wait for it or find its owner dead."""
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


@contextlib.contextmanager
def exclusive(root: Path, doing: str, say: Callable[[str], None]) -> Iterator[None]:
    """Let one process at a time inside, of all that use the folder ``root``, which has to exist.

    Others can read what the holder is ``doing``. After a second of waiting, ``say`` gets a line about the holder.

    Raises:
        MachineError: where another process stays inside for longer than :func:`wait_seconds`.
        OSError: where the lock's file can't be made.
    """
    path = root / LOCK
    handle = _acquire(path, say)
    try:
        with contextlib.suppress(OSError):  # a full disk does not keep anyone from holding a lock
            os.ftruncate(handle, 0)
            os.write(handle, owner(doing=doing))
        yield
    finally:
        here.remove_locked(handle, path)


def _acquire(path: Path, say: Callable[[str], None]) -> int:
    start, told, pause, wait = time.monotonic(), False, 0.002, wait_seconds()
    while True:
        handle = here.open_file(path, os.O_RDWR | os.O_CREAT)
        try:
            if here.try_lock(handle) and is_still(handle, path):
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
