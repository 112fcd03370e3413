"""``runs command``, ``runs settings`` and ``runs rerun``: what made an artifact, and the same once more."""

import contextlib
import io
import json
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from lora_mnist_cli.cli import again
from lora_mnist_cli.cli import options as o
from lora_mnist_cli.cli import shared_options as shared
from lora_mnist_cli.cli.app import program
from lora_mnist_cli.cli.tables import percent, points
from lora_mnist_cli.cli.text_table import Table
from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.registry.catalog import Catalog
from lora_mnist_cli.settings.lists import some
from lora_mnist_cli.system.errors import GateError, UsageError


@o.grouped
def command_command(
    *,
    name: shared.ArtifactName,
    everything: Annotated[
        bool, o.switch("--all", "The commands of all that it was made from, too: they make it from nothing.")
    ] = False,
    folder: shared.RunsFolder,
    output: shared.Output,
) -> None:
    """Print the command that makes an artifact.

    A setting that its recipe gives is left out, and so is a name that is given by default.
    """
    registry = folder.registry(output)
    artifact = registry.get(name)
    lines = again.lines_of(registry, artifact) if everything else [again.line_of(registry, artifact)]
    document = {"artifact": artifact.name, "commands": [["lora-mnist", *line.words()] for line in lines]}
    output.print("runs command", document, [str(line) for line in lines])


@o.grouped
def settings_command(*, name: shared.ArtifactName, folder: shared.RunsFolder, output: shared.Output) -> None:
    """Print the settings of an artifact as TOML, for --settings of the command that made it.

    Every setting is there, those of the recipe too.
    """
    registry = folder.registry(output)
    artifact = registry.get(name)
    line = again.line_of(registry, artifact, in_full=True)
    document = {"artifact": artifact.name, "stage": line.command, "settings": line.options}
    words = " ".join(["lora-mnist", line.command, *line.arguments, "--settings FILE"])
    output.print("runs settings", document, [f"# {words}", *(_toml(*each) for each in line.options.items())])


@o.grouped
def rerun_command(
    *,
    name: shared.ArtifactName,
    into: Annotated[
        Path | None, o.new_folder("A new folder that keeps what is made; it is thrown away otherwise.", flag="--into")
    ] = None,
    folders: shared.Folders,
    output: shared.Output,
) -> None:
    """Make an artifact anew, with all that it was made from, and say whether the bytes are the same.

    Exit code 0 where they are, and 1 where they are not: then the table shows how the figures differ, and the lines
    below it what else does. Another processor or other versions of packages may round differently.
    """
    registry = folders.registry(output)
    artifact = registry.get(name)
    lines = again.lines_of(registry, artifact)
    if into is not None and Catalog(into).names():
        raise UsageError(f"{into} has artifacts already", hint="name a new folder", value=into)
    with contextlib.ExitStack() as stack:
        where = into or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lora-mnist-")))
        for line in lines:
            output.reporter().notice(str(line))
            heard = ["--quiet"] if output.quiet else ["--verbose"] if output.verbose else []
            _run([*line.words(), "--runs-dir", str(where), "--data-dir", str(folders.data_dir), *heard])
        made = Catalog(where)
        made.get(artifact.name)
        rows = [_compared(registry.get(each), made.get(each)) for each in made.names() if registry.has(each)]
    document = {"artifact": artifact.name, "same": all(row["same"] for row in rows), "artifacts": rows}
    output.print("runs rerun", document, _tables)
    if different := [row["artifact"] for row in rows if not row["same"]]:
        raise GateError(f"other bytes than before: {some(different)}", value=different)


def _run(words: list[str]) -> None:
    """Run a command of the program in this process, without what it prints."""
    with contextlib.redirect_stdout(io.StringIO()):
        code = program(words[0])(args=words, prog_name="lora-mnist", standalone_mode=False)
    if code:  # it was interrupted
        raise typer.Exit(code)


def _compared(old: Artifact, new: Artifact) -> dict[str, Any]:
    """Say whether two artifacts have the same content, and what differs where they have not."""
    from lora_mnist_cli.registry.diff import scores_side_by_side

    row: dict[str, Any] = {"artifact": old.name, "kind": old.kind, "same": old.digest == new.digest}
    if row["same"]:
        return row
    figures = [
        {"digits": scores["digits"], "before": scores["accuracy_a"], "after": scores["accuracy_b"]}
        for scores in scores_side_by_side(old, new)
    ]
    files = sorted(file for file in old.files.keys() | new.files.keys() if old.files.get(file) != new.files.get(file))
    was, now = (_flat(each.environment) for each in (old, new))
    environment = {key: [was.get(key), now.get(key)] for key in sorted(was | now) if was.get(key) != now.get(key)}
    return row | {"figures": figures, "files": files, "environment": environment}


def _flat(environment: dict[str, Any]) -> dict[str, Any]:
    versions: dict[str, Any] = environment.get("versions", {})
    return versions | {key: value for key, value in environment.items() if key != "versions"}


def _tables(document: dict[str, Any]) -> list[Table | str]:
    made = Table(
        ("artifact", "kind", "bytes", "digits", "before %", "after %", "difference"),
        text_columns=("artifact", "kind", "bytes", "digits"), title=f"{document['artifact']}, made again",
    )  # fmt: skip
    notes: dict[str, None] = {}
    for row in document["artifacts"]:
        figures = row.get("figures") or [None]
        for figure in figures:
            cells = ("–",) * 4 if figure is None else (
                figure["digits"], percent(figure["before"]), percent(figure["after"]),
                points(None if None in figure.values() else figure["after"] - figure["before"]),
            )  # fmt: skip
            first = figure is figures[0]
            same = "the same" if row["same"] else "others"
            made.add_row(*((row["artifact"], row["kind"], same) if first else ("", "", "")), *cells)
        if not row["same"]:
            notes[f"{row['artifact']}: other bytes in {some(row['files'])}"] = None
        for key, (was, now) in row.get("environment", {}).items():
            notes[f"{key}: {was} before, {now} now"] = None
    return [made, *notes]


def _toml(name: str, value: str | bool | list[str]) -> str:
    """Write a line of TOML: numbers and switches as themselves, lists of texts, and all else as text."""
    if isinstance(value, bool):
        return f"{name} = true"
    if isinstance(value, list):
        return f"{name} = {json.dumps(value)}"
    with contextlib.suppress(ValueError):
        number = float(value)
        return f"{name} = {int(number) if value.isdigit() else number}"
    return f"{name} = {json.dumps(value)}"
