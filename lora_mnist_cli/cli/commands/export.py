"""``lora-mnist export``."""

from pathlib import Path
from typing import Annotated, Any

from lora_mnist_cli.cli import options as o
from lora_mnist_cli.cli import shared_options as shared
from lora_mnist_cli.stages.exporting import FORMATS, export_model, export_routed
from lora_mnist_cli.system.errors import UsageError


@o.grouped
def command(
    *,
    names: Annotated[
        list[str] | None, o.artifact_argument("Name of an artifact; not needed with --expert.", "NAME")
    ] = None,
    route: shared.Route = False,
    experts: shared.Experts = None,
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
    as_lora: Annotated[
        int | None,
        o.integer("With --format peft, write the LoRA of this rank that is nearest to the adapter's change."),
    ] = None,
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
    shared.refuse_without_route(route, route_by, names or [], alpha, experts)
    chosen = shared.chosen_experts(names, experts, workspace.reporter)
    if not chosen:
        hint = "--expert, once for each, names those of --route" if route else "lora-mnist runs list shows all"
        raise UsageError("no artifact is named", hint=hint)
    target: dict[str, Any] = {"output": file, "force": force, "workspace": workspace}
    if route:
        if as_lora is not None:
            raise UsageError("a router is no LoRA", hint="leave --as-lora out", value=as_lora)
        document = export_routed(chosen, form, by=route_by, **target)
    else:
        document = export_model(chosen[0], form, alpha=alpha, as_lora=as_lora, **target)
    lines = [document["file"], f"{document['file']}.json"]
    if held := document.get("as_lora"):
        each = ", ".join(f"{layer} {of['residual']:.1%}" for layer, of in held["layers"].items())
        lines.append(f"rank {held['rank']} leaves out {held['residual']:.1%} of the change ({each})")
    output.print("export", document, lines)
