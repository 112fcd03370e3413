"""``runs tag``, ``untag``, ``export`` and ``import``: giving artifacts other names, and to other people."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lora_mnist_cli.cli import options as o
from lora_mnist_cli.cli.console import print_result, workspace

Alias = Annotated[str, typer.Argument(help="A word of your own; @ALIAS then stands wherever a name goes.")]


def tag_command(
    name: o.ArtifactName,
    alias: Alias,
    runs_dir: o.RunsDir = o.DEFAULT_RUNS,
    json_output: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    version: o.Version = False,
) -> None:
    """Let @ALIAS stand for an artifact, in place of what it stood for before."""
    artifact = workspace(runs_dir, quiet=quiet, verbose=verbose).registry.tag(name, alias)
    alias = alias.removeprefix("@")
    document = {"artifact": artifact.name, "alias": alias, "digest": artifact.digest}
    print_result("runs tag", document, [f"@{alias} stands for {artifact.name}"], as_json=json_output)


def untag_command(
    alias: Alias,
    runs_dir: o.RunsDir = o.DEFAULT_RUNS,
    json_output: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    version: o.Version = False,
) -> None:
    """Take an alias away; the artifact stays."""
    workspace(runs_dir, quiet=quiet, verbose=verbose).registry.untag(alias)
    alias = alias.removeprefix("@")
    print_result("runs untag", {"alias": alias}, [f"@{alias} is no alias any more"], as_json=json_output)


def export_command(
    name: o.ArtifactName,
    file: Annotated[Path, typer.Argument(help="The zip file to write.")],
    force: Annotated[bool, o.switch("--force", "Replace a file that is there.")] = False,
    runs_dir: o.RunsDir = o.DEFAULT_RUNS,
    json_output: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    version: o.Version = False,
) -> None:
    """Write an artifact, with all that it was made from, to a zip file."""
    from lora_mnist_cli.registry.archive import export_artifact

    registry = workspace(runs_dir, quiet=quiet, verbose=verbose).registry
    names = [artifact.name for artifact in export_artifact(registry, name, file, force=force)]
    document = {"artifact": registry.resolve(name), "file": str(file), "artifacts": names}
    print_result("runs export", document, [f"{file}: {', '.join(names)}"], as_json=json_output)


def import_command(
    file: Annotated[Path, typer.Argument(help="A zip file that runs export wrote.")],
    runs_dir: o.RunsDir = o.DEFAULT_RUNS,
    json_output: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    version: o.Version = False,
) -> None:
    """Publish the artifacts of a zip file, once every one of them is found sound."""
    from lora_mnist_cli.registry.archive import import_artifacts

    every, fresh = import_artifacts(workspace(runs_dir, quiet=quiet, verbose=verbose).registry, file)
    new = [artifact.name for artifact in fresh]
    document = {"file": str(file), "artifacts": [artifact.name for artifact in every], "new": new}
    lines = [f"{artifact.name}: {'imported' if artifact.name in new else 'was here already'}" for artifact in every]
    print_result("runs import", document, lines, as_json=json_output)
