"""``lora-mnist predict``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from lora_mnist_cli.cli import options as o
from lora_mnist_cli.cli.commands.evaluate import refuse_without_route
from lora_mnist_cli.cli.console import classes, print_result, workspace
from lora_mnist_cli.stages.predicting import Prediction, predict_images, predict_routed
from lora_mnist_cli.system.errors import UsageError


def command(
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGE...", help="PNG or JPEG files, folders of them, or - for stdin.")
    ],
    artifact: Annotated[
        str | None, o.artifact_option("--artifact", "An adapter or a base; the newest adapter by default.")
    ] = None,
    route: Annotated[
        bool, o.switch("--route", "The adapter and its base answer together: each image's digit density decides which.")
    ] = False,
    experts: Annotated[
        list[str] | None,
        typer.Option(
            "--expert",
            metavar="TEXT",
            autocompletion=o.complete_artifact,
            help="With --route, a base or an adapter in place of --artifact and its base; may be given more than once.",
        ),
    ] = None,
    route_by: o.RouteBy = None,
    alpha: Annotated[float | None, o.number_option("--alpha", "Put in the trained alpha's place.")] = None,
    invert: Annotated[
        bool | None,
        typer.Option("--invert/--no-invert", help="They are dark on light, or light on dark; by default found out."),
    ] = None,
    show_input: Annotated[bool, o.switch("--show-input", "Show the 28 × 28 pixels that the model saw.")] = False,
    runs_dir: o.RunsDir = o.DEFAULT_RUNS,
    data_dir: o.DataDir = o.DEFAULT_DATA,
    json_output: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    version: o.Version = False,
) -> None:
    """Say which digit is on a picture, with the base and the adapter side by side.

    A picture of one digit, of any size, is put into 28 × 28 pixels as MNIST's authors did it.
    """
    refuse_without_route(route, route_by, [])
    if experts and (artifact or not route):
        raise UsageError("--expert is for --route, in the place of --artifact", value=experts)
    where = workspace(runs_dir, data_dir, quiet=quiet, verbose=verbose)
    if route:
        if alpha is not None:
            raise UsageError("--alpha is not for --route: experts answer as they were trained", value=alpha)
        names = experts or ([artifact] if artifact else [])
        together, routed = predict_routed(images, names, by=route_by or "mixture", invert=invert, workspace=where)
        document: dict[str, Any] = {
            "artifact": None, "alpha": None, "base": together.base.name,
            "experts": [each.name for each in together.artifacts],
            **classes(together.base.dataset),
            "results": [_row(each, show_input) | {"expert": each.expert} for each in routed],
        }  # fmt: skip
        tables = [] if json_output else _tables(together.base.dataset, document, routed, show_input)
        print_result("predict", document, tables, as_json=json_output)
        return
    found, in_force, predictions = predict_images(images, artifact, alpha=alpha, invert=invert, workspace=where)
    document = {
        "artifact": found.name,
        "alpha": in_force,
        **classes(found.dataset),
        "results": [_row(prediction, show_input) for prediction in predictions],
    }
    tables = [] if json_output else _tables(found.dataset, document, predictions, show_input)
    print_result("predict", document, tables, as_json=json_output)


def _row(prediction: Prediction, show_input: bool) -> dict[str, Any]:
    image = prediction.image
    row = {"image": image.source, "inverted": image.inverted, **prediction.guess, "base": prediction.base}
    if show_input:
        row["input"] = (255 * image.pixels).round().astype(int).tolist()
    return row


def _tables(dataset: str, document: dict[str, Any], predictions: list[Prediction], show_input: bool) -> list[Any]:
    from lora_mnist_cli.cli.tables import class_of, percent, table, titled
    from lora_mnist_cli.data.pictures import drawn

    with_base = predictions[0].base is not None
    columns = ["image", "digit", "%", "runner-up", "%", *(["base's digit", "%"] if with_base else [])]
    columns += ["expert", "%"] if "experts" in document else []
    made = table(columns, text_columns=("image", "expert"))
    for row in document["results"]:
        cells = [class_of(dataset, row["digit"]), percent(row["probability"])]
        cells += [class_of(dataset, row["runner_up"]), percent(row["runner_up_probability"])]
        if row["base"] is not None:
            cells += [class_of(dataset, row["base"]["digit"]), percent(row["base"]["probability"])]
        if "expert" in row:
            cells += [row["expert"]["artifact"], percent(row["expert"]["probability"])]
        made.add_row(row["image"], *cells)
    at = "" if document["alpha"] is None else f" at alpha {document['alpha']:g}"
    named = document["artifact"] or ", ".join(document["experts"])
    shown: list[Any] = [titled(f"{named}{at}", made)]
    if show_input:
        for prediction in predictions:
            shown += [f"{prediction.image.source}, as the model saw it:", *drawn(prediction.image.pixels)]
    return shown
