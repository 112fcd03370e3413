"""``lora-mnist sweep``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from lora_mnist_cli.cli import options as o
from lora_mnist_cli.cli.commands.finetune import adapter_config
from lora_mnist_cli.cli.console import print_result, workspace
from lora_mnist_cli.evaluation import original_study
from lora_mnist_cli.settings.choices import INITS, METHODS, SCALINGS
from lora_mnist_cli.settings.grid import AXES, Grid, grid_of, in_words
from lora_mnist_cli.settings.grid_file import read_grid
from lora_mnist_cli.settings.runtime import Runtime
from lora_mnist_cli.stages import Workspace, plan_sweep, sweep
from lora_mnist_cli.stages.banks.plan import Plan
from lora_mnist_cli.system.errors import UsageError

_GRID = "The grid: an adapter for each combination of"
_PLANS = "How it is done"
_LISTS = {axis.field: axis for axis in AXES}


def _list(field: str, about: str, known: Iterable[str] = ()) -> Any:
    return o.word_option(_LISTS[field].list_option, about, _GRID, known)


def command(
    ranks: Annotated[
        str | None, _list("rank", f"Ranks, as 1,2,4; {','.join(map(str, original_study.RANKS))} by default.")
    ] = None,
    seeds: Annotated[str | None, _list("seed", "Seeds, as 0-4 or 1,3; the one of --seed by default.")] = None,
    methods: Annotated[str | None, _list("method", f"Of {', '.join(METHODS)}.", METHODS)] = None,
    lrs: Annotated[str | None, _list("lr", "Learning rates, as 1e-3,3e-3.")] = None,
    alphas: Annotated[str | None, _list("alpha", "Multipliers, as 0.5,1,2.")] = None,
    scalings: Annotated[str | None, _list("scaling", f"Of {', '.join(SCALINGS)}.", SCALINGS)] = None,
    inits: Annotated[str | None, _list("init", f"Of {', '.join(INITS)}.", INITS)] = None,
    weight_decays: Annotated[str | None, _list("weight_decay", "Weight decays, as 0,0.01.")] = None,
    dropouts: Annotated[str | None, _list("dropout", "Dropout probabilities, as 0,0.1.")] = None,
    lr_ratio_bs: Annotated[
        str | None, _list("lr_ratio_b", "LoRA+: multiples of A's learning rate that B has, as 1,4,16.")
    ] = None,
    grid: Annotated[
        Path | None,
        typer.Option(
            "--grid",
            metavar="FILE",
            rich_help_panel=_GRID,
            help='TOML file with such lists: seeds = "0-9", lrs = [1e-3, 3e-3]. An option stands above it.',
        ),
    ] = None,
    dry_run: Annotated[
        bool, o.switch("--dry-run", "Show what would be trained, in which banks and about how long; no more.", _PLANS)
    ] = False,
    beside: Annotated[
        list[str] | None,
        o.artifact_option(
            "--beside", "Close the table with this sweep or adapter without a rank, as full fine-tuning: the ceiling."
        ),
    ] = None,
    bank_memory: Annotated[
        int,
        typer.Option(
            "--bank-memory",
            metavar="MB",
            parser=o.whole,
            rich_help_panel=_PLANS,
            help="Memory that adapters trained together may take; a larger grid is cut into banks.",
        ),
    ] = Runtime.bank_megabytes,
    digits: o.AdapterDigits = None,
    method: o.Method = None,
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
    vary: o.Vary = None,
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
    """Train an adapter for each rank and seed, or each combination of a grid, and compare them in one table.

    Adapters that are there already are taken as they are: a sweep that was stopped goes on where it was.
    """
    alone = vary not in (None, "all")
    texts = {
        "rank": ranks, "lr": lrs, "alpha": alphas, "scaling": scalings, "init": inits, "weight_decay": weight_decays,
        "dropout": dropouts, "method": methods, "lr_ratio_b": lr_ratio_bs, "seed": seeds,
    }  # fmt: skip
    single = {
        "lr": lr, "alpha": alpha, "scaling": scaling, "init": init, "weight_decay": weight_decay, "dropout": dropout,
        "method": method, "lr_ratio_b": lr_ratio_b,
        # Where one stream alone varies with the seeds, --seed is what holds the others.
        "seed": None if alone and (seeds is not None or grid is not None) else seed,
    }  # fmt: skip
    config = adapter_config(
        recipe_name, digits, target_layers, protect, epochs=epochs, batch_size=batch_size, optimizer=optimizer,
        val_split=val_split, precision=precision, lr_power=lr_power, schedule=schedule, vary=vary,
        held_seed=seed if alone else None, replay_old=replay_old, replay_new=replay_new,
        distill_weight=distill_weight, nullspace_energy=nullspace_energy, **single,
    )  # fmt: skip
    runtime = Runtime(
        accelerator=accelerator, logger=logger, threads=threads, bank_megabytes=bank_memory, backend=backend,
        workers=workers, address=address,
    )  # fmt: skip
    where = workspace(runs_dir, data_dir, quiet=quiet, verbose=verbose, runtime=runtime, note=note)
    asked: dict[str, Any] = {
        "grid": _grid(texts, single, grid), "config": config, "base": base, "dataset": dataset, "workspace": where,
        "name": name, "force": force,
    }  # fmt: skip
    if dry_run and beside:
        raise UsageError("--dry-run shows no figures for --beside to stand beside", hint="leave one of them out")
    for each in beside or ():
        where.registry.get(each, "sweep", "adapter")
    if dry_run:
        plan = plan_sweep(**asked)
        tables = [] if json_output else _plan_tables(plan)
        print_result("sweep", {"dry_run": True, **plan.to_json()}, tables, as_json=json_output)
    else:
        _print(where, sweep(**asked), beside or [], as_json=json_output)


def _grid(texts: dict[str, str | None], single: dict[str, Any], file: Path | None) -> Grid:
    """The grid that options and a file give; an option, for one value or a list, stands above the file."""
    given: dict[str, object] = {}
    for field, text in texts.items():
        if text is not None and single.get(field) is not None:
            axis = _LISTS[field]
            raise UsageError(
                f"{axis.option} and {axis.list_option} can't be given both",
                hint=f"{axis.list_option} {text} is enough",
                value=single[field],
            )
    listed = {} if file is None else read_grid(file)
    for axis in AXES:
        text, value = texts[axis.field], single.get(axis.field)
        if text is not None:
            given[axis.plural] = axis.parse(text, axis.list_option)
        elif value is not None:
            given[axis.plural] = [value]
        elif axis.plural in listed:
            given[axis.plural] = listed[axis.plural]
    return grid_of(given)


def _print(where: Workspace, artifact: Any, names: list[str], *, as_json: bool) -> None:
    from lora_mnist_cli.cli.tables import sweep_table
    from lora_mnist_cli.evaluation.seeds import summarise
    from lora_mnist_cli.stages.records.ceilings import ceilings, method_of
    from lora_mnist_cli.stages.records.results import study_accuracies

    results, learned = artifact.details["results"], artifact.config["digits"]
    # The digits that were learned come first: they are what the ranks differ in.
    subsets = sorted((row["digits"] for row in results[0]["subsets"]), key=lambda digits: digits != learned)
    base_name = artifact.parents[0].name
    title = f"{artifact.name}: adapters on digits {learned}, base {base_name}, test images of {artifact.dataset}"
    study = study_accuracies(where, artifact)
    document: dict[str, Any] = {"artifact": artifact.name, "digits": learned, "results": [
        {**row, "study_accuracy": study[row["rank"]]} if row["rank"] in study else row for row in results
    ], "summary": summarise(results)}  # fmt: skip
    closing: dict[str, list[dict[str, Any]]] = {}
    for name, rows in ceilings(where, artifact, names).items():
        method = method_of(where.registry.get(name))
        document.setdefault("beside", []).append(
            {"artifact": name, "method": method, "results": rows, "summary": summarise(rows)}
        )
        closing[method if method not in closing else name] = rows
    tables = [] if as_json else [sweep_table(title, results, subsets, study, learned, closing)]
    print_result("sweep", document, tables, as_json=as_json)


def _plan_tables(plan: Plan) -> list[Any]:
    from lora_mnist_cli.cli.tables import facts_table, table, titled
    from lora_mnist_cli.settings.grid import short

    facts = [
        ("base", plan.jobs.base.name),
        *((in_words(plural), _some([short(value) for value in values])) for plural, values in plan.axes.items()),
        ("adapters", f"{len(plan.jobs.requests):,}"),
        ("there already", f"{len(plan.there):,}" + (f": {_some(plan.there)}" if plan.there else "")),
        ("to train", f"{len(plan.missing):,}" + (f": {_some(plan.missing)}" if plan.missing else "")),
        ("time", plan.time()),
    ]
    tables: list[Any] = [titled(f"{plan.name}: what a sweep would do; nothing was trained", facts_table(facts))]
    if plan.banks:
        banks = table(("bank", "adapters", "MB"))
        for number, bank in enumerate(plan.banks, start=1):
            banks.add_row(str(number), f"{len(bank):,}", f"{plan.megabytes(bank):,.1f}")
        limit = plan.jobs.workspace.runtime.bank_megabytes
        tables.append(titled(f"banks, of at most {limit:,} MB beside the images", banks))
    return tables


def _some(words: list[str]) -> str:
    """A list that is not too long to be read."""
    return ", ".join(words) if len(words) <= 12 else f"{', '.join(words[:10])}, … {words[-1]}"
