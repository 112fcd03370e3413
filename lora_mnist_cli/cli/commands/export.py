"""``lora-mnist export``."""

from pathlib import Path
from typing import Annotated, Any

from lora_mnist_cli.cli import options as o
from lora_mnist_cli.cli import shared_options as shared
from lora_mnist_cli.stages.exporting import FORMATS, export_model, export_routed


@o.grouped
def command(
    *,
    names: Annotated[list[str], o.artifact_argument("Name of an artifact; with --route, of several experts.")],
    route: shared.Route = False,
    route_by: shared.RouteBy = None,
    form: Annotated[
        str | None,
        o.word(
            "By default what --output ends in, or safetensors (onnx with --route).",
            known=FORMATS,
            flag="--format",
        ),
    ] = None,
    alpha: shared.Alpha = None,
    file: Annotated[
        Path | None, o.file("The file; by default the artifact's name with a suffix.", flag="--output")
    ] = None,
    force: Annotated[bool, o.switch("--force", "Replace existing files.")] = False,
    folders: shared.Folders,
    output: shared.Output,
) -> None:
    """Write a base, or an adapter merged into its base, as a file for other programs.

    --format peft writes a folder with the adapter alone, unmerged; settings that PEFT does not know are refused. With
    --route, a base and its adapters become one ONNX file that contains the router. FILE.json beside it describes the
    content and how images are normalised; an ONNX file normalises them itself.
    """
    workspace = folders.workspace(output)
    shared.refuse_without_route(route, route_by, names, alpha)
    target: dict[str, Any] = {"output": file, "force": force, "workspace": workspace}
    if route:
        document = export_routed(names, form, by=route_by or "mixture", **target)
    else:
        document = export_model(names[0], form, alpha=alpha, **target)
    output.print("export", document, [document["file"], f"{document['file']}.json"])
