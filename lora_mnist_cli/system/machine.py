"""What this machine has: processor cores and memory."""

from __future__ import annotations

import contextlib
import os
import platform
from functools import lru_cache
from pathlib import Path

from lora_mnist_cli.system.platforms import here

_CONTAINER_MEMORY = Path("/sys/fs/cgroup/memory.max")
_PROCESSORS = Path("/proc/cpuinfo")


def cores() -> int:
    """Return how many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory() -> int | None:
    """Return the bytes of memory of the machine, or of the container around this process; None where not known."""
    installed = here.installed_memory()
    limits = [] if installed is None else [installed]
    with contextlib.suppress(OSError, ValueError):  # only Linux has this file, and "max" in it means no limit
        limits.append(int(_CONTAINER_MEMORY.read_text(encoding="ascii")))
    return min(limits, default=None)


def fitting(count: int, each: int) -> int:
    """Return how many of ``count`` processes that need ``each`` bytes fit into the memory; at least one."""
    held = memory()
    return count if held is None else max(1, min(count, held // each))


@lru_cache(maxsize=1)
def processor() -> str:
    """Return system, architecture and, on Linux, the model of the processor: what decides how it rounds."""
    model = ""
    with contextlib.suppress(OSError):
        lines = _PROCESSORS.read_text(encoding="utf-8", errors="replace").splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return " ".join(filter(None, (platform.system(), platform.machine(), model)))
