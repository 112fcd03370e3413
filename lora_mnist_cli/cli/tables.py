"""Results as Rich tables. Accuracies are shown in percent, losses in nats."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from lora_mnist_cli.cli.basics import harmless
from lora_mnist_cli.grid import OTHERS, spoken, written
from lora_mnist_cli.scores import with_intervals
from lora_mnist_cli.sources import class_names
from lora_mnist_cli.summary import by_setting, summarise


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


def table(columns: Sequence[str], *, text_columns: Sequence[str] = (), tight: bool = False) -> Table:
    """An empty table; columns are right-aligned, but for those of text; a tight one fits more of them in a line."""
    made = HarmlessTable(box=box.SIMPLE_HEAD, header_style="bold", padding=(0, 0 if tight else 1, 0, 1))
    for column in columns:
        made.add_column(column, justify="left" if column in text_columns else "right", no_wrap=True)
    return made


def titled(title: str, made: Table) -> Group:
    """A table under a line of its own, which may be wider than it: Rich would wrap a table's title at its width."""
    return Group(Text(harmless(title), style="bold"), made)


def interval(low: float | None, high: float | None, show: Callable[[float | None], str] = percent) -> str:
    """Two bounds as ``94.91 to 96.10``; a dash where there are none."""
    return "–" if low is None or high is None else f"{show(low)} to {show(high)}"


def score_table(title: str, scores: dict[str, Any], dataset: str) -> Group:
    """A row a digit set, then a row a digit and its name: count, accuracy with its Wilson interval, loss."""
    made = table(("digits", "images", "accuracy %", "95 % interval", "loss"), text_columns=("digits",))
    told = with_intervals(scores)
    for kind, label in (("subsets", "digits"), ("per_digit", "digit")):
        for row in told[kind]:
            bounds = interval(row["accuracy_low"], row["accuracy_high"])
            figures = (f"{row['count']:,}", percent(row["accuracy"]), bounds, number(row["loss"]))
            made.add_row(class_of(dataset, row[label]), *figures)
        made.add_section()
    return titled(title, made)


def class_of(dataset: str, digit: int | str) -> str:
    """A digit with what it stands for in its data set, as ``7 Sneaker``; a digit set as it is."""
    names = class_names(dataset)
    return f"{digit} {names[digit]}" if names and isinstance(digit, int) else str(digit)


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
    """A row an adapter, by combination; with several seeds, two rows close each: means with half their 95 % intervals,
    and the worst seed of each figure.

    Args:
        subsets: the digit sets in the order of their columns.
        study: rank → the study's accuracy; empty where it has none to compare with.
        study_digits: the digit set that the study's accuracy is on.
    """
    several = len({row["seed"] for row in results}) > 1
    axes = [axis for axis in OTHERS if axis.field in results[0]]
    columns = ["rank", *(spoken(axis.field) for axis in axes), "parameters", *(["seed"] if several else [])]
    columns += [f"{digits} {what}" for digits in subsets for what in ("acc. %", "loss")]
    columns += [f"study {study_digits} %"] if study else []
    made = table(columns, text_columns=[spoken(axis.field) for axis in axes if axis.kind is str])
    for (setting, rows), summary in zip(by_setting(results), summarise(results), strict=True):
        rank = setting["rank"]
        named = [str(rank) if rank else "–", *(written(setting[axis.field]) for axis in axes)]
        reference = [percent(study.get(rank))] if study else []
        for row in rows:
            figure = {s["digits"]: s for s in row["subsets"]}
            seed = [str(row["seed"])] if several else []
            cells = [t for d in subsets for t in (percent(figure[d]["accuracy"]), number(figure[d]["loss"]))]
            made.add_row(
                *named, f"{row['trainable_parameters']:,}", *seed, *cells,
                *(reference if not several else reference and [""]),
            )  # fmt: skip
        if several:
            known = {subset["digits"]: subset for subset in summary["subsets"]}
            shown = [cell for d in subsets for cell in ((known[d]["accuracy"], percent), (known[d]["loss"], number))]
            spreads = [spread_cells(*cell) for cell in shown]
            failed = f", {summary['failed']} failed" if summary["failed"] else ""
            n = f"n={len(rows) - summary['failed']}{failed}"
            made.add_row(*named, "mean ± 95 %", n, *(mean for mean, _ in spreads), *reference, style="bold")
            made.add_row(*named, "worst (seed)", "", *(worst for _, worst in spreads), style="bold")
            made.add_section()
    return titled(title, made)


def spread_cells(spread: dict[str, Any], show: Callable[[float | None], str]) -> tuple[str, str]:
    """A mean with half the width of its interval; and the worst seed's figure, with the seed."""
    mean = show(spread["mean"])
    if spread["low"] is not None:
        mean += f" ± {show((spread['high'] - spread['low']) / 2)}"
    return mean, f"{show(spread['worst'])} ({spread['worst_seed']})"


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


def plot_kinds_table(kinds: Sequence[dict[str, Any]]) -> Table:
    """A row a kind of plot: its name, of which artifacts it is, and what it shows."""
    made = table(("kind", "of", "shows"), text_columns=("kind", "of", "shows"))
    for kind in kinds:
        made.add_row(kind["kind"], " or ".join(kind["artifacts"]), kind["about"])
    return made
