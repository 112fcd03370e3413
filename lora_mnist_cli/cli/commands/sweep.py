"""``lora-mnist sweep``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from lora_mnist_cli.cli import options as o
from lora_mnist_cli.cli import shared_options as shared
from lora_mnist_cli.cli.tables import best_line, sweep_table
from lora_mnist_cli.cli.text_table import Table, facts_table
from lora_mnist_cli.evaluation import original_study
from lora_mnist_cli.evaluation.seeds import setting, summarise
from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.settings.choices import INITS, METHODS, SCALINGS, TRAINED
from lora_mnist_cli.settings.grid import AXES, Grid, grid_of, in_words, read_grid, short
from lora_mnist_cli.settings.keep import ALL
from lora_mnist_cli.settings.keywords import adapter_config
from lora_mnist_cli.settings.lists import counted
from lora_mnist_cli.settings.recipes import recipe
from lora_mnist_cli.settings.runtime import Runtime
from lora_mnist_cli.stages import Workspace, plan_sweep, sweep
from lora_mnist_cli.stages.banks.plan import Plan
from lora_mnist_cli.stages.records.histories import kept_names
from lora_mnist_cli.stages.records.results import ceilings, method_of, study_accuracies
from lora_mnist_cli.stages.records.samples import best_setting
from lora_mnist_cli.system.errors import ArtifactError, UsageError

_GRID = "More lists: an adapter for each combination"


@dataclass(frozen=True)
class Lists:
    """The values of the grid's axes, and a file of them; fields have the axes' plural names."""

    ranks: Annotated[
        str | None, o.words(f"Ranks, as 1,2,4; {','.join(map(str, original_study.RANKS))} by default.")
    ] = None
    seeds: Annotated[str | None, o.words("Seeds, as 0-4 or 1,3; the one of --seed by default.")] = None
    methods: Annotated[str | None, o.words(f"Of {', '.join(METHODS)}.", _GRID, METHODS)] = None
    lrs: Annotated[str | None, o.words("Learning rates, as 1e-3,3e-3.", _GRID)] = None
    alphas: Annotated[str | None, o.words("Multipliers, as 0.5,1,2.", _GRID)] = None
    scalings: Annotated[str | None, o.words(f"Of {', '.join(SCALINGS)}.", _GRID, SCALINGS)] = None
    inits: Annotated[str | None, o.words(f"Of {', '.join(INITS)}.", _GRID, INITS)] = None
    weight_decays: Annotated[str | None, o.words("Weight decays, as 0,0.01.", _GRID)] = None
    dropouts: Annotated[str | None, o.words("Dropout probabilities, as 0,0.1.", _GRID)] = None
    lr_ratio_bs: Annotated[str | None, o.words("LoRA+: learning rates of B as multiples of A's, as 1,4,16.", _GRID)] = (
        None
    )
    trains: Annotated[str | None, o.words(f"Trained factors, of {', '.join(TRAINED)}.", _GRID, TRAINED)] = None
    rank_patterns: Annotated[
        str | None, o.words("Ranks of layers that are below the rank, as uniform,fc2r4-fc3r2.", _GRID)
    ] = None
    grid: Annotated[
        Path | None,
        o.file('TOML file with such lists: seeds = "0-9", lrs = [1e-3, 3e-3]. Options override the file.', _GRID),
    ] = None


@o.grouped
def command(
    *,
    lists: Lists,
    base: shared.Base = None,
    name: shared.Name = None,
    digits: shared.AdapterDigits = None,
    dataset: shared.DatasetOfBase = None,
    recipe_name: shared.Recipe = "reference",
    dry_run: Annotated[
        bool, o.switch("--dry-run", "Only show what would be trained, in which banks and in about what time.")
    ] = False,
    beside: Annotated[
        list[str] | None,
        o.artifact_option("Close the table with this sweep or adapter without a rank, as full fine-tuning."),
    ] = None,
    each_seed: Annotated[
        bool, o.switch("--each-seed", "Show every seed in the table, not only the means over seeds.", shared.OUTPUT)
    ] = False,
    method: shared.Method = None,
    shape: shared.AdapterShape,
    vary: shared.Vary = None,
    training: shared.AdapterTraining,
    machine: shared.BankMachine,
    bank_memory: Annotated[
        int,
        o.integer("MB for adapters that are trained together; a larger grid is split into banks.", shared.MACHINE),
    ] = Runtime.bank_megabytes,
    keep: shared.Keep = ALL,
    own_names: shared.OwnNames = False,
    publication: shared.Publication,
    folders: shared.Folders,
    output: shared.Output,
) -> None:
    """Train an adapter for each rank and seed, or each combination of a grid, and compare them in one table.

    Adapters that exist already are not trained again: a sweep that was stopped continues where it was.
    """
    settings = o.given(shape, training, digits=digits, method=method, vary=vary)
    if vary not in (None, "all") and training.seed is not None:
        # One source of chance varies with the seeds; --seed holds the others.
        settings["held_seed"] = training.seed
        if lists.seeds is not None or lists.grid is not None:
            del settings["seed"]
    config = adapter_config(recipe(recipe_name).adapter, settings)
    runtime = machine.runtime(bank_megabytes=bank_memory)
    workspace = folders.workspace(output, runtime=runtime, note=publication.note)
    asked: dict[str, Any] = {
        "grid": _grid(lists, settings), "config": config, "base": base, "dataset": dataset,
        "workspace": workspace, "name": name, "force": publication.force, "keep": keep, "own_names": own_names,
    }  # fmt: skip
    if dry_run and beside:
        raise UsageError("--dry-run shows no figures for --beside to stand beside", hint="leave one of them out")
    for ceiling in beside or ():
        workspace.registry.get(ceiling, "sweep", "adapter")
    if dry_run:
        plan = plan_sweep(**asked)
        output.print("sweep", {"dry_run": True, **plan.to_json()}, lambda _: _plan_tables(plan))
    else:
        _print(output, workspace, sweep(**asked), beside or [], each_seed=each_seed)


def _grid(lists: Lists, settings: dict[str, Any]) -> Grid:
    """Build the grid that options and a file give; options, for one value or a list, override the file."""
    texts = vars(lists)
    for axis in AXES:
        if (text := texts[axis.plural]) is not None and axis.field in settings:
            raise UsageError(
                f"{axis.option} and {axis.list_option} can't be given both",
                hint=f"{axis.list_option} {text} is enough", value=settings[axis.field],
            )  # fmt: skip
    values: dict[str, object] = {} if lists.grid is None else dict(read_grid(lists.grid))
    for axis in AXES:
        if (text := texts[axis.plural]) is not None:
            values[axis.plural] = axis.parse(text, axis.list_option)
        elif axis.field in settings:
            values[axis.plural] = [settings[axis.field]]
    return grid_of(values)


def _print(
    output: shared.Output, workspace: Workspace, artifact: Artifact, names: list[str], *, each_seed: bool
) -> None:
    """Print a sweep's results, and beside them those of models without a rank."""
    results, learned = artifact.details["results"], artifact.config["digits"]
    study = study_accuracies(workspace, artifact)
    document: dict[str, Any] = {"artifact": artifact.name, "digits": learned, "results": [
        {**row, "study_accuracy": study[row["rank"]]} if row["rank"] in study else row for row in results
    ], "summary": summarise(results)}  # fmt: skip
    if "keep" in artifact.details:
        document["results"] = _with_commands(workspace, artifact, document["results"])
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

    def tables(_: dict[str, Any]) -> list[Table | str]:
        made = sweep_table(title, results, subsets, study, learned, closing, each_seed=each_seed)
        return [made, *_best(workspace, artifact), *_not_kept(artifact, document["results"])]

    output.print("sweep", document, tables)


def _with_commands(workspace: Workspace, sweep: Artifact, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows with whether each adapter was kept, and the command that makes those that were not."""
    from lora_mnist_cli.cli.again import keeping, line_of

    kept, line = kept_names(sweep), line_of(workspace.registry, sweep)

    def told(name: str) -> dict[str, Any]:
        return {"kept": True} if name in kept else {"kept": False, "again": str(keeping(line, name))}

    return [row | told(row["artifact"]) for row in rows]


def _not_kept(sweep: Artifact, rows: list[dict[str, Any]]) -> list[str]:
    """Say how many adapters were not kept, and which command makes one of them."""
    if not (left := [row for row in rows if not row.get("kept", True)]):
        return []
    kept = f"{len(rows) - len(left):,} of {counted(len(rows), 'adapter')} kept"
    return [f"{kept}; another is made, with the same bytes, by: {left[0]['again']}"]


def _best(workspace: Workspace, artifact: Artifact) -> list[str]:
    """Say which of several settings is the best, or why that is not known."""
    results = artifact.details["results"]
    if all(setting(row) == setting(results[0]) for row in results):
        return []
    try:
        best = best_setting(workspace.registry, artifact)
    except ArtifactError as error:
        return [f"best setting: not known, as {error.problem}"]
    return ["best setting: not known, as a run of every setting diverged" if best is None else best_line(best)]


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
