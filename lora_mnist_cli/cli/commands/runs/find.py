"""``runs list``, ``runs latest`` and ``runs path``: which artifacts there are, and where."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Any

from lora_mnist_cli.cli import options as o
from lora_mnist_cli.cli.console import print_result, workspace
from lora_mnist_cli.registry.entries import Entry
from lora_mnist_cli.registry.manifest import KINDS
from lora_mnist_cli.settings.choices import DATASETS
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.system.errors import refuse_unknown

SORTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "created": lambda row: (row["created"], row["name"]),
    "name": lambda row: row["name"],
    "kind": lambda row: KINDS.index(row["kind"]),
    "rank": lambda row: row["rank"] or 0,
    "seed": lambda row: row["seed"] or 0,
    "accuracy": lambda row: learned_accuracy(row) or 0.0,
    "bytes": lambda row: row["bytes"],
}
"""What a list can be sorted by. Sorting is stable: rows that are equal stay oldest first."""


def learned_accuracy(row: dict[str, Any]) -> float | None:
    """The accuracy on the digits that an artifact learned; None where it was not scored."""
    return next((score["accuracy"] for score in row["subsets"] if score["digits"] == row["digits"]), None)


def _check(what: str, value: str | None, known: Iterable[str]) -> None:
    if value is not None:
        refuse_unknown(what, value, list(known), "one of")


def list_command(
    kind: Annotated[str | None, o.word_option("--kind", f"Only those: {', '.join(KINDS)}.", known=KINDS)] = None,
    digits: Annotated[str | None, o.word_option("--digits", "Only those that learned exactly these digits.")] = None,
    rank: Annotated[int | None, o.integer_option("--rank", "Only adapters of this rank.")] = None,
    base: Annotated[str | None, o.artifact_option("--base", "Only what was made from this base.")] = None,
    dataset: Annotated[str | None, o.word_option("--dataset", "Only those of this data set.", known=DATASETS)] = None,
    sort: Annotated[str, o.word_option("--sort", f"Order by {', '.join(SORTS)}.", known=SORTS)] = "created",
    reverse: Annotated[bool, o.switch("--reverse", "The other way round.")] = False,
    runs_dir: o.RunsDir = o.DEFAULT_RUNS,
    json_output: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    version: o.Version = False,
) -> None:
    """List the artifacts, oldest first, with what each was made from."""
    _check("kind", kind, KINDS)
    _check("data set", dataset, DATASETS)
    _check("order", sort, SORTS)
    learned = None if digits is None else str(DigitSet.parse(digits))
    where = workspace(runs_dir, quiet=quiet, verbose=verbose)
    made_from = None if base is None else where.registry.get(base).digest
    entries, errors = where.registry.scan()
    for error in errors:
        where.reporter.warn(str(error))

    def wanted(entry: Entry) -> bool:
        return (kind in (None, entry.kind)) and (dataset in (None, entry.dataset))

    rows = [entry.to_json() for entry in entries if wanted(entry)]
    if learned is not None:
        rows = [row for row in rows if row["digits"] == learned]
    if rank is not None:
        rows = [row for row in rows if row["rank"] == rank]
    if made_from is not None:
        rows = [row for row in rows if any(parent["digest"] == made_from for parent in row["parents"])]
    rows = sorted(rows, key=SORTS[sort], reverse=reverse)
    if not rows:
        filtered = f"none of {len(entries)} artifacts in {runs_dir} is like that"
        begin = f"there are no artifacts in {runs_dir}; begin with: lora-mnist train-base"
        where.reporter.notice(filtered if entries else begin)
    tables: list[Any] = []
    if rows and not json_output:
        from lora_mnist_cli.cli.tables import runs_table

        tables = [runs_table(rows)]
    print_result("runs list", {"artifacts": rows}, tables, as_json=json_output)


def latest_command(
    kind: Annotated[str, o.word_option("--kind", f"Of which kind: {', '.join(KINDS)}.", known=KINDS)] = "adapter",
    dataset: Annotated[str | None, o.word_option("--dataset", "Of which data set.", known=DATASETS)] = None,
    runs_dir: o.RunsDir = o.DEFAULT_RUNS,
    json_output: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    version: o.Version = False,
) -> None:
    """Print the name of the newest artifact of a kind: what a stage takes where none is named."""
    _check("kind", kind, KINDS)
    _check("data set", dataset, DATASETS)
    artifact = workspace(runs_dir, quiet=quiet, verbose=verbose).registry.latest(kind, dataset=dataset)
    document = {"artifact": artifact.name, "kind": artifact.kind, "created": artifact.created}
    print_result("runs latest", document, [artifact.name], as_json=json_output)


def path_command(
    name: o.ArtifactName,
    runs_dir: o.RunsDir = o.DEFAULT_RUNS,
    json_output: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    version: o.Version = False,
) -> None:
    """Print the folder of one artifact."""
    artifact = workspace(runs_dir, quiet=quiet, verbose=verbose).registry.get(name)
    document = {"artifact": artifact.name, "path": str(artifact.path)}
    print_result("runs path", document, [str(artifact.path)], as_json=json_output)
