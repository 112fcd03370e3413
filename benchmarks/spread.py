"""How far single runs of the study scatter: the whole study with several seeds, each with a base of its own.

Run it from the root of the checkout: ``python benchmarks/spread.py --seeds 10 --output docs/spread``.
It writes a Markdown table and the same figures as JSON, which ``tests/study`` compares a fresh run with.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from importlib.metadata import version
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from lora_mnist_cli.stages import Workspace, reproduce


def spread(seeds: int, runs_dir: Path) -> list[dict[str, Any]]:
    """A row a figure of the study: its value there, and mean, standard deviation and extremes of our seeds."""
    tables = []
    for seed in range(seeds):
        report = reproduce(seed=seed, workspace=Workspace(runs_dir))
        tables.append(report.details["rows"])
        print(f"seed {seed}: {report.name}", flush=True)
    rows = []
    for figures in zip(*tables, strict=True):
        here = [figure["here"] for figure in figures]
        first = {key: figures[0][key] for key in ("what", "digits", "measure", "study")}
        rows.append(first | {"n": seeds, "mean": mean(here), "sd": stdev(here), "min": min(here), "max": max(here)})
    return rows


def markdown(rows: list[dict[str, Any]]) -> str:
    """The table, accuracies in percent."""
    lines = [
        "# How far single runs of the study scatter",
        "",
        f"Reference recipe, {rows[0]['n']} seeds, each with a base, a split, a data order and initialisations of its "
        "own; MNIST's test images. The last column is (study − mean) / standard deviation. Written by "
        f"`python benchmarks/spread.py --seeds {rows[0]['n']}`.",
        "",
        "| what | measure | study, one run | mean | standard deviation | lowest to highest | study, in deviations |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        factor, places, unit = (100, 2, " %") if row["measure"] == "accuracy" else (1, 3, "")
        study, middle, deviation, low, high = (
            f"{factor * row[key]:.{places}f}" for key in ("study", "mean", "sd", "min", "max")
        )
        away = f"{(row['study'] - row['mean']) / row['sd']:+.1f}" if row["sd"] else "–"
        lines.append(
            f"| {row['what']} | {row['measure']} on {row['digits']} | {study}{unit} | {middle}{unit} | {deviation} | "
            f"{low} to {high} | {away} |"
        )
    lines += [
        "",
        f"Measured on {platform.machine()}, {os.cpu_count()} cores, no GPU, one training thread; Python "
        f"{platform.python_version()}, torch {version('torch')}, pytorch-lightning {version('pytorch-lightning')}.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Run the seeds and write both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10, help="how many, from 0 on; at least 2")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), help="where the artifacts are and go")
    parser.add_argument("--output", type=Path, default=Path("docs/spread"), help="without suffix: .md and .json follow")
    options = parser.parse_args()
    if options.seeds < 2:
        parser.error("a spread needs at least 2 seeds")
    rows = spread(options.seeds, options.runs_dir)
    options.output.with_suffix(".md").write_text(markdown(rows), encoding="utf-8")
    options.output.with_suffix(".json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    print(markdown(rows))


if __name__ == "__main__":
    main()
