"""Tables of scores, and the cells of all tables. Accuracies are shown in percent, losses in nats."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lora_mnist_cli.cli.text_table import Table
from lora_mnist_cli.evaluation.scores import with_intervals
from lora_mnist_cli.evaluation.seeds import BEYOND, Row, by_setting, plus_minus, summarise
from lora_mnist_cli.settings.grid import OTHERS, in_words, short
from lora_mnist_cli.settings.lists import counted

Results = Sequence[dict[str, Any]]


def percent(accuracy: float | None) -> str:
    """Show an accuracy in percent with two decimals, or a dash if there is none."""
    return "–" if accuracy is None else f"{100 * accuracy:.2f}"


def points(difference: float | None) -> str:
    """Show a difference of accuracies in percentage points with its sign, or a dash if there is none."""
    return "–" if difference is None else f"{100 * difference:+.2f}"


def number(loss: float | None) -> str:
    """Show a loss or a norm with four decimals, in scientific notation from 10⁹ on; a dash if there is none."""
    if loss is None:
        return "–"
    return f"{loss:.4f}" if abs(loss) < 1e9 else f"{loss:.4e}"


def interval(low: float | None, high: float | None, show: Callable[[float | None], str] = percent) -> str:
    """Show two bounds as ``94.91 to 96.10``, or a dash if there are none."""
    return "–" if low is None or high is None else f"{show(low)} to {show(high)}"


def spread_cells(spread: dict[str, Any], show: Callable[[float | None], str]) -> tuple[str, str]:
    """Show a mean with half the width of its interval; and the worst seed's figure, with the seed."""
    mean = plus_minus(spread["mean"], spread["low"], spread["high"], show)
    return mean, f"{show(spread['worst'])} ({spread['worst_seed']})"


def rate_cell(row: Row) -> str:
    """Show the learning rate that a setting was given, with a sign where none was tried beyond it."""
    return BEYOND.get(row["edge"], "") + short(row["lr"])


def confidence_of(document: Row) -> str:
    """Show a document's confidence, as ``95 %``."""
    return f"{100 * document['confidence']:g} %"


def class_of(classes: Sequence[str], digit: int | str) -> str:
    """Show a digit with what it stands for in its data set, as ``7 Sneaker``; a set of digits stays as it is.

    A digit that stands for itself has no name, and neither has one without a class.
    """
    name = classes[digit] if isinstance(digit, int) and digit < len(classes) else ""
    return f"{digit} {name}" if name not in ("", str(digit)) else str(digit)


def score_table(title: str, scores: dict[str, Any], classes: Sequence[str]) -> Table:
    """Make a row per digit set, then a row per digit with its name: count, accuracy, Wilson interval, loss.

    Digits without a class have no row.
    """
    heads = ("digits", "images", "accuracy %", "95 % interval", "loss")
    made = Table(heads, title=title, text_columns=("digits",))
    rows = with_intervals(scores)
    for kind, label in (("subsets", "digits"), ("per_digit", "digit")):
        for row in rows[kind]:
            bounds = interval(row["accuracy_low"], row["accuracy_high"])
            figures = (f"{row['count']:,}", percent(row["accuracy"]), bounds, number(row["loss"]))
            if not classes or kind == "subsets" or row[label] < len(classes):
                made.add_row(class_of(classes, row[label]), *figures)
        made.add_section()
    return made


def alpha_table(title: str, evaluations: Sequence[tuple[float | None, dict[str, Any]]]) -> Table:
    """Make a row per alpha, with accuracy and loss for each digit set."""
    subsets = [row["digits"] for row in evaluations[0][1]["subsets"]]
    made = Table(["alpha", *(f"{digits} {what}" for digits in subsets for what in ("acc. %", "loss"))], title=title)
    for alpha, scores in evaluations:
        figures = [text for row in scores["subsets"] for text in (percent(row["accuracy"]), number(row["loss"]))]
        made.add_row(f"{alpha:g}", *figures)
    return made


def sweep_table(
    title: str, results: Results, subsets: Sequence[str], study: dict[int, float], study_digits: str,
    beside: Mapping[str, Results] | None = None, *, each_seed: bool = False,
) -> Table:  # fmt: skip
    """Make a row per combination: of its adapter, or with several seeds of the means, with half their 95 % intervals.

    With ``each_seed``, every adapter has a row, and two rows close each combination: the means, and the worst seed of
    each figure. ``study`` gives the study's accuracy on ``study_digits`` by rank, where it has one; ``beside`` the
    results of models without a rank by method, which are no part of the sweep.
    """
    beside = beside or {}
    several = len({row["seed"] for rows in (results, *beside.values()) for row in rows}) > 1
    means = several and not each_seed
    axes = [axis for axis in OTHERS if axis.field in results[0]]
    runs = ["n"] if means else ["seed"] if several else []
    heads = ["rank", *(in_words(axis.field) for axis in axes), "parameters", *runs]
    figures = [f"{digits} {what}" for digits in subsets for what in ("acc. %", "loss")]
    worst = [f"{subsets[0]} worst (seed)"] if means else []
    made = Table(
        [*heads, *figures, *worst, *([f"study {study_digits} %"] if study else [])],
        title=f"{title}; means over seeds ± 95 %, --each-seed shows all" if means else title,
        text_columns=[in_words(axis.field) for axis in axes if axis.kind is str],
        # With each of several seeds, the parameters' column says what the closing rows are.
        optional=[*reversed(figures[1:]), *([] if several and each_seed else ["parameters"])],
    )  # fmt: skip
    add = _add_means if means else _add_each
    # Methods without a rank close the table, as those beside it do.
    for setting, rows in sorted(by_setting(results), key=lambda group: not group[0]["rank"]):
        named = [str(setting["rank"] or "–"), *(short(setting[axis.field]) for axis in axes)]
        add(made, named, rows, subsets, [percent(study.get(setting["rank"]))] if study else [], several=several)
    for method, others in beside.items():
        made.add_section()
        add(made, [method, *("–" for _ in axes)], others, subsets, ["–"] if study else [], several=several)
    return made


def best_line(best: Mapping[str, Any]) -> str:
    """Say which setting of a sweep did best on validation images, and what it reaches on the test images."""
    accuracy = best["accuracy"]
    tested = plus_minus(accuracy["mean"], accuracy["low"], accuracy["high"], percent)
    over = f", the highest mean of {counted(best['n'], 'seed')}" if best["n"] > 1 else ""
    chosen = f"chosen by its accuracy on validation images ({percent(best['validation'])} %{over})"
    return f"best setting: {best['described']}, {chosen}; on the test images of {best['digits']}: {tested} %"


def _add_means(
    made: Table, named: list[str], rows: Sequence[Row], subsets: Sequence[str], reference: list[str], *, several: bool
) -> None:
    """Add the means of one combination."""
    n, cells = _over_seeds(rows, subsets)
    parameters = f"{rows[0]['trainable_parameters']:,}"
    made.add_row(*named, parameters, n, *(mean for mean, _ in cells), cells[0][1], *reference)


def _add_each(
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
    n, closing = _over_seeds(rows, subsets)
    made.add_row(*named, "mean ± 95 %", f"n={n}", *(mean for mean, _ in closing), *reference, bold=True)
    made.add_row(*named, "worst (seed)", "", *(worst for _, worst in closing), bold=True)
    made.add_section()


def _over_seeds(rows: Sequence[Row], subsets: Sequence[str]) -> tuple[str, list[tuple[str, str]]]:
    """Show how many runs of one combination ended well, and mean and worst seed of each figure."""
    (summary,) = summarise(rows)
    spreads = {spread["digits"]: spread for spread in summary["subsets"]}
    shows = (("accuracy", percent), ("loss", number))
    failed = f", {summary['failed']} failed" if summary["failed"] else ""
    cells = [spread_cells(spreads[digits][what], show) for digits in subsets for what, show in shows]
    return f"{len(rows) - summary['failed']}{failed}", cells
