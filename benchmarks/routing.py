"""What routing costs beside plain evaluation: ``python benchmarks/routing.py``; a Markdown table on stdout.

One adapter alone against a base and one or two adapters behind a router, on the 10,000 test images: as whole processes,
and the calculation alone, in one thread. Each round measures all of them one after the other, so that what else the
machine does falls on all alike; a ratio is that of a round, and its median is reported with the lowest and the highest.
Beside the time by the clock there is the processor's, user and system, which a busy machine disturbs less.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from machine import worked_seconds

from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.config import BaseConfig
from lora_mnist_cli.stages import Workspace, sweep, train_base

BASE, ADAPTERS = "base-0-4", ("lora-5-9-r8", "lora-5-9-r64")
CALLS = {
    "one adapter, plain": ["evaluate", ADAPTERS[0]],
    "base and adapter, mixture": ["evaluate", BASE, ADAPTERS[0], "--route"],
    "base and adapter, choose": ["evaluate", BASE, ADAPTERS[0], "--route", "--route-by", "choose"],
    "base and two adapters, mixture": ["evaluate", BASE, *ADAPTERS, "--route"],
}


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as place:
        workspace = Workspace(Path(place))
        train_base(BaseConfig(epochs=1), workspace=workspace)
        sweep([8, 64], config=AdapterConfig(epochs=1), workspace=workspace)
        whole = {name: _process(place, call) for name, call in CALLS.items()}
        inner = _calculations(workspace)
        print(f"{rounds} rounds; {os.cpu_count()} cores; 10,000 images\n")
        print("| what | measured | by the clock, s | ÷ plain | of the processor, s | ÷ plain |")
        print("|---|---|---:|---:|---:|---:|")
        times: dict[tuple[str, str], list[tuple[float, float]]] = {}
        for _ in range(rounds):
            for kind, calls in (("whole", whole), ("inner", inner)):
                for name, call in calls.items():
                    start, worked = time.perf_counter(), worked_seconds()
                    call()
                    spent = time.perf_counter() - start, worked_seconds() - worked
                    times.setdefault((kind, name), []).append(spent)
        for kind, told in (("whole", "whole process"), ("inner", "calculation")):
            for name in CALLS:
                cells = [cell for clock in (0, 1) for cell in _cells(times, kind, name, clock)]
                print(f"| {name} | {told} | {' | '.join(cells)} |")


def _process(runs: str, call: list[str]) -> Callable[[], object]:
    command = [sys.executable, "-m", "lora_mnist_cli", *call, "--runs-dir", runs, "--json", "--quiet"]
    return lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _calculations(workspace: Workspace) -> dict[str, Callable[[], object]]:
    from lora_mnist_cli.evaluation.logits import predict, predict_with
    from lora_mnist_cli.stages.evaluating_routed import load_experts
    from lora_mnist_cli.stages.records.loading import load_model

    adapter = workspace.registry.get(ADAPTERS[0])
    loaded = load_model(workspace.registry, adapter)
    images = workspace.test_images(adapter, loaded.pixel_stats).images
    calls: list[Callable[[], object]] = [partial(predict, loaded.model, images)]
    two = [BASE, ADAPTERS[0]]
    for names, by in ((two, "mixture"), (two, "choose"), ([*two, ADAPTERS[1]], "mixture")):
        model = load_experts(names, by=by, workspace=workspace).model
        calls.append(partial(predict_with, model.answers, model, images))
    return dict(zip(CALLS, calls, strict=True))


def _cells(times: dict[tuple[str, str], list[tuple[float, float]]], kind: str, name: str, clock: int) -> list[str]:
    own = [spent[clock] for spent in times[kind, name]]
    plain = [spent[clock] for spent in times[kind, next(iter(CALLS))]]
    ratios = sorted(mine / theirs for mine, theirs in zip(own, plain, strict=True))
    ratio = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
    return [f"{statistics.median(own):.3f}", "1" if name == next(iter(CALLS)) else ratio]


if __name__ == "__main__":
    main()
