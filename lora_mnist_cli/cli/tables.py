"""Results as Rich tables. Accuracies are shown in percent, losses in nats."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from statistics import mean, stdev
from typing import Any

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from lora_mnist_cli.cli.basics import harmless
from lora_mnist_cli.grid import OTHERS, spoken, written


def percent(accuracy: float | None) -> str:
    """An accuracy in percent to two places; a dash where there is none."""
    return "–" if accuracy is None else f"{100 * accuracy:.2f}"


def number(loss: float | None) -> str:
    """A loss or a norm to four places, or four digits where it has many; a dash where there is none."""
    if loss is None:
        return "–"
    return f"{loss:.4f}" if abs(loss) < 1e9 else f"{loss:.4e}"


LONG = 200
"""Rows from which on a list is aligned without Rich."""


class HarmlessTable(Table):
    """A table whose cells can't steer the terminal, whoever wrote the artifact that they come from."""

    def add_row(self, *cells: Any, **options: Any) -> None:
        """A row; text in it is shown escaped where it has to be."""
        super().add_row(*(harmless(cell) if isinstance(cell, str) else cell for cell in cells), **options)


class PlainLines:
    """Lines that go out as they are."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.lines = list(lines)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        yield Segment("\n".join([*self.lines, ""]))


def table(columns: Sequence[str], *, text_columns: Sequence[str] = ()) -> Table:
    """An empty table; columns are right-aligned, but for those of text."""
    made = HarmlessTable(box=box.SIMPLE_HEAD, header_style="bold")
    for column in columns:
        made.add_column(column, justify="left" if column in text_columns else "right", no_wrap=True)
    return made


def titled(title: str, made: Table) -> Group:
    """A table under a line of its own, which may be wider than it: Rich would wrap a table's title at its width."""
    return Group(Text(harmless(title), style="bold"), made)


def score_table(title: str, scores: dict[str, Any]) -> Group:
    """A row a digit set, then a row a digit: count, accuracy, loss."""
    made = table(("digits", "images", "accuracy %", "loss"), text_columns=("digits",))
    for row in scores["subsets"]:
        made.add_row(row["digits"], f"{row['count']:,}", percent(row["accuracy"]), number(row["loss"]))
    made.add_section()
    for row in scores["per_digit"]:
        made.add_row(str(row["digit"]), f"{row['count']:,}", percent(row["accuracy"]), number(row["loss"]))
    return titled(title, made)


def alpha_table(title: str, evaluations: Sequence[tuple[float | None, dict[str, Any]]]) -> Group:
    """A row an alpha, with accuracy and loss for each digit set."""
    subsets = [row["digits"] for row in evaluations[0][1]["subsets"]]
    made = table(("alpha", *(f"{digits} {what}" for digits in subsets for what in ("acc. %", "loss"))))
    for alpha, scores in evaluations:
        figures = [text for row in scores["subsets"] for text in (percent(row["accuracy"]), number(row["loss"]))]
        made.add_row(f"{alpha:g}", *figures)
    return titled(title, made)


def sweep_table(
    title: str, results: Sequence[dict[str, Any]], subsets: Sequence[str], study: dict[int, float], study_digits: str
) -> Group:
    """A row an adapter, by combination; with several seeds, mean and standard deviation close each.

    Args:
        subsets: the digit sets in the order of their columns.
        study: rank → the study's accuracy; empty where it has none to compare with.
        study_digits: the digit set that the study's accuracy is on.
    """
    seeds = len({row["seed"] for row in results})
    axes = [axis for axis in OTHERS if axis.field in results[0]]
    columns = ["rank", *(spoken(axis.field) for axis in axes), "parameters", *(["seed"] if seeds > 1 else [])]
    columns += [f"{digits} {what}" for digits in subsets for what in ("acc. %", "loss")]
    columns += [f"study {study_digits} %"] if study else []
    made = table(columns, text_columns=[spoken(axis.field) for axis in axes if axis.kind is str])
    combinations: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in results:
        combinations.setdefault((row["rank"], *(row[axis.field] for axis in axes)), []).append(row)
    for (rank, *values), rows in combinations.items():
        named = [str(rank), *map(written, values)]
        figures = [{s["digits"]: s for s in row["subsets"]} for row in rows]
        reference = [percent(study.get(rank))] if study else []
        for row, figure in zip(rows, figures, strict=True):
            seed = [str(row["seed"])] if seeds > 1 else []
            cells = [t for d in subsets for t in (percent(figure[d]["accuracy"]), number(figure[d]["loss"]))]
            made.add_row(
                *named,
                f"{row['trainable_parameters']:,}",
                *seed,
                *cells,
                *(reference if seeds == 1 else reference and [""]),
            )
        if seeds > 1:
            cells = []
            for digits in subsets:
                cells.append(_spread([figure[digits]["accuracy"] for figure in figures], 100, 2))
                cells.append(_spread([figure[digits]["loss"] for figure in figures], 1, 4))
            made.add_row(*named, "mean ± sd", f"n={len(rows)}", *cells, *reference, style="bold", end_section=True)
    return titled(title, made)


def _spread(values: Sequence[float | None], factor: float, places: int) -> str:
    known = [factor * value for value in values if value is not None]
    if len(known) < len(values) or not known:
        return "–"
    deviation = f" ± {stdev(known):.{places}f}" if len(known) > 1 else ""
    return f"{mean(known):.{places}f}{deviation}"


def runs_table(rows: Sequence[dict[str, Any]]) -> RenderableType:
    """A row an artifact, in the order given; the accuracy is on the digits that it learned.

    A long list is aligned here, without lines and colours: Rich takes half a millisecond a row.
    """
    columns = ("name", "kind", "data set", "digits", "rank", "seed", "made from", "accuracy %", "created (UTC)")
    text_columns = ("name", "kind", "data set", "digits", "made from", "created (UTC)")
    cells = []
    for row in rows:
        learned = [score for score in row["subsets"] if score["digits"] == row["digits"]]
        parents = [parent["name"] for parent in row["parents"] if parent["role"] == "base"]
        shown = (row[key] for key in ("name", "kind", "dataset", "digits", "rank", "seed"))
        accuracy = percent(learned[0]["accuracy"]) if learned else ""
        created = row["created"][:19].replace("T", " ")
        cells.append((*("" if v is None else str(v) for v in shown), ", ".join(parents), accuracy, created))
    if len(cells) > LONG:
        widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
        left = [column in text_columns for column in columns]
        lines = [
            "  ".join(c.ljust(w) if to_left else c.rjust(w) for c, w, to_left in zip(line, widths, left, strict=True))
            for line in [columns, *cells]
        ]
        return PlainLines(f"  {harmless(line).rstrip()}" for line in lines)
    made = table(columns, text_columns=text_columns)
    for line in cells:
        made.add_row(*line)
    return made
