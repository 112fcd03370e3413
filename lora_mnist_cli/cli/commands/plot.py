"""``lora-mnist plot``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from lora_mnist_cli.cli import options as o
from lora_mnist_cli.cli import shared_options as shared
from lora_mnist_cli.cli.text_table import Table
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.settings.grid import parse_axes, parse_where
from lora_mnist_cli.stages.plotting import KINDS, PlotOptions, plot, plot_kinds
from lora_mnist_cli.system.errors import UsageError


@o.grouped
def command(
    *,
    kind: Annotated[
        str | None,
        typer.Argument(
            metavar="KIND",
            autocompletion=o.completions(KINDS),
            help=f"What to draw: {', '.join(KINDS)}. Without one, they are listed.",
        ),
    ] = None,
    name: shared.NewestByDefault = None,
    file: Annotated[
        Path | None, o.file("PNG, SVG or PDF file, by the suffix; default: KIND-NAME.png.", flag="--output")
    ] = None,
    digits: Annotated[
        str | None,
        o.digits(
            "Test images of these digits (predictions, confusion; landscape: those of the base, of the sweep, or all)."
        ),
    ] = None,
    alpha: Annotated[float | None, o.number("Replaces the trained alpha (predictions, confusion).")] = None,
    count: Annotated[int | None, o.integer("Images in the grid (predictions); 50 by default.")] = None,
    where: Annotated[
        list[str] | None,
        o.word("One value of what a sweep varies beside ranks and seeds: lr=0.003 (sweeps; landscape: rank=8, too)."),
    ] = None,
    axes: Annotated[
        str | None, o.words("Two settings, for the columns and the rows (landscape); lr,rank where both vary.")
    ] = None,
    beside: Annotated[
        list[str] | None,
        o.artifact_option(
            "Draw this artifact too: in ranks a model without a rank (full fine-tuning); in spectrum another adapter."
        ),
    ] = None,
    threshold: Annotated[
        float | None, o.number("Count intruder dimensions too: cosines with the base's below this (spectrum).")
    ] = None,
    folders: shared.Folders,
    output: shared.Output,
) -> None:
    """Draw a picture of an artifact, and print where it is; without a kind, list the kinds."""
    options = PlotOptions(
        digits=None if digits is None else DigitSet.parse(digits), alpha=alpha, count=count,
        where=parse_where(where or []), beside=tuple(beside or ()),
        axes=() if axes is None else parse_axes(axes), threshold=threshold,
    )  # fmt: skip
    if kind is None:
        if file is not None or options.given():
            raise UsageError("these options need a kind of plot", hint=f"kinds: {', '.join(KINDS)}")
        output.print("plot", {"kinds": plot_kinds()}, lambda document: [_kinds(document["kinds"])])
        return
    artifact, path = plot(kind, name, output=file, options=options, workspace=folders.workspace(output))
    output.print("plot", {"artifact": artifact.name, "kind": kind, "output": str(path)}, [str(path)], beside=path)


def _kinds(kinds: list[dict[str, Any]]) -> Table:
    heads = ("kind", "of", "shows")
    rows = ((kind["kind"], " or ".join(kind["artifacts"]), kind["about"]) for kind in kinds)
    return Table(heads, rows, text_columns=heads)
