"""Whole processes: the original study's beside the commands of this project, in turn.

Run it from the root of the checkout: ``python benchmarks/processes.py --rounds 3``. Each round starts the study's base
stage and ``train-base``; then, unless ``--base-only`` is given, the whole study, ``sweep`` on the base that is there,
and ``reproduce`` from nothing and once more. A process counts from its start to its end, imports included; the two rows
that say "stage alone" leave imports out on both sides. CPU seconds are the better figures on a busy machine, with one
thread on either side. Peak memory is the kernel's figure for the process.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from harness import MEASURED, TOOL, Timing, compared, hardware, measured, options, process, report, table

from lora_mnist_cli.registry.registry import Registry

STUDY = (sys.executable, str(Path(__file__).resolve().parent / "study_process.py"))
PAIRS = [
    ("base: the study", "base: `train-base`"),
    ("seven ranks, stage alone: the study", "seven ranks, stage alone: `sweep`"),
    ("whole study: the study", "whole study: `reproduce`"),
]


def part(whole: Timing, seconds: float) -> Timing:
    """A stage of a process; the CPU seconds are taken to be spread evenly."""
    return dataclasses.replace(whole, clock=seconds, cpu=whole.cpu * seconds / whole.clock)


def one_round(epochs: int, threads: int | None, *, base_only: bool) -> dict[str, Timing]:
    """Each process once."""
    timings: dict[str, Timing] = {}
    with TemporaryDirectory() as place:
        folder = Path(place)
        environment = {} if threads is None else {"OMP_NUM_THREADS": str(threads)}

        def run(name: str, *command: object, more: dict[str, str] | None = None) -> Timing:
            timings[name] = process(name, [*command, "--epochs", epochs], folder=folder, more=more)
            return timings[name]

        study = partial(run, more=environment)
        study("base: the study", *STUDY, "base")
        run("base: `train-base`", *TOOL, "train-base")
        if not base_only:
            whole = study("whole study: the study", *STUDY, "whole")
            seconds = json.loads(whole.result.splitlines()[-1])["seconds"]["seven ranks"]
            timings["seven ranks, stage alone: the study"] = part(whole, seconds)
            ours = run("seven ranks: `sweep`", *TOOL, "sweep")
            seconds = Registry(folder / "runs").latest("sweep").wall_seconds
            timings["seven ranks, stage alone: `sweep`"] = part(ours, seconds)
            for name in ("whole study: `reproduce`", "whole study: `reproduce`, all up to date"):
                run(name, *TOOL, "reproduce", "--runs-dir", "study")
    return timings


def tables(rounds: Sequence[dict[str, Timing]], epochs: int) -> list[str]:
    """The times, and the ratios."""
    timings = {what: [each[what] for each in rounds] for what in rounds[0]}
    rows = [
        (what, *measured(each), f"{max(timing.memory for timing in each) / 1e9:.2f} GB")
        for what, each in timings.items()
    ]
    head = (f"whole processes, {epochs} epochs", *MEASURED, "peak memory")
    return [table(head, rows), compared("ratio, within each round", timings, PAIRS, places=1)]


def main() -> None:
    """Measure, and print the tables."""
    parser = options(__doc__, rounds=1, epochs=10)
    parser.add_argument("--threads", type=int, help="of the study's processes; as many as PyTorch takes by default")
    parser.add_argument("--base-only", action="store_true", help="the base stage alone, which is a tenth of the time")
    given = parser.parse_args()
    rounds = [one_round(given.epochs, given.threads, base_only=given.base_only) for _ in range(given.rounds)]
    threads = f"The study's threads: {given.threads or 'as many as PyTorch takes'}; ours: 1."
    report(given, *tables(rounds, given.epochs), f"{hardware()} {threads}")


if __name__ == "__main__":
    main()
