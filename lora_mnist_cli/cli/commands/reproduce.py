"""``lora-mnist reproduce``."""

from __future__ import annotations

from typing import Annotated

import typer

from lora_mnist_cli.cli import options as o
from lora_mnist_cli.cli.console import print_result, workspace
from lora_mnist_cli.settings.choices import DATASETS
from lora_mnist_cli.settings.lists import parse_integers
from lora_mnist_cli.settings.runtime import Runtime
from lora_mnist_cli.stages.records.reports import REPORT_FILE
from lora_mnist_cli.stages.reproducing import STUDIES, reproduce
from lora_mnist_cli.stages.study_report import TEXT_COLUMNS, heading, report_table, verdicts
from lora_mnist_cli.system.errors import UsageError


def command(
    study: Annotated[
        str,
        o.word_option(
            "--study",
            "lora: what LoRA learns at each rank; forgetting: two tasks and five in a row, with every cure (3 seeds).",
            None,
            STUDIES,
        ),
    ] = "lora",
    seed: o.Seed = None,
    seeds: Annotated[
        str | None, typer.Option("--seeds", help="The whole study with each of these, as 0-9: means, ranges, verdicts.")
    ] = None,
    ceiling: Annotated[
        bool, o.switch("--ceiling", "Full fine-tuning on 5-9 too, on each base, as a row that the study has not.")
    ] = False,
    dataset: Annotated[
        str,
        o.word_option("--dataset", f"One of {', '.join(DATASETS)}; the study used mnist.", None, DATASETS),
    ] = "mnist",
    epochs: o.Epochs = None,
    accelerator: o.Accelerator = "auto",
    threads: o.Threads = 1,
    workers: Annotated[
        int | None,
        o.integer_option(
            "--workers",
            "Of --study forgetting: processes that learn beside each other (a core for each thread, 2 GB each).",
            "Training",
        ),
    ] = None,
    runs_dir: o.RunsDir = o.DEFAULT_RUNS,
    data_dir: o.DataDir = o.DEFAULT_DATA,
    json_output: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    version: o.Version = False,
) -> None:
    """Run the whole study and set its figures beside the original's, with every picture.

    Base on 0-4, seven ranks on 5-9, rank 64 on 0-9, alpha 0. What is up to date is not done again. With several seeds,
    each row says whether the study's single run lies in the range that one run of ours would show.
    """
    if seed is not None and seeds is not None:
        raise UsageError("--seed and --seeds can't be given both", hint=f"--seeds {seeds} is enough", value=seed)
    where = workspace(
        runs_dir, data_dir, quiet=quiet, verbose=verbose, runtime=Runtime(accelerator=accelerator, threads=threads)
    )
    listed = None if seeds is None else parse_integers(seeds, "--seeds")
    artifact = reproduce(
        study=study,
        seed=seed,
        seeds=listed,
        epochs=epochs,
        ceiling=ceiling,
        dataset=dataset,
        workers=workers,
        workspace=where,
    )
    report = artifact.path / REPORT_FILE
    where.reporter.notice(f"table and pictures: {report}")
    document = {"artifact": artifact.name, "report": str(report), **artifact.details}
    if study == "forgetting":
        from lora_mnist_cli.cli.commands.chain import chain_tables

        shown = [] if json_output else [each for of in document["chains"] for each in chain_tables(of)]
        print_result("reproduce", document, shown, as_json=json_output)
        return
    from lora_mnist_cli.cli.tables import table, titled

    config, rows = artifact.config, artifact.details["rows"]
    several = "seeds" in config
    which = f"n = {len(config['seeds'])} seeds" if several else f"seed {config['seed']}"
    columns, lines = report_table(rows)
    made = table(columns, text_columns=TEXT_COLUMNS)
    for cells in lines:
        made.add_row(*cells)
    print_result(
        "reproduce",
        document,
        [titled(f"{heading(artifact.dataset)} ({which})", made), *verdicts(rows, config["epochs"])],
        as_json=json_output,
    )
