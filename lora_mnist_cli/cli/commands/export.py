"""``lora-mnist export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lora_mnist_cli.cli import options as o
from lora_mnist_cli.cli.commands.evaluate import refuse_without_route
from lora_mnist_cli.cli.console import print_result, workspace
from lora_mnist_cli.stages.exporting import FORMATS, export_model, export_routed
from lora_mnist_cli.system.errors import UsageError


def command(
    names: Annotated[
        list[str],
        typer.Argument(
            help="Name of an artifact; with --route, of several experts.",
            autocompletion=o.complete_artifact,
            metavar="NAME...",
        ),
    ],
    route: o.Route = False,
    route_by: o.RouteBy = None,
    form: Annotated[
        str | None,
        o.word_option("--format", f"One of {', '.join(FORMATS)}; safetensors, or onnx with --route.", None, FORMATS),
    ] = None,
    alpha: Annotated[float | None, o.number_option("--alpha", "Of an adapter, in the trained alpha's place.")] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="FILE", help="The file; by default the artifact's name with a suffix."),
    ] = None,
    force: Annotated[bool, o.switch("--force", "Replace files that are there.")] = False,
    runs_dir: o.RunsDir = o.DEFAULT_RUNS,
    data_dir: o.DataDir = o.DEFAULT_DATA,
    json_output: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    version: o.Version = False,
) -> None:
    """Write a base, or an adapter merged into its base, as a file for other programs.

    With --format peft it is a folder with the adapter alone, unmerged, and what PEFT can't say is refused. With
    --route, a base and adapters on it become one ONNX file that has the router inside. Beside it lies FILE.json, which
    says what is inside and how images are normalised; an ONNX file does that itself.
    """
    where = workspace(runs_dir, data_dir, quiet=quiet, verbose=verbose)
    refuse_without_route(route, route_by, names)
    if route:
        if alpha is not None:
            raise UsageError("--alpha is not for --route: experts answer as they were trained", value=alpha)
        by = route_by or "mixture"
        document = export_routed(names, form or "onnx", by=by, output=output, force=force, workspace=where)
    else:
        document = export_model(
            names[0], form or "safetensors", alpha=alpha, output=output, force=force, workspace=where
        )
    print_result("export", document, [document["file"], f"{document['file']}.json"], as_json=json_output)
