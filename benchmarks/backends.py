"""How long seventy adapters take as a whole command, in one process and in several: whole processes, in turn.

Run it from the root of the checkout: ``python benchmarks/backends.py --rounds 3``.

Each way is ``lora-mnist sweep --seeds 0-9`` from its start to its end, the imports of every process included, on one
and the same base, and ends with the same bytes. CPU seconds are those of the command and of all that it started; they
say more than the clock where others took a part of a core. A way of one bank shows what it costs to cut a grid.
"""

from __future__ import annotations

import argparse
import hashlib
import resource
import subprocess
import sys
import time
from pathlib import Path
from shutil import copytree
from statistics import median
from tempfile import TemporaryDirectory

from machine import hardware, others_seconds

PROGRAM = "from lora_mnist_cli.cli import entry; entry()"
ONE_BANK = f"from lora_mnist_cli.stages.banks import cut; cut.WORTH_A_PROCESS = 10**9; {PROGRAM}"
WAYS: dict[str, tuple[str, list[str]]] = {
    "one process, one bank": (ONE_BANK, []),
    "one process": (PROGRAM, []),
}


def run(place: Path, code: str, options: list[str]) -> tuple[float, float, float, str]:
    """Seconds by the clock and of CPU, cores that others took, and a digest of what was made."""
    before, others, start = resource.getrusage(resource.RUSAGE_CHILDREN), others_seconds(), time.perf_counter()
    command = [sys.executable, "-c", code, "sweep", "--seeds", "0-9", "--quiet", "--runs-dir", str(place)]
    subprocess.run([*command, *options], check=True, stdout=subprocess.DEVNULL)
    clock, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    taken = max(0.0, (others_seconds() - others - cpu) / clock)
    digest = hashlib.sha256()
    for path in sorted(place.glob("lora-*/adapter_model.safetensors")):
        digest.update(path.read_bytes())
    return clock, cpu, taken, digest.hexdigest()


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--workers", default="2", help="counts of processes, with commas")
    options = parser.parse_args()
    ways = WAYS | {
        f"{count} processes": (PROGRAM, ["--backend", "processes", "--workers", count])
        for count in options.workers.split(",")
    }
    found: dict[str, list[tuple[float, float, float, str]]] = {name: [] for name in ways}
    with TemporaryDirectory() as folder:
        base = Path(folder, "base")
        train = [sys.executable, "-c", PROGRAM, "train-base", "--quiet", "--runs-dir", str(base)]
        subprocess.run(train, check=True, stdout=subprocess.DEVNULL)
        for number in range(options.rounds):
            for name, (code, more) in ways.items():
                place = copytree(base, Path(folder, f"{number}-{name.replace(' ', '-')}"))
                found[name].append(run(Path(place), code, ["--epochs", str(options.epochs), *more]))
                print(name, found[name][-1], file=sys.stderr, flush=True)
    print(f"| 70 adapters, {options.epochs} epochs, whole command | n | clock, median | min–max | CPU, median "
          "| min–max | cores others took, max |\n|---|---|---|---|---|---|---|")  # fmt: skip
    for name, rows in found.items():
        clocks, cpus, others, _ = zip(*rows, strict=True)
        print(f"| {name} | {len(rows)} | {median(clocks):.1f} s | {min(clocks):.1f}–{max(clocks):.1f} s "
              f"| {median(cpus):.1f} s | {min(cpus):.1f}–{max(cpus):.1f} s | {max(others):.2f} |")  # fmt: skip
    same = len({row[3] for rows in found.values() for row in rows}) == 1
    print(f"\nThe bytes of all adapters {'are the same' if same else 'DIFFER'}. {hardware()}")


if __name__ == "__main__":
    main()
