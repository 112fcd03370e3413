"""``lora-mnist compare``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from lora_mnist_cli.cli import options as o
from lora_mnist_cli.cli.console import print_result, workspace
from lora_mnist_cli.evaluation.intervals import CONFIDENCE
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.stages import compare

Confidence = Annotated[
    float, o.number_option("--confidence", "Of the intervals and verdicts, as a fraction: 0.95 is one error in twenty.")
]


def command(
    first: Annotated[
        str, typer.Argument(metavar="A", help="A sweep, an adapter or a base.", autocompletion=o.complete_artifact)
    ],
    second: Annotated[
        str | None,
        typer.Argument(
            metavar="[B]",
            help="Another of the same sort; without it, what a sweep varies (as methods) is compared with its first.",
            autocompletion=o.complete_artifact,
        ),
    ] = None,
    digits: Annotated[
        str | None,
        typer.Option("--digits", metavar="TEXT", help="Test images of these digits; default: what both have learned."),
    ] = None,
    tune: Annotated[
        bool,
        typer.Option(
            "--tune", help="Of sweeps over --lrs: each setting at the rate that did best on its validation images."
        ),
    ] = False,
    confidence: Confidence = CONFIDENCE,
    runs_dir: o.RunsDir = o.DEFAULT_RUNS,
    data_dir: o.DataDir = o.DEFAULT_DATA,
    json_output: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    version: o.Version = False,
) -> None:
    """Say which of two sweeps, or of two models, is better, and whether the data can tell.

    Two sweeps are paired by seed, at each rank that both have, and tested by an exact permutation test. Two models are
    compared on the same images by McNemar's exact test. The difference is always B − A. One sweep over several methods
    (or scalings, or initialisations) is compared with itself: each with the first. --tune makes it fair where
    they want different learning rates.
    """
    where = workspace(runs_dir, data_dir, quiet=quiet, verbose=verbose)
    chosen = None if digits is None else DigitSet.parse(digits)
    document = compare(first, second, digits=chosen, confidence=confidence, tune=tune, workspace=where)
    tables = [] if json_output else _tables(document)
    print_result("compare", document, tables, as_json=json_output)


def _tables(document: dict[str, Any]) -> list[Any]:
    from lora_mnist_cli.cli.tables import interval, percent, spread_cells, table, titled
    from lora_mnist_cli.stages.records.samples import described

    def signed(difference: float | None) -> str:
        return "–" if difference is None else f"{100 * difference:+.2f}"

    def settings(row: dict[str, Any]) -> list[str]:
        """What a row compares, once where both are the same; nothing of a side that has no rank."""
        both = (described(row[f"setting_{side}"]) for side in "ab")
        return list(dict.fromkeys(filter(None, both))) or ["–"]

    def ranks(row: dict[str, Any]) -> list[str]:
        return list(dict.fromkeys(str(row[f"setting_{side}"]["rank"] or "–") for side in "ab"))

    def about(row: dict[str, Any]) -> str:
        if within:
            return f"rank {' | '.join(ranks(row))}, {row['a']} and {row['b']}"
        return " | ".join(settings(row))

    of_sweeps, rows = document["of"] == "sweeps", document["rows"]
    confidence = f"{100 * document['confidence']:g} %"
    how = "paired by seed" if of_sweeps else f"the same {rows[0]['images']:,} images"
    title = f"test accuracy on digits {document['digits']} of {document['dataset']}, {how}"
    within = document["b"] is None
    made: list[Any] = [f"A: {rows[0]['a']}, of {document['a']}"] if within else [f"A: {document['a']}"]
    made += [] if within else [f"B: {document['b']}"]
    if not of_sweeps:
        (row,) = rows
        shown = table(("", "accuracy %", f"{confidence} interval", "it alone right"), text_columns=("",))
        for label, side in (("A", "a"), ("B", "b")):
            score = row[f"accuracy_{side}"]
            bounds = interval(score["low"], score["high"])
            shown.add_row(label, percent(score["mean"]), bounds, f"{row[f'only_{side}']:,}")
        difference = row["difference"]
        bounds = interval(difference["low"], difference["high"], signed)
        shown.add_row("B − A", signed(difference["mean"]), bounds, f"p = {row['p_value']:.2g}")
        return [*made, titled(title, shown), row["verdict"]]
    if "tuned" in document:
        made += [_tuned(document, confidence)]
    several = len(rows) > 1
    columns = [
        *(["B"] if within else []),
        "rank",
        "n",
        "A %",
        "B %",
        "B − A",
        f"{confidence} interval",
        "worst (seed)",
        "p",
    ]
    shown = table([*columns, *(["Holm p"] if several else [])], text_columns=("B", "rank"), tight=True)
    for row in rows:
        difference = row["difference"]
        p_values = [row["p_value"], *([row["p_holm"]] if several else [])]
        own = " | ".join(each.removeprefix("rank ") for each in settings(row))
        which = [row["b"], " | ".join(ranks(row))] if within else [own]
        shown.add_row(
            *which, str(len(row["seeds"])),
            percent(row["accuracy_a"]["mean"]), percent(row["accuracy_b"]["mean"]), signed(difference["mean"]),
            interval(difference["low"], difference["high"], signed), spread_cells(difference, signed)[1],
            *("–" if p is None else f"{p:.2g}" for p in p_values),
        )  # fmt: skip
    verdicts = [f"{about(row)}: {row['verdict']}" if several else row["verdict"] for row in rows]
    left = sorted({seed for row in rows for seed in row["left_out"]})
    told = [f"Left out, without a figure in both: seeds {', '.join(map(str, left))}."] if left else []
    return [*made, titled(title, shown), *told, *verdicts]


def _tuned(document: dict[str, Any], confidence: str) -> Any:
    """The learning rate that each setting got, and what it reached there."""
    from lora_mnist_cli.cli.tables import interval, percent, spread_cells, table, titled
    from lora_mnist_cli.settings.grid import short
    from lora_mnist_cli.stages.records.samples import named_without_rank

    rows = document["tuned"]
    which = "setting" if document["b"] is None else "sweep"
    columns = (which, "rank", "lr", "validation %", "test %", f"{confidence} interval", "worst (seed)", "n")
    shown = table(columns, text_columns=(which,), tight=True)
    beyond = {"lowest": "≤ ", "highest": "≥ "}
    for row in rows:
        accuracy = row["accuracy"]
        others = named_without_rank(row["setting"])
        name = others if which == "setting" else ", ".join(filter(None, (row["sweep"], others)))
        shown.add_row(
            name, str(row["setting"]["rank"] or "–"), beyond.get(row["edge"], "") + short(row["lr"]),
            percent(row["validation"]), percent(accuracy["mean"]), interval(accuracy["low"], accuracy["high"]),
            spread_cells(accuracy, percent)[1], str(accuracy["n"]),
        )  # fmt: skip
    title = "each at the learning rate that did best on its validation images"
    edge = "; ≤ ≥: none was tried beyond it" if any(row["edge"] for row in rows) else ""
    return titled(title + edge, shown)
