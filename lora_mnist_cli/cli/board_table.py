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
        "seconds", "n", "verdict",
    )  # fmt: skip
    ranks = {row["setting"]["rank"] for row in rows} - {0}
    # One rank for all is told once, so that names fit into a narrow terminal.
    same = f", rank {max(ranks)}" if len(ranks) == 1 else ""
    title = f"{document['sweep']}{same}: on test images of {document['dataset']}"
    if document["tuned"]:
        title += ", each setting at the learning rate that did best on its validation images"
    made = Table(
        heads, title=title, text_columns=("setting", "verdict"), tight=True, optional=("seconds", "bytes", "n")
    )  # fmt: skip
    for row in rows:
        forgotten = row["forgetting"]
        made.add_row(
            row["described"].removesuffix(same), rate_cell(row), percent(row["validation"]),
            spread_cells(row["new"], percent)[0], spread_cells(forgotten, percent)[0], f"{row['parameters']:,}",
            "–" if row["bytes"] is None else f"{row['bytes']:,}", f"{row['seconds']['mean']:.1f}",
            str(row["new"]["n"]), _verdict(row, same),
        )  # fmt: skip
    notes = [
        f"± and ( to ) are {confidence_of(document)} intervals over seeds. front: every other setting trains more "
        "parameters, or is shown to learn less or to forget more. beaten: a test over seeds shows it, after Holm's "
        f"adjustment for {document['tests']} tests."
    ]
    if any(row["edge"] for row in rows):
        notes.append("≤ ≥: no rate was tried beyond it.")
    return [made, *notes]


def _verdict(row: dict[str, Any], same: str) -> str:
    if row["front"]:
        return "front"
    how = "beaten by" if row["beaten"] else "can't tell from"
    return f"{how} {row['challenger'].removesuffix(same)}, p = {row['p_holm']:.2g}"
