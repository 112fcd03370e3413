"""The report of the study of papers in Markdown, and the cells that the terminal's table shares with it. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lora_mnist_cli.evaluation.intervals import CONFIDENCE
from lora_mnist_cli.evaluation.seeds import plus_minus
from lora_mnist_cli.settings.choices import CLAIMS
from lora_mnist_cli.settings.lists import as_ranges, counted
from lora_mnist_cli.stages.papers.claim import FAILS, FEWEST, HOLDS, UNKNOWN, VERDICT_CONFIDENCE, Document
from lora_mnist_cli.stages.records.publishing import markdown_table

COLUMNS = ("claim", "measured", "mean ± 95 %", "predicted", "agrees", "verdict")
TEXT_COLUMNS = ("claim", "measured", "predicted", "agrees", "verdict")
_AGREES = {HOLDS: "yes", FAILS: "no", UNKNOWN: "?", None: "–"}
_UNITS = {"points": " points", "%": " %", "times": "×", "": ""}


def rows(documents: Sequence[Document], *, deciding: bool = False) -> list[tuple[str, ...]]:
    """Return the cells under :data:`COLUMNS`, a row per figure; a claim's name and verdict stand in its first row.

    Args:
        deciding: leave out the figures of which the claim predicts nothing.
    """
    made: list[tuple[str, ...]] = []
    for document in documents:
        figures = [figure for figure in document["figures"] if figure["verdict"] is not None or not deciding]
        for number, figure in enumerate(figures):
            claim, verdict = ("", "") if number else (document["name"], document["verdict"])
            made.append(
                (claim, figure["what"], measured(figure), predicted(figure), _AGREES[figure["verdict"]], verdict)
            )
    return made


def measured(figure: Document) -> str:
    """Write the mean of a figure with its interval."""
    unit = figure["unit"]

    def bare(value: float | None) -> str:
        if value is None:
            return "–"
        return f"{100 * value:+.2f}" if unit == "points" else f"{100 * value:.2f}" if unit == "%" else f"{value:.3g}"

    mean, low, high = (figure[key] for key in ("mean", "low", "high"))
    if mean is None:
        return "–"
    if low is None:
        return f"{bare(mean)}{_UNITS[unit]}"
    if unit == "times":
        return f"{bare(mean)} ({bare(low)} to {bare(high)}) ×"
    half = plus_minus(mean, low, high, bare)
    return f"{half.replace('± +', '± ')}{_UNITS[unit]}"


def predicted(figure: Document) -> str:
    """Write the range that a claim predicts; a dash where it predicts nothing."""
    unit, factor = figure["unit"], 100 if figure["unit"] in ("points", "%") else 1
    low, high = (None if end is None else f"{factor * end:g}" for end in
                 (figure["predicted_low"], figure["predicted_high"]))  # fmt: skip
    if low is None and high is None:
        return "–"
    ends = f"{low} to {high}" if low and high else f"above {low}" if low else f"below {high}"
    return f"{ends}{' ×' if unit == 'times' else _UNITS[unit]}"


def plain_rows(documents: Sequence[Document]) -> list[Document]:
    """Return a row per figure, in the form that every report has."""
    return [
        {"what": f"{document['name']}: {figure['what']}", "digits": "0-9", "measure": figure["unit"] or "number",
         "study": None, "here": figure["mean"], "difference": None, "verdict": figure["verdict"]}
        | {key: figure[key] for key in ("n", "low", "high")}
        for document in documents
        for figure in document["figures"]
    ]  # fmt: skip


def introduction(config: Document, dataset: str) -> list[str]:
    """Say what was run, and how a verdict comes about."""
    seeds, epochs = config["seeds"], config["epochs"]
    on = "" if dataset == "mnist" else f" of {dataset}"
    return [
        f"{counted(len(seeds), 'seed')} ({as_ranges(seeds)}), each with a base of its own: 784 → 64 → 64 → 10, trained "
        f"on the digits 0-4{on} by the reference recipe for {5 * epochs} epochs. Every method then learns 5-9 in "
        f"{counted(epochs, 'epoch')} of 80 % of their training images, by Adam with a constant rate, batches of 64. "
        "The papers train larger models for longer: “does not hold here” means at this scale.",
        "",
        f"± and ranges in brackets are the {100 * CONFIDENCE:g} % interval of the mean over seeds (t distribution; of "
        "ratios, on their logarithms). A claim predicts a range for a figure. It agrees where the "
        f"{100 * VERDICT_CONFIDENCE:g} % interval of the mean lies inside that range, and disagrees where it lies "
        f"outside; with fewer than {FEWEST} seeds the data can't tell. A claim holds here where all its figures agree, "
        "does not hold here where one disagrees, and otherwise the data can't tell. Differences and ratios are between "
        "trainings of the same seed. A figure without a prediction is only shown.",
        "",
        "Every rate and level is chosen on validation images of 5-9. Test images are scored only for what is shown; "
        "each claim says how often.",
    ]


def markdown(documents: Sequence[Document], config: Document, dataset: str) -> str:
    """Write the whole report."""
    lines = ["# What the papers say, tried here", "", *introduction(config, dataset), ""]
    lines += [*markdown_table(COLUMNS, rows(documents), TEXT_COLUMNS), ""]
    for document in documents:
        title = f"{CLAIMS[document['name']][0].upper()}{CLAIMS[document['name']][1:]}"
        lines += [f"## {title}: {document['verdict']}", "", f"**Claim.** {document['claim']}", ""]
        for head, key in (("Source", "source"), ("What differs", "differs"), ("What is run", "run"),
                          ("What would refute it", "refuted")):  # fmt: skip
            lines += [f"**{head}.** {document[key].removesuffix('.')}.", ""]
        lines += [f"**Looks at test images.** {document['looks']} networks per seed.", ""]
        lines += [f"![{document['claim']}]({document['picture']})", ""]
    return "\n".join(lines)


def table_title(config: dict[str, Any]) -> str:
    """Return the line above the table."""
    return f"What the papers say, tried here: {counted(len(config['seeds']), 'seed')}, {as_ranges(config['seeds'])}"
