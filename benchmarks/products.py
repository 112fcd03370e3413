"""How long adapters of other methods take in a bank, beside the same adapters one after the other, in turn.

Run it from the root of the checkout: ``python benchmarks/products.py --rounds 3``.

Seven ranks with ten seeds each, on digits 5-9 of the same frozen base, with the reference recipe. Both ways train the
same numbers and score both splits each epoch. CPU seconds are this process's own, and say more than the clock where
others took a part of a core.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from harness import MEASURED, Timing, compared, hardware, in_turn, measured, options, report, table, timed

from lora_mnist_cli.data.dataset import MNISTDataset
from lora_mnist_cli.evaluation.original_study import NEW_DIGITS, RANKS
from lora_mnist_cli.models.mlp import MNISTModel
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.choices import METHODS
from lora_mnist_cli.settings.config import BaseConfig
from lora_mnist_cli.stages import Workspace, train_base
from lora_mnist_cli.stages.records.loading import load_model, twin
from lora_mnist_cli.training.bank.trainer import fit_bank
from lora_mnist_cli.training.trainer import fit

PRODUCTS = [name for name, method in METHODS.items() if method.in_banks]
TOGETHER, ALONE = "in a bank", "one after the other"


def measure(base: MNISTModel, images: MNISTDataset, configs: list[AdapterConfig], how: str) -> Timing:
    """Time the training of adapters; the making of models is not timed."""
    models = [twin(base, config) for config in configs]

    def train() -> None:
        if how == TOGETHER:
            fit_bank(models, images, configs)
        else:
            for model, config in zip(models, configs, strict=True):
                fit(model, images, config)

    return timed(f"{configs[0].method} {how}", train)


def main() -> None:
    """Measure, and print the tables."""
    parser = options(__doc__, rounds=1, epochs=1, seeds=10)
    parser.add_argument("--methods", default=",".join(PRODUCTS), help="methods to measure")
    given = parser.parse_args()
    methods = given.methods.split(",")
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        workspace = Workspace(runs_dir=Path(folder))
        base = load_model(workspace.registry, train_base(BaseConfig(epochs=2), workspace=workspace)).model
    images = MNISTDataset.load("train", NEW_DIGITS)
    ways = {}
    for method in methods:
        configs = [
            AdapterConfig(method=method, rank=rank, seed=seed, epochs=given.epochs, digits=NEW_DIGITS)
            for seed in range(given.seeds) for rank in RANKS
        ]  # fmt: skip
        few = [configs[0]]
        for how in (ALONE, TOGETHER):
            measure(base, MNISTDataset(*images[:800]), few, how)  # none pays for first calls in its timer
            ways[f"{METHODS[method].title} {how}"] = partial(measure, base, images, configs, how)
    results = in_turn(ways, given.rounds)
    head = (f"{len(RANKS) * given.seeds} adapters, {given.epochs} epochs", *MEASURED)
    titles = [METHODS[method].title for method in methods]
    pairs = [(f"{title} {ALONE}", f"{title} {TOGETHER}") for title in titles]
    pairs += [(f"{title} {TOGETHER}", f"{titles[0]} {TOGETHER}") for title in titles[1:]]
    rows = [(what, *measured(each)) for what, each in results.items()]
    report(given, table(head, rows), compared("within each round", results, pairs), f"{hardware()} One thread.")


if __name__ == "__main__":
    main()
