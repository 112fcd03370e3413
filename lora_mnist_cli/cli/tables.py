"""Tables of scores, and the cells of all tables. Accuracies are shown in percent, losses in nats."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lora_mnist_cli.cli.text_table import Table
from lora_mnist_cli.data.sources import class_names
from lora_mnist_cli.evaluation.scores import with_intervals
from lora_mnist_cli.evaluation.seeds import plus_minus


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


def class_of(dataset: str, digit: int | str) -> str:
    """Show a digit with what it stands for in its data set, as ``7 Sneaker``; a set of digits stays as it is."""
    names = class_names(dataset)
    return f"{digit} {names[digit]}" if names and isinstance(digit, int) else str(digit)


def score_table(title: str, scores: dict[str, Any], dataset: str) -> Table:
    """Make a row per digit set, then a row per digit with its name: count, accuracy, Wilson interval, loss."""
    heads = ("digits", "images", "accuracy %", "95 % interval", "loss")
    made = Table(heads, title=title, text_columns=("digits",))
    rows = with_intervals(scores)
    for kind, label in (("subsets", "digits"), ("per_digit", "digit")):
        for row in rows[kind]:
            bounds = interval(row["accuracy_low"], row["accuracy_high"])
            figures = (f"{row['count']:,}", percent(row["accuracy"]), bounds, number(row["loss"]))
            made.add_row(class_of(dataset, row[label]), *figures)
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
