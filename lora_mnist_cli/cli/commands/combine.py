"""``lora-mnist combine``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from lora_mnist_cli.cli import options as o
from lora_mnist_cli.cli.console import print_result, workspace
from lora_mnist_cli.evaluation.scores import with_intervals
from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.settings.choices import COMBINERS
from lora_mnist_cli.settings.lists import parse_floats
from lora_mnist_cli.stages import combine

_METHODS = "; ".join(f"{name}: {combiner.about}" for name, combiner in COMBINERS.items())
_DENSITIES = ", ".join(f"{name} {each.density:g}" for name, each in COMBINERS.items() if each.density is not None)


def command(
    adapters: Annotated[
        list[str], typer.Argument(metavar="ADAPTER", help="Adapters of one base.", autocompletion=o.complete_artifact)
    ],
    method: Annotated[str, o.word_option("--method", f"{_METHODS}.", None, COMBINERS)] = "linear",
    weights: Annotated[
        str | None, typer.Option("--weights", metavar="LIST", help="A multiplier for each, as 1,0.5; 1 by default.")
    ] = None,
    rank: Annotated[
        int | None, o.integer_option("--rank", "Of the adapter that is made; the largest among them by default.")
    ] = None,
    density: Annotated[
        float | None, o.number_option("--density", f"Share of each one's entries that is kept ({_DENSITIES}).")
    ] = None,
    seed: Annotated[int | None, o.integer_option("--seed", "Of the entries that dare drops; 0 by default.")] = None,
    name: o.Name = None,
    note: o.Note = "",
    force: o.Force = False,
    runs_dir: o.RunsDir = o.DEFAULT_RUNS,
    data_dir: o.DataDir = o.DEFAULT_DATA,
    json_output: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    version: o.Version = False,
) -> None:
    """Publish one adapter made of several on the same base, and say how much of them it holds.

    What is combined is what each adds to the weights, alpha · scale(rank) · B A, and never the factors. The residual
    says how far the product that was written is from what the method asks for.
    """
    where = workspace(runs_dir, data_dir, quiet=quiet, verbose=verbose, note=note)
    made = combine(
        adapters, method=method, weights=None if weights is None else parse_floats(weights, "--weights"), rank=rank,
        density=density, seed=seed, name=name, workspace=where, force=force,
    )  # fmt: skip
    document = {
        "artifact": made.name, "digest": made.digest, "method": method, "rank": made.config["rank"],
        "density": made.config.get("combined_density"), "combined": made.details["combined"],
        **with_intervals(made.scores),
    }  # fmt: skip
    print_result("combine", document, [] if json_output else _tables(document, made), as_json=json_output)


def _tables(document: dict[str, Any], made: Artifact) -> list[Any]:
    from lora_mnist_cli.cli.tables import number, score_table, table, titled

    combined = document["combined"]
    layers = table(("layer", "norm of the change", "residual %"), text_columns=("layer",))
    for layer, row in combined["layers"].items():
        layers.add_row(layer, number(row["norm"]), _share(row["residual"]))
    parts = " + ".join(f"{parent['weight']:g} · {parent['name']}" for parent in combined["parents"])
    told = f"{parts}, by {document['method']} to rank {document['rank']}: residual {_share(combined['residual'])} %"
    return [score_table(f"{document['artifact']}: test scores", made.scores, made.dataset), titled(told, layers)]


def _share(residual: float) -> str:
    """In percent; what only rounding left has no zeros before it."""
    percent = 100 * residual
    return f"{percent:.2f}" if percent >= 0.01 or percent == 0 else f"{percent:.1e}"
