"""Results as Rich tables. Accuracies are shown in percent, losses in nats."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from lora_mnist_cli.cli.basics import escaped
from lora_mnist_cli.cli.table_width import Layout, fit, fold
from lora_mnist_cli.data.sources import class_names
from lora_mnist_cli.evaluation.scores import with_intervals
from lora_mnist_cli.evaluation.seeds import Row, by_setting, plus_minus, summarise
from lora_mnist_cli.settings.grid import OTHERS, in_words, short


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


class FittedTable(Table):
    """A table that fits into a terminal, and whose cells can't steer it, whoever wrote the artifact they come from.

    Where it is too wide, cells are folded; where that is not enough, optional columns are left out and named below it.
    Off a terminal there is room for all of it.

    Args:
        optional: heads of the columns that may be left out, the first one first.
        whole: heads of the columns whose cells are not folded.
    """

    def __init__(self, *, optional: Sequence[str] = (), whole: Sequence[str] = (), tight: bool = False) -> None:
        super().__init__(box=box.SIMPLE_HEAD, header_style="bold", padding=(0, 0 if tight else 1, 0, 1))
        self._optional, self._whole, self._tight = optional, whole, tight
        self._lines: list[tuple[str, ...]] = []

    def add_row(self, *cells: Any, **options: Any) -> None:
        """A row; text in it is shown escaped where it has to be, and cells that it lacks at its end are empty."""
        shown = tuple(escaped(cell) for cell in cells) + ("",) * (len(self.columns) - len(cells))
        self._lines.append(shown)
        super().add_row(*shown, **options)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        heads = [str(column.header) for column in self.columns]
        columns = [(head, *cells) for head, *cells in zip(heads, *self._lines, strict=True)]
        natural = sum(max(map(cell_len, column)) + (2 if self._tight else 3) for column in columns) + 1
        if natural <= options.max_width or not all(column.no_wrap for column in self.columns):
            yield from super().__rich_console__(console, options)
            return
        layout = fit(
            columns, options.max_width, lambda widths: sum(widths) + 2 * len(widths) + 1,
            whole=[heads.index(head) for head in self._whole], optional=[heads.index(head) for head in self._optional],
        )  # fmt: skip
        # What is folded as far as it goes and is still too wide is wrapped by the terminal: no figure is cut.
        wide = options.update(max_width=max(options.max_width, layout.natural))
        yield from self._folded(layout).__rich_console__(console, wide)
        if layout.dropped:
            yield Text(left_out([heads[place] for place in layout.dropped], options.max_width, layout.natural))

    def _folded(self, layout: Layout) -> Table:
        made = Table(box=box.SIMPLE_HEAD, header_style="bold", padding=(0, 0, 0, 1))
        for place, width in zip(layout.kept, layout.widths, strict=True):
            column = self.columns[place]
            head = "\n".join(fold(str(column.header), width))
            made.add_column(Text(head), justify=column.justify, no_wrap=True, min_width=width)
        for line, row in zip(self._lines, self.rows, strict=True):
            cells = (Text("\n".join(fold(line[p], w))) for p, w in zip(layout.kept, layout.widths, strict=True))
            made.add_row(*cells, style=row.style, end_section=row.end_section)
        return made


def left_out(heads: Sequence[str], width: int, enough: int) -> str:
    """What stands below a table that lacks columns."""
    return f"Left out, as {width} columns are too few: {', '.join(heads)}. {enough} are enough; --json has all."


class PlainLines:
    """A long table that is aligned without Rich: no lines, no colours, and at a terminal without optional columns.

    Args:
        left: places of the columns that are aligned to the left.
        optional: as in :func:`lora_mnist_cli.cli.table_width.fit`.
    """

    def __init__(
        self, heads: Sequence[str], rows: Sequence[Sequence[str]], *, left: Sequence[int], optional: Sequence[int]
    ) -> None:
        self._lines, self._left, self._optional = [tuple(map(escaped, row)) for row in (heads, *rows)], left, optional

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        columns = list(zip(*self._lines, strict=True))
        layout = fit(
            columns, options.max_width, lambda widths: sum(widths) + 2 * len(widths),
            whole=range(len(columns)), optional=self._optional, heads_too=True,
        )  # fmt: skip
        shape = [(p, w, p in self._left) for p, w in zip(layout.kept, layout.widths, strict=True)]
        lines = [
            "  " + "  ".join(line[p].ljust(w) if left else line[p].rjust(w) for p, w, left in shape)
            for line in self._lines
        ]
        yield Segment("\n".join([*(line.rstrip() for line in lines), ""]))
        if layout.dropped:
            yield Text(left_out([columns[p][0] for p in layout.dropped], options.max_width, layout.natural))


def table(
    columns: Sequence[str], *, text_columns: Sequence[str] = (), tight: bool = False, optional: Sequence[str] = (),
    whole: Sequence[str] = (),
) -> FittedTable:  # fmt: skip
    """An empty table; columns are right-aligned, but for those of text; a tight one fits more of them in a line.

    Args:
        optional: columns that a narrow terminal may lack, the first one first.
        whole: columns whose cells are never folded.
    """
    made = FittedTable(optional=optional, whole=whole, tight=tight)
    for column in columns:
        made.add_column(column, justify="left" if column in text_columns else "right", no_wrap=True)
    return made


def facts_table(facts: Sequence[tuple[str, str]]) -> Table:
    """A row a fact; what it says is wrapped, and where a word is wider than the terminal, within that."""
    made = table(("what", "value"), text_columns=("what", "value"))
    made.columns[1].no_wrap, made.columns[1].overflow = False, "fold"
    for fact in facts:
        made.add_row(*fact)
    return made


def titled(title: str, made: Table) -> Group:
    """A table under a line of its own, which may be wider than it: Rich would wrap a table's title at its width."""
    return Group(Text(escaped(title), style="bold"), made)


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
    title: str, results: Sequence[dict[str, Any]], subsets: Sequence[str], study: dict[int, float], study_digits: str,
    beside: Mapping[str, Sequence[dict[str, Any]]] | None = None,
) -> Group:  # fmt: skip
    """A row an adapter, by combination; with several seeds, two rows close each: means with half their 95 % intervals,
    and the worst seed of each figure.

    Args:
        subsets: the digit sets in the order of their columns.
        study: rank → the study's accuracy; empty where it has none to compare with.
        study_digits: the digit set that the study's accuracy is on.
        beside: method → results of it, of what has no rank and is no part of the sweep.
    """
    beside = beside or {}
    several = len({row["seed"] for rows in (results, *beside.values()) for row in rows}) > 1
    axes = [axis for axis in OTHERS if axis.field in results[0]]
    columns = ["rank", *(in_words(axis.field) for axis in axes), "parameters", *(["seed"] if several else [])]
    figures = [f"{digits} {what}" for digits in subsets for what in ("acc. %", "loss")]
    columns += [*figures, *([f"study {study_digits} %"] if study else [])]
    text_columns = [in_words(axis.field) for axis in axes if axis.kind is str]
    # With several seeds, the parameters' column says what the closing rows are.
    made = table(
        columns, text_columns=text_columns, optional=[*reversed(figures[1:]), *([] if several else ["parameters"])]
    )
    groups: list[tuple[list[str], int, Sequence[Row]]] = [
        ([str(setting["rank"] or "–"), *(short(setting[axis.field]) for axis in axes)], setting["rank"], rows)
        for setting, rows in by_setting(results)
    ]
    groups += [([method, *("–" for _ in axes)], 0, rows) for method, rows in beside.items()]
    for named, rank, rows in groups:
        (summary,) = summarise(rows)
        if named[0] in beside:
            made.add_section()
        reference = [percent(study.get(rank))] if study else []
        for row in rows:
            figure = {s["digits"]: s for s in row["subsets"]}
            seed = [str(row["seed"])] if several else []
            cells = [t for d in subsets for t in (percent(figure[d]["accuracy"]), number(figure[d]["loss"]))]
            made.add_row(
                *named, f"{row['trainable_parameters']:,}", *seed, *cells,
                *(reference if len(rows) == 1 else reference and [""]),
            )  # fmt: skip
        if len(rows) > 1:
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
    mean = plus_minus(spread["mean"], spread["low"], spread["high"], show)
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
    optional = ("created (UTC)", "data set", "seed", "made from", "kind", "digits", "rank")
    if len(cells) > LONG:
        left = [columns.index(column) for column in text_columns]
        return PlainLines(columns, cells, left=left, optional=[columns.index(column) for column in optional])
    made = table(columns, text_columns=text_columns, optional=optional, whole=columns)
    for line in cells:
        made.add_row(*line)
    return made


def plot_kinds_table(kinds: Sequence[dict[str, Any]]) -> Table:
    """A row a kind of plot: its name, of which artifacts it is, and what it shows."""
    made = table(("kind", "of", "shows"), text_columns=("kind", "of", "shows"))
    for kind in kinds:
        made.add_row(kind["kind"], " or ".join(kind["artifacts"]), kind["about"])
    return made
