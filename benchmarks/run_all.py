"""All benchmarks, one after the other, into one Markdown file: ``python benchmarks/run_all.py --output figures.md``.

Each runs in its own process, so that none profits from what another has loaded. ``--quick`` takes one round of each and
leaves out what takes longer than some minutes; without it, all of them take about an hour on two cores. loralib comes
from PyPI (``pip install loralib``), if it is to be compared. ``protections.py``, ``spread.py`` and ``tuned_recipe.py``
write pages of the documentation; they train for minutes to hours, measure no time, and are run by hand.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from harness import options, report

HERE = Path(__file__).resolve().parent

ALL: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "The base stage": (("stages_alone.py", "--rounds", "3"), ("stages_alone.py", "--epochs", "2")),
    "Seven ranks": (
        ("stages_alone.py", "--stage", "ranks", "--epochs", "3", "--rounds", "2"),
        ("stages_alone.py", "--stage", "ranks", "--epochs", "1"),
    ),
    "Commands": (("commands.py", "--long"), ("commands.py", "--rounds", "1")),
    "Whole processes": (("processes.py", "--rounds", "3"), ("processes.py", "--base-only", "--epochs", "2")),
    "Adapters": (("bank.py", "--epochs", "3", "--rounds", "5"), ("bank.py", "--epochs", "1")),
    "Other methods in banks": (("products.py", "--rounds", "3"), ("products.py", "--seeds", "1")),
    "Steps of a bank": (("steps.py", "--rounds", "5"), ("steps.py", "--rounds", "1")),
    "Processes": (("backends.py", "--rounds", "3", "--epochs", "5"), ("backends.py", "--rounds", "1", "--epochs", "1")),
    "Chains of tasks": (("chains.py",), ("chains.py", "--rounds", "1", "--study-rounds", "0", "--epochs", "1")),
    "Routing": (("routing.py",), ("routing.py", "--rounds", "1")),
    "What statistics reveal": (("revealed.py",), ("revealed.py", "--cuts", "2")),
    "A GPU": (("recorded_steps.py",), ("recorded_steps.py", "--rounds", "1", "--epochs", "1")),
    "Fused kernels": (("gpu.py",), ("gpu.py", "--toy")),
    "From one adapter to a thousand": (("growth.py", "--rounds", "3"), ("growth.py",)),
    "The registry": (("registry_scale.py", "--rounds", "7"), ("registry_scale.py", "--rounds", "3")),
}
"""Heading → script and options; then those of a quick look."""


def main() -> None:
    """Run them, and print their tables under headings."""
    parser = options(__doc__)
    parser.add_argument("--quick", action="store_true", help="a first look: fewer rounds and epochs")
    given = parser.parse_args()
    parts = ["# Benchmarks"]
    for heading, commands in ALL.items():
        script, *rest = commands[given.quick]
        print(f"{heading}: {script} {' '.join(rest)}", file=sys.stderr)
        command = [sys.executable, str(HERE / script), *rest]
        printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        parts += [f"## {heading}", f"`{' '.join(['python', f'benchmarks/{script}', *rest])}`", printed.rstrip()]
        if given.output:  # now, because a later one may fail
            given.output.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    report(given, *parts)


if __name__ == "__main__":
    main()
