"""What recording a step as one CUDA graph gains, and a GPU beside the CPU of the same machine.

Run it from the root of the checkout, on a machine with a GPU: ``python benchmarks/gpu.py --rounds 3``. Each line is
training alone: the base, or adapters on 5-9, under Lightning and scored each epoch, as the commands do it. The ways
take turns. That recorded and eager steps give the same weights, bit for bit, is checked in each round.
"""

from __future__ import annotations

import sys
import time

import torch
from harness import hardware, options, report, spread, table
from torch import Tensor

from lora_mnist_cli.data.dataset import MNISTDataset
from lora_mnist_cli.models.mlp import MNISTModel
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.config import BaseConfig
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.settings.runtime import Runtime
from lora_mnist_cli.stages.records.loading import twin
from lora_mnist_cli.training import cuda_graph
from lora_mnist_cli.training.bank.trainer import fit_bank
from lora_mnist_cli.training.trainer import fit

RANKS = (1, 2, 4, 8, 16, 32, 64)
LINES = {"base": 0, "one adapter of rank 8": 1, "seven ranks": 7, "seven ranks × ten seeds": 70}
WAYS = ("CPU", "GPU, eager", "GPU, recorded")
NEVER = 10**9


def train(line: str, way: str, epochs: int, data: dict[str, MNISTDataset]) -> tuple[float, list[Tensor]]:
    """Seconds of the training, and the weights that it ended with."""
    runtime = Runtime(accelerator="cpu" if way == "CPU" else "gpu")
    cuda_graph.EAGER_CALLS = NEVER if way == "GPU, eager" else 20
    torch.manual_seed(0)
    base = MNISTModel((64, 64))
    count = LINES[line]
    if not count:
        start = time.perf_counter()
        fit(base, data["0-4"], BaseConfig(epochs=epochs), runtime=runtime)
        return time.perf_counter() - start, list(base.parameters())
    ranks = (8,) if count == 1 else RANKS
    configs = [
        AdapterConfig(rank=rank, seed=seed, epochs=epochs, digits=DigitSet(range(5, 10)))
        for seed in range(count // len(ranks))
        for rank in ranks
    ]
    models = [twin(base, config) for config in configs]
    start = time.perf_counter()
    fit_bank(models, data["5-9"], configs, runtime=runtime)
    seconds = time.perf_counter() - start
    return seconds, [p for model in models for p in model.parameters() if p.requires_grad]


def main() -> None:
    """Measure, and print the table."""
    given = options(__doc__, rounds=3, epochs=3).parse_args()
    if not torch.cuda.is_available():
        print("There is no GPU here.")
        return
    digits = {"0-4": DigitSet(range(5)), "5-9": DigitSet(range(5, 10))}
    data = {name: MNISTDataset.load("train", each) for name, each in digits.items()}
    # Libraries are loaded, and the device is up, before the first figure.
    for way in WAYS:
        train("base", way, 1, data)
    seconds: dict[tuple[str, str], list[float]] = {}
    for _ in range(given.rounds):
        for line in LINES:
            weights: dict[str, list[Tensor]] = {}
            for way in WAYS:
                taken, weights[way] = train(line, way, given.epochs, data)
                seconds.setdefault((line, way), []).append(taken)
                print(f"{line}, {way}: {taken:.2f} s", file=sys.stderr)
            pairs = zip(weights["GPU, eager"], weights["GPU, recorded"], strict=True)
            if not all(torch.equal(one, other) for one, other in pairs):
                raise SystemExit(f"{line}: recorded steps give other weights than eager ones")
    rows = []
    for line in LINES:
        pairs = zip(seconds[line, "GPU, eager"], seconds[line, "GPU, recorded"], strict=True)
        gained = spread([eager / recorded for eager, recorded in pairs], 1)
        rows.append((line, *(spread(seconds[line, way], 2, " s") for way in WAYS), gained))
    head = (f"{given.epochs} epochs, n={given.rounds}", *WAYS, "eager ÷ recorded")
    report(given, table(head, rows), hardware())


if __name__ == "__main__":
    main()
