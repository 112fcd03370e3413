"""``runs show``, ``runs lineage`` and ``runs diff``: all that is recorded of an artifact, or of two."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lora_mnist_cli.cli import options as o
from lora_mnist_cli.cli.console import print_result, workspace
from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.registry.entries import Entry
from lora_mnist_cli.settings.adapter_config import HOW_TRAINED

if TYPE_CHECKING:
    from rich.tree import Tree

_DEEPEST = 50
"""Generations that a lineage is shown of; four are common."""


def show_command(
    name: o.ArtifactName,
    runs_dir: o.RunsDir = o.DEFAULT_RUNS,
    json_output: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    version: o.Version = False,
) -> None:
    """Show all that is recorded of one artifact: settings, lineage, scores, versions, files."""
    where = workspace(runs_dir, quiet=quiet, verbose=verbose)
    artifact = where.registry.get(name)
    manifest = artifact.to_manifest()
    children = [child.name for child in where.registry.descendants(artifact.name)]
    aliases = [alias for alias, tag in where.registry.tags().items() if tag == (artifact.name, artifact.digest)]
    tables: list[Any] = []
    if not json_output:
        from lora_mnist_cli.cli.tables import facts_table, score_table, titled

        tables.append(titled(f"{artifact.name}: {artifact.kind}", facts_table(_facts(artifact, children, aliases))))
        if artifact.scores:
            tables.append(score_table("scores on the test images", artifact.scores, artifact.dataset))
    document = {"artifact": artifact.name, "manifest": manifest, "needed_by": children, "aliases": aliases}
    print_result("runs show", document, tables, as_json=json_output)


def lineage_command(
    name: o.ArtifactName,
    runs_dir: o.RunsDir = o.DEFAULT_RUNS,
    json_output: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    version: o.Version = False,
) -> None:
    """Show as a tree what an artifact was made from, up to the base, and what was made from it."""
    registry = workspace(runs_dir, quiet=quiet, verbose=verbose).registry
    artifact = registry.get(name)
    entries, _ = registry.scan()
    where = {entry.digest: entry for entry in reversed(entries)}
    children = [child.name for child in registry.descendants(artifact.name, all_generations=True)]
    made_from = ancestors(Entry.of(artifact), where)
    document = {"artifact": artifact.name, "digest": artifact.digest, "made_from": made_from, "needed_by": children}
    tables: list[Any] = []
    if not json_output:
        from rich.text import Text
        from rich.tree import Tree

        tree = Tree(Text(f"{artifact.name} ({artifact.kind}, {artifact.digest[:19]}…)", style="bold"))
        _grow(tree, made_from)
        tables = [tree, f"needed by: {', '.join(children) or '–'}"]
    print_result("runs lineage", document, tables, as_json=json_output)


def diff_command(
    first: Annotated[str, typer.Argument(metavar="A", help="An artifact.", autocompletion=o.complete_artifact)],
    second: Annotated[str, typer.Argument(metavar="B", help="Another.", autocompletion=o.complete_artifact)],
    runs_dir: o.RunsDir = o.DEFAULT_RUNS,
    json_output: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    version: o.Version = False,
) -> None:
    """Compare two artifacts: settings, scores and weights.

    Of adapters the changes of the weights are compared, layer by layer: LoRA's products alpha · scale(rank) · B A.
    """
    from lora_mnist_cli.registry.diff import diff

    found = diff(workspace(runs_dir, quiet=quiet, verbose=verbose).registry, first, second)
    tables = [] if json_output else _diff_tables(found)
    print_result("runs diff", found, tables, as_json=json_output)


def _facts(artifact: Artifact, children: list[str], aliases: list[str]) -> list[tuple[str, str]]:
    unsaid = HOW_TRAINED if "imported" in artifact.config else ()  # defaults, which nothing was trained by
    settings = [
        (key, value if isinstance(value, str) else json.dumps(value))
        for key, value in artifact.config.items()
        if key not in unsaid
    ]
    return [
        ("created", artifact.created),
        ("digest", artifact.digest),
        ("note", artifact.note or "–"),
        ("aliases", ", ".join(f"@{alias}" for alias in aliases) or "–"),
        ("made from", ", ".join(f"{parent.name} ({parent.role})" for parent in artifact.parents) or "–"),
        ("needed by", ", ".join(children) or "–"),
        *settings,
        *((key, json.dumps(value)) for key, value in artifact.details.items() if key != "results"),
        ("device", str(artifact.environment.get("device", "–"))),
        ("versions", ", ".join(f"{key} {value}" for key, value in artifact.environment.get("versions", {}).items())),
        ("wall time", f"{artifact.wall_seconds:.2f} s"),
        ("files", ", ".join(f"{file} ({entry['bytes']:,} bytes)" for file, entry in artifact.files.items())),
    ]


def ancestors(entry: Entry, where: dict[str, Entry]) -> list[dict[str, Any]]:
    """What an artifact was made from, as a tree; what can't be found says so.

    What stands in it more than once is followed once, so that neither a circle nor a maze can be forged, and no
    deeper than :data:`_DEEPEST`.
    """
    top: list[dict[str, Any]] = []
    followed = {entry.digest}
    level = [(entry, top)]
    for depth in range(_DEEPEST):
        below: list[tuple[Entry, list[dict[str, Any]]]] = []
        for child, rows in level:
            for parent in child.parents:
                here = where.get(parent.digest)
                row: dict[str, Any] = {
                    "role": parent.role,
                    "name": here.name if here is not None else parent.name,
                    "digest": parent.digest,
                    "kind": here.kind if here is not None else None,
                    "followed": parent.digest not in followed,
                    "made_from": [],
                }
                rows.append(row)
                if here is not None and here.parents and parent.digest not in followed:
                    if depth + 1 == _DEEPEST:
                        row["followed"] = False
                        continue
                    followed.add(parent.digest)
                    below.append((here, row["made_from"]))
        level = below
    return top


def _grow(tree: Tree, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        mark = ", MISSING" if not row["kind"] else "" if row["followed"] else ", not followed further"
        _grow(tree.add(f"{row['name']} ({row['role']}, {row['digest'][:19]}…{mark})"), row["made_from"])


def _diff_tables(found: dict[str, Any]) -> list[Any]:
    from lora_mnist_cli.cli.tables import number, percent, table, titled

    a, b = found["a"], found["b"]
    tables: list[Any] = []
    if found["same_content"]:
        tables.append(f"{a} and {b} have the same content.")
    settings = table(("setting", a, b), text_columns=("setting", a, b))
    for row in found["settings"]:
        settings.add_row(row["setting"], json.dumps(row["a"]), json.dumps(row["b"]))
    tables.append(titled("settings that differ", settings) if found["settings"] else "No setting differs.")
    if found["scores"]:
        scores = table(("digits", f"{a} acc. %", f"{b} acc. %", "difference", f"{a} loss", f"{b} loss"))
        for row in found["scores"]:
            x, y = row["accuracy_a"], row["accuracy_b"]
            change = "–" if x is None or y is None else f"{100 * (y - x):+.2f}"
            scores.add_row(row["digits"], percent(x), percent(y), change, number(row["loss_a"]), number(row["loss_b"]))
        tables.append(titled("scores on the test images", scores))
    if found["weights"] is None:
        tables.append("Their weights can't be compared: they are not two bases, or two adapters, of one shape.")
    elif found["same_weights"]:
        tables.append("Their weights are equal.")
    else:
        weights = table(("tensor", f"norm of {a}", f"norm of {b}", "norm of difference", "cosine"))
        for row in found["weights"]:
            weights.add_row(row["tensor"], *(number(row[key]) for key in ("norm_a", "norm_b", "difference", "cosine")))
        other = any(row["setting"] == "method" for row in found["settings"]) or any(
            " bias" in row["tensor"] for row in found["weights"]
        )
        products = "changes of the weights" if other else "products alpha · scale(rank) · B A"
        what = "weights" if "." in found["weights"][0]["tensor"] else products
        tables.append(titled(f"{what} (Frobenius norms)", weights))
    return tables
