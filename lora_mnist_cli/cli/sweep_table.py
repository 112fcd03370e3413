"""The table of a sweep: a row per adapter, and what the seeds of each combination come to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lora_mnist_cli.cli.tables import number, percent, spread_cells
from lora_mnist_cli.cli.text_table import Table
from lora_mnist_cli.evaluation.seeds import Row, by_setting, summarise
from lora_mnist_cli.settings.grid import OTHERS, in_words, short

Results = Sequence[dict[str, Any]]


def sweep_table(
    title: str, results: Results, subsets: Sequence[str], study: dict[int, float], study_digits: str,
    beside: Mapping[str, Results] | None = None,
) -> Table:  # fmt: skip
    """Make a row per adapter, ordered by combination.

    With several seeds, two rows close each combination: means with half their 95 % intervals, and the worst seed of
    each figure.

    Args:
        subsets: the digit sets in the order of their columns.
        study: rank → the study's accuracy on ``study_digits``; empty if it has none to compare with.
        beside: method → results of models without a rank, which are no part of the sweep.
    """
    beside = beside or {}
    several = len({row["seed"] for rows in (results, *beside.values()) for row in rows}) > 1
    axes = [axis for axis in OTHERS if axis.field in results[0]]
    heads = ["rank", *(in_words(axis.field) for axis in axes), "parameters", *(["seed"] if several else [])]
    figures = [f"{digits} {what}" for digits in subsets for what in ("acc. %", "loss")]
    made = Table(
        [*heads, *figures, *([f"study {study_digits} %"] if study else [])], title=title,
        text_columns=[in_words(axis.field) for axis in axes if axis.kind is str],
        # With several seeds, the parameters' column says what the closing rows are.
        optional=[*reversed(figures[1:]), *([] if several else ["parameters"])],
    )  # fmt: skip
    for setting, rows in by_setting(results):
        named = [str(setting["rank"] or "–"), *(short(setting[axis.field]) for axis in axes)]
        reference = [percent(study.get(setting["rank"]))] if study else []
        _add_rows(made, named, rows, subsets, reference, several=several)
    for method, others in beside.items():
        made.add_section()
        _add_rows(made, [method, *("–" for _ in axes)], others, subsets, ["–"] if study else [], several=several)
    return made


def _add_rows(
    made: Table, named: list[str], rows: Sequence[Row], subsets: Sequence[str], reference: list[str], *, several: bool
) -> None:
    """Add the runs of one combination and, if there are several, the rows that close it."""
    for row in rows:
        scores = {score["digits"]: score for score in row["subsets"]}
        cells = [t for d in subsets for t in (percent(scores[d]["accuracy"]), number(scores[d]["loss"]))]
        seed = [str(row["seed"])] if several else []
        study = reference if len(rows) == 1 else []
        made.add_row(*named, f"{row['trainable_parameters']:,}", *seed, *cells, *study)
    if len(rows) == 1:
        return
    (summary,) = summarise(rows)
    spreads = {spread["digits"]: spread for spread in summary["subsets"]}
    shows = (("accuracy", percent), ("loss", number))
    closing = [spread_cells(spreads[digits][what], show) for digits in subsets for what, show in shows]
    failed = f", {summary['failed']} failed" if summary["failed"] else ""
    n = f"n={len(rows) - summary['failed']}{failed}"
    made.add_row(*named, "mean ± 95 %", n, *(mean for mean, _ in closing), *reference, bold=True)
    made.add_row(*named, "worst (seed)", "", *(worst for _, worst in closing), bold=True)
    made.add_section()
