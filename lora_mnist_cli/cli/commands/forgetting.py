"""``lora-mnist forgetting``."""

from typing import Annotated, Any

from lora_mnist_cli.cli import options as o
from lora_mnist_cli.cli import shared_options as shared
from lora_mnist_cli.cli.tables import percent, points
from lora_mnist_cli.cli.text_table import Table
from lora_mnist_cli.stages import forgetting
from lora_mnist_cli.stages.intruding import THRESHOLD

_MEASURES = ("backward", "forward", "forgetting")


@o.grouped
def command(
    *,
    name: shared.NewestByDefault = None,
    threshold: Annotated[
        float,
        o.number("Cosine with every singular vector of the base's weight below which one of the adapter's intrudes."),
    ] = THRESHOLD,
    folders: shared.Folders,
    output: shared.Output,
) -> None:
    """Measure what an adapter forgot of its base's digits, and what is merely outranked.

    Takes the newest adapter by default. For the base and the adapter, on old and new digits: accuracy over all ten
    logits, and with the task known (the logits of other digits are masked); the calibration of both; and what a linear
    probe reads from each hidden layer. Then the intruder dimensions: leading singular vectors of the adapted weights
    that the base's weights do not have, and what the digits do when they are scaled down. Then GEM's measures of the
    chain of tasks that led to the adapter.
    """
    document = forgetting(name, threshold=threshold, workspace=folders.workspace(output))
    tables = (_answers, _probes, _intruders, _transfer)
    output.print("forgetting", document, lambda document: [table(document) for table in tables])


def _answers(document: dict[str, Any]) -> Table:
    title = f"{document['artifact']} on {document['base']}: answers to the test images"
    heads = ("", "digits", "images", "all ten %", "task known %", "ECE %", "ECE known %")
    made = Table(heads, title=title, text_columns=("", "digits"))
    for row in document["halves"]:
        accuracies = (percent(row["accuracy"]), percent(row["accuracy_known"]))
        errors = (percent(row[key]["error"]) for key in ("calibration", "calibration_known"))
        made.add_row(row["model"], f"{row['half']}, {row['digits']}", f"{row['count']:,}", *accuracies, *errors)
        if row["half"] == "new":
            made.add_section()
    return made


def _probes(document: dict[str, Any]) -> Table:
    digits = {half: document[half] for half in ("old", "new") if document[half] is not None} | {"all": document["all"]}
    heads = ("layer", "network", *(f"{half}, {of} %" for half, of in digits.items()))
    images = f"{document['probe_images']:,} training images"
    title = f"what a linear probe, fitted on {images}, reads from the hidden layers"
    made = Table(heads, title=title, text_columns=("layer", "network"))
    rows = document["probes"]
    for row, following in zip(rows, [*rows[1:], None], strict=True):
        made.add_row(row["layer"], row["model"], *(percent(row[half]) for half in digits))
        if following is not None and following["layer"] != row["layer"]:
            made.add_section()
    return made


def _intruders(document: dict[str, Any]) -> Table:
    found = document["intruders"]
    counts = ", ".join(f"{row['layer']} {row['count']}" for row in found["layers"])
    title = f"intruders (cosine below {found['threshold']:g}): {counts}; accuracy as they shrink"
    halves = [half for half in ("old", "new") if document[half] is not None]
    heads = ("factor", *(f"{half}, {document[half]} %" for half in halves), "old, task known %")
    made = Table(heads, title=title)
    for row in found["path"]:
        made.add_row(f"{row['factor']:g}", *(percent(row[half]) for half in halves), percent(row["old_known"]))
    return made


def _transfer(document: dict[str, Any]) -> Table:
    title = f"tasks {' then '.join(document['tasks'])}: accuracy at the end, and transfer in points"
    made = Table(("logits", "ACC %", *_MEASURES), title=title, text_columns=("logits",))
    for key, label in (("all", "all ten"), ("known", "task known")):
        row = document["transfer"][key]
        made.add_row(label, percent(row["accuracy"]), *(points(row[measure]) for measure in _MEASURES))
    return made
