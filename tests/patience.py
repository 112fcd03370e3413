"""Waiting for other processes: as long as an idle machine takes at most, and longer where the machine is busy."""

from __future__ import annotations

import os
import time
from collections.abc import Callable


def wait_until(condition: Callable[[], bool], seconds: float, otherwise: Callable[[], str]) -> None:
    """Wait until a condition holds.

    Args:
        seconds: on an idle machine. On a busy one, time counts less the more processes share a core.
        otherwise: what to say where it does not hold by then.

    Raises:
        AssertionError: with that.
    """
    left, last = seconds, time.monotonic()
    while not condition():
        now = time.monotonic()
        left, last = left - (now - last) / max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1)), now
        assert left > 0, otherwise()
        time.sleep(0.01)
