"""``lora-mnist merge``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from lora_mnist_cli.cli import options as o
from lora_mnist_cli.cli.console import print_result, workspace
from lora_mnist_cli.evaluation.scores import with_intervals
from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.stages import merge


def command(
    adapter: o.Artifact = None,
    alpha: Annotated[float | None, o.number_option("--alpha", "Put in the trained alpha's place.")] = None,
    digits: Annotated[
        str | None,
        typer.Option("--digits", metavar="TEXT", help="What the base passes for; default: what the adapter learned."),
    ] = None,
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
    """Publish an adapter merged into its base as a new base, with a certificate of what that changed.

    With --base and its name, adapters can be trained on it. The newest adapter is merged by default.
    """
    where = workspace(runs_dir, data_dir, quiet=quiet, verbose=verbose, note=note)
    learned = None if digits is None else DigitSet.parse(digits)
    made = merge(adapter, alpha=alpha, digits=learned, merged=name, workspace=where, force=force)
    certificate = made.details["merged"]
    document = {"artifact": made.name, "digest": made.digest, "certificate": certificate, **with_intervals(made.scores)}
    tables = [] if json_output else _tables(made, certificate)
    print_result("merge", document, tables, as_json=json_output)


def _tables(made: Artifact, certificate: dict[str, Any]) -> list[Any]:
    from lora_mnist_cli.cli.tables import score_table

    told = (
        f"merged at alpha {certificate['alpha']:g}: {certificate['predictions_changed']} of {certificate['images']:,} "
        f"test predictions changed; largest residual of a weight {certificate['weight_residual']:.1e}, of a logit "
        f"{certificate['logit_residual']:.1e} (largest logit {certificate['largest_logit']:.1f})"
    )
    return [score_table(f"{made.name}: test scores", made.scores, made.dataset), told]
