"""The study's report: its rows over seeds, the table that Markdown and the terminal share, and the text around it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lora_mnist_cli.evaluation import original_study
from lora_mnist_cli.evaluation.intervals import ACCURACIES, CONFIDENCE, LOSSES, prediction_interval
from lora_mnist_cli.evaluation.seeds import plus_minus, spread
from lora_mnist_cli.settings.lists import as_ranges, counted
from lora_mnist_cli.settings.recipes import recipe
from lora_mnist_cli.stages.records.publishing import markdown_table

Row = dict[str, Any]
"""A figure of the study: ``what``, ``digits``, ``measure``, the ``study``'s value, the one ``here``, ``difference``."""

ROUNDED = {"accuracy": 1e-4, "loss": 1e-3}
"""Measure → the last place of the study's figures."""


def over_seeds(runs: Sequence[Row], seeds: Sequence[int]) -> Row:
    """Combine one row of several runs; ``here`` becomes the mean.

    The study has a single run. It is compared with the range in which one more run would lie, and not with the interval
    of the mean.

    Args:
        runs: the same row of each seed.

    Returns:
        The row with its ``evaluation.seeds.spread``, with ``prediction_low`` and ``prediction_high``, the ends of that
        range, and with ``agrees``: whether the study's run lies within it, or None where it can't be said.
    """
    first = runs[0]
    values = [run["here"] for run in runs]
    is_accuracy = first["measure"] == "accuracy"
    possible = ACCURACIES if is_accuracy else LOSSES
    statistics = spread(values, seeds, possible=possible, worst=min if is_accuracy else max)
    row = {key: first[key] for key in ("what", "digits", "measure", "study")} | {"here": statistics["mean"]}
    row |= dict.fromkeys(("difference", "prediction_low", "prediction_high", "agrees"))
    if statistics["n"] == len(seeds):
        interval = prediction_interval(values).within(*possible)
        low, high = interval.low, interval.high
        row |= {"prediction_low": low, "prediction_high": high}
        if first["study"] is not None:
            # The study's figures are rounded to their last place.
            half_place = ROUNDED[first["measure"]] / 2 + 1e-12
            row["difference"] = statistics["mean"] - first["study"]
            row["agrees"] = low - half_place <= first["study"] <= high + half_place
    return row | {key: statistics[key] for key in ("n", "sd", "low", "high", "worst", "worst_seed")}


def _figure(row: Row, value: float | None, sign: str = "") -> str:
    if value is None:
        return "–"
    return f"{100 * value:{sign}.2f} %" if row["measure"] == "accuracy" else f"{value:{sign}.3f}"


_VERDICT = "study's run is"
TEXT_COLUMNS = ("what", "measure", _VERDICT)
"""Columns that hold words."""


def _cells(row: Row) -> dict[str, str]:
    """Return column → cell; a row over several seeds has the range of one run and the worst seed."""

    def bare(value: float | None) -> str:
        return _figure(row, value).removesuffix(" %")

    measure = f"{row['measure']} on {row['digits']}"
    cells = {"what": row["what"], "measure": measure, "study": _figure(row, row["study"])}
    if "n" not in row:
        difference = _figure(row, row["difference"], "+").replace("%", "points")
        return cells | {"here": _figure(row, row["here"]), "difference": difference}
    return cells | {
        "ours: mean ± 95 %": plus_minus(row["here"], row["low"], row["high"], bare),
        "one run of ours": f"{bare(row['prediction_low'])} to {bare(row['prediction_high'])}",
        "worst (seed)": f"{bare(row['worst'])} ({row['worst_seed']})",
        _VERDICT: {True: "in range", False: "OUT OF RANGE", None: "–"}[row["agrees"]],
    }


def report_table(rows: Sequence[Row]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the columns of a report and its rows as text; without the study's columns where it has no figures."""
    left_out = () if _compared(rows) else ("study", "difference", _VERDICT)
    cells = [{column: cell for column, cell in _cells(row).items() if column not in left_out} for row in rows]
    return tuple(cells[0]), [tuple(row.values()) for row in cells]


def _compared(rows: Sequence[Row]) -> list[Row]:
    """Return the rows that the study has a figure for."""
    return [row for row in rows if row["study"] is not None]


def verdicts(rows: Sequence[Row], epochs: int) -> list[str]:
    """Sum up in sentences how the study's run compares with several of ours; nothing for one run."""
    compared = _compared(rows)
    if not compared or "n" not in rows[0]:
        return []
    agreeing = sum(row["agrees"] is True for row in compared)
    sentences = [
        f"In {agreeing} of {len(compared)} rows the study's one run lies in the range that one run of ours would show: "
        f"the {100 * CONFIDENCE:g} % prediction interval. By chance alone, one row in twenty would lie outside."
    ]
    study_epochs = recipe("reference").base.epochs
    if epochs != study_epochs:
        sentences.append(f"The study trains for {study_epochs} epochs, and these runs for {epochs}.")
    return sentences


def on_dataset(dataset: str) -> str:
    """Name the data set for a title, unless it is the study's."""
    return "" if dataset == "mnist" else f" on {dataset}"


def heading(dataset: str) -> str:
    """Return the title of a report."""
    return "The study, and its repetition here" if dataset == "mnist" else f"The study{on_dataset(dataset)}"


def markdown(
    rows: Sequence[Row], *, pictures: Sequence[tuple[str, str]], page: str, same: bool, seeds: Sequence[int],
    epochs: int, dataset: str,
) -> str:  # fmt: skip
    """Write the report, with pictures by caption and file, and a link to the page to explore.

    Args:
        same: whether alpha 0 gave the base's logits, bit for bit.
    """
    columns, cells = report_table(rows)
    lines = [f"# {heading(dataset)}", "", _introduction(seeds, epochs, dataset), ""]
    lines += [f"The study is {original_study.SOURCE}.", ""]
    lines += [*markdown_table(columns, cells, TEXT_COLUMNS), ""]
    for sentence in verdicts(rows, epochs):
        lines += [sentence, ""]
    adapters = "adapter's" if len(seeds) == 1 else "adapters'"
    verdict = "equal the base's bit for bit" if same else "DIFFER from the base's"
    lines += [f"At alpha 0 the {adapters} logits on all test images {verdict}.", ""]
    lines += [f"[A page to play with]({page}): draw a digit, turn alpha, see what was forgotten.", ""]
    for caption, file in pictures:
        lines += [f"## {caption}", "", f"![{caption}]({file})", ""]
    return "\n".join(lines)


def _introduction(seeds: Sequence[int], epochs: int, dataset: str) -> str:
    """Say what was run, and what the columns hold."""
    trained = counted(epochs, "epoch")
    has_study = dataset == "mnist"
    by_recipe = f"{on_dataset(dataset)}, by the study's recipe"
    if len(seeds) == 1:
        beside = " beside the study's one run. Neither column has a spread: single runs differ, most at low ranks."
        rest = beside if has_study else f"{by_recipe}, of which the study has no figures."
        return f"One run with seed {seeds[0]} and {trained}{rest}"
    beside = ", beside the study's one run" if has_study else by_recipe
    held = ": the study's run is held against that" if has_study else ""
    return (
        f"{len(seeds)} runs with seeds {as_ranges(seeds)}, each with a base of its own, and {trained}{beside}. ± is "
        f"half the 95 % interval of our mean; “one run of ours” is the range in which one more run would lie{held}."
    )
