"""The table of a board of methods."""

from __future__ import annotations

from typing import Any

from lora_mnist_cli.cli.tables import confidence_of, percent, rate_cell, spread_cells
from lora_mnist_cli.cli.text_table import Table


def board_tables(document: dict[str, Any]) -> list[Table | str]:
    """Make the table of a board, and sentences on what it shows."""
    rows = document["rows"]
    heads = (
        "setting", "lr", "validation %", f"new {document['new']} %", "forgotten, points", "parameters", "bytes",
        "seconds", "n", "front",
    )  # fmt: skip
    title = f"{document['sweep']}: on test images of {document['dataset']}"
    if document["tuned"]:
        title += ", each setting at the learning rate that did best on its validation images"
    made = Table(heads, title=title, text_columns=("setting", "front"), tight=True)
    for row in rows:
        forgotten = row["forgetting"]
        made.add_row(
            row["described"], rate_cell(row), percent(row["validation"]),
            spread_cells(row["new"], percent)[0], spread_cells(forgotten, percent)[0], f"{row['parameters']:,}",
            "–" if row["bytes"] is None else f"{row['bytes']:,}", f"{row['seconds']['mean']:.1f}",
            str(row["new"]["n"]), _verdict(row),
        )  # fmt: skip
    notes = [
        f"± and ( to ) are {confidence_of(document)} intervals over seeds. front: every other setting trains more "
        "parameters, or is shown to learn less or to forget more. beaten: a test over seeds shows it, after Holm's "
        f"adjustment for {document['tests']} tests."
    ]
    if any(row["edge"] for row in rows):
        notes.append("≤ ≥: no rate was tried beyond it.")
    return [made, *notes]


def _verdict(row: dict[str, Any]) -> str:
    if row["front"]:
        return "front"
    how = "beaten by" if row["beaten"] else "can't tell from"
    return f"{how} {row['challenger']}, p = {row['p_holm']:.2g}"
