"""Whole processes: the original study's beside the commands of this project, in turn.

Run it from the root of the checkout: ``python benchmarks/processes.py --rounds 3``. Each round starts the study's base
stage and ``train-base``; then, unless ``--base-only`` is given, the whole study, ``sweep`` on the base that is there,
and ``reproduce`` from nothing and once more. A process counts from its start to its end, imports included; the two rows
that say "stage alone" leave imports out on both sides. CPU seconds are the better figures on a busy machine, with one
thread on either side. Peak memory is the kernel's figure for the process.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from machine import hardware, others_seconds

from lora_mnist_cli.registry.registry import Registry

HERE = Path(__file__).resolve().parent
TOOL = (sys.executable, "-m", "lora_mnist_cli")
STUDY = (sys.executable, str(HERE / "study_process.py"))


@dataclass(frozen=True)
class Run:
    """One process, or one stage of it: clock and CPU seconds, peak memory in bytes, and cores that others took."""

    seconds: float
    cpu: float
    memory: int
    others: float

    def part(self, seconds: float) -> Run:
        """A stage of the process; its CPU seconds are taken to be spread evenly."""
        return Run(seconds, self.cpu * seconds / self.seconds, self.memory, self.others)


def run(*command: object, folder: Path, threads: int | None = None) -> tuple[Run, str]:
    """Run a process in a folder, with so many threads if given; returns its figures and what it printed on stdout."""
    environment = os.environ | ({} if threads is None else {"OMP_NUM_THREADS": str(threads)})
    before, start = others_seconds(), time.perf_counter()
    with subprocess.Popen(
        [str(part) for part in command],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    ) as process:
        assert process.stdout is not None
        printed = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - start
    if process.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} ended with {process.returncode}")
    # What it computed itself counts as others' to this process.
    cpu = usage.ru_utime + usage.ru_stime
    others = (others_seconds() - before - cpu) / seconds
    made = Run(seconds, cpu, usage.ru_maxrss * 1024, max(others, 0.0))
    shown = " ".join(Path(str(part)).name for part in command[1:])
    print(
        f"{shown}: {seconds:.2f} s, CPU {cpu:.2f} s, {made.memory / 2**30:.2f} GiB, {made.others:.2f} cores",
        file=sys.stderr,
    )
    return made, printed


def one_round(epochs: int, threads: int | None, *, base_only: bool) -> dict[str, Run]:
    """Each process once."""
    found: dict[str, Run] = {}
    with TemporaryDirectory() as place:
        folder = Path(place)
        options = ("--epochs", epochs)
        found["base: the study"], _ = run(*STUDY, "base", *options, folder=folder, threads=threads)
        found["base: `train-base`"], _ = run(*TOOL, "train-base", *options, folder=folder)
        if not base_only:
            whole, printed = run(*STUDY, "whole", *options, folder=folder, threads=threads)
            parts: dict[str, Any] = json.loads(printed.splitlines()[-1])["seconds"]
            found["whole study: the study"] = whole
            found["seven ranks, stage alone: the study"] = whole.part(parts["seven ranks"])
            process, _ = run(*TOOL, "sweep", *options, folder=folder)
            seconds = Registry(folder / "runs").latest("sweep").wall_seconds
            found["seven ranks, stage alone: `sweep`"] = process.part(seconds)
            found["seven ranks: `sweep`"] = process
            fresh = ("--runs-dir", "study")
            found["whole study: `reproduce`"], _ = run(*TOOL, "reproduce", *options, *fresh, folder=folder)
            found["whole study: `reproduce`, all up to date"], _ = run(
                *TOOL, "reproduce", *options, *fresh, folder=folder
            )
    return found


PAIRS = [
    ("base: the study", "base: `train-base`"),
    ("seven ranks, stage alone: the study", "seven ranks, stage alone: `sweep`"),
    ("whole study: the study", "whole study: `reproduce`"),
]


def report(rounds: Sequence[dict[str, Run]], epochs: int, threads: int | None) -> str:
    """The Markdown tables, and what they were measured with."""
    lines = [
        f"| whole processes, {epochs} epochs | n | clock, median | min–max | CPU, median | peak memory | "
        "cores others took, max |",
        "|---|---|---|---|---|---|---|",
    ]
    for what in rounds[0]:
        of = [each[what] for each in rounds]
        seconds = [each.seconds for each in of]
        lines.append(
            f"| {what} | {len(of)} | {median(seconds):.2f} s | {min(seconds):.2f}–{max(seconds):.2f} s | "
            f"{median(each.cpu for each in of):.2f} s | {max(each.memory for each in of) / 1e9:.2f} GB | "
            f"{max(each.others for each in of):.2f} |"
        )
    lines += [
        "",
        "| ratio, within each round | n | clock, median (min–max) | CPU, median (min–max) |",
        "|---|---|---|---|",
    ]
    for peer, ours in PAIRS:
        if peer in rounds[0]:
            cells = []
            for clock in ("seconds", "cpu"):
                ratios = [getattr(each[peer], clock) / getattr(each[ours], clock) for each in rounds]
                cells.append(f"{median(ratios):.1f} ({min(ratios):.1f}–{max(ratios):.1f})")
            lines.append(f"| {peer} ÷ {ours.partition(': ')[2]} | {len(rounds)} | {cells[0]} | {cells[1]} |")
    told = f"The study's threads: {threads or 'as many as PyTorch takes'}; ours: 1."
    return "\n".join([*lines, "", f"{hardware()} {told}"]) + "\n"


def main() -> None:
    """Measure, print the tables, write them where it is asked for."""
    parser = argparse.ArgumentParser(description="Time the study's processes and ours.")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, help="of the study's processes; as many as PyTorch takes by default")
    parser.add_argument("--base-only", action="store_true", help="the base stage alone, which is a tenth of the time")
    parser.add_argument("--output", type=Path, help="a Markdown file to write the tables to as well")
    options = parser.parse_args()
    if options.epochs < 1 or options.rounds < 1:
        parser.error("--epochs and --rounds are at least 1")
    rounds = [one_round(options.epochs, options.threads, base_only=options.base_only) for _ in range(options.rounds)]
    text = report(rounds, options.epochs, options.threads)
    print(text, end="")
    if options.output:
        options.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
