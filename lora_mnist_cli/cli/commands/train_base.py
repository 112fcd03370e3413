"""``lora-mnist train-base``."""

from __future__ import annotations

from typing import Annotated

import typer

from lora_mnist_cli.cli import options as o
from lora_mnist_cli.cli.console import classes, print_result, workspace
from lora_mnist_cli.evaluation.scores import with_intervals
from lora_mnist_cli.settings.adapter_config import with_overrides
from lora_mnist_cli.settings.choices import DATASETS
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.settings.lists import parse_integers
from lora_mnist_cli.settings.recipes import recipe
from lora_mnist_cli.settings.runtime import Runtime
from lora_mnist_cli.stages import train_base


def command(
    digits: Annotated[str, typer.Option("--digits", help="Digits that the base learns: 0-4, 5,7-9 or all.")] = "0-4",
    dataset: Annotated[
        str, typer.Option("--dataset", help=f"One of {', '.join(DATASETS)}.", autocompletion=o.completions(DATASETS))
    ] = "mnist",
    hidden_size: Annotated[
        str | None, typer.Option("--hidden-size", help="Units of both hidden layers as 64, or of each as 128,32.")
    ] = None,
    recipe_name: o.Recipe = "reference",
    seed: o.Seed = None,
    epochs: o.Epochs = None,
    batch_size: o.BatchSize = None,
    lr: o.Lr = None,
    schedule: o.Schedule = None,
    optimizer: o.Optimizer = None,
    weight_decay: o.WeightDecay = None,
    val_split: o.ValSplit = None,
    precision: o.Precision = None,
    accelerator: o.Accelerator = "auto",
    threads: o.Threads = 1,
    logger: o.Logger = "csv",
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
    """Train the base: a small MLP that learns some of the digits.

    Scores it on those digits, on the others, on all ten and on each, and publishes it as an artifact.
    """
    sizes = None if hidden_size is None else parse_integers(hidden_size, "--hidden-size", ranges=False)
    config = with_overrides(
        recipe(recipe_name).base, digits=DigitSet.parse(digits), dataset=dataset,
        hidden_sizes=sizes and tuple(sizes * 2 if len(sizes) == 1 else sizes), seed=seed, epochs=epochs,
        batch_size=batch_size, lr=lr, optimizer=optimizer, weight_decay=weight_decay, val_split=val_split,
        precision=precision, schedule=schedule,
    )  # fmt: skip
    runtime = Runtime(accelerator=accelerator, logger=logger, threads=threads)
    where = workspace(runs_dir, data_dir, quiet=quiet, verbose=verbose, runtime=runtime, note=note)
    artifact = train_base(config, workspace=where, name=name, force=force)
    from lora_mnist_cli.cli.tables import score_table

    title = f"{artifact.name}: base on digits {config.digits}, scored on the test images of {artifact.dataset}"
    document = {
        "artifact": artifact.name,
        "alpha": None,
        **classes(artifact.dataset),
        **with_intervals(artifact.scores),
    }
    print_result("train-base", document, [score_table(title, artifact.scores, artifact.dataset)], as_json=json_output)
