"""``lora-mnist sweep``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from lora_mnist_cli.cli import options as o
from lora_mnist_cli.cli import shared_options as shared
from lora_mnist_cli.cli.groups import given, grouped
from lora_mnist_cli.cli.sweep_table import sweep_table
from lora_mnist_cli.cli.text_table import Table, facts_table
from lora_mnist_cli.evaluation import original_study
from lora_mnist_cli.evaluation.seeds import summarise
from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.settings.choices import INITS, METHODS, SCALINGS
from lora_mnist_cli.settings.grid import AXES, Grid, grid_of, in_words, short
from lora_mnist_cli.settings.grid_file import read_grid
from lora_mnist_cli.settings.keywords import adapter_config
from lora_mnist_cli.settings.recipes import recipe
from lora_mnist_cli.settings.runtime import Runtime
from lora_mnist_cli.stages import Workspace, plan_sweep, sweep
from lora_mnist_cli.stages.banks.plan import Plan
from lora_mnist_cli.stages.records.results import ceilings, method_of, study_accuracies
from lora_mnist_cli.system.errors import UsageError

_GRID = "The grid: an adapter for each combination of"
_PLANS = "How it is done"
_AXES = {axis.field: axis for axis in AXES}


def _list(field: str, about: str, known: Iterable[str] = ()) -> Any:
    return o.word_option(_AXES[field].list_option, about, _GRID, known)


@dataclass(frozen=True)
class Lists:
    """The values of the grid's axes; fields have the axes' plural names."""

    ranks: Annotated[
        str | None, _list("rank", f"Ranks, as 1,2,4; {','.join(map(str, original_study.RANKS))} by default.")
    ] = None
    seeds: Annotated[str | None, _list("seed", "Seeds, as 0-4 or 1,3; the one of --seed by default.")] = None
    methods: Annotated[str | None, _list("method", f"Of {', '.join(METHODS)}.", METHODS)] = None
    lrs: Annotated[str | None, _list("lr", "Learning rates, as 1e-3,3e-3.")] = None
    alphas: Annotated[str | None, _list("alpha", "Multipliers, as 0.5,1,2.")] = None
    scalings: Annotated[str | None, _list("scaling", f"Of {', '.join(SCALINGS)}.", SCALINGS)] = None
    inits: Annotated[str | None, _list("init", f"Of {', '.join(INITS)}.", INITS)] = None
    weight_decays: Annotated[str | None, _list("weight_decay", "Weight decays, as 0,0.01.")] = None
    dropouts: Annotated[str | None, _list("dropout", "Dropout probabilities, as 0,0.1.")] = None
    lr_ratio_bs: Annotated[
        str | None, _list("lr_ratio_b", "LoRA+: learning rates of B as multiples of A's, as 1,4,16.")
    ] = None


@grouped
def command(
    *,
    lists: Lists,
    grid: Annotated[
        Path | None,
        o.file_option(
            "--grid", 'TOML file with such lists: seeds = "0-9", lrs = [1e-3, 3e-3]. Options override the file.', _GRID
        ),
    ] = None,
    dry_run: Annotated[
        bool, o.switch("--dry-run", "Only show what would be trained, in which banks and in about what time.", _PLANS)
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
            "--bank-memory", metavar="MB", parser=o.whole, rich_help_panel=_PLANS,
            help="Memory for adapters that are trained together; a larger grid is split into banks.",
        ),
    ] = Runtime.bank_megabytes,
    digits: shared.AdapterDigits = None,
    method: shared.Method = None,
    base: shared.Base = None,
    dataset: shared.DatasetOfBase = None,
    shape: shared.AdapterShape,
    vary: shared.Vary = None,
    recipe_name: shared.Recipe = "reference",
    training: shared.AdapterTraining,
    machine: shared.BankMachine,
    publication: shared.Publication,
    folders: shared.Folders,
    output: shared.Output,
) -> None:  # fmt: skip
    """Train an adapter for each rank and seed, or each combination of a grid, and compare them in one table.

    Adapters that exist already are not trained again: a sweep that was stopped continues where it was.
    """
    settings = given(shape, training, digits=digits, method=method, vary=vary)
    if vary not in (None, "all") and training.seed is not None:
        # One source of chance varies with the seeds; --seed holds the others.
        settings["held_seed"] = training.seed
        if lists.seeds is not None or grid is not None:
            del settings["seed"]
    config = adapter_config(recipe(recipe_name).adapter, settings)
    runtime = machine.runtime(bank_megabytes=bank_memory)
    workspace = folders.workspace(output, runtime=runtime, note=publication.note)
    asked: dict[str, Any] = {
        "grid": _grid(vars(lists), settings, grid), "config": config, "base": base, "dataset": dataset,
        "workspace": workspace, "name": publication.name, "force": publication.force,
    }  # fmt: skip
    if dry_run and beside:
        raise UsageError("--dry-run shows no figures for --beside to stand beside", hint="leave one of them out")
    for name in beside or ():
        workspace.registry.get(name, "sweep", "adapter")
    if dry_run:
        plan = plan_sweep(**asked)
        output.print("sweep", {"dry_run": True, **plan.to_json()}, lambda _: _plan_tables(plan))
    else:
        _print(output, workspace, sweep(**asked), beside or [])


def _grid(texts: dict[str, str | None], settings: dict[str, Any], file: Path | None) -> Grid:
    """Build the grid that options and a file give; options, for one value or a list, override the file."""
    for axis in AXES:
        if (text := texts[axis.plural]) is not None and axis.field in settings:
            raise UsageError(
                f"{axis.option} and {axis.list_option} can't be given both",
                hint=f"{axis.list_option} {text} is enough", value=settings[axis.field],
            )  # fmt: skip
    listed = {} if file is None else read_grid(file)
    values: dict[str, object] = {}
    for axis in AXES:
        if (text := texts[axis.plural]) is not None:
            values[axis.plural] = axis.parse(text, axis.list_option)
        elif axis.field in settings:
            values[axis.plural] = [settings[axis.field]]
        elif axis.plural in listed:
            values[axis.plural] = listed[axis.plural]
    return grid_of(values)


def _print(output: shared.Output, workspace: Workspace, artifact: Artifact, names: list[str]) -> None:
    """Print a sweep's results, and beside them those of models without a rank."""
    results, learned = artifact.details["results"], artifact.config["digits"]
    study = study_accuracies(workspace, artifact)
    document: dict[str, Any] = {"artifact": artifact.name, "digits": learned, "results": [
        {**row, "study_accuracy": study[row["rank"]]} if row["rank"] in study else row for row in results
    ], "summary": summarise(results)}  # fmt: skip
    closing: dict[str, list[dict[str, Any]]] = {}
    for name, rows in ceilings(workspace, artifact, names).items():
        method = method_of(workspace.registry.get(name))
        document.setdefault("beside", []).append(
            {"artifact": name, "method": method, "results": rows, "summary": summarise(rows)}
        )
        closing[method if method not in closing else name] = rows
    # The digits that were learned come first: the ranks differ in them.
    subsets = sorted((row["digits"] for row in results[0]["subsets"]), key=lambda digits: digits != learned)
    base = artifact.parents[0].name
    title = f"{artifact.name}: adapters on digits {learned}, base {base}, test images of {artifact.dataset}"
    output.print("sweep", document, lambda _: [sweep_table(title, results, subsets, study, learned, closing)])


def _plan_tables(plan: Plan) -> list[Table | str]:
    facts = [
        ("base", plan.jobs.base.name),
        *((in_words(plural), _some([short(value) for value in values])) for plural, values in plan.axes.items()),
        ("adapters", f"{len(plan.jobs.requests):,}"),
        ("there already", f"{len(plan.there):,}" + (f": {_some(plan.there)}" if plan.there else "")),
        ("to train", f"{len(plan.missing):,}" + (f": {_some(plan.missing)}" if plan.missing else "")),
        ("time", plan.time()),
    ]
    tables: list[Table | str] = [facts_table(f"{plan.name}: what a sweep would do; nothing was trained", facts)]
    if plan.banks:
        limit = plan.jobs.workspace.runtime.bank_megabytes
        banks = Table(("bank", "adapters", "MB"), title=f"banks, of at most {limit:,} MB beside the images")
        for number, bank in enumerate(plan.banks, start=1):
            banks.add_row(str(number), f"{len(bank):,}", f"{plan.megabytes(bank):,.1f}")
        tables.append(banks)
    return tables


def _some(words: list[str]) -> str:
    """Join the words of a list, with an ellipsis if it is too long to be read."""
    return ", ".join(words) if len(words) <= 12 else f"{', '.join(words[:10])}, … {words[-1]}"
