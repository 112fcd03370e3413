"""``lora-mnist chain``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from lora_mnist_cli.cli import options as o
from lora_mnist_cli.cli.console import print_result, workspace
from lora_mnist_cli.settings.choices import DATASETS
from lora_mnist_cli.settings.lists import parse_integers, parse_words
from lora_mnist_cli.settings.runtime import Runtime
from lora_mnist_cli.stages import chain
from lora_mnist_cli.stages.chains.run import RANK, RECIPE
from lora_mnist_cli.stages.chains.strategies import STRATEGIES
from lora_mnist_cli.stages.records.reports import REPORT_FILE

_CURES = "; ".join(f"{name}: {strategy.about}" for name, strategy in STRATEGIES.items())


def command(
    tasks: Annotated[
        str, typer.Option("--tasks", metavar="TEXT", help="A comma between tasks, each a range or digits joined by +.")
    ] = "0-4,5-9",
    strategies: Annotated[
        str | None, o.word_option("--cures", f"Any of {_CURES}. As plain,routed; all by default.", None, STRATEGIES)
    ] = None,
    seeds: Annotated[str, typer.Option("--seeds", metavar="LIST", help="The chain with each of these, as 0-9.")] = "0",
    rank: Annotated[int, o.integer_option("--rank", "Rank of the adapters.")] = RANK,
    dataset: Annotated[str, o.word_option("--dataset", f"One of {', '.join(DATASETS)}.", None, DATASETS)] = "mnist",
    recipe: o.Recipe = RECIPE,
    epochs: o.Epochs = None,
    accelerator: o.Accelerator = "auto",
    threads: o.Threads = 1,
    workers: Annotated[
        int | None,
        o.integer_option(
            "--workers", "Processes that learn beside each other (a core for each thread, 2 GB each).", "Training"
        ),
    ] = None,
    name: o.Name = None,
    note: o.Note = "",
    runs_dir: o.RunsDir = o.DEFAULT_RUNS,
    data_dir: o.DataDir = o.DEFAULT_DATA,
    json_output: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    version: o.Version = False,
) -> None:
    """Learn tasks one after the other, by each cure for forgetting, and set what is left of them side by side.

    Accuracy is over all ten logits, with no label of the task (class-incremental). At its turn a task's own images are
    there, and no earlier one. What is up to date is not done again.
    """
    runtime = Runtime(accelerator=accelerator, threads=threads)
    where = workspace(runs_dir, data_dir, quiet=quiet, verbose=verbose, runtime=runtime, note=note)
    made = chain(
        tasks, strategies=None if strategies is None else parse_words(strategies, "--cures"),
        seeds=parse_integers(seeds, "--seeds"),
        recipe_name=recipe, rank=rank, epochs=epochs, dataset=dataset, workers=workers,
        name=name, workspace=where,
    )  # fmt: skip
    report = made.path / REPORT_FILE
    where.reporter.notice(f"table and picture: {report}")
    document = {"artifact": made.name, "report": str(report), "config": made.config, **made.details["chain"]}
    print_result("chain", document, [] if json_output else chain_tables(document), as_json=json_output)


def chain_tables(document: dict[str, Any]) -> list[Any]:
    """The cures' table, and what others reached."""
    from lora_mnist_cli.cli.tables import percent, table, titled
    from lora_mnist_cli.stages.chains import report

    made = table(report.COLUMNS, text_columns=report.COLUMNS[:1], tight=True)
    for strategy in document["cures"]:
        made.add_row(*report.cells(strategy))
    shown: list[Any] = [titled(report.title(document, document["config"]), made)]
    if document["published"]:
        others = table(("published", "on 0-9 %", "set-up", "source"), text_columns=("published", "set-up", "source"))
        for row in document["published"]:
            others.add_row(row["what"], percent(row["accuracy"]), row["setup"], row["source"].rsplit(", ", 1)[0])
        shown.append(others)
    return shown
