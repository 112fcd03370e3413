"""``lora-mnist finetune``."""

from __future__ import annotations

from lora_mnist_cli.cli import options as o
from lora_mnist_cli.cli.console import classes, print_result, workspace
from lora_mnist_cli.evaluation.scores import with_intervals
from lora_mnist_cli.settings.adapter_config import AdapterConfig, with_overrides
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.settings.lists import parse_layers, parse_protections
from lora_mnist_cli.settings.recipes import recipe
from lora_mnist_cli.settings.runtime import Runtime
from lora_mnist_cli.stages import finetune


def adapter_config(
    recipe_name: str, digits: str | None, target_layers: str | None, protect: str | None, **overrides: object
) -> AdapterConfig:
    """The config of an adapter from what a user gave; None is the recipe's value."""
    return with_overrides(
        recipe(recipe_name).adapter, digits=None if digits is None else DigitSet.parse(digits),
        target_layers=parse_layers(target_layers), protect=parse_protections(protect), **overrides,
    )  # fmt: skip


def command(
    rank: o.Rank = None,
    method: o.Method = None,
    digits: o.AdapterDigits = None,
    base: o.Base = None,
    dataset: o.DatasetOfBase = None,
    alpha: o.Alpha = None,
    scaling: o.Scaling = None,
    init: o.Init = None,
    dropout: o.Dropout = None,
    target_layers: o.TargetLayers = None,
    protect: o.Protect = None,
    replay_old: o.ReplayOld = None,
    replay_new: o.ReplayNew = None,
    distill_weight: o.DistillWeight = None,
    nullspace_energy: o.NullspaceEnergy = None,
    recipe_name: o.Recipe = "reference",
    seed: o.Seed = None,
    epochs: o.Epochs = None,
    batch_size: o.BatchSize = None,
    lr: o.Lr = None,
    lr_power: o.LrPower = None,
    schedule: o.Schedule = None,
    lr_ratio_b: o.LrRatioB = None,
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
    """Train one adapter on a frozen base, by LoRA or another method; by default on the digits new to the base."""
    config = adapter_config(
        recipe_name, digits, target_layers, protect, method=method, rank=rank, lr_ratio_b=lr_ratio_b,
        alpha=alpha, scaling=scaling, init=init, dropout=dropout,
        seed=seed, epochs=epochs, batch_size=batch_size, lr=lr, optimizer=optimizer, weight_decay=weight_decay,
        val_split=val_split, precision=precision, lr_power=lr_power, schedule=schedule, replay_old=replay_old,
        replay_new=replay_new, distill_weight=distill_weight, nullspace_energy=nullspace_energy,
    )  # fmt: skip
    runtime = Runtime(accelerator=accelerator, logger=logger, threads=threads)
    where = workspace(runs_dir, data_dir, quiet=quiet, verbose=verbose, runtime=runtime, note=note)
    artifact = finetune(config, base=base, dataset=dataset, workspace=where, name=name, force=force)
    from lora_mnist_cli.cli.tables import score_table

    trained = artifact.config
    parameters = artifact.details["trainable_parameters"]
    method, rank = trained.get("method", "lora"), trained["rank"]
    which = ", ".join([*([f"method {method}"] if method != "lora" else []), *([f"rank {rank}"] if rank else [])])
    protected = f", protected by {' and '.join(trained['protect'])}" if trained.get("protect") else ""
    title = (
        f"{artifact.name}: adapter of {which} ({parameters:,} parameters) on digits "
        f"{trained['digits']}, base {artifact.parents[0].name}, alpha {trained['alpha']:g}{protected}"
    )
    document = {"artifact": artifact.name, "alpha": trained["alpha"], "trainable_parameters": parameters}
    print_result(
        "finetune",
        document | classes(artifact.dataset) | with_intervals(artifact.scores),
        [score_table(title, artifact.scores, artifact.dataset)],
        as_json=json_output,
    )
