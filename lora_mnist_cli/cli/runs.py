"""``lora-mnist runs``: what is there. No torch."""

from __future__ import annotations

import json
from typing import Any

import typer

from lora_mnist_cli.artifact import Artifact
from lora_mnist_cli.cli import options as o
from lora_mnist_cli.cli.console import print_result, workspace

app = typer.Typer(help="List, show, find and remove artifacts.", no_args_is_help=True)


@app.command("list")
def list_command(
    runs_dir: o.RunsDir = o.DEFAULT_RUNS,
    json_output: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    version: o.Version = False,
) -> None:
    """List the artifacts, oldest first, with what each was made from."""
    where = workspace(runs_dir, quiet=quiet, verbose=verbose)
    artifacts, errors = where.registry.scan()
    for error in errors:
        where.reporter.warn(str(error))
    if not artifacts:
        where.reporter.notice(f"there are no artifacts in {runs_dir}; begin with: lora-mnist train-base")
    tables = []
    if artifacts and not json_output:
        from lora_mnist_cli.cli.tables import runs_table

        tables = [runs_table(artifacts)]
    print_result("runs list", {"artifacts": [_summary(a) for a in artifacts]}, tables, as_json=json_output)


@app.command("show")
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
    children = [child.name for child in where.registry.descendants(artifact)]
    tables: list[Any] = []
    if not json_output:
        from lora_mnist_cli.cli.tables import score_table, table, titled

        facts = table(("what", "value"), text_columns=("what", "value"))
        facts.columns[1].no_wrap = False
        for key, value in _facts(artifact, children):
            facts.add_row(key, value)
        tables.append(titled(f"{name}: {artifact.kind}", facts))
        if artifact.scores:
            tables.append(score_table("scores on the test images", artifact.scores))
    document = {"artifact": name, "manifest": manifest, "needed_by": children}
    print_result("runs show", document, tables, as_json=json_output)


@app.command("path")
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
    document = {"artifact": name, "path": str(artifact.path)}
    print_result("runs path", document, [str(artifact.path)], as_json=json_output)


@app.command("remove")
def remove_command(
    name: o.ArtifactName,
    runs_dir: o.RunsDir = o.DEFAULT_RUNS,
    json_output: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    version: o.Version = False,
) -> None:
    """Remove one artifact, unless others were made from it."""
    where = workspace(runs_dir, quiet=quiet, verbose=verbose)
    where.registry.remove(name)
    print_result("runs remove", {"artifact": name, "removed": True}, [f"removed {name}"], as_json=json_output)


def _summary(artifact: Artifact) -> dict[str, Any]:
    return {
        "name": artifact.name,
        "kind": artifact.kind,
        "created": artifact.created,
        "digest": artifact.digest,
        "dataset": artifact.dataset,
        "digits": artifact.config.get("digits"),
        "rank": artifact.config.get("rank"),
        "seed": artifact.config.get("seed"),
        "parents": [{"role": p.role, "name": p.name, "digest": p.digest} for p in artifact.parents],
        "subsets": artifact.scores.get("subsets", []),
        "bytes": sum(entry["bytes"] for entry in artifact.files.values()),
    }


def _facts(artifact: Artifact, children: list[str]) -> list[tuple[str, str]]:
    settings = [(key, value if isinstance(value, str) else json.dumps(value)) for key, value in artifact.config.items()]
    return [
        ("created", artifact.created),
        ("digest", artifact.digest),
        ("made from", ", ".join(f"{parent.name} ({parent.role})" for parent in artifact.parents) or "–"),
        ("needed by", ", ".join(children) or "–"),
        *settings,
        *((key, json.dumps(value)) for key, value in artifact.details.items() if key != "results"),
        ("device", str(artifact.environment.get("device", "–"))),
        ("versions", ", ".join(f"{key} {value}" for key, value in artifact.environment["versions"].items())),
        ("wall time", f"{artifact.wall_seconds:.2f} s"),
        ("files", ", ".join(f"{file} ({entry['bytes']:,} bytes)" for file, entry in artifact.files.items())),
    ]
