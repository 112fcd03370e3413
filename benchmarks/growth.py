"""How the cost of a bank grows with its adapters, from one to a thousand.

Run it from the root of the checkout: ``python benchmarks/growth.py --rounds 3``. Each count is a process of its own,
which trains the first so many of seven ranks × 143 seeds on 5-9 with the bank under Lightning, scored each epoch, as
``sweep`` does; peak memory is the kernel's figure for that process. Counts take turns.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from machine import hardware

COUNTS = (1, 7, 35, 70, 350, 1000)
RANKS = (1, 2, 4, 8, 16, 32, 64)


def train(count: int, epochs: int) -> dict[str, float]:
    """Train so many adapters in this process; returns seconds, CPU seconds, and peak memory in bytes."""
    import torch

    from lora_mnist_cli.settings.adapter_config import AdapterConfig
    from lora_mnist_cli.settings.config import BaseConfig
    from lora_mnist_cli.settings.digits import DigitSet
    from lora_mnist_cli.settings.runtime import Runtime
    from lora_mnist_cli.stages import Workspace, train_base
    from lora_mnist_cli.stages.banks.cut import AdapterRequest, cut_into_banks
    from lora_mnist_cli.stages.banks.work import plan_jobs

    torch.set_num_threads(1)
    digits = DigitSet(range(5, 10))
    configs = [
        AdapterConfig(rank=rank, seed=seed, epochs=epochs, digits=digits, target_layers=("fc1", "fc2", "fc3"))
        for seed, rank in ((i // len(RANKS), RANKS[i % len(RANKS)]) for i in range(count))
    ]
    with TemporaryDirectory() as folder:
        workspace = Workspace(runs_dir=Path(folder), runtime=Runtime(accelerator="cpu"))
        base = train_base(BaseConfig(epochs=1), workspace=workspace)
        wanted = [AdapterRequest(f"a{i}", config) for i, config in enumerate(configs)]
        start, cpu = time.perf_counter(), time.process_time()
        plan_jobs(workspace, base, wanted).run()
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        cut = len(list(cut_into_banks(wanted, base, workspace.runtime.bank_megabytes)))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": seconds, "cpu": cpu, "memory": memory, "banks": cut}


def main() -> None:
    """Measure, print the table, write it where it is asked for."""
    parser = argparse.ArgumentParser(description="Time banks of one to a thousand adapters.")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", type=int, help="train so many in this process, and print the figures as JSON")
    parser.add_argument("--output", type=Path, help="a Markdown file to write the table to as well")
    options = parser.parse_args()
    if options.only:
        print(json.dumps(train(options.only, options.epochs)))
        return
    runs: dict[int, list[dict[str, float]]] = {count: [] for count in COUNTS}
    for _ in range(options.rounds):
        for count in COUNTS:
            command = [sys.executable, __file__, "--only", str(count), "--epochs", str(options.epochs)]
            printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            runs[count].append(json.loads(printed.splitlines()[-1]))
            print(f"{count}: {runs[count][-1]}", file=sys.stderr)
    lines = [
        f"| adapters, {options.epochs} epochs each | n | banks | clock, median | min–max | CPU an adapter, median | "
        "peak memory of the process |",
        "|---:|---|---:|---:|---:|---:|---:|",
    ]
    for count, of in runs.items():
        seconds = [each["seconds"] for each in of]
        lines.append(
            f"| {count:,} | {len(of)} | {of[0]['banks']:.0f} | {median(seconds):.2f} s | "
            f"{min(seconds):.2f}–{max(seconds):.2f} s | {1000 * median(each['cpu'] for each in of) / count:.0f} ms | "
            f"{max(each['memory'] for each in of) / 1e9:.2f} GB |"
        )
    text = "\n".join([*lines, "", f"Trained, scored and published. {hardware()}"]) + "\n"
    print(text, end="")
    if options.output:
        options.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
