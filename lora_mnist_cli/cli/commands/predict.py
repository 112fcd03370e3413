"""``lora-mnist predict``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from lora_mnist_cli.cli import options as o
from lora_mnist_cli.cli import shared_options as shared
from lora_mnist_cli.cli.console import classes
from lora_mnist_cli.cli.tables import class_of, percent
from lora_mnist_cli.cli.text_table import Table
from lora_mnist_cli.stages.predicting import Prediction, predict_images, predict_routed
from lora_mnist_cli.system.errors import GateError, UsageError


@o.grouped
def command(
    *,
    images: Annotated[
        list[str] | None, typer.Argument(metavar="FILE", help="Picture files, folders of them, or - for stdin.")
    ] = None,
    artifact: Annotated[str | None, o.artifact_option("An adapter or a base; the newest adapter by default.")] = None,
    route: Annotated[
        bool,
        o.switch("--route", "Let the adapter and its base answer together: the digits' densities tell which to trust."),
    ] = False,
    experts: shared.Experts = None,
    route_by: shared.RouteBy = None,
    alpha: shared.Alpha = None,
    invert: Annotated[
        bool | None,
        typer.Option(
            "--invert/--no-invert", metavar="", help="Digits are dark on light, or light on dark; detected by default."
        ),
    ] = None,
    show_input: Annotated[bool, o.switch("--show-input", "Show the 28 × 28 pixels that the model saw.")] = False,
    examples: Annotated[
        bool, o.switch("--examples", "Write seven.png and scans/, test images of MNIST to try this with, and exit.")
    ] = False,
    strict: Annotated[bool, o.switch("--strict", "Exit code 1 if a picture is doubtful as one of the digits.")] = False,
    folders: shared.Folders,
    output: shared.Output,
) -> None:
    """Recognise the digit on a picture, with the base and the adapter side by side.

    A picture of one digit, of any size, is scaled to 28 × 28 pixels as MNIST's authors did. A warning says where it may
    be something else: ink at the border, several parts, a patch, or nothing like the digits that the model learned.
    """
    shared.refuse_without_route(route, route_by, [], alpha, experts)
    if experts and artifact:
        raise UsageError("--expert stands in the place of --artifact", hint="leave one out", value=experts)
    workspace = folders.workspace(output)
    if examples:
        from lora_mnist_cli.data.example_pictures import write_examples

        written, kept = ([*map(str, paths)] for paths in write_examples(Path(), workspace.data_dir))
        for path in kept:
            workspace.reporter.notice(f"{path} was there and is kept")
        output.print("predict", {"examples": written, "kept": kept}, written)
        return
    if not images:
        raise UsageError("no IMAGE is named", hint="lora-mnist predict --examples writes some")
    document: dict[str, Any]
    predictions: list[Prediction]
    if route:
        names = experts or ([artifact] if artifact else [])
        together, routed = predict_routed(images, names, by=route_by, invert=invert, workspace=workspace)
        base, predictions = together.base, list(routed)
        document = {"artifact": None, "alpha": None, "base": base.name}
        document |= {"experts": [each.name for each in together.artifacts], **classes(base)}
        document["results"] = [_row(each, show_input) | {"expert": each.expert} for each in routed]
    else:
        base, in_force, predictions = predict_images(images, artifact, alpha=alpha, invert=invert, workspace=workspace)
        document = {"artifact": base.name, "alpha": in_force, **classes(base)}
        document["results"] = [_row(each, show_input) for each in predictions]
    output.print("predict", document, lambda document: _tables(base.classes, document, predictions, show_input))
    if strict and (doubtful := [each.image.source for each in predictions if each.doubts]):
        problem = f"{len(doubtful)} of {len(predictions)} pictures are doubtful: {', '.join(doubtful)}"
        raise GateError(problem, value=doubtful)


def _row(prediction: Prediction, show_input: bool) -> dict[str, Any]:
    image = prediction.image
    row = {"image": image.source, "inverted": image.inverted, **prediction.guess, "base": prediction.base}
    row["doubts"] = list(prediction.doubts)
    if show_input:
        row["input"] = (255 * image.pixels).round().astype(int).tolist()
    return row


def _tables(
    names: Sequence[str], document: dict[str, Any], predictions: list[Prediction], show_input: bool
) -> list[Table | str]:
    from lora_mnist_cli.data.pictures import drawn

    heads = ["image", "digit", "digit %", "runner-up", "runner-up %"]
    heads += ["base's digit", "base's %"] if predictions[0].base else []
    heads += ["expert", "expert %"] if "experts" in document else []
    at = "" if document["alpha"] is None else f" at alpha {document['alpha']:g}"
    title = f"{document['artifact'] or ', '.join(document['experts'])}{at}"
    made = Table(heads, title=title, text_columns=("image", "expert"))
    for row in document["results"]:
        cells = [class_of(names, row["digit"]), percent(row["probability"])]
        cells += [class_of(names, row["runner_up"]), percent(row["runner_up_probability"])]
        if row["base"] is not None:
            cells += [class_of(names, row["base"]["digit"]), percent(row["base"]["probability"])]
        if "expert" in row:
            cells += [row["expert"]["artifact"], percent(row["expert"]["probability"])]
        made.add_row(row["image"], *cells)
    inputs = [each.image for each in predictions] if show_input else []
    return [made, *(line for i in inputs for line in (f"{i.source}, as the model saw it:", *drawn(i.pixels)))]
