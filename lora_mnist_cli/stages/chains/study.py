"""The study of forgetting: two chains of tasks, by every strategy, in one report."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lora_mnist_cli.registry.artifact import Artifact, Parent, Settings
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.settings.lists import as_ranges
from lora_mnist_cli.settings.own_data import halves
from lora_mnist_cli.settings.tasks import tasks_text
from lora_mnist_cli.stages.chains.report import section
from lora_mnist_cli.stages.chains.run import PICTURE_FILE, learn_and_report, make_plan
from lora_mnist_cli.stages.records.datasets import digits_of, named_dataset
from lora_mnist_cli.stages.records.publishing import publish_report
from lora_mnist_cli.stages.workspace import Workspace
from lora_mnist_cli.system.errors import UsageError
from lora_mnist_cli.system.files import machine_errors

SEEDS = (0, 1, 2)
"""The default: the fewest seeds whose interval is narrow enough to say something."""


def _chains(known: DigitSet) -> dict[str, tuple[DigitSet, ...]]:
    """Return the chains of the study by the number of their tasks: two halves, and pairs of digits.

    Raises:
        UsageError: where there are so few digits that both are the same.
    """
    pairs = tuple(DigitSet(known.members[first : first + 2]) for first in range(0, len(known), 2))
    if len(pairs) < 3:
        problem = f"the study of forgetting needs five classes, and there are {len(known)}"
        old, new = halves(known)
        raise UsageError(problem, hint=f"lora-mnist chain --tasks {tasks_text((old, new))}", value=len(known))
    return {"two": halves(known), ("three", "four", "five")[len(pairs) - 3]: pairs}


def study_forgetting(
    seeds: Sequence[int] = SEEDS, *, epochs: int | None = None, dataset: str | Path = "mnist",
    workers: int | None = None, workspace: Workspace | None = None, baselines: bool = False,
) -> Artifact:  # fmt: skip
    """Run :func:`~lora_mnist_cli.stages.chains.run.chain` on 0-4 then 5-9, and on five tasks of two digits.

    A user's own classes are halved, and taken in pairs, in the same way.

    Args:
        seeds: of both chains.
        epochs: the recipe's by default; any other number is a quick look.
        workers, baselines: as it takes them.

    Returns:
        A report: a Markdown file with both tables, and a picture of old against new digits for each chain;
        ``details["chains"]`` has the documents of both, and ``details["rows"]`` their tables.
    """
    workspace = workspace or Workspace()
    dataset = named_dataset(workspace, dataset)
    known = digits_of(workspace, dataset)
    chains = _chains(known)
    plans = [
        make_plan(
            tasks, seeds=seeds, epochs=epochs, dataset=dataset, workspace=workspace, baselines=baselines, known=known
        )
        for tasks in chains.values()
    ]
    start = time.perf_counter()
    reports = learn_and_report(plans, workers)
    config = {"study": "forgetting", "seeds": list(seeds), "epochs": reports[0].config["epochs"]}
    config |= {"baselines": True} if baselines else {}
    inputs = tuple(Parent("input", report.name, report.digest) for report in reports)
    documents = [report.details["chain"] | {"config": report.config} for report in reports]

    def write(folder: Path) -> tuple[str, dict[str, Any]]:
        lines = ["# Learning new digits without losing the old", ""]
        for (name, tasks), report, document in zip(chains.items(), reports, documents, strict=True):
            picture = f"cures-{name}.png"
            with machine_errors(f"can't write {picture}"):
                (folder / picture).write_bytes(report.read(PICTURE_FILE))
            lines += [f"## {' then '.join(map(str, tasks))}", "", *section(document, report.config), ""]
            lines += [f"![Old against new digits for every strategy]({picture})", ""]
        rows = [
            row | {"what": f"{row['what']}, {name} tasks"}
            for name, report in zip(chains, reports, strict=True)
            for row in report.details["rows"]
        ]
        return "\n".join(lines), {"rows": rows, "chains": documents}

    of = f"-{dataset}" if dataset != "mnist" else ""
    name = f"study-forgetting{of}{'-baselines' if baselines else ''}-seeds-{as_ranges(seeds)}"
    settings = Settings("report", config, reports[0].settings.dataset, inputs)
    return publish_report(workspace, name, settings, write, start)
