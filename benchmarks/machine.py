"""What a figure depends on: the machine, the versions, and what other processes took meanwhile."""

from __future__ import annotations

import math
import os
import platform
import resource
import time
from importlib.metadata import version
from pathlib import Path


def others_seconds() -> float:
    """CPU seconds that all other processes have used since the machine started; not known elsewhere than on Linux."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return math.nan
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, stat.read_text().split()[1:9])
    busy = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    return busy - time.process_time()


def worked_seconds() -> float:
    """CPU seconds, user and system, that this process and those that it waited for have used."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def hardware() -> str:
    """What the figures depend on, in one paragraph."""
    import torch  # late: a process that starts others would hand on its own peak of memory

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return (
        f"{cpu_model()}, {os.cpu_count()} cores, {device}; "
        f"Python {platform.python_version()}, torch {torch.__version__}, Lightning {version('pytorch-lightning')}."
    )


def cpu_model() -> str:
    """The processor's name; elsewhere than on Linux, whatever Python knows of it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
