"""The study of papers: each claim tried with every seed, in a report with a verdict and a picture per claim."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from lora_mnist_cli.registry.artifact import Artifact, Settings
from lora_mnist_cli.settings.choices import CLAIMS, implementation
from lora_mnist_cli.settings.digits import ALL_DIGITS
from lora_mnist_cli.settings.lists import as_ranges, counted, distinct
from lora_mnist_cli.stages import costs
from lora_mnist_cli.stages.chains.parallel import MEMORY, PROGRESS, check_workers
from lora_mnist_cli.stages.papers import claims as claims_package
from lora_mnist_cli.stages.papers.claim import Claim, Document, Measured
from lora_mnist_cli.stages.records.datasets import digits_of, named_dataset
from lora_mnist_cli.stages.records.publishing import publish_report
from lora_mnist_cli.stages.workspace import Workspace
from lora_mnist_cli.system import machine
from lora_mnist_cli.system.errors import UsageError, refuse_unknown
from lora_mnist_cli.system.processes import Pool, SendingReporter, answer_tasks
from lora_mnist_cli.system.progress import Reporter
from lora_mnist_cli.system.work import DRAWING, LOADING, TRAINING, Followed, SideBySide, total

SEEDS = tuple(range(10))
EPOCHS, BASE_TIMES = 2, 5
"""Epochs of each training, and how many times longer a base is trained: ten epochs, as the reference recipe has."""
SECONDS = {"less-forgetting": 8.0, "best-rate": 7.0, "rank-stable": 4.0, "variants": 6.0}
"""About how long a claim takes with one seed, beside what it shares with those before it."""
_USUAL_SECONDS = 4.0


@dataclass(frozen=True)
class SeedTask:
    """What one process measures without waiting for another: claims with one seed."""

    seed: int
    claims: tuple[str, ...]
    epochs: int
    dataset: str
    data_dir: Path

    def work(self) -> dict[str, float]:
        """Return about how much work it is."""
        return {TRAINING: sum(SECONDS.get(name, _USUAL_SECONDS) for name in self.claims) * self.epochs / EPOCHS}


@dataclass(frozen=True)
class SeedResult:
    """What one seed measured, by claim, and how often each scored a network on test images."""

    measured: dict[str, Measured]
    looks: dict[str, int]


def claim_named(name: str) -> Claim:
    """Return a claim of :data:`~lora_mnist_cli.settings.choices.CLAIMS`."""
    claim: Claim = implementation(claims_package.__name__, name)
    return claim


def study_papers(
    seeds: Sequence[int] = SEEDS, *, claims: Sequence[str] | None = None, epochs: int | None = None,
    dataset: str | Path = "mnist", workers: int | None = None, workspace: Workspace | None = None,
) -> Artifact:  # fmt: skip
    """Try claims of papers, each with every seed on a base of its own.

    Args:
        claims: names of :data:`~lora_mnist_cli.settings.choices.CLAIMS`; all by default.
        dataset: a name, or the path of a user's own with ten classes.
        epochs: of each training, :data:`EPOCHS` by default; a base has five times as many.
        workers: processes that measure side by side, a seed each; by default one per core.

    Returns:
        A report: a Markdown file with the table and a picture per claim. ``details["claims"]`` has a document per
        claim: ``claim``, ``source``, ``differs``, ``run``, ``refuted``, its ``verdict``, ``looks`` (how often a seed
        scored a network on test images), its ``figures`` over seeds and the ``panels`` of its picture.

    Raises:
        UsageError: for an unknown claim, one that is named twice, or no epochs.
        DataError: where the images are not available.
        DivergedError: where every rate of a method diverges.
    """
    workspace = workspace or Workspace()
    chosen = list(CLAIMS) if claims is None else list(claims)
    distinct("claims", chosen)
    for name in chosen:
        refuse_unknown("claim", name, list(CLAIMS), "claims:")
    chosen = [name for name in CLAIMS if name in chosen]
    distinct("seeds", seeds)
    dataset = named_dataset(workspace, dataset)
    if (digits := digits_of(workspace, dataset)) != ALL_DIGITS:
        problem = f"claims are tried on ten classes, and {dataset} has {len(digits)}"
        raise UsageError(problem, hint="lora-mnist reproduce runs the study of ranks on it", value=dataset)
    epochs = EPOCHS if epochs is None else epochs
    if epochs < 1:
        raise UsageError(f"claims are about training: at least one epoch is needed, not {epochs}", value=epochs)
    check_workers(workers)
    start = time.perf_counter()
    config: Document = {"study": "papers", "seeds": list(seeds), "epochs": epochs, "claims": chosen}
    settings = Settings("report", config, workspace.dataset_settings(dataset), ())
    tasks = [SeedTask(seed, tuple(chosen), epochs, dataset, workspace.data_dir) for seed in seeds]

    def write(folder: Path) -> tuple[str, Document]:
        results = _measure(tasks, workers, workspace)
        workspace.reporter.phase(DRAWING, costs.PICTURE * len(chosen))
        from lora_mnist_cli.plots import claims as picture
        from lora_mnist_cli.plots import style
        from lora_mnist_cli.stages.papers.report import markdown, plain_rows

        documents = []
        for name in chosen:
            document = {"name": name, **claim_named(name).outcome([result.measured[name] for result in results])}
            document |= {"looks": max(result.looks[name] for result in results), "picture": f"{name}.png"}
            title = f"{CLAIMS[name][0].upper()}{CLAIMS[name][1:]}"
            subtitle = f"{document['verdict']} ({counted(len(seeds), 'seed')}); {document['source']}"
            style.save(picture.draw(document, title=title, subtitle=subtitle), folder / document["picture"])
            documents.append(document)
        details = {"rows": plain_rows(documents), "claims": documents}
        return markdown(documents, config, dataset), details

    return publish_report(workspace, _name(chosen, dataset, seeds), settings, write, start)


def _name(claims: Sequence[str], dataset: str, seeds: Sequence[int]) -> str:
    words = ["study-papers", *([] if list(claims) == list(CLAIMS) else claims)]
    words += [dataset] if dataset != "mnist" else []
    return "-".join([*words, f"seeds-{as_ranges(seeds)}"])


def _measure(tasks: Sequence[SeedTask], workers: int | None, workspace: Workspace) -> list[SeedResult]:
    """Return what each seed measured: in processes, or here where one is enough or a process died twice."""
    reporter = workspace.reporter
    report = {LOADING: costs.loading("matplotlib"), DRAWING: costs.PICTURE * len(tasks[0].claims)}
    by_cores = max(1, machine.cores() // workspace.runtime.threads)
    workers = min(len(tasks), workers or machine.fitting(by_cores, MEMORY))
    found: dict[int, SeedResult] = {}
    if workers > 1:
        found = _in_processes(tasks, workers, Followed(reporter, report))
    left = [number for number in range(len(tasks)) if number not in found]
    reporter.plan(total([*(tasks[number].work() for number in left), report]))
    for number in left:
        found[number] = measure_seed(tasks[number], reporter)
    return [found[number] for number in range(len(tasks))]


def _in_processes(tasks: Sequence[SeedTask], workers: int, reporter: Reporter) -> dict[int, SeedResult]:
    """Measure in processes; what is missing in the answer was lost with a process, twice."""
    reporter.notice(f"measuring in {workers} processes")
    progress = SideBySide(reporter, TRAINING, [task.work() for task in tasks], costs.loading_in_processes(), workers)
    found: dict[int, SeedResult] = {}
    with contextlib.closing(Pool(serve, tasks, tries=2).run(workers)) as messages:
        for message in messages:
            which = f"seed {tasks[message.task].seed}"
            if message.kind in ("again", "lost"):
                reporter.warn(f"the process of {which} {message.payload[0]}; measuring once more")
            elif message.kind in PROGRESS:
                progress.heard(message.task, message.kind, *message.payload)
            elif message.kind == "answer":
                (found[message.task],) = message.payload
                progress.over(message.task, done=True)
                reporter.notice(f"{which}: measured ({len(found)} of {len(tasks)})")
    return found


def serve(line: Connection) -> None:
    """Measure the seeds that arrive on a connection, until it is closed: a worker process."""
    reporter = SendingReporter(line, *PROGRESS)
    answer_tasks(line, lambda task: (measure_seed(task, reporter),))


def measure_seed(task: SeedTask, reporter: Reporter) -> SeedResult:
    """Measure claims with one seed.

    Raises:
        DataError: where the images are not available.
        DivergedError: where every rate of a method diverges.
    """
    from lora_mnist_cli.stages.papers.seed_runs import SeedRuns
    from lora_mnist_cli.system.arithmetic import computing

    seconds = task.work()[TRAINING]
    reporter.phase(TRAINING, seconds, f"seed {task.seed}", len(task.claims) + 1)
    result = SeedResult({}, {})
    with computing():
        runs = SeedRuns.prepared(
            task.seed, epochs=task.epochs, base_epochs=BASE_TIMES * task.epochs, dataset=task.dataset,
            data_dir=task.data_dir,
        )  # fmt: skip
        reporter.advance(1, 1, 0.0)
        for name in task.claims:
            before = runs.looks
            result.measured[name] = claim_named(name).measure(runs)
            result.looks[name] = runs.looks - before
            reporter.advance(1, 1, 0.0)
    return result
