"""How long a stage takes without its process: the study's pipeline beside ours, in one process, in turn.

Run it from the root of the checkout: ``python benchmarks/stages_alone.py --rounds 3``, and with ``--stage ranks`` for
seven adapters on a base that is there.

Both do the same work: unpack the files, train 784 → 64 → 64 → 10 on the digits 0-4, score it on the test images of
0-4 and of 5-9; or train adapters of rank 1 to 64 on 5-9, and score each on both. They take turns, so that a machine
which slows down or warms up meets both, and the ratio is taken within each round. Imports are done and both pipelines
have run once before a timer starts.

The study's pipeline runs as it is, with as many threads as PyTorch takes by itself, and with one, which is our
default; for the adapters, which take seven times as long, with one alone. Threads wait for each other in every
operation, so on a small or busy machine that can be most of the difference. The table says how many cores other
processes took meanwhile: a ratio is worth something only where that is about 0.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import study_pipeline
import torch
from harness import MEASURED, Timing, compared, hardware, in_turn, measured, options, report, table, timed
from torch.utils.data import Subset

from lora_mnist_cli.data.sources import Split, forget_splits
from lora_mnist_cli.evaluation.original_study import BASE_DIGITS as DIGITS
from lora_mnist_cli.evaluation.original_study import NEW_DIGITS as OTHERS
from lora_mnist_cli.evaluation.original_study import RANKS
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.config import BaseConfig
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.settings.runtime import Runtime
from lora_mnist_cli.stages import Workspace, sweep, train_base

DATA = Path("data")

Stage = Callable[[int, int, Path], float]
"""From epochs, a seed and an empty folder to the accuracy reached."""


def images(split: Split, digits: DigitSet) -> study_pipeline.DigitImages:
    """The images as the study's pipeline has them."""
    return study_pipeline.DigitImages(split, digits.members, DATA)


def study(epochs: int, seed: int, folder: Path) -> float:
    """The study's base stage, which tests the base on 0-4 and on 5-9; returns the accuracy on 0-4."""
    model = study_pipeline.train(images("train", DIGITS), folder, epochs=epochs, seed=seed)
    tests = [images("test", digits) for digits in (DIGITS, OTHERS)]
    (accuracy, _), _ = (study_pipeline.evaluate(model, each, folder) for each in tests)
    return accuracy


def ours(epochs: int, seed: int, folder: Path) -> float:
    """Our base stage, which also scores the other digits and publishes an artifact; returns the same accuracy."""
    config = BaseConfig(epochs=epochs, seed=seed, digits=DIGITS)
    artifact = train_base(config, workspace=Workspace(runs_dir=folder, data_dir=DATA))
    (row,) = [row for row in artifact.scores["subsets"] if row["digits"] == str(DIGITS)]
    return float(row["accuracy"])


class Ranks:
    """Seven adapters on a base of one epoch, made before the timer starts; the accuracy is that of rank 64 on 5-9."""

    def __init__(self, folder: Path) -> None:
        self.base = study_pipeline.train(images("train", DIGITS), folder, epochs=1)
        self.runs = folder / "runs"
        train_base(BaseConfig(epochs=1), workspace=Workspace(runs_dir=self.runs, data_dir=DATA))

    def study(self, epochs: int, seed: int, folder: Path) -> float:
        """The study's: one adapter after the other, each tested on 5-9 and on 0-4."""
        new, tests = images("train", OTHERS), [images("test", digits) for digits in (OTHERS, DIGITS)]
        accuracy = 0.0
        for rank in RANKS:
            model = study_pipeline.adapt(self.base, rank, new, folder, epochs=epochs, seed=seed)
            (accuracy, _), _ = (study_pipeline.evaluate(model, each, folder) for each in tests)
        return accuracy

    def ours(self, epochs: int, seed: int, folder: Path) -> float:
        """Ours, which also publishes seven adapters and the sweep."""
        runs = Path(shutil.copytree(self.runs, folder / "runs"))
        config = AdapterConfig(epochs=epochs, digits=OTHERS)
        artifact = sweep(RANKS, seeds=[seed], config=config, workspace=Workspace(runs_dir=runs, data_dir=DATA))
        (row,) = [row for row in artifact.details["results"][-1]["subsets"] if row["digits"] == str(OTHERS)]
        return float(row["accuracy"])


def measure(what: str, stage: Stage, threads: int, epochs: int, seeds: Iterator[int]) -> Timing:
    """Time a stage from the files on; the result is the accuracy reached."""
    # Splits that an earlier run unpacked are kept in memory; each run is to unpack its own.
    forget_splits()
    torch.set_num_threads(threads)
    # The study's pipeline shows its progress on stdout, where the table is to go.
    with TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        return timed(what, partial(stage, epochs, next(seeds), Path(folder)))


def warm_up() -> None:
    """Run both pipelines once on little, so that neither pays for lazy imports and first calls in its timer."""
    with TemporaryDirectory() as folder:
        few = Subset(images("train", DIGITS), range(640))
        study_pipeline.evaluate(study_pipeline.train(few, Path(folder), epochs=1), few, Path(folder))
        train_base(BaseConfig(epochs=1, val_split=0.98), workspace=Workspace(runs_dir=Path(folder), data_dir=DATA))


def tables(runs: dict[str, list[Timing]], heading: str, of: str) -> list[str]:
    """The times, and the ratio of each peer's to ours, which come last."""
    rows = []
    for what, each in runs.items():
        reached = [100 * timing.result for timing in each]
        rows.append((what, *measured(each), f"{median(reached):.2f} ({min(reached):.2f}–{max(reached):.2f})"))
    *peers, ours = runs
    pairs = compared("ratio", runs, [(peer, ours) for peer in peers], places=1)
    return [table((heading, *MEASURED, f"test accuracy {of}, %"), rows), pairs]


def main() -> None:
    """Measure, and print the tables."""
    parser = options(__doc__, rounds=1, epochs=10)
    parser.add_argument("--stage", choices=("base", "ranks"), default="base")
    given = parser.parse_args()
    # Lightning's advice on loaders and devices is about the pipeline that is measured as it is.
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"pytorch_lightning\..*")

    default, one = torch.get_num_threads(), Runtime().threads
    torch.set_num_threads(one)
    with TemporaryDirectory() as place:
        with contextlib.redirect_stdout(sys.stderr):
            warm_up()
            ranks = Ranks(Path(place)) if given.stage == "ranks" else None
        if ranks is None:
            heading, of = f"base stage, {given.epochs} epochs", f"on {DIGITS}"
            stages: dict[str, tuple[Stage, int]] = {
                f"the study's pipeline as it is, threads: {default}": (study, default),
                f"the study's pipeline, threads: {one}": (study, one),
                f"`train_base`, threads: {one}": (ours, one),
            }
        else:
            heading, of = f"seven ranks, {given.epochs} epochs", f"of rank {RANKS[-1]} on {OTHERS}"
            stages = {
                f"the study's pipeline, threads: {one}": (ranks.study, one),
                f"`sweep`, threads: {one}": (ranks.ours, one),
            }
        runs = in_turn(
            {what: partial(measure, what, *way, given.epochs, count()) for what, way in stages.items()}, given.rounds
        )
    report(given, *tables(runs, heading, of), hardware())


if __name__ == "__main__":
    main()
