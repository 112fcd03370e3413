"""How far single runs of the study scatter: the whole study with several seeds, each with a base of its own.

Run it from the root of the checkout: ``python benchmarks/spread.py --seeds 10 --output docs/spread``.
It writes a Markdown table and the same figures as JSON, which ``tests/study`` compares a fresh run with.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from harness import hardware, options, report, table

from lora_mnist_cli.stages import Workspace, reproduce

HEAD = ("what", "measure", "study, one run", "mean", "standard deviation", "lowest to highest", "study, in deviations")


def spread(seeds: int, runs_dir: Path) -> list[dict[str, Any]]:
    """A row per figure of the study: its value there, and mean, standard deviation and extremes of our seeds."""
    tables = []
    for seed in range(seeds):
        made = reproduce(seed=seed, workspace=Workspace(runs_dir))
        tables.append(made.details["rows"])
        print(f"seed {seed}: {made.name}", file=sys.stderr)
    rows = []
    for figures in zip(*tables, strict=True):
        here = [figure["here"] for figure in figures]
        first = {key: figures[0][key] for key in ("what", "digits", "measure", "study")}
        rows.append(first | {"n": seeds, "mean": mean(here), "sd": stdev(here), "min": min(here), "max": max(here)})
    return rows


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """A row of the table, accuracies in percent."""
    factor, places, unit = (100, 2, " %") if row["measure"] == "accuracy" else (1, 3, "")
    study, middle, deviation, low, high = (
        f"{factor * row[key]:.{places}f}" for key in ("study", "mean", "sd", "min", "max")
    )
    away = f"{(row['study'] - row['mean']) / row['sd']:+.1f}" if row["sd"] else "–"
    measure = f"{row['measure']} on {row['digits']}"
    return row["what"], measure, study + unit, middle + unit, deviation, f"{low} to {high}", away


def main() -> None:
    """Run the seeds and write both files."""
    parser = options(__doc__, seeds=10)
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), help="where the artifacts are and go")
    parser.set_defaults(output=Path("docs/spread.md"))
    given = parser.parse_args()
    if given.seeds < 2:
        parser.error("a spread needs at least 2 seeds")
    rows = spread(given.seeds, given.runs_dir)
    given.output = given.output.with_suffix(".md")
    given.output.with_suffix(".json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    about = (
        f"Reference recipe, {given.seeds} seeds, each with a base, a split, a data order and initialisations of its "
        "own; MNIST's test images. The last column is (study − mean) / standard deviation. Written by "
        f"`python benchmarks/spread.py --seeds {given.seeds}`."
    )
    figures = table(HEAD, [cells(row) for row in rows], text=2)
    measured = f"Measured with one training thread on {hardware()}"
    report(given, "# How far single runs of the study scatter", about, figures, measured)


if __name__ == "__main__":
    main()
