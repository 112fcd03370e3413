"""The fused kernels on a GPU: exact beside the bank of the CPU, and how fast beside the engine of today.

Run it from the root of the checkout, on a machine with a GPU: ``python benchmarks/gpu.py --json gpu.json``. It is one
script for a short loan of a device: parts come in the order of their worth, each part's figures are written when they
are there, one that fails leaves the others, and none begins after ``--seconds``. ``--toy`` does the same with a few
images, by Triton's interpreter where there is no GPU, to find mistakes before the loan. ``--variants`` also compares
the ways to compile the kernels (``gpu_variants.py``).

Each row is training alone: adapters on 5-9, scored each epoch, as the commands do it. Both engines take turns. Where
today's would take too long, it trains fewer epochs, and its time is multiplied; the table says so.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import mkdtemp
from typing import Any

import torch
from gpu_variants import Setting, compare_variants, make_setting, trained, tuned
from harness import Timing, hardware, in_turn, options, report, spread, table, timed

from lora_mnist_cli.data.dataset import MNISTDataset
from lora_mnist_cli.evaluation.intervals import mean_interval
from lora_mnist_cli.evaluation.original_study import NEW_DIGITS, RANKS
from lora_mnist_cli.models.adapted_linear import adapter_tensors
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.runtime import Runtime
from lora_mnist_cli.training.fused import tuning

FUSED, CPU, TODAY = Runtime(engine="fused"), Runtime(accelerator="cpu"), Runtime(engine="plain")
SHOWN = 1e-4
"""How far a member may be from its twin of the CPU's bank after 200 steps."""
HEAD = ("training alone", "n", "today", "fused", "today ÷ fused", "adapter-images a second", "reach", "aim beyond")


@dataclass(frozen=True)
class Line:
    """A row of the table.

    Args:
        configs: of the members.
        today: epochs that today's engine trains of theirs; 0 where it is not measured.
        goals: the time to reach, and the one to aim for.
    """

    title: str
    configs: list[AdapterConfig]
    today: int
    goals: tuple[str, str]


class Results:
    """What was measured so far: rows and tables for people, figures for programs."""

    def __init__(self, given: argparse.Namespace) -> None:
        self._given, self._start = given, time.perf_counter()
        self.rows: list[tuple[str, ...]] = []
        self.parts: list[str] = []
        self.figures: dict[str, Any] = {}

    @property
    def time_left(self) -> bool:
        """Whether another part may begin."""
        return time.perf_counter() - self._start < self._given.seconds

    def add(self, name: str, figures: object, *parts: str) -> None:
        """Keep a part, and write all figures that are there."""
        self.parts += parts
        self.figures[name] = figures
        if self._given.json:
            self._given.json.write_text(json.dumps(self.figures, indent=1), encoding="utf-8")

    def run(self, part: Callable[[], None]) -> None:
        """Do a part, if there is time; note its failure, and go on."""
        if self.time_left:
            try:
                part()
            except Exception as error:  # noqa: BLE001 - the device is lent for minutes, and the next part may work
                traceback.print_exc(file=sys.stderr)
                self.add(f"failed {part}", repr(error), f"A part failed: `{error!r}`.")


def lines(setting: Setting) -> list[Line]:
    """Return the rows, the most wanted first."""
    few = setting.toy
    one = dataclasses.replace(setting.config, rank=8, epochs=1 if few else 10)
    ranks, seeds = ((1, 20), 1) if few else (RANKS, 10)
    many = 3 if few else 1000
    study = [dataclasses.replace(one, rank=rank, seed=seed) for rank in ranks for seed in range(seeds)]
    grid = [
        dataclasses.replace(one, rank=rank, lr=1e-4 * 10 ** (step / 8), seed=seed, epochs=1 if few else 3)
        for rank in range(1, 3 if few else 17) for step in range(1 if few else 25) for seed in range(1 if few else 25)
    ]  # fmt: skip
    return [
        Line(f"{many} adapters of rank 8", [dataclasses.replace(one, seed=seed) for seed in range(many)], 1,
            ("1.5 s", "0.7 s")),
        Line(f"{len(ranks)} ranks × {seeds} seeds", study, one.epochs, ("0.8 s", "0.35 s")),
        Line("one adapter of rank 8", [one], one.epochs, ("0.4 s", "0.2 s")),
        Line(f"{len(grid)} adapters: ranks, rates, seeds; with test scores", grid, 0, ("30 s, whole command", "12 s")),
    ]  # fmt: skip


def first_call(setting: Setting, results: Results) -> None:
    """Time the first training on a machine whose cache of kernels is empty, and the second."""
    configs = [dataclasses.replace(setting.config, rank=8)]
    clocks = [timed(f"call {number}", trained(setting, configs, FUSED)[1]).clock for number in (1, 2)]
    compiling = f"{clocks[0] - clocks[1]:.2f} s"
    results.rows.append(("first call without compiled kernels", "1", "–", compiling, "–", "–", "10 s", "4 s"))
    results.add("first_call_seconds", clocks)


def speed(setting: Setting, results: Results, line: Line) -> None:
    """Time a row: both engines in turn."""
    epochs = line.configs[0].epochs

    def ours() -> Timing:
        return timed(f"{line.title}, fused", trained(setting, line.configs, FUSED, test=line.today == 0)[1])

    def todays() -> Timing:
        configs = [dataclasses.replace(config, epochs=line.today) for config in line.configs]
        timing = timed(f"{line.title}, today, {line.today} epochs", trained(setting, configs, TODAY)[1])
        return dataclasses.replace(timing, clock=timing.clock * epochs / line.today)

    ours()  # compiles, and fills the caches
    timings = in_turn({"fused": ours} | ({"today": todays} if line.today else {}), setting.rounds)
    clocks = {name: [timing.clock for timing in each] for name, each in timings.items()}
    images = len(line.configs) * epochs * len(setting.train) * 0.8
    ratios = [today / fused for today, fused in zip(clocks.get("today", ()), clocks["fused"], strict=False)]
    today = spread(clocks["today"], 2, " s") if line.today else "–"
    note = f", {line.today} epoch × {epochs // line.today}" if line.today not in (0, epochs) else ""
    results.rows.append(
        (
            f"{line.title}, {epochs} epochs", str(setting.rounds), today + note, spread(clocks["fused"], 3, " s"),
            spread(ratios, 1) if ratios else "–", f"{images / median(clocks['fused']):.3g}", *line.goals,
        )
    )  # fmt: skip
    results.add(line.title, clocks)


def members(setting: Setting) -> list[AdapterConfig]:
    """Return members that differ in all settings that the kernels know."""
    changes: list[dict[str, Any]] = [
        *({"rank": rank, "seed": rank} for rank in ((2, 20) if setting.toy else RANKS)),
        {"rank": 8, "lr": 3e-3, "schedule": "cosine"}, {"rank": 8, "optimizer": "adam", "weight_decay": 0.01},
        {"rank": 8, "alpha": 4.0, "scaling": "standard", "init": "kaiming"}, {"rank": 16, "lr_ratio_b": 4.0},
        {"rank": 8, "target_layers": ("fc1", "fc3")}, {"rank": 8, "vary": "order", "seed": 3},
    ]  # fmt: skip
    return [dataclasses.replace(setting.config, **each) for each in changes[: 4 if setting.toy else None]]


def exactness(setting: Setting, results: Results, way: str) -> None:
    """Compare members with their twins of the CPU's bank after 200 steps, and the same call with itself."""
    count = len(setting.train) if setting.toy else 200 * 64 * 5 // 4
    some = dataclasses.replace(setting, train=MNISTDataset(*setting.train[:count], setting.train.pixel_stats))
    configs, weights = members(setting), []
    with tuned({rank: dataclasses.replace(chosen, way=way) for rank, chosen in tuning.TRAINING.items()}):
        for runtime in (CPU, FUSED, FUSED):
            models, call = trained(some, configs, runtime)
            call()
            weights.append([adapter_tensors(model) for model in models])
    expected, found, again = weights
    apart = [_furthest(one, other) for one, other in zip(expected, found, strict=True)]
    repeats = max(_furthest(one, other) for one, other in zip(found, again, strict=True)) == 0
    verdicts = [("yes" if good else "NO") for good in (max(apart) < SHOWN, repeats)]
    head = (f"{way}: {len(configs)} members beside the CPU's bank, 200 steps", "furthest", f"< {SHOWN:g}", "repeats")
    results.add(f"exactness_{way}", apart, table(head, [("all settings", f"{max(apart):.1e}", *verdicts)]))


def _furthest(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    return max((tensor - one[name]).abs().max().item() for name, tensor in other.items())


def accuracy(setting: Setting, results: Results) -> None:
    """Compare the test accuracy of the study's members with that of the CPU's bank, paired by rank and seed."""
    configs = [dataclasses.replace(each, epochs=min(each.epochs, 3)) for each in lines(setting)[1].configs]
    digits = torch.tensor(NEW_DIGITS.members)
    outcomes = trained(setting, configs, FUSED, test=True)[1]()
    fused = [sum(outcome.test.hits[digit] for digit in digits) for outcome in outcomes if outcome.test]
    models, call = trained(setting, configs, CPU)
    call()
    chosen = torch.isin(setting.test.labels, digits)
    images, labels = setting.test.images[chosen], setting.test.labels[chosen]
    with torch.no_grad():
        bank = [(model(images).argmax(1) == labels).sum().item() for model in models]
    differences = [100 * (one - other) / len(labels) for one, other in zip(fused, bank, strict=True)]
    over = mean_interval(differences)
    row = (
        f"{len(configs)} members paired, {configs[0].epochs} epochs", f"{over.mean:+.4f} ± {over.half_width or 0:.4f}",
        f"{max(map(abs, differences)):.3f}",
    )  # fmt: skip
    head = (f"test accuracy on {NEW_DIGITS}, fused − the CPU's bank, points", "mean, 95 %", "largest")
    results.add("accuracy_differences", differences, table(head, [row]))


def main() -> None:
    """Measure, and print the tables."""
    parser = options(__doc__, rounds=3, seconds=540)
    parser.add_argument("--toy", action="store_true", help="everything once, tiny; by the interpreter without a GPU")
    parser.add_argument("--variants", action="store_true", help="also each way to compile the kernels")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    given = parser.parse_args()
    os.environ["TRITON_CACHE_DIR"] = mkdtemp()  # as on a machine that has never compiled
    if not (given.toy or torch.cuda.is_available()):
        print("There is no GPU here; --toy runs everything without one.")
        return
    results, setting = Results(given), make_setting(toy=given.toy, rounds=given.rounds)
    run: Callable[[Callable[[], None]], None] = results.run
    run(partial(first_call, setting, results))
    run(partial(exactness, setting, results, tuning.TRAINING[16].way))
    for line in lines(setting)[:3]:
        run(partial(speed, setting, results, line))
    if given.variants:
        run(lambda: results.add("variants", *compare_variants(setting, lambda: results.time_left)))
    run(partial(accuracy, setting, results))
    for way in ("ieee", "tf32x3", "bf16x6"):
        if way != tuning.TRAINING[16].way:
            run(partial(exactness, setting, results, way))
    run(partial(speed, setting, results, lines(setting)[3]))
    report(given, table(HEAD, results.rows), *results.parts, hardware())


if __name__ == "__main__":
    main()
