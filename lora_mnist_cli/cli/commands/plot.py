"""``lora-mnist plot``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lora_mnist_cli.cli import options as o
from lora_mnist_cli.cli.console import print_result, workspace
from lora_mnist_cli.cli.tables import plot_kinds_table
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.settings.grid import parse_where
from lora_mnist_cli.stages.plotting import KINDS, PlotOptions, plot, plot_kinds
from lora_mnist_cli.system.errors import UsageError


def command(
    kind: Annotated[
        str | None,
        typer.Argument(
            help=f"What to draw: {', '.join(KINDS)}. Without one, they are listed.", autocompletion=o.completions(KINDS)
        ),
    ] = None,
    name: o.Artifact = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="Where to: PNG, SVG or PDF by the suffix; KIND-NAME.png by default.")
    ] = None,
    digits: Annotated[
        str | None, typer.Option("--digits", help="Test images of these digits (predictions, confusion).")
    ] = None,
    alpha: Annotated[
        float | None, o.number_option("--alpha", "Put in the trained alpha's place (predictions, confusion).")
    ] = None,
    count: Annotated[
        int | None, o.integer_option("--count", "Images in the grid (predictions); 50 by default.")
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            "--where",
            help="Of a sweep over more than ranks and seeds, one value: lr=0.003 (plots of sweeps).",
        ),
    ] = None,
    beside: Annotated[
        list[str] | None,
        typer.Option(
            "--beside",
            help="Draw this artifact too: in ranks what has no rank, as full fine-tuning; in spectrum another adapter.",
            autocompletion=o.complete_artifact,
        ),
    ] = None,
    runs_dir: o.RunsDir = o.DEFAULT_RUNS,
    data_dir: o.DataDir = o.DEFAULT_DATA,
    json_output: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    version: o.Version = False,
) -> None:
    """Draw a picture of an artifact, and print where it is; without a kind, list the kinds."""
    options = PlotOptions(
        digits=None if digits is None else DigitSet.parse(digits), alpha=alpha, count=count,
        where=parse_where(where or []), beside=tuple(beside or ()),
    )  # fmt: skip
    if kind is None:
        if output is not None or options.given():
            raise UsageError("there is no kind of plot beside the options", hint=f"kinds: {', '.join(KINDS)}")
        print_result("plot", {"kinds": plot_kinds()}, [plot_kinds_table(plot_kinds())], as_json=json_output)
        return
    place = workspace(runs_dir, data_dir, quiet=quiet, verbose=verbose)
    artifact, path = plot(kind, name, output=output, options=options, workspace=place)
    document = {"artifact": artifact.name, "kind": kind, "output": str(path)}
    print_result("plot", document, [str(path)], as_json=json_output)
