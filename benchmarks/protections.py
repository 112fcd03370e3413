"""What each protection, and each useful combination, keeps of 0-4 while 5-9 are learned, as docs/forgetting.md has it.

Run it from the root of the checkout: ``python benchmarks/protections.py --runs-dir FOLDER``. Each seed has a base of
its own, and an adapter of each setting on it. What is in the folder already is taken as it is, so a run that was
stopped goes on where it was.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness import hardware, options, report, table

from lora_mnist_cli.evaluation.intervals import mean_interval
from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.config import BaseConfig
from lora_mnist_cli.settings.lists import parse_integers
from lora_mnist_cli.settings.recipes import recipe
from lora_mnist_cli.stages import Workspace, finetune, train_base

SETTINGS: dict[str, dict[str, Any]] = {
    "none (plain LoRA)": {},
    "mask": {"protect": ("mask",)},
    "distill": {"protect": ("distill",)},
    "nullspace": {"protect": ("nullspace",)},
    "mask, distill": {"protect": ("mask", "distill")},
    "nullspace, mask": {"protect": ("nullspace", "mask")},
    "replay of old digits alone (`--replay-new 0`)": {"protect": ("replay",), "replay_new": 0.0},
    "replay": {"protect": ("replay",)},
    "replay, mask": {"protect": ("replay", "mask")},
    "replay, mask, distill": {"protect": ("replay", "mask", "distill")},
    "replay, nullspace, mask": {"protect": ("replay", "nullspace", "mask")},
    "replay, mask at rank 8": {"protect": ("replay", "mask"), "rank": 8},
    "replay, mask, twice the samples (`--replay-old 2 --replay-new 2`)": {
        "protect": ("replay", "mask"), "replay_old": 2.0, "replay_new": 2.0,
    },
}  # fmt: skip
SUBSETS = ("0-4", "5-9", "0-9")


def accuracies(artifacts: Sequence[Artifact], digits: str) -> list[float]:
    """Of each artifact on some digits' test images, in %."""
    rows = [{row["digits"]: row["accuracy"] for row in artifact.scores["subsets"]} for artifact in artifacts]
    return [100 * row[digits] for row in rows]


def spread(figures: Sequence[float]) -> str:
    """Mean and half the width of its 95 % interval."""
    found = mean_interval(figures)
    half = "" if found.interval is None else f" ± {found.interval.high - found.mean:.2f}"
    return f"{found.mean:.2f}{half}"


def main() -> None:
    """Train, score and print."""
    parser = options(__doc__, rank=64)
    parser.add_argument("--runs-dir", type=Path, required=True)
    parser.add_argument("--seeds", default="0-9")
    parser.add_argument("--recipe", default="tuned")
    given = parser.parse_args()
    seeds, workspace = parse_integers(given.seeds, "--seeds"), Workspace(given.runs_dir)
    plain: AdapterConfig = dataclasses.replace(recipe(given.recipe).adapter, rank=given.rank)
    bases = [train_base(BaseConfig(seed=seed), workspace=workspace) for seed in seeds]
    rows = []
    for what, changes in SETTINGS.items():
        adapters = []
        for seed, base in zip(seeds, bases, strict=True):
            config = dataclasses.replace(plain, seed=seed, **changes)
            rate = "".join(f"-{key}-{value:g}" for key, value in changes.items() if isinstance(value, float))
            name = f"{'-'.join(['lora', *config.protect])}{rate}-r{config.rank}-s{seed}".replace("_", "-")
            adapters.append(finetune(config, base=base.name, workspace=workspace, name=name))
        cells = [spread(accuracies(adapters, digits)) for digits in SUBSETS]
        rows.append((what, *cells, f"{min(accuracies(adapters, '0-9')):.2f}"))
        print(rows[-1], file=sys.stderr)
    about = f"Accuracy in % on the test images, {given.recipe} recipe, rank {given.rank}; mean of {len(seeds)} seeds"
    head = ("`--protect`", *SUBSETS, "worst seed on 0-9")
    report(given, f"{about} and its 95 % interval. {hardware()}", table(head, rows))


if __name__ == "__main__":
    main()
