"""What the benchmarks share: timing a call or a process, taking turns, spreads, Markdown tables, and the machine."""

from __future__ import annotations

import argparse
import math
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from lora_mnist_cli.stages.records.publishing import markdown_table
from lora_mnist_cli.system.machine import processor

T = TypeVar("T")
MEASURED = ("n", "clock", "CPU, median", "cores others took, max")
"""The columns of :func:`measured`."""
TOOL = (sys.executable, "-m", "lora_mnist_cli")


@dataclass(frozen=True)
class Timing:
    """One timed call or process.

    Args:
        clock: seconds by the clock.
        cpu: seconds of CPU, user and system, of this process and those that it waited for.
        others: cores that other processes took meanwhile; nan where that is not known.
        memory: peak memory of a process in bytes; 0 for a call.
        result: what the call returned, or what the process printed.
    """

    clock: float
    cpu: float
    others: float
    memory: int = 0
    result: Any = None


def timed(what: str, call: Callable[[], object]) -> Timing:
    """Time a call, and say so on stderr."""
    others, cpu, start = _others_seconds(), _cpu_seconds(), time.perf_counter()
    result = call()
    clock, cpu = time.perf_counter() - start, _cpu_seconds() - cpu
    return _told(what, Timing(clock, cpu, _share(others, clock, 0.0), result=result))


def process(
    what: str, command: Sequence[object], *, folder: Path | None = None, more: Mapping[str, str] | None = None
) -> Timing:
    """Time a process from its start to its end, and say so on stderr.

    Args:
        folder: where it runs.
        more: added to the environment.

    Raises:
        SystemExit: where it fails.
    """
    others, start = _others_seconds(), time.perf_counter()
    environment = os.environ | dict(more or {})
    with subprocess.Popen(
        [str(part) for part in command], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env=environment,
    ) as child:  # fmt: skip
        assert child.stdout is not None
        printed = child.stdout.read()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    clock, cpu = time.perf_counter() - start, usage.ru_utime + usage.ru_stime
    if child.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} ended with {child.returncode}")
    # To this process, the child's own work counts as that of others.
    return _told(what, Timing(clock, cpu, _share(others, clock, cpu), usage.ru_maxrss * 1024, printed))


def in_turn(ways: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """Call all ways once per round, so that whatever else the machine does falls on all of them alike."""
    results: dict[str, list[T]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            results[name].append(way())
    return results


def spread(values: Sequence[float], places: int = 2, unit: str = "") -> str:
    """Median (lowest–highest)."""
    low, high = min(values), max(values)
    return f"{median(values):.{places}f}{unit} ({low:.{places}f}–{high:.{places}f})"


def measured(each: Sequence[Timing], places: int = 2) -> tuple[str, ...]:
    """The cells under :data:`MEASURED`."""
    clock = spread([timing.clock for timing in each], places, " s")
    cpu = f"{median(timing.cpu for timing in each):.{places}f} s"
    return str(len(each)), clock, cpu, f"{max(timing.others for timing in each):.2f}"


def compared(
    what: str, timings: Mapping[str, Sequence[Timing]], pairs: Iterable[tuple[str, str]], *, places: int = 2,
    amounts: Mapping[str, int] | None = None,
) -> str:  # fmt: skip
    """A table of ratios, which are those of a round: a row per pair of names that were both timed.

    Args:
        what: the head of the first column.
        amounts: the work of each name, where the ratio is that of times for the same amount.
    """
    rows = []
    for peer, ours in pairs:
        if peer in timings and ours in timings:
            share = amounts[ours] / amounts[peer] if amounts else 1.0
            rounds = list(zip(timings[peer], timings[ours], strict=True))
            ratios = [[share * getattr(a, clock) / getattr(b, clock) for a, b in rounds] for clock in ("clock", "cpu")]
            rows.append((f"{peer} ÷ {ours}", str(len(rounds)), *(spread(each, places) for each in ratios)))
    return table((what, "n", "clock", "CPU"), rows)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, text: int = 1) -> str:
    """A Markdown table; the columns after the first few hold figures."""
    return "\n".join(markdown_table(head, rows, head[:text]))


def options(about: str | None, **counts: int | None) -> argparse.ArgumentParser:
    """A parser that has ``--output``, and an option for each count, with its default.

    Args:
        about: the docstring of the script, whose first line stands in the help.
    """
    parser = argparse.ArgumentParser(description=(about or "").splitlines()[0])
    for name, default in counts.items():
        parser.add_argument(f"--{name}", type=_at_least_one, default=default)
    parser.add_argument("--output", type=Path, help="a Markdown file to write the tables to as well")
    return parser


def report(given: argparse.Namespace, *parts: str) -> None:
    """Print the parts with empty lines between them, and write them to ``--output``."""
    text = "\n\n".join(parts) + "\n"
    print(text, end="")
    if given.output:
        given.output.write_text(text, encoding="utf-8")


def hardware() -> str:
    """What the figures depend on, in one paragraph."""
    import torch  # late: a process that starts others would hand on its own peak of memory

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return (
        f"{processor()}, {os.cpu_count()} cores, {device}; "
        f"Python {platform.python_version()}, torch {torch.__version__}, Lightning {version('pytorch-lightning')}."
    )


def _told(what: str, timing: Timing) -> Timing:
    print(f"{what}: {timing.clock:.2f} s, CPU {timing.cpu:.2f} s, {timing.others:.2f} cores by others", file=sys.stderr)
    return timing


def _at_least_one(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"at least 1, not {number}")
    return number


def _others_seconds() -> float:
    """CPU seconds that all other processes have used since the machine started; nan where there is no /proc/stat."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return math.nan
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, stat.read_text().split()[1:9])
    busy = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    return busy - _cpu_seconds()


def _share(before: float, clock: float, own: float) -> float:
    # The kernel counts in ticks, so nothing may come out as slightly less; nan stays nan in this order.
    return max((_others_seconds() - before - own) / clock, 0.0)


def _cpu_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
