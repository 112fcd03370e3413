"""What a user waits for: whole commands, each beside a process that only imports PyTorch.

Run it from the root of the checkout: ``python benchmarks/commands.py --rounds 5``. Each round starts every command once
in an empty folder; ``--long`` adds ``reproduce`` and ``reproduce --study forgetting``. A process counts from its start
to its end.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from harness import MEASURED, TOOL, Timing, hardware, measured, options, process, report, spread, table
from PIL import Image

from lora_mnist_cli.data.sources import load_digits
from lora_mnist_cli.settings.digits import ALL_DIGITS

TORCH = "`import torch` alone"
FIRST_THREE = [
    ("`train-base --digits 0-4`", ("train-base", "--digits", "0-4")),
    ("`sweep --ranks 1,2,4`", ("sweep", "--ranks", "1,2,4")),
    ("`evaluate --alpha 0`", ("evaluate", "--alpha", "0")),
]
OTHERS = [
    ("`predict` of one picture", ("predict", "digit.png")),
    ("`finetune --rank 8`", ("finetune", "--rank", "8")),
    ("`plot ranks`", ("plot", "ranks")),
    ("`runs list`", ("runs", "list")),
    ("`--help`", ("--help",)),
]
LONG = [
    ("`reproduce`", ("reproduce", "--runs-dir", "study")),
    ("`reproduce --study forgetting`", ("reproduce", "--study", "forgetting", "--runs-dir", "chains")),
]


def one_round(*, long: bool) -> dict[str, Timing]:
    """Each process once."""
    timings: dict[str, Timing] = {}
    with TemporaryDirectory() as place:
        folder = Path(place)
        pixels, _ = load_digits("mnist", "test", ALL_DIGITS, Path("data"))
        Image.fromarray(pixels[0]).save(folder / "digit.png")
        timings[TORCH] = process(TORCH, (sys.executable, "-c", "import torch"), folder=folder)
        for name, command in [*FIRST_THREE, *OTHERS, *(LONG if long else ())]:
            timings[name] = process(name, [*TOOL, *command], folder=folder)
    return timings


def tables(rounds: Sequence[dict[str, Timing]]) -> list[str]:
    """The times, and how much longer than an import of PyTorch each takes, within each round."""
    rows = []
    for name in rounds[0]:
        over = [(each[name].clock - each[TORCH].clock, each[name].cpu - each[TORCH].cpu) for each in rounds]
        beyond = (spread([clock for clock, _ in over], unit=" s"), f"{median(cpu for _, cpu in over):.2f} s")
        rows.append((name, *measured([each[name] for each in rounds]), *beyond))
    three = [sum(each[name].clock for name, _ in FIRST_THREE) for each in rounds]
    head = ("command", *MEASURED, "clock beyond `import torch`", "CPU beyond it")
    return [table(head, rows), f"The first three in a row: {spread(three, unit=' s')}."]


def main() -> None:
    """Measure, and print the table."""
    parser = options(__doc__, rounds=5)
    parser.add_argument("--long", action="store_true", help="the two studies too")
    given = parser.parse_args()
    report(given, *tables([one_round(long=given.long) for _ in range(given.rounds)]), hardware())


if __name__ == "__main__":
    main()
