"""``lora-mnist import-adapter``."""

from pathlib import Path
from typing import Annotated

import typer

from lora_mnist_cli.cli import options as o
from lora_mnist_cli.cli import shared_options as shared
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.stages import import_adapter


@o.grouped
def command(
    *,
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER",
            parser=o.folder,
            help="A folder of PEFT's: adapter_config.json and adapter_model.safetensors.",
        ),
    ],
    base: Annotated[str, o.artifact_option("The base that it was trained on.")],
    name: shared.Name = None,
    digits: shared.AdapterDigits = None,
    publication: shared.Publication,
    folders: shared.Folders,
    output: shared.Output,
) -> None:
    """Publish an adapter that PEFT trained on an exported base as an adapter of that base, scored like any other.

    A setting that adapters here can't have is refused by its name.
    """
    workspace = folders.workspace(output, note=publication.note)
    learned = None if digits is None else DigitSet.parse(digits)
    adapter = import_adapter(folder, base=base, digits=learned, name=name, workspace=workspace, force=publication.force)
    config, parameters = adapter.config, adapter.details["trainable_parameters"]
    title = (
        f"{adapter.name}: imported adapter of method {config.get('method', 'lora')}, rank {config['rank']} "
        f"({parameters:,} parameters) on digits {config['digits']}, base {adapter.parents[0].name}, "
        f"alpha {config['alpha']:g}, scaling {config['scaling']}"
    )
    output.print_scores(
        "import-adapter", adapter, title, digest=adapter.digest, alpha=config["alpha"], scaling=config["scaling"],
        trainable_parameters=parameters,
    )  # fmt: skip
