"""``runs list``, ``runs latest`` and ``runs path``: which artifacts there are, and where."""

from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any

from lora_mnist_cli.cli import options as o
from lora_mnist_cli.cli import shared_options as shared
from lora_mnist_cli.cli.tables import percent
from lora_mnist_cli.cli.text_table import Table
from lora_mnist_cli.registry.entries import Entry, chain_parts, creation_order
from lora_mnist_cli.registry.manifest_kinds import KINDS
from lora_mnist_cli.settings.choices import DATASETS
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.settings.lists import counted
from lora_mnist_cli.settings.own_data import is_own
from lora_mnist_cli.system.errors import refuse_unknown

SORTS: dict[str, Callable[[Entry], Any]] = {
    "created": creation_order,
    "name": lambda entry: entry.name,
    "kind": lambda entry: KINDS.index(entry.kind),
    "rank": lambda entry: entry.rank or 0,
    "seed": lambda entry: entry.seed or 0,
    "accuracy": lambda entry: learned_accuracy(entry) or 0.0,
    "bytes": lambda entry: entry.bytes,
}
"""What a list can be sorted by. Sorting is stable: rows that are equal stay oldest first."""


def learned_accuracy(entry: Entry) -> float | None:
    """Give the accuracy on the digits that an artifact learned; None if it was not scored."""
    return next((score.accuracy for score in entry.subsets if score.digits == entry.digits), None)


def _check(what: str, value: str | None, known: Iterable[str]) -> None:
    if value is not None:
        refuse_unknown(what, value, list(known), "one of")


def _check_dataset(dataset: str | None) -> None:
    if not is_own(dataset):
        _check("data set", dataset, DATASETS)


@o.grouped
def list_command(
    *,
    kind: Annotated[str | None, o.word("Only those of this kind.", known=KINDS)] = None,
    digits: Annotated[str | None, o.digits("Only those that learned exactly these digits.")] = None,
    rank: Annotated[int | None, o.integer("Only adapters of this rank.")] = None,
    base: Annotated[str | None, o.artifact_option("Only those that were made from this base.")] = None,
    dataset: Annotated[str | None, o.word("Only those of this data set.", known=DATASETS)] = None,
    sort: Annotated[str, o.word("What to order by.", known=SORTS)] = "created",
    reverse: Annotated[bool, o.switch("--reverse", "Reverse the order.")] = False,
    all_: Annotated[bool, o.switch("--all", "Also what chains made on their way.")] = False,
    folder: shared.RunsFolder,
    output: shared.Output,
) -> None:
    """List the artifacts, oldest first, with the artifacts that each was made from."""
    _check("kind", kind, KINDS)
    _check_dataset(dataset)
    _check("order", sort, SORTS)
    learned = None if digits is None else str(DigitSet.parse(digits))
    workspace = folder.workspace(output)
    made_from = None if base is None else workspace.registry.get(base).digest
    entries, errors = workspace.registry.scan()
    for error in errors:
        workspace.reporter.warn(str(error))
    for link in workspace.registry.links():
        workspace.reporter.warn(f"'{link}' is left out: it is a symbolic link ({shared.REPLACE_LINKS})")
    chosen = [
        entry
        for entry in entries
        if kind in (None, entry.kind)
        and dataset in (None, entry.dataset)
        and learned in (None, entry.digits)
        and rank in (None, entry.rank)
        and (made_from is None or any(parent.digest == made_from for parent in entry.parents))
    ]
    parts = set() if all_ else chain_parts(entries)
    hidden = [entry.name for entry in chosen if entry.name in parts]
    chosen = [entry for entry in chosen if entry.name not in parts]
    chosen.sort(key=SORTS[sort], reverse=reverse)
    if hidden:
        workspace.reporter.notice(f"{counted(len(hidden), 'part')} of chains left out; --all lists them too")
    if not chosen and not hidden:
        none = f"none of {len(entries)} artifacts in {folder.runs_dir} is like that"
        begin = f"there are no artifacts in {folder.runs_dir}; begin with: lora-mnist train-base"
        workspace.reporter.notice(none if entries else begin)
    rows = [entry.to_json() for entry in chosen] if output.json_output else []
    output.print("runs list", {"artifacts": rows}, lambda _: [runs_table(chosen)] if chosen else [])


def runs_table(entries: Sequence[Entry]) -> Table:
    """Make a row per artifact, in the order given; the accuracy is on the digits that it learned."""
    heads = ("name", "kind", "data set", "digits", "rank", "seed", "made from", "accuracy %", "created (UTC)")
    made = Table(
        heads, text_columns=("name", "kind", "data set", "digits", "made from", "created (UTC)"), whole=heads,
        optional=("created (UTC)", "data set", "seed", "made from", "kind", "digits", "rank"),
    )  # fmt: skip
    for entry in entries:
        shown = (entry.digits, entry.rank, entry.seed)
        given = ["" if value is None else str(value) for value in shown]
        bases = ", ".join([parent.name for parent in entry.parents if parent.role == "base"])
        accuracy = next((percent(s.accuracy) for s in entry.subsets if s.digits == entry.digits), "")
        created = entry.created[:19].replace("T", " ")
        made.add_row(entry.name, entry.kind, entry.dataset, *given, bases, accuracy, created)
    return made


@o.grouped
def latest_command(
    *,
    kind: Annotated[str, o.word("Of which kind.", known=KINDS)] = "adapter",
    dataset: Annotated[str | None, o.word("Of which data set.", known=DATASETS)] = None,
    folder: shared.RunsFolder,
    output: shared.Output,
) -> None:
    """Print the name of the newest artifact of a kind: the one that a command takes if none is named.

    What a sweep, a chain or a study made counts only where nothing was made on its own.
    """
    _check("kind", kind, KINDS)
    _check_dataset(dataset)
    artifact = folder.registry(output).latest(kind, dataset=dataset)
    document = {"artifact": artifact.name, "kind": artifact.kind, "created": artifact.created}
    output.print("runs latest", document, [artifact.name])


@o.grouped
def path_command(*, name: shared.ArtifactName, folder: shared.RunsFolder, output: shared.Output) -> None:
    """Print the folder of one artifact."""
    artifact = folder.registry(output).get(name)
    output.print("runs path", {"artifact": artifact.name, "path": str(artifact.path)}, [str(artifact.path)])
