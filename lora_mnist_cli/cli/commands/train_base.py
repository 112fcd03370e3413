"""``lora-mnist train-base``."""

from typing import Annotated

from lora_mnist_cli.cli import options as o
from lora_mnist_cli.cli import shared_options as shared
from lora_mnist_cli.cli.console import classes
from lora_mnist_cli.settings.keywords import base_config
from lora_mnist_cli.settings.lists import parse_integers
from lora_mnist_cli.settings.recipes import recipe
from lora_mnist_cli.stages import train_base


@o.grouped
def command(
    *,
    digits: Annotated[str, o.digits("Digits that the base learns.")] = "0-4",
    dataset: shared.AnyDataset = "mnist",
    name: shared.Name = None,
    hidden_size: Annotated[
        str | None, o.words("Units per hidden layer: 64 for both, or 128,32 for the first and the second.")
    ] = None,
    recipe_name: shared.Recipe = "reference",
    training: shared.BaseTraining,
    machine: shared.Machine,
    logger: shared.Logger = "csv",
    publication: shared.Publication,
    folders: shared.Folders,
    output: shared.Output,
) -> None:
    """Train the base: a small MLP that learns some of the digits.

    Scores it on those digits, on the others, on all ten and on each, and publishes it as an artifact.
    """
    sizes = None if hidden_size is None else parse_integers(hidden_size, "--hidden-size", ranges=False)
    hidden_sizes = sizes and tuple(sizes * 2 if len(sizes) == 1 else sizes)
    settings = o.given(training, digits=digits, hidden_sizes=hidden_sizes)
    config = base_config(recipe(recipe_name).base, settings)
    workspace = folders.workspace(output, runtime=machine.runtime(logger=logger), note=publication.note)
    base = train_base(config, dataset=dataset, workspace=workspace, name=name, force=publication.force)
    title = f"{base.name}: base on digits {base.config['digits']}, scored on the test images of {base.dataset}"
    output.print_scores("train-base", base, title, alpha=None, **classes(base))
