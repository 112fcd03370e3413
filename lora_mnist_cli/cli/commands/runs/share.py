"""``runs tag``, ``untag``, ``export`` and ``import``: giving artifacts other names, and to other people."""

from pathlib import Path
from typing import Annotated

import typer

from lora_mnist_cli.cli import options as o
from lora_mnist_cli.cli import shared_options as shared

Alias = Annotated[
    str, typer.Argument(metavar="ALIAS", help="A word of your own; @ALIAS can then be used in place of a name.")
]


@o.grouped
def tag_command(*, name: shared.ArtifactName, alias: Alias, folder: shared.RunsFolder, output: shared.Output) -> None:
    """Let @ALIAS stand for an artifact, in place of what it stood for before."""
    artifact = folder.registry(output).tag(name, alias)
    alias = alias.removeprefix("@")
    document = {"artifact": artifact.name, "alias": alias, "digest": artifact.digest}
    output.print("runs tag", document, [f"@{alias} stands for {artifact.name}"])


@o.grouped
def untag_command(*, alias: Alias, folder: shared.RunsFolder, output: shared.Output) -> None:
    """Remove an alias; the artifact stays."""
    folder.registry(output).untag(alias)
    alias = alias.removeprefix("@")
    output.print("runs untag", {"alias": alias}, [f"alias @{alias} removed"])


@o.grouped
def export_command(
    *,
    name: shared.ArtifactName,
    file: Annotated[Path, o.file_argument("The zip file to write.")],
    force: Annotated[bool, o.switch("--force", "Replace an existing file.")] = False,
    folder: shared.RunsFolder,
    output: shared.Output,
) -> None:
    """Write an artifact, with everything that it was made from, to a zip file."""
    from lora_mnist_cli.registry.archive import export_artifact

    registry = folder.registry(output)
    names = [artifact.name for artifact in export_artifact(registry, name, file, force=force)]
    document = {"artifact": registry.resolve(name), "file": str(file), "artifacts": names}
    output.print("runs export", document, [f"{file}: {', '.join(names)}"], beside=file)


@o.grouped
def import_command(
    *,
    file: Annotated[Path, o.file_argument("A zip file that runs export wrote.")],
    folder: shared.RunsFolder,
    output: shared.Output,
) -> None:
    """Publish the artifacts of a zip file, after checking that none of them is damaged."""
    from lora_mnist_cli.registry.archive import import_artifacts

    every, fresh = import_artifacts(folder.registry(output), file)
    new = dict.fromkeys(artifact.name for artifact in fresh)
    document = {"file": str(file), "artifacts": [artifact.name for artifact in every], "new": list(new)}
    lines = [f"{artifact.name}: {'imported' if artifact.name in new else 'was here already'}" for artifact in every]
    output.print("runs import", document, lines)
