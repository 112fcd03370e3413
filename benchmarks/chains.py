"""How long chains of tasks take: ``python benchmarks/chains.py``; two Markdown tables on stdout, in about ten minutes.

First full fine-tuning, the stage alone: by autograd and with the gradient written out, in turn. Then
``lora-mnist reproduce --study forgetting`` as a whole process, with one process that learns and with one a core. A
ratio is that of a round; medians are told with the lowest and the highest.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from unittest import mock

from machine import hardware, worked_seconds

from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.config import BaseConfig
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.stages import Workspace, finetune, train_base
from lora_mnist_cli.system.machine import cores
from lora_mnist_cli.training import trainer

Times = tuple[float, float]
"""Seconds by the clock, and of the processor."""


def timed(work: Callable[[], object]) -> Times:
    """How long something takes, with the processes that it waits for."""
    start, before = time.perf_counter(), worked_seconds()
    work()
    return time.perf_counter() - start, worked_seconds() - before


def full(rounds: int, epochs: int) -> dict[str, list[Times]]:
    """Full fine-tuning on 5-9, scored and published."""
    config = AdapterConfig(method="full", epochs=epochs, digits=DigitSet(range(5, 10)))
    times: dict[str, list[Times]] = {"by autograd": [], "gradient written out": []}
    with tempfile.TemporaryDirectory() as place:
        workspace = Workspace(Path(place))
        train_base(BaseConfig(epochs=1), workspace=workspace)

        def train() -> None:
            finetune(config, workspace=workspace, name="full", force=True)

        train()  # what is loaded late is loaded now
        for _ in range(rounds):
            with mock.patch.object(trainer, "_is_plain", return_value=False):
                times["by autograd"].append(timed(train))
            times["gradient written out"].append(timed(train))
    return times


def study(rounds: int, epochs: int | None) -> dict[str, list[Times]]:
    """The whole study of forgetting, both chains and three seeds, from an empty folder."""
    counts = {"one process": 1}
    if cores() > 1:
        counts[f"{cores()} processes"] = cores()
    times: dict[str, list[Times]] = {name: [] for name in counts}
    for _ in range(rounds):
        for name, workers in counts.items():
            with tempfile.TemporaryDirectory() as place:
                command = [
                    sys.executable, "-m", "lora_mnist_cli", "reproduce", "--study", "forgetting", "--workers",
                    str(workers), "--runs-dir", place, "--json", "--quiet",
                    *([] if epochs is None else ["--epochs", str(epochs)]),
                ]  # fmt: skip
                times[name].append(timed(partial(subprocess.run, command, check=True, stdout=subprocess.DEVNULL)))
                print(f"{name}: {times[name][-1][0]:.0f} s", file=sys.stderr)
    return times


def table(heading: str, times: dict[str, list[Times]]) -> str:
    """A row each, with how many times the last one's time it takes."""
    *_, last = times
    lines = [f"| {heading} | n | clock, s | ÷ last | processor, s | ÷ last |", "|---|---:|---:|---:|---:|---:|"]
    for name, own in times.items():
        cells = []
        for clock in (0, 1):
            cells.append(_spread([each[clock] for each in own]))
            cells.append(_spread([a[clock] / b[clock] for a, b in zip(own, times[last], strict=True)]))
        lines.append(f"| {name} | {len(own)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _spread(values: Sequence[float]) -> str:
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="of full fine-tuning")
    parser.add_argument("--study-rounds", type=int, default=2)
    parser.add_argument("--epochs", type=int, help="of everything; the recipes' ten by default")
    options = parser.parse_args()
    print(table("full fine-tuning on 5-9", full(options.rounds, options.epochs or 10)) + "\n")
    if options.study_rounds:
        print(table("the study of forgetting", study(options.study_rounds, options.epochs)) + "\n")
    print(hardware())


if __name__ == "__main__":
    main()
