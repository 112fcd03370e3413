"""``lora-mnist sweep``."""

from __future__ import annotations

from typing import Annotated

import typer

from lora_mnist_cli.cli import options as o
from lora_mnist_cli.cli.console import print_result, workspace
from lora_mnist_cli.cli.finetune import adapter_config
from lora_mnist_cli.config import Runtime
from lora_mnist_cli.errors import UsageError
from lora_mnist_cli.stages import sweep


def command(
    ranks: Annotated[str, typer.Option("--ranks", help="Ranks, as 1,2,4.")] = "1,2,4,8,16,32,64",
    seeds: Annotated[
        str | None, typer.Option("--seeds", help="Seeds, as 0-4 or 1,3: an adapter for each rank and seed.")
    ] = None,
    digits: o.AdapterDigits = None,
    base: o.Base = None,
    dataset: o.DatasetOfBase = None,
    alpha: o.Alpha = None,
    scaling: o.Scaling = None,
    init: o.Init = None,
    dropout: o.Dropout = None,
    target_layers: o.TargetLayers = None,
    recipe_name: o.Recipe = "reference",
    seed: o.Seed = None,
    epochs: o.Epochs = None,
    batch_size: o.BatchSize = None,
    lr: o.Lr = None,
    optimizer: o.Optimizer = None,
    weight_decay: o.WeightDecay = None,
    val_split: o.ValSplit = None,
    precision: o.Precision = None,
    accelerator: o.Accelerator = "auto",
    threads: o.Threads = 1,
    backend: o.Backend = "local",
    workers: o.Workers = None,
    address: o.Address = None,
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
    """Train an adapter for each rank and seed, and compare them in one table.

    Adapters that are there already are taken as they are: a sweep that was stopped goes on where it was.
    """
    if seed is not None and seeds is not None:
        raise UsageError("--seed and --seeds can't be given both", hint=f"--seeds {seeds} is enough", value=seed)
    seed_list = [seed or 0] if seeds is None else o.parse_integers(seeds, "seeds")
    config = adapter_config(
        recipe_name, digits, target_layers, alpha=alpha, scaling=scaling, init=init, dropout=dropout, epochs=epochs,
        batch_size=batch_size, lr=lr, optimizer=optimizer, weight_decay=weight_decay, val_split=val_split,
        precision=precision,
    )  # fmt: skip
    runtime = Runtime(
        accelerator=accelerator, logger=logger, threads=threads, backend=backend, workers=workers, address=address
    )
    where = workspace(runs_dir, data_dir, quiet=quiet, verbose=verbose, runtime=runtime, note=note)
    artifact = sweep(
        o.parse_integers(ranks, "ranks"), seeds=seed_list, config=config, base=base, dataset=dataset, workspace=where,
        name=name, force=force,
    )  # fmt: skip
    from lora_mnist_cli.cli.tables import sweep_table
    from lora_mnist_cli.stages.adapt import study_accuracies

    results, learned = artifact.details["results"], artifact.config["digits"]
    # The digits that were learned come first: they are what the ranks differ in.
    subsets = sorted((row["digits"] for row in results[0]["subsets"]), key=lambda digits: digits != learned)
    base_name = artifact.parents[0].name
    title = f"{artifact.name}: adapters on digits {learned}, base {base_name}, test images of {artifact.dataset}"
    study = study_accuracies(where, artifact)
    document = {"artifact": artifact.name, "digits": learned, "results": [
        {**row, "study_accuracy": study[row["rank"]]} if row["rank"] in study else row for row in results
    ]}  # fmt: skip
    print_result("sweep", document, [sweep_table(title, results, subsets, study, learned)], as_json=json_output)
