"""Where each second of a command goes: the processor time of its phases, each command in a process of its own.

Run it from the root of the checkout: ``python benchmarks/phases.py --rounds 5``. The functions that do the work are
wrapped in a clock of the main thread; a phase inside another one counts once, for the inner one. What is left over is
the rest. As in a command, the images are unpacked on other threads while PyTorch is imported.
"""

from __future__ import annotations

import functools
import importlib
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

START = time.thread_time()

COMMANDS = {
    "`train-base`": ["train-base", "--digits", "0-4"],
    "`sweep --ranks 1,2,4`": ["sweep", "--ranks", "1,2,4"],
    "`evaluate --alpha 0`": ["evaluate", "--alpha", "0"],
    "`plot ranks`": ["plot", "ranks"],
}
PHASES = {
    "images, read and unpacked": [("data.unpacking", "unpacked"), ("data.dataset", "MNISTDataset.from_pixels")],
    "training, with the scores of each epoch": [("training.trainer", "train"), ("training.bank.trainer", "train")],
    "class statistics": [("models.densities", "ClassStatistics.fit")],
    "scoring the test images": [("evaluation.logits", "predict"), ("evaluation.logits", "digit_scores")],
    "writing, flushing, publishing": [("registry.registry", "Registry.publish_all")],
    "drawing and saving": [("plots.ranks", "draw"), ("plots.style", "save")],
}
"""Phase → the functions that do it, by module and name."""
IMPORTS = {"torch": "import of PyTorch", "matplotlib.figure": "import of Matplotlib"}
REST = "the rest: other imports, options, settings, tables"


class Clock:
    """Processor seconds of the calling thread by phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inner = [0.0]

    def around(self, phase: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function with its time counted."""

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.thread_time()
            self._inner.append(0.0)
            try:
                return function(*args, **kwargs)
            finally:
                whole = time.thread_time() - start
                self.seconds[phase] += whole - self._inner.pop()
                self._inner[-1] += whole

        return timed


def one_process(arguments: list[str]) -> dict[str, float]:
    """Run a command in this process; return the seconds of its phases."""
    from lora_mnist_cli.cli import main
    from lora_mnist_cli.data.sources import read_ahead

    clock = Clock()
    plotting = arguments[0] == "plot"
    if not plotting:
        read_ahead("mnist", Path("data"), "train", "test")
    for module, phase in IMPORTS.items():
        if plotting == (module != "torch"):
            clock.around(phase, importlib.import_module)(module)
    for phase, places in PHASES.items():
        for module, name in places:
            if plotting != module.startswith("plots."):
                continue
            owner: Any = importlib.import_module(f"lora_mnist_cli.{module}")
            *classes, last = name.split(".")
            for each in classes:
                owner = getattr(owner, each)
            method = vars(owner)[last]
            if isinstance(method, classmethod):
                setattr(owner, last, classmethod(clock.around(phase, method.__func__)))
            else:
                setattr(owner, last, clock.around(phase, method))
    if main(arguments) != 0:
        raise SystemExit(1)
    clock.seconds[REST] = time.thread_time() - START - sum(v for k, v in clock.seconds.items() if k != REST)
    return dict(clock.seconds)


def main() -> None:
    """Measure, and print the table."""
    from harness import hardware, options, process, report, table

    given = options(__doc__, rounds=5).parse_args()
    seconds: dict[str, list[dict[str, float]]] = {name: [] for name in COMMANDS}
    for _ in range(given.rounds):
        with TemporaryDirectory() as folder:
            for name, arguments in COMMANDS.items():
                command = [sys.executable, str(Path(__file__).resolve()), "one", *arguments, "--quiet"]
                printed = process(name, command, folder=Path(folder)).result
                seconds[name].append(json.loads(str(printed).splitlines()[-1]))
    rows = []
    for phase in [*IMPORTS.values(), *PHASES, REST]:
        cells = [median(each.get(phase, 0.0) for each in rounds) for rounds in seconds.values()]
        rows.append((phase, *(f"{cell:.2f}" if cell else "–" for cell in cells)))
    head = (f"processor seconds, medians of {given.rounds}", *COMMANDS)
    report(given, table(head, rows), hardware())


if __name__ == "__main__":
    if sys.argv[1:2] == ["one"]:
        print(json.dumps(one_process(sys.argv[2:])))
    else:
        main()
