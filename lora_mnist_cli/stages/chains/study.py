"""The study of forgetting in one stage: two tasks and five, every strategy side by side, in one report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lora_mnist_cli.evaluation.literature import FIVE_TASKS, TWO_TASKS
from lora_mnist_cli.registry.artifact import Artifact, Parent, Settings
from lora_mnist_cli.settings.lists import as_ranges
from lora_mnist_cli.stages.chains.report import section
from lora_mnist_cli.stages.chains.run import learn_and_report, make_plan
from lora_mnist_cli.stages.records.reports import publish_report
from lora_mnist_cli.stages.workspace import Workspace
from lora_mnist_cli.system.files import machine_errors

CHAINS = {"two": TWO_TASKS, "five": FIVE_TASKS}
SEEDS = (0, 1, 2)
"""The default: the fewest seeds whose interval is narrow enough to say something."""


def study_forgetting(
    seeds: Sequence[int] = SEEDS, *, epochs: int | None = None, dataset: str = "mnist",
    workers: int | None = None, workspace: Workspace | None = None,
) -> Artifact:  # fmt: skip
    """Run :func:`~lora_mnist_cli.stages.chains.run.chain` on 0-4 then 5-9, and on five tasks of two digits.

    Args:
        seeds: of both chains.
        epochs: the recipe's by default; any other number is a quick look.
        workers: as :func:`~lora_mnist_cli.stages.chains.run.chain` takes them.

    Returns:
        A report: a Markdown file with both tables, and a picture of old against new digits for each chain;
        ``details["chains"]`` has the documents of both, and ``details["rows"]`` their tables.

    Raises:
        As :func:`~lora_mnist_cli.stages.chains.run.chain`.
    """
    workspace = workspace or Workspace()
    plans = [
        make_plan(tasks, seeds=seeds, epochs=epochs, dataset=dataset, workspace=workspace) for tasks in CHAINS.values()
    ]
    reports = learn_and_report(plans, workers)
    config = {"study": "forgetting", "seeds": list(seeds), "epochs": reports[0].config["epochs"]}
    inputs = tuple(Parent("input", report.name, report.digest) for report in reports)
    documents = [report.details["chain"] | {"config": report.config} for report in reports]

    def write(folder: Path) -> tuple[str, dict[str, Any]]:
        lines = ["# Learning new digits without losing the old", ""]
        for (name, tasks), report, document in zip(CHAINS.items(), reports, documents, strict=True):
            picture = f"cures-{name}.png"
            with machine_errors(f"can't write {picture}"):
                (folder / picture).write_bytes(report.read("cures.png"))
            lines += [f"## {' then '.join(map(str, tasks))}", "", *section(document, report.config), ""]
            lines += [f"![Old against new digits for every strategy]({picture})", ""]
        rows = [
            row | {"what": f"{row['what']}, {name} tasks"}
            for name, report in zip(CHAINS, reports, strict=True)
            for row in report.details["rows"]
        ]
        return "\n".join(lines), {"rows": rows, "chains": documents}

    of = f"-{dataset}" if dataset != "mnist" else ""
    name = f"study-forgetting{of}-seeds-{as_ranges(seeds)}"
    return publish_report(workspace, name, Settings("report", config, reports[0].settings.dataset, inputs), write)
