"""``lora-mnist finetune``."""

from lora_mnist_cli.cli import options as o
from lora_mnist_cli.cli import shared_options as shared
from lora_mnist_cli.cli.console import classes
from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.settings.keywords import adapter_config
from lora_mnist_cli.settings.recipes import recipe
from lora_mnist_cli.stages import finetune


@o.grouped
def command(
    *,
    rank: shared.Rank = None,
    base: shared.Base = None,
    name: shared.Name = None,
    digits: shared.AdapterDigits = None,
    dataset: shared.DatasetOfBase = None,
    recipe_name: shared.Recipe = "reference",
    method: shared.Method = None,
    shape: shared.AdapterShape,
    training: shared.AdapterTraining,
    machine: shared.Machine,
    logger: shared.Logger = "csv",
    publication: shared.Publication,
    folders: shared.Folders,
    output: shared.Output,
) -> None:
    """Train one adapter on a frozen base, by LoRA or another method; by default on the digits new to the base."""
    settings = o.given(shape, training, rank=rank, method=method, digits=digits)
    config = adapter_config(recipe(recipe_name).adapter, settings)
    workspace = folders.workspace(output, runtime=machine.runtime(logger=logger), note=publication.note)
    adapter = finetune(config, base=base, dataset=dataset, workspace=workspace, name=name, force=publication.force)
    output.print_scores(
        "finetune", adapter, _title(adapter), alpha=adapter.config["alpha"],
        trainable_parameters=adapter.details["trainable_parameters"], **classes(adapter),
    )  # fmt: skip


def _title(adapter: Artifact) -> str:
    config, parameters = adapter.config, adapter.details["trainable_parameters"]
    method, rank = config.get("method", "lora"), config["rank"]
    which = ", ".join([*([f"method {method}"] if method != "lora" else []), *([f"rank {rank}"] if rank else [])])
    protected = f", protected by {' and '.join(config['protect'])}" if config.get("protect") else ""
    return (
        f"{adapter.name}: adapter of {which} ({parameters:,} parameters) on digits "
        f"{config['digits']}, base {adapter.parents[0].name}, alpha {config['alpha']:g}{protected}"
    )
