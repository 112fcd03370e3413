"""``lora-mnist forgetting``."""

from __future__ import annotations

from typing import Any

from lora_mnist_cli.cli import options as o
from lora_mnist_cli.cli.console import print_result, workspace
from lora_mnist_cli.stages import forgetting

_MEASURES = ("backward", "forward", "forgetting")


def command(
    name: o.Artifact = None,
    runs_dir: o.RunsDir = o.DEFAULT_RUNS,
    data_dir: o.DataDir = o.DEFAULT_DATA,
    json_output: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    version: o.Version = False,
) -> None:
    """Say what an adapter lost of its base's digits, and what it only outshouts; the newest adapter by default.

    On old and new digits, for the base and the adapter: accuracy over all ten logits, and with the task known, which
    is with the logits of other digits masked; the calibration of both; and what a linear probe reads off each hidden
    layer. Then GEM's measures of the chain of tasks that led here.
    """
    document = forgetting(name, workspace=workspace(runs_dir, data_dir, quiet=quiet, verbose=verbose))
    tables = [] if json_output else _tables(document)
    print_result("forgetting", document, tables, as_json=json_output)


def _tables(document: dict[str, Any]) -> list[Any]:
    return [_answers(document), _probes(document), _transfer(document)]


def _answers(document: dict[str, Any]) -> Any:
    from lora_mnist_cli.cli.tables import percent, table, titled

    columns = ("", "digits", "images", "all ten %", "task known %", "ECE %", "ECE known %")
    made = table(columns, text_columns=("", "digits"))
    for row in document["halves"]:
        accuracies = (percent(row["accuracy"]), percent(row["accuracy_known"]))
        errors = (percent(row[key]["error"]) for key in ("calibration", "calibration_known"))
        made.add_row(row["model"], f"{row['half']}, {row['digits']}", f"{row['count']:,}", *accuracies, *errors)
        if row["half"] == "new":
            made.add_section()
    return titled(f"{document['artifact']} on {document['base']}: answers to the test images", made)


def _probes(document: dict[str, Any]) -> Any:
    from lora_mnist_cli.cli.tables import percent, table, titled

    digits = {half: document[half] for half in ("old", "new") if document[half] is not None} | {"all": "0-9"}
    columns = ("layer", "network", *(f"{half}, {of} %" for half, of in digits.items()))
    made = table(columns, text_columns=("layer", "network"))
    rows = document["probes"]
    for row, following in zip(rows, [*rows[1:], None], strict=True):
        made.add_row(row["layer"], row["model"], *(percent(row[half]) for half in digits))
        if following is not None and following["layer"] != row["layer"]:
            made.add_section()
    title = f"what a linear probe reads off hidden layers, fitted on {document['probe_images']:,} training images"
    return titled(title, made)


def _transfer(document: dict[str, Any]) -> Any:
    from lora_mnist_cli.cli.tables import percent, table, titled

    def signed(value: float | None) -> str:
        return "–" if value is None else f"{100 * value:+.2f}"

    made = table(("logits", "ACC %", *_MEASURES), text_columns=("logits",))
    for key, label in (("all", "all ten"), ("known", "task known")):
        row = document["transfer"][key]
        made.add_row(label, percent(row["accuracy"]), *(signed(row[measure]) for measure in _MEASURES))
    return titled(f"tasks {' then '.join(document['tasks'])}: accuracy at the end, and transfer in points", made)
