"""How the cost of a bank grows with its adapters, from one to a thousand.

Run it from the root of the checkout: ``python benchmarks/growth.py --rounds 3``. Each count is a process of its own,
which trains that many of seven ranks × 143 seeds on 5-9 with the bank, scored each epoch, as ``sweep``
does; peak memory is the kernel's figure for that process. Counts take turns.
"""

from __future__ import annotations

import json
import sys
import time
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from harness import hardware, in_turn, options, process, report, spread, table

from lora_mnist_cli.evaluation.original_study import NEW_DIGITS, RANKS

COUNTS = (1, 7, 35, 70, 350, 1000)


def train(count: int, epochs: int) -> dict[str, float]:
    """Train that many adapters in this process; returns seconds, CPU seconds and the number of banks."""
    import torch

    from lora_mnist_cli.settings.adapter_config import AdapterConfig
    from lora_mnist_cli.settings.config import BaseConfig
    from lora_mnist_cli.settings.runtime import Runtime
    from lora_mnist_cli.stages import Workspace, train_base
    from lora_mnist_cli.stages.banks.cut import AdapterRequest, cut_into_banks
    from lora_mnist_cli.stages.banks.work import plan_jobs

    torch.set_num_threads(1)
    configs = [
        AdapterConfig(rank=rank, seed=seed, epochs=epochs, digits=NEW_DIGITS, target_layers=("fc1", "fc2", "fc3"))
        for seed, rank in ((i // len(RANKS), RANKS[i % len(RANKS)]) for i in range(count))
    ]
    with TemporaryDirectory() as folder:
        workspace = Workspace(runs_dir=Path(folder), runtime=Runtime(accelerator="cpu"))
        base = train_base(BaseConfig(epochs=1), workspace=workspace)
        requests = [AdapterRequest(f"a{i}", config) for i, config in enumerate(configs)]
        start, cpu = time.perf_counter(), time.process_time()
        plan_jobs(workspace, base, requests).run()
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        count_of_banks = len(list(cut_into_banks(requests, base, workspace.runtime)))
        return {"seconds": seconds, "cpu": cpu, "banks": count_of_banks}


def main() -> None:
    """Measure, and print the table."""
    parser = options(__doc__, rounds=1, epochs=1)
    parser.add_argument("--only", type=int, help="train that many in this process, and print the figures as JSON")
    given = parser.parse_args()
    if given.only:
        print(json.dumps(train(given.only, given.epochs)))
        return
    command = [sys.executable, __file__, "--epochs", given.epochs, "--only"]
    timings = in_turn({n: partial(process, f"{n} adapters", [*command, n]) for n in COUNTS}, given.rounds)
    rows = []
    for count, each in timings.items():
        figures = [json.loads(timing.result.splitlines()[-1]) for timing in each]
        rows.append((
            f"{count:,}", str(len(each)), f"{figures[0]['banks']:.0f}",
            spread([f["seconds"] for f in figures], 2, " s"),
            f"{1000 * median(f['cpu'] for f in figures) / count:.0f} ms", f"{max(t.memory for t in each) / 1e9:.2f} GB",
        ))  # fmt: skip
    head = (
        f"adapters, {given.epochs} epochs each", "n", "banks", "clock", "CPU per adapter, median",
        "peak memory of the process",
    )  # fmt: skip
    report(given, table(head, rows, text=0), f"Trained, scored and published. {hardware()}")


if __name__ == "__main__":
    main()
