"""What recording a step as one CUDA graph gains, and a GPU beside the CPU of the same machine.

Run it from the root of the checkout, on a machine with a GPU: ``python benchmarks/recorded_steps.py --rounds 3``. Each
line is training alone: the base, or adapters on 5-9, under Lightning and scored each epoch, as the commands do it. The
ways take turns. That recorded and eager steps give the same weights, bit for bit, is checked in each round.
"""

from __future__ import annotations

import dataclasses
from functools import partial

import torch
from harness import Timing, hardware, in_turn, options, report, spread, table, timed

from lora_mnist_cli.data.dataset import MNISTDataset
from lora_mnist_cli.evaluation.original_study import BASE_DIGITS, NEW_DIGITS, RANKS
from lora_mnist_cli.models.mlp import MNISTModel
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.config import BaseConfig
from lora_mnist_cli.settings.runtime import Runtime
from lora_mnist_cli.stages.records.loading import twin
from lora_mnist_cli.training import cuda_graph
from lora_mnist_cli.training.bank.trainer import fit_bank
from lora_mnist_cli.training.trainer import fit

LINES = {"base": 0, "one adapter of rank 8": 1, "seven ranks": 7, "seven ranks × ten seeds": 70}
WAYS = ("CPU", "GPU, eager", "GPU, recorded")
NEVER = 10**9


def train(line: str, way: str, epochs: int, data: dict[str, MNISTDataset]) -> Timing:
    """Time a training; the result is the weights that it ended with."""
    runtime = Runtime(accelerator="cpu" if way == "CPU" else "gpu")
    cuda_graph.EAGER_CALLS = NEVER if way == "GPU, eager" else 20
    torch.manual_seed(0)
    base = MNISTModel((64, 64))
    count = LINES[line]
    if not count:
        call = partial(fit, base, data["0-4"], BaseConfig(epochs=epochs), runtime=runtime)
        return dataclasses.replace(timed(f"{line}, {way}", call), result=list(base.parameters()))
    ranks = (8,) if count == 1 else RANKS
    configs = [
        AdapterConfig(rank=rank, seed=seed, epochs=epochs, digits=NEW_DIGITS)
        for seed in range(count // len(ranks))
        for rank in ranks
    ]
    models = [twin(base, config) for config in configs]
    timing = timed(f"{line}, {way}", partial(fit_bank, models, data["5-9"], configs, runtime=runtime))
    return dataclasses.replace(timing, result=[p for model in models for p in model.parameters() if p.requires_grad])


def main() -> None:
    """Measure, and print the table."""
    given = options(__doc__, rounds=3, epochs=3).parse_args()
    if not torch.cuda.is_available():
        print("There is no GPU here.")
        return
    data = {str(digits): MNISTDataset.load("train", digits) for digits in (BASE_DIGITS, NEW_DIGITS)}
    # Libraries are loaded, and the device is up, before the first figure.
    for way in WAYS:
        train("base", way, 1, data)
    rows = []
    for line in LINES:
        timings = in_turn({way: partial(train, line, way, given.epochs, data) for way in WAYS}, given.rounds)
        pairs = list(zip(timings["GPU, eager"], timings["GPU, recorded"], strict=True))
        if not all(all(map(torch.equal, eager.result, recorded.result)) for eager, recorded in pairs):
            raise SystemExit(f"{line}: recorded steps give other weights than eager ones")
        gained = spread([eager.clock / recorded.clock for eager, recorded in pairs], 1)
        rows.append((line, *(spread([timing.clock for timing in timings[way]], 2, " s") for way in WAYS), gained))
    head = (f"{given.epochs} epochs, n={given.rounds}", *WAYS, "eager ÷ recorded")
    report(given, table(head, rows), hardware())


if __name__ == "__main__":
    main()
