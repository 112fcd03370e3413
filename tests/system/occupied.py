"""What a worker process may be doing when its parent dies: each function says that it has begun, and never ends."""

from __future__ import annotations

import ctypes
import signal
import time
from multiprocessing.connection import Connection


def sleeping(connection: Connection) -> None:
    connection.send("begun")
    time.sleep(3600)


def holding_the_interpreter(connection: Connection) -> None:
    """In a call that lets no other thread run, as while a library is loaded."""
    connection.send("begun")
    ctypes.PyDLL(None).sleep(3600)


def computing_without_signals(connection: Connection) -> None:
    """Where the system sends no signal when a pipe ends."""
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    connection.send("begun")
    while True:
        pass
