"""``lora-mnist compare``."""

from typing import Annotated, Any

from lora_mnist_cli.cli import options as o
from lora_mnist_cli.cli import shared_options as shared
from lora_mnist_cli.cli.board_table import board_tables
from lora_mnist_cli.cli.tables import confidence_of, interval, percent, points, rate_cell, spread_cells
from lora_mnist_cli.cli.text_table import Table
from lora_mnist_cli.evaluation.intervals import CONFIDENCE
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.stages import board, compare
from lora_mnist_cli.stages.records.samples import described, named_without_rank
from lora_mnist_cli.system.errors import UsageError


@o.grouped
def command(
    *,
    first: Annotated[str, o.artifact_argument("A sweep, an adapter or a base.", "A")],
    second: Annotated[
        str | None,
        o.artifact_argument(
            "Another one of the same kind. Without it, the settings that a sweep varies (as methods) are compared with "
            "the first of them.",
            "B",
        ),
    ] = None,
    digits: Annotated[
        str | None, o.digits("Compare on the test images of these digits; default: those that both have learned.")
    ] = None,
    tune: Annotated[
        bool,
        o.switch("--tune", "For sweeps over --lrs: take each setting at the rate that did best on validation images."),
    ] = False,
    as_board: Annotated[
        bool,
        o.switch("--board", "For one sweep: all its settings by what each learns, forgets and costs, and the front."),
    ] = False,
    confidence: shared.Confidence = CONFIDENCE,
    folders: shared.Folders,
    output: shared.Output,
) -> None:
    """Say which of two sweeps, or of two models, is better, and whether the data can tell.

    Two sweeps are paired by seed, at each rank that both have, and tested by an exact permutation test. Two models are
    compared on the same images by McNemar's exact test. The difference is always B − A. One sweep over several methods
    (or scalings, or initialisations) is compared with itself: each with the first. --tune makes this fair if they need
    different learning rates, and --board ranks them all.
    """
    chosen = None if digits is None else DigitSet.parse(digits)
    workspace = folders.workspace(output)
    if as_board:
        if second is not None or chosen is not None:
            raise UsageError("--board ranks one sweep, on new and old digits", hint="leave B and --digits out")
        output.print("compare", board(first, confidence=confidence, workspace=workspace), board_tables)
        return
    document = compare(first, second, digits=chosen, confidence=confidence, tune=tune, workspace=workspace)
    output.print("compare", document, _tables)


def _tables(document: dict[str, Any]) -> list[Table | str]:
    rows, name = document["rows"], document["a"]
    within = document["b"] is None
    sides = [f"A: {rows[0]['a']}, of {name}"] if within else [f"A: {name}", f"B: {document['b']}"]
    if document["of"] != "sweeps":
        (row,) = rows
        return [*sides, _models(document, row), row["verdict"]]
    tuned = [_tuned(document)] if "tuned" in document else []
    verdicts = [f"{_about(row, within)}: {row['verdict']}" if len(rows) > 1 else row["verdict"] for row in rows]
    left = sorted({seed for row in rows for seed in row["left_out"]})
    note = [f"Left out, without a figure in both: seeds {', '.join(map(str, left))}."] if left else []
    return [*sides, *tuned, _sweeps(document), *note, *verdicts]


def _title(document: dict[str, Any], how: str) -> str:
    return f"test accuracy on digits {document['digits']} of {document['dataset']}, {how}"


def _models(document: dict[str, Any], row: dict[str, Any]) -> Table:
    """Make the table of two models on the same images."""
    title = _title(document, f"the same {row['images']:,} images")
    heads = ("", "accuracy %", f"{confidence_of(document)} interval", "only it right")
    made = Table(heads, title=title, text_columns=("",))
    for label, side in (("A", "a"), ("B", "b")):
        score = row[f"accuracy_{side}"]
        made.add_row(label, percent(score["mean"]), interval(score["low"], score["high"]), f"{row[f'only_{side}']:,}")
    difference = row["difference"]
    bounds = interval(difference["low"], difference["high"], points)
    made.add_row("B − A", points(difference["mean"]), bounds, f"p = {row['p_value']:.2g}")
    return made


def _sweeps(document: dict[str, Any]) -> Table:
    """Make the table of two sweeps, or of one with itself: a row per pair of settings."""
    rows, within = document["rows"], document["b"] is None
    several = ["Holm p"] if len(rows) > 1 else []
    heads = ["rank", "n", "A %", "B %", "B − A", f"{confidence_of(document)} interval", "worst (seed)", "p", *several]
    made = Table(
        [*(["B"] if within else []), *heads], title=_title(document, "paired by seed"), text_columns=("B", "rank"),
        tight=True,
    )  # fmt: skip
    for row in rows:
        difference = row["difference"]
        p_values = [row["p_value"], *([row["p_holm"]] if several else [])]
        settings = " | ".join(each.removeprefix("rank ") for each in _settings(row))
        made.add_row(
            *([row["b"], " | ".join(_ranks(row))] if within else [settings]), str(len(row["seeds"])),
            percent(row["accuracy_a"]["mean"]), percent(row["accuracy_b"]["mean"]), points(difference["mean"]),
            interval(difference["low"], difference["high"], points), spread_cells(difference, points)[1],
            *("–" if p is None else f"{p:.2g}" for p in p_values),
        )  # fmt: skip
    return made


def _settings(row: dict[str, Any]) -> list[str]:
    """Say what a row compares, once if both sides are the same; a side without a rank says nothing of it."""
    both = (described(row[f"setting_{side}"]) for side in "ab")
    return list(dict.fromkeys(filter(None, both))) or ["–"]


def _ranks(row: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys(str(row[f"setting_{side}"]["rank"] or "–") for side in "ab"))


def _about(row: dict[str, Any], within: bool) -> str:
    if not within:
        return " | ".join(_settings(row))
    if len(ranks := _ranks(row)) == 1:
        return f"rank {ranks[0]}, {row['a']} and {row['b']}"
    of_rank = (f" of rank {rank}" if (rank := row[f"setting_{side}"]["rank"]) else "" for side in "ab")
    return " and ".join(row[side] + rank for side, rank in zip("ab", of_rank, strict=True))


def _tuned(document: dict[str, Any]) -> Table:
    """Make the table of the learning rate that each setting got, and of its accuracy there."""
    rows = document["tuned"]
    which = "setting" if document["b"] is None else "sweep"
    edge = "; ≤ ≥: none was tried beyond it" if any(row["edge"] for row in rows) else ""
    made = Table(
        (which, "rank", "lr", "validation %", "test %", f"{confidence_of(document)} interval", "worst (seed)", "n"),
        title=f"each at the learning rate that did best on its validation images{edge}", text_columns=(which,),
        tight=True,
    )  # fmt: skip
    for row in rows:
        accuracy, others = row["accuracy"], named_without_rank(row["setting"])
        name = others if which == "setting" else ", ".join(filter(None, (row["sweep"], others)))
        made.add_row(
            name, str(row["setting"]["rank"] or "–"), rate_cell(row),
            percent(row["validation"]), percent(accuracy["mean"]), interval(accuracy["low"], accuracy["high"]),
            spread_cells(accuracy, percent)[1], str(accuracy["n"]),
        )  # fmt: skip
    return made
