"""``lora-mnist chain``."""

from typing import Annotated, Any

from lora_mnist_cli.cli import options as o
from lora_mnist_cli.cli import shared_options as shared
from lora_mnist_cli.cli.tables import percent
from lora_mnist_cli.cli.text_table import Table
from lora_mnist_cli.settings.lists import parse_integers, parse_words
from lora_mnist_cli.settings.recipes import RECIPES
from lora_mnist_cli.stages import chain
from lora_mnist_cli.stages.chains import report
from lora_mnist_cli.stages.chains.baselines import BASELINES
from lora_mnist_cli.stages.chains.run import RANK, RECIPE
from lora_mnist_cli.stages.chains.strategies import FURTHER, STRATEGIES, USUAL
from lora_mnist_cli.stages.records.publishing import REPORT_FILE
from lora_mnist_cli.system.errors import UsageError

_STRATEGIES, _FURTHER, _BASELINES = (
    "; ".join(f"{name}: {strategy.about}" for name, strategy in rows.items()) for rows in (USUAL, FURTHER, BASELINES)
)
Baselines = Annotated[bool, o.switch("--baselines", f"Add the baselines of the literature. {_BASELINES}.")]


@o.grouped
def command(
    *,
    tasks: Annotated[str, o.words("Tasks with a comma between them, each a range or digits joined by +.")] = "0-4,5-9",
    strategies: Annotated[
        str | None,
        o.words(
            f"Any of {_STRATEGIES}. As plain,routed; all of these by default. Where they are named: {_FURTHER}.",
            known=STRATEGIES,
        ),
    ] = None,
    baselines: Baselines = False,
    cures: Annotated[str | None, o.words("The former name of --strategies.", hidden=True)] = None,
    seeds: Annotated[str, o.words("Learn the chain once with each of these seeds, as 0-9.")] = "0",
    rank: Annotated[int, o.integer("Rank of the adapters; chosen with the recipe, on validation images.")] = RANK,
    dataset: shared.AnyDataset = "mnist",
    name: shared.Name = None,
    recipe: Annotated[
        str,
        o.word(
            "Named settings. reference: the original study's; tuned: the best that were found, and the default here, "
            "where strategies are compared at their best.",
            None,
            RECIPES,
        ),
    ] = RECIPE,
    epochs: shared.Epochs = None,
    machine: shared.Machine,
    workers: Annotated[
        int | None,
        o.integer("Processes that train side by side (one core per thread and 2 GB per process).", shared.MACHINE),
    ] = None,
    publication: shared.Publication,
    folders: shared.Folders,
    output: shared.Output,
) -> None:
    """Learn tasks one after the other, by each strategy against forgetting, and compare what is left of them.

    Accuracy is over all ten logits, without a label of the task (class-incremental). A task is learned from its own
    images alone, not from those of earlier tasks. Work that is up to date is not done again.
    """
    if strategies is not None and cures is not None:
        raise UsageError("--cures is the former name of --strategies: give one of them", value=cures)
    chosen = cures if strategies is None else strategies
    workspace = folders.workspace(output, runtime=machine.runtime(), note=publication.note)
    made = chain(
        tasks, strategies=None if chosen is None else parse_words(chosen, "--strategies"),
        seeds=parse_integers(seeds, "--seeds"), recipe_name=recipe, rank=rank, epochs=epochs, dataset=dataset,
        workers=workers, name=name, workspace=workspace, force=publication.force, baselines=baselines,
    )  # fmt: skip
    path = made.path / REPORT_FILE
    workspace.reporter.notice(f"table and picture: {path}")
    document = {"artifact": made.name, "report": str(path), "config": made.config, **made.details["chain"]}
    output.print("chain", document, chain_tables)


def chain_tables(document: dict[str, Any]) -> list[Table]:
    """Make the table of the strategies, and the one of what the literature reports."""
    title = report.title(document, document["config"])
    strategies, published = document["cures"], document["published"]
    figures = map(report.cells, strategies)
    made = Table(report.columns(document), figures, title=title, text_columns=("strategy",), tight=True)
    spent = ((each["cure"], report.kept(each), report.seconds(each)) for each in strategies)
    costs = Table(("strategy", "kept beside the network", "made in s"), spent, text_columns=("strategy",))
    others = Table(("published", "on 0-9 %", "set-up", "source"), text_columns=("published", "set-up", "source"))
    for row in published:
        others.add_row(row["what"], percent(row["accuracy"]), row["setup"], row["source"].rsplit(", ", 1)[0])
    return [made, costs, *([others] if published else [])]
