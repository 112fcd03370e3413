"""``lora-mnist combine``."""

from typing import Annotated, Any

from lora_mnist_cli.cli import options as o
from lora_mnist_cli.cli import shared_options as shared
from lora_mnist_cli.cli.tables import number
from lora_mnist_cli.cli.text_table import Table
from lora_mnist_cli.settings.choices import COMBINERS
from lora_mnist_cli.settings.lists import parse_floats
from lora_mnist_cli.stages import combine

_METHODS = "; ".join(f"{name}: {combiner.about}" for name, combiner in COMBINERS.items())
_DENSITIES = ", ".join(f"{name} {each.density:g}" for name, each in COMBINERS.items() if each.density is not None)


@o.grouped
def command(
    *,
    adapters: Annotated[list[str], o.artifact_argument("Adapters of one base.")],
    method: Annotated[str, o.word(f"{_METHODS}.", known=COMBINERS)] = "linear",
    name: shared.Name = None,
    weights: Annotated[str | None, o.words("A multiplier for each adapter, as 1,0.5; 1 by default.")] = None,
    rank: Annotated[
        int | None, o.integer("Rank of the new adapter; by default the largest of the adapters' ranks.")
    ] = None,
    density: Annotated[float | None, o.number(f"Share of each adapter's entries that is kept ({_DENSITIES}).")] = None,
    seed: Annotated[int | None, o.integer("Seed that chooses the entries that dare drops; 0 by default.")] = None,
    publication: shared.Publication,
    folders: shared.Folders,
    output: shared.Output,
) -> None:
    """Publish one adapter made of several on the same base, and say how much of them it holds.

    Combines what each adapter adds to the weights, alpha · scale(rank) · B A, never the factors. The residual says how
    far the product that was written is from the one that the method asks for.
    """
    workspace = folders.workspace(output, note=publication.note)
    made = combine(
        adapters, method=method, weights=None if weights is None else parse_floats(weights, "--weights"), rank=rank,
        density=density, seed=seed, name=name, workspace=workspace, force=publication.force,
    )  # fmt: skip
    output.print_scores(
        "combine", made, f"{made.name}: test scores", _layers, digest=made.digest, method=method,
        rank=made.config["rank"], density=made.config.get("combined_density"), combined=made.details["combined"],
    )  # fmt: skip


def _layers(document: dict[str, Any]) -> list[Table | str]:
    combined = document["combined"]
    parts = " + ".join(f"{parent['weight']:g} · {parent['name']}" for parent in combined["parents"])
    title = f"{parts}, by {document['method']} to rank {document['rank']}: residual {_share(combined['residual'])} %"
    rows = ((layer, number(row["norm"]), _share(row["residual"])) for layer, row in combined["layers"].items())
    return [Table(("layer", "norm of the change", "residual %"), rows, title=title, text_columns=("layer",))]


def _share(residual: float) -> str:
    """Show a residual in percent; one that only rounding left has no zeros in front."""
    percent = 100 * residual
    return f"{percent:.2f}" if percent >= 0.01 or percent == 0 else f"{percent:.1e}"
