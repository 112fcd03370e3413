"""``lora-mnist import-adapter``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lora_mnist_cli.cli import options as o
from lora_mnist_cli.cli.console import print_result, workspace
from lora_mnist_cli.evaluation.scores import with_intervals
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.stages import import_adapter


def command(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR",
            help="A folder of PEFT's: adapter_config.json and adapter_model.safetensors.",
            parser=o.folder,
        ),
    ],
    base: Annotated[str, o.artifact_option("--base", "The base that it was trained on.")],
    digits: o.AdapterDigits = None,
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
    """Publish an adapter that PEFT trained on an exported base as an adapter of that base, scored like any other.

    Whatever it has that an adapter here can't have is refused by its name.
    """
    where = workspace(runs_dir, data_dir, quiet=quiet, verbose=verbose, note=note)
    learned = None if digits is None else DigitSet.parse(digits)
    artifact = import_adapter(folder, base=base, digits=learned, name=name, workspace=where, force=force)
    from lora_mnist_cli.cli.tables import score_table

    config = artifact.config
    parameters = artifact.details["trainable_parameters"]
    title = (
        f"{artifact.name}: imported adapter of method {config.get('method', 'lora')}, rank {config['rank']} "
        f"({parameters:,} parameters) on digits {config['digits']}, base {artifact.parents[0].name}, "
        f"alpha {config['alpha']:g}, scaling {config['scaling']}"
    )
    document = {
        "artifact": artifact.name, "digest": artifact.digest, "alpha": config["alpha"], "scaling": config["scaling"],
        "trainable_parameters": parameters,
    }  # fmt: skip
    tables = [] if json_output else [score_table(title, artifact.scores, artifact.dataset)]
    print_result("import-adapter", document | with_intervals(artifact.scores), tables, as_json=json_output)
