"""``lora-mnist reproduce``."""

from __future__ import annotations

from lora_mnist_cli.cli import options as o
from lora_mnist_cli.cli.console import print_result, workspace
from lora_mnist_cli.config import Runtime
from lora_mnist_cli.stages.reproduction import REPORT_FILE, format_row, reproduce


def command(
    seed: o.Seed = None,
    epochs: o.Epochs = None,
    accelerator: o.Accelerator = "auto",
    threads: o.Threads = 1,
    runs_dir: o.RunsDir = o.DEFAULT_RUNS,
    data_dir: o.DataDir = o.DEFAULT_DATA,
    json_output: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    version: o.Version = False,
) -> None:
    """Run the whole study and set its figures beside the original's, with every picture.

    Base on 0-4, seven ranks on 5-9, rank 64 on 0-9, alpha 0. What is up to date is not done again.
    """
    where = workspace(
        runs_dir, data_dir, quiet=quiet, verbose=verbose, runtime=Runtime(accelerator=accelerator, threads=threads)
    )
    artifact = reproduce(seed=seed or 0, epochs=epochs, workspace=where)
    report = artifact.path / REPORT_FILE
    where.reporter.notice(f"table and pictures: {report}")
    from lora_mnist_cli.cli.tables import table, titled

    title = f"The study, and its repetition here (seed {artifact.config['seed']})"
    made = table(
        ("what", "measure", "study", "here", "difference"),
        text_columns=("what", "measure"),
    )
    for row in artifact.details["rows"]:
        made.add_row(*format_row(row))
    document = {"artifact": artifact.name, "report": str(report), **artifact.details}
    print_result("reproduce", document, [titled(title, made)], as_json=json_output)
