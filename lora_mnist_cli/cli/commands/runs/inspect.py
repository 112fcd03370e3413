"""``runs show``, ``runs lineage`` and ``runs diff``: all that is recorded of an artifact, or of two."""

from collections.abc import Iterator
from typing import Annotated, Any

from lora_mnist_cli.cli import options as o
from lora_mnist_cli.cli import shared_options as shared
from lora_mnist_cli.cli.tables import number, percent, points, score_table
from lora_mnist_cli.cli.text_table import Table, facts_table
from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.registry.entries import Entry
from lora_mnist_cli.settings.adapter_config import HOW_TRAINED
from lora_mnist_cli.settings.human_text import human

_DEEPEST = 50
"""Generations that a lineage is shown of; four are common."""


@o.grouped
def show_command(*, name: shared.ArtifactName, folder: shared.RunsFolder, output: shared.Output) -> None:
    """Show all that is recorded of one artifact: settings, lineage, scores, versions, files."""
    registry = folder.registry(output)
    artifact = registry.get(name)
    children = [child.name for child in registry.descendants(artifact.name)]
    aliases = [alias for alias, tag in registry.tags().items() if tag == (artifact.name, artifact.digest)]

    def tables(_: dict[str, Any]) -> list[Table]:
        facts = facts_table(f"{artifact.name}: {artifact.kind}", _facts(artifact, children, aliases))
        scores = artifact.scores
        return [facts, *([score_table("scores on the test images", scores, artifact.classes)] if scores else [])]

    document = {"artifact": artifact.name, "manifest": artifact.to_manifest()}
    output.print("runs show", document | {"needed_by": children, "aliases": aliases}, tables)


@o.grouped
def lineage_command(*, name: shared.ArtifactName, folder: shared.RunsFolder, output: shared.Output) -> None:
    """Show as a tree what an artifact was made from, up to the base, and what was made from it."""
    registry = folder.registry(output)
    artifact = registry.get(name)
    entries, _ = registry.scan()
    by_digest = {entry.digest: entry for entry in reversed(entries)}
    children = [child.name for child in registry.descendants(artifact.name, all_generations=True)]
    made_from = ancestors(Entry.of(artifact), by_digest)
    document = {"artifact": artifact.name, "digest": artifact.digest, "made_from": made_from, "needed_by": children}
    root = f"{artifact.name} ({artifact.kind}, {artifact.digest[:19]}…)"
    needed_by = f"needed by: {', '.join(children) or '–'}"
    output.print("runs lineage", document, lambda _: [root, *_branches(made_from), needed_by])


@o.grouped
def diff_command(
    *,
    first: Annotated[str, o.artifact_argument("An artifact.", "A")],
    second: Annotated[str, o.artifact_argument("Another one.", "B")],
    folder: shared.RunsFolder,
    output: shared.Output,
) -> None:
    """Compare two artifacts: settings, scores and weights.

    For adapters, compares the changes of the weights layer by layer: LoRA's products alpha · scale(rank) · B A.
    """
    from lora_mnist_cli.registry.diff import diff

    output.print("runs diff", diff(folder.registry(output), first, second), _diff_tables)


def _facts(artifact: Artifact, children: list[str], aliases: list[str]) -> list[tuple[str, str]]:
    unsaid = HOW_TRAINED if "imported" in artifact.config else ()  # defaults that no training used
    said = {key: value for key, value in artifact.config.items() if key not in unsaid}
    return [
        ("created", artifact.created),
        ("digest", artifact.digest),
        ("note", artifact.note or "–"),
        ("aliases", ", ".join(f"@{alias}" for alias in aliases) or "–"),
        ("made from", ", ".join(f"{parent.name} ({parent.role})" for parent in artifact.parents) or "–"),
        ("needed by", ", ".join(children) or "–"),
        *((key, human(value)) for key, value in said.items()),
        *((key, human(value, figures=True)) for key, value in artifact.details.items() if key != "results"),
        ("device", str(artifact.environment.get("device", "–"))),
        ("versions", ", ".join(f"{key} {value}" for key, value in artifact.environment.get("versions", {}).items())),
        ("wall time", f"{artifact.wall_seconds:.2f} s"),
        ("files", ", ".join(f"{file} ({entry['bytes']:,} bytes)" for file, entry in artifact.files.items())),
    ]


def ancestors(entry: Entry, where: dict[str, Entry]) -> list[dict[str, Any]]:
    """Give the tree of what an artifact was made from; an artifact that is missing is marked.

    An artifact that appears more than once is followed once, and no deeper than :data:`_DEEPEST`, so that nobody can
    forge a circle or a maze.
    """
    top: list[dict[str, Any]] = []
    followed = {entry.digest}
    level = [(entry, top)]
    for depth in range(_DEEPEST):
        below: list[tuple[Entry, list[dict[str, Any]]]] = []
        for child, rows in level:
            for parent in child.parents:
                here = where.get(parent.digest)
                name, kind = (parent.name, None) if here is None else (here.name, here.kind)
                row: dict[str, Any] = {
                    "role": parent.role, "name": name, "digest": parent.digest, "kind": kind,
                    "followed": parent.digest not in followed, "made_from": [],
                }  # fmt: skip
                rows.append(row)
                if here is not None and here.parents and parent.digest not in followed:
                    if depth + 1 == _DEEPEST:
                        row["followed"] = False
                        continue
                    followed.add(parent.digest)
                    below.append((here, row["made_from"]))
        level = below
    return top


def _branches(rows: list[dict[str, Any]], indent: str = "") -> Iterator[str]:
    """Give a tree's lines below its root."""
    for row in rows:
        fork, below = ("└── ", "    ") if row is rows[-1] else ("├── ", "│   ")
        mark = ", MISSING" if not row["kind"] else "" if row["followed"] else ", not followed further"
        yield f"{indent}{fork}{row['name']} ({row['role']}, {row['digest'][:19]}…{mark})"
        yield from _branches(row["made_from"], indent + below)


def _diff_tables(found: dict[str, Any]) -> list[Table | str]:
    a, b = found["a"], found["b"]
    tables: list[Table | str] = [f"{a} and {b} have the same content."] if found["same_content"] else []
    if found["settings"]:
        heads = ("setting", a, b)
        rows = ((row["setting"], human(row["a"]), human(row["b"])) for row in found["settings"])
        tables.append(Table(heads, rows, title="settings that differ", text_columns=heads))
    else:
        tables.append("No setting differs.")
    if found["scores"]:
        figures = ("digits", f"{a} acc. %", f"{b} acc. %", "difference", f"{a} loss", f"{b} loss")
        scores = Table(figures, title="scores on the test images")
        for row in found["scores"]:
            x, y = row["accuracy_a"], row["accuracy_b"]
            change = points(None if x is None or y is None else y - x)
            scores.add_row(row["digits"], percent(x), percent(y), change, number(row["loss_a"]), number(row["loss_b"]))
        tables.append(scores)
    return [*tables, _weights(found)]


def _weights(found: dict[str, Any]) -> Table | str:
    """Compare the weights, or say why there is nothing to compare."""
    rows = found["weights"]
    if rows is None:
        return "Their weights can't be compared: they are not two bases, or two adapters, of one shape."
    if found["same_weights"]:
        return "Their weights are equal."
    other_methods = any(row["setting"] == "method" for row in found["settings"])
    changes = other_methods or any(" bias" in row["tensor"] for row in rows)
    products = "changes of the weights" if changes else "products alpha · scale(rank) · B A"
    title = f"{'weights' if '.' in rows[0]['tensor'] else products} (Frobenius norms)"
    heads = ("tensor", f"norm of {found['a']}", f"norm of {found['b']}", "norm of difference", "cosine")
    figures = ("norm_a", "norm_b", "difference", "cosine")
    return Table(heads, ((row["tensor"], *(number(row[key]) for key in figures)) for row in rows), title=title)
