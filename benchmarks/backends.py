"""How long seventy adapters take as a whole command, in one process and in several: whole processes, in turn.

Run it from the root of the checkout: ``python benchmarks/backends.py --rounds 3``.

Each way is ``lora-mnist sweep --seeds 0-9`` from its start to its end, the imports of every process included, on the
same base, and ends with the same bytes. CPU seconds are those of the command and of all that it started; they say more
than the clock when other processes took a part of a core. A way of one bank shows what it costs to cut a grid.
"""

from __future__ import annotations

import hashlib
import sys
from functools import partial
from itertools import count
from pathlib import Path
from shutil import copytree
from tempfile import TemporaryDirectory

from harness import MEASURED, Timing, hardware, in_turn, measured, options, process, report, table

PROGRAM = "from lora_mnist_cli.cli import entry; entry()"
ONE_BANK = f"from lora_mnist_cli.stages.banks import cut; cut.WORTH_A_PROCESS = 10**9; {PROGRAM}"


def main() -> None:
    """Measure, and print the table."""
    parser = options(__doc__, rounds=3, epochs=10)
    parser.add_argument("--workers", default="2", help="counts of processes, with commas")
    given = parser.parse_args()
    ways = {"one process, one bank": (ONE_BANK, []), "one process": (PROGRAM, [])} | {
        f"{workers} processes": (PROGRAM, ["--backend", "processes", "--workers", workers])
        for workers in given.workers.split(",")
    }
    digests, number = set(), count()
    with TemporaryDirectory() as folder:
        base = Path(folder, "base")
        process("base", [sys.executable, "-c", PROGRAM, "train-base", "--quiet", "--runs-dir", base])

        def run(name: str, code: str, more: list[str]) -> Timing:
            runs = Path(copytree(base, Path(folder, str(next(number)))))
            command = ["sweep", "--seeds", "0-9", "--quiet", "--runs-dir", runs, "--epochs", given.epochs, *more]
            timing = process(name, [sys.executable, "-c", code, *command])
            weights = sorted(runs.glob("lora-*/adapter_model.safetensors"))
            digests.add(hashlib.sha256(b"".join(path.read_bytes() for path in weights)).hexdigest())
            return timing

        timings = in_turn({name: partial(run, name, *way) for name, way in ways.items()}, given.rounds)
    rows = [(name, *measured(each, places=1)) for name, each in timings.items()]
    head = (f"70 adapters, {given.epochs} epochs, whole command", *MEASURED)
    same = f"The bytes of all adapters {'are the same' if len(digests) == 1 else 'DIFFER'}."
    report(given, table(head, rows), f"{same} {hardware()}")


if __name__ == "__main__":
    main()
