"""Chains of tasks, class-incremental: strategies side by side over seeds, in a report."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from lora_mnist_cli.evaluation.intervals import ACCURACIES, CONFIDENCE, DIFFERENCES
from lora_mnist_cli.evaluation.literature import literature_results
from lora_mnist_cli.evaluation.seeds import spread
from lora_mnist_cli.registry.artifact import Artifact, Parent, Settings, check_new_name
from lora_mnist_cli.settings.adapter_config import with_overrides
from lora_mnist_cli.settings.digits import ALL_DIGITS, DigitSet
from lora_mnist_cli.settings.lists import as_ranges, counted, distinct
from lora_mnist_cli.settings.recipes import recipe
from lora_mnist_cli.settings.tasks import check_tasks, old_digits, parse_tasks, tasks_text
from lora_mnist_cli.stages import costs
from lora_mnist_cli.stages.chains.again import make_room
from lora_mnist_cli.stages.chains.baselines import BASELINES
from lora_mnist_cli.stages.chains.chain_run import (
    ChainRun,
    Document,
    State,
    StateScores,
    figures,
    kept_bytes,
    key_before,
    score_before,
    seconds_of,
)
from lora_mnist_cli.stages.chains.parallel import PartResults, check_workers, train_in_processes
from lora_mnist_cli.stages.chains.strategies import STRATEGIES, USUAL, works_of
from lora_mnist_cli.stages.records.datasets import digits_of, named_dataset
from lora_mnist_cli.stages.records.publishing import publish_report
from lora_mnist_cli.stages.workspace import MAKE_ROOM, Workspace, advising
from lora_mnist_cli.system.caller import stage
from lora_mnist_cli.system.errors import refuse_unknown
from lora_mnist_cli.system.progress import Reporter, WithoutNotices, Work
from lora_mnist_cli.system.work import DRAWING, LOADING, SCORING, in_turn, total

PICTURE_FILE = "cures.png"
RECIPE, RANK = "tuned", 16
"""The defaults, chosen on validation images of single tasks (docs/tuned-recipe.md): the rank is the smallest that is
less than 0.2 points below rank 64, which takes a third longer."""
MEASURES = {
    "all": min, "old": min, "new": min, "accuracy": min, "backward": min, "forward": min, "forgetting": max
}  # fmt: skip
"""Figure of a chain → which of two values is the worse."""
_ACCURACIES = ("all", "old", "new", "accuracy")


@dataclass(frozen=True)
class Plan:
    """A chain to be learned, by a run per seed and strategy, and the name and the config of its report."""

    chain_runs: tuple[ChainRun, ...]
    strategies: tuple[str, ...]
    name: str
    config: Document


@stage
def chain(
    tasks: str | Sequence[DigitSet] = "0-4,5-9", *, strategies: Sequence[str] | None = None,
    seeds: Sequence[int] = (0,), recipe_name: str = RECIPE, rank: int = RANK, epochs: int | None = None,
    dataset: str | Path = "mnist", workers: int | None = None, name: str | None = None,
    workspace: Workspace | None = None, force: bool = False, baselines: bool = False,
) -> Artifact:  # fmt: skip
    """Learn tasks one after the other, by each strategy and with each seed, and report the accuracies that remain.

    Artifacts that are up to date are used as they are. Each seed has its own networks, from the first task on.

    Args:
        tasks: each digit is in exactly one; as a text, ``0-4,5-9``.
        dataset: a name, or the path of a user's own, as :func:`~lora_mnist_cli.stages.training_base.train_base` has it.
        strategies: names of :data:`~lora_mnist_cli.stages.chains.strategies.STRATEGIES`; by default all but baselines.
        recipe_name: of bases and adapters; the whole network is always trained by the reference.
        rank: of the adapters.
        epochs: of each training, the recipe's by default; protected adapters train for half of them.
        workers: processes that learn at the same time; by default as many as leave each thread a core and
            each process 2 GB of memory; one where there is a GPU.
        name: of the report, and the beginning of its adapters' names; by default tasks, recipe and rank.
        force: remove the report of that name and the parts that only it needs, and learn them again.
        baselines: add all :data:`~lora_mnist_cli.stages.chains.baselines.BASELINES`.

    Returns:
        A report, with a Markdown file and a picture. Its ``details["chain"]`` has the ``tasks``, the ``published``
        figures, and a row per strategy in ``cures``: its ``runs``, one per seed, with ``R``, ``untrained``, the
        measures of ``Transfer``, the accuracies on ``all`` digits, the ``old`` and the ``new`` ones (those of the last
        task) and the ``artifacts`` that answer after each task; and ``summary``, with the
        :func:`~lora_mnist_cli.evaluation.seeds.spread` of each measure; ``kept_bytes``, what a later task needs beside
        the network (None for all images), and ``seconds``, how long the artifacts of a seed took on average.

    Raises:
        UsageError: where tasks are no chain, or a strategy, seed or data set is unknown or is given twice.
        OtherSettingsError: where a name has other settings.
        DataError: where the data set is not available, or has no test images of a digit.
        DivergedError: where a loss stops being finite.
    """
    workspace = workspace or Workspace()
    dataset = named_dataset(workspace, dataset)
    plan = make_plan(
        tasks, strategies=strategies, seeds=seeds, recipe_name=recipe_name, rank=rank, epochs=epochs, dataset=dataset,
        name=name, workspace=workspace, baselines=baselines, known=digits_of(workspace, dataset),
    )  # fmt: skip
    if force:
        make_room(plan.name, plan.chain_runs, plan.strategies)
    with advising(f"{MAKE_ROOM}; --force learns the chain again"):
        (report,) = learn_and_report([plan], workers)
    return report


def make_plan(
    tasks: str | Sequence[DigitSet], *, strategies: Sequence[str] | None = None, seeds: Sequence[int],
    recipe_name: str = RECIPE, rank: int = RANK, epochs: int | None, dataset: str, name: str | None = None,
    workspace: Workspace, baselines: bool = False, known: DigitSet = ALL_DIGITS,
) -> Plan:  # fmt: skip
    """Check the arguments of :func:`chain`, and raise its UsageErrors; ``known`` are the digits of the data set."""
    tasks = parse_tasks(tasks, known) if isinstance(tasks, str) else check_tasks(tasks, known)
    strategies = list(USUAL) if strategies is None else strategies
    distinct("strategies", strategies)
    for strategy in strategies:
        refuse_unknown("strategy", strategy, list(STRATEGIES), "strategies:")
    wanted = {*strategies, *(BASELINES if baselines else ())}
    strategies = [strategy for strategy in STRATEGIES if strategy in wanted]
    distinct("seeds", seeds)
    chosen = recipe(recipe_name)
    base = with_overrides(chosen.base, digits=tasks[0], epochs=epochs, dataset=dataset)
    adapter = with_overrides(chosen.adapter, rank=rank, epochs=epochs)
    of = [dataset] if dataset != "mnist" else []
    prefix = check_new_name(name or "-".join(["chain", *of, "_".join(map(str, tasks)), recipe_name, f"r{rank}"]))
    report = name or "-".join([
        prefix, *_words(strategies),
        *([] if list(seeds) == [0] else [f"s{as_ranges(seeds)}"]),
    ])  # fmt: skip
    chain_runs = tuple(
        ChainRun(tasks, with_overrides(base, seed=seed), with_overrides(adapter, seed=seed), prefix, workspace)
        for seed in seeds
    )
    config = {
        "tasks": tasks_text(tasks), "cures": strategies, "seeds": list(seeds), "recipe": recipe_name, "rank": rank,
        "epochs": base.epochs,
    }  # fmt: skip
    return Plan(chain_runs, tuple(strategies), check_new_name(report), config)


def _words(strategies: Sequence[str]) -> list[str]:
    """Return what stands for strategies in a report's name: nothing for the usual ones, and one word for baselines."""
    usual = [strategy for strategy in strategies if strategy in USUAL]
    others = [strategy for strategy in strategies if strategy not in USUAL]
    words = [] if usual == list(USUAL) else usual
    return [*words, *(["baselines"] if usual and others == list(BASELINES) else others)]


def learn_and_report(plans: Sequence[Plan], workers: int | None) -> list[Artifact]:
    """Learn chains of one workspace, together where there are several processes, and report each; see :func:`chain`."""
    check_workers(workers)
    parts, start = [(plan.chain_runs, plan.strategies) for plan in plans], time.perf_counter()
    with advising():
        learned = train_in_processes(parts, workers)
        rest = [[_report_work(plan.chain_runs)] if learned else _works(plan) for plan in plans]
        turns = in_turn(plans[0].chain_runs[0].workspace.reporter, [total(works) for works in rest])
        return [_report(plan, next(turns), learned, start) for plan in plans]


def _report(plan: Plan, reporter: Reporter, outcome: PartResults | None, start: float) -> Artifact:
    chain_runs = tuple(chain_run.reporting_to(reporter) for chain_run in plan.chain_runs)
    workspace, tasks = chain_runs[0].workspace, chain_runs[0].tasks
    known_scores = outcome.scores if outcome else StateScores()
    if outcome and not outcome.lost:
        # The processes have already reported every artifact, part by part.
        quiet = WithoutNotices(reporter, outcome.warned)
        chain_runs = tuple(chain_run.reporting_to(quiet) for chain_run in chain_runs)
    learned = _learn(plan, chain_runs)
    artifacts = {made.digest: made for runs in learned.values() for run in runs for state in run for made in state}
    parents = tuple(Parent("input", made.name, digest) for digest, made in artifacts.items())
    dataset = chain_runs[0].base.dataset
    settings = Settings("report", plan.config, workspace.dataset_settings(dataset), parents)

    def write(folder: Path) -> tuple[str, Document]:
        workspace.reporter.phase(LOADING, costs.loading("matplotlib"))
        from lora_mnist_cli.plots import strategies as picture
        from lora_mnist_cli.plots import style

        workspace.reporter.phase(SCORING, _report_work(chain_runs)[SCORING])
        before = [known_scores.get(key_before(chain_run)) or score_before(chain_run) for chain_run in chain_runs]
        seeds, rows = plan.config["seeds"], []
        for strategy, by_seed in learned.items():
            by = STRATEGIES[strategy].by
            runs = [figures(*one_seed, known_scores, by) for one_seed in zip(chain_runs, by_seed, before, strict=True)]
            title, summary = STRATEGIES[strategy].title, _summary(runs, seeds)
            cost = _cost(strategy, chain_runs, by_seed)
            rows.append({"cure": strategy, "title": title, "runs": runs, "summary": summary, **cost})
        document: Document = {
            "tasks": [str(task) for task in tasks], "old": str(old_digits(tasks)), "new": str(tasks[-1]),
            "all": str(chain_runs[0].every),
            "confidence": CONFIDENCE, "cures": rows, "published": literature_results(tasks, dataset),
        }  # fmt: skip
        from lora_mnist_cli.stages.chains.report import markdown

        title = f"{', then '.join(document['tasks'])}: what each strategy keeps and learns"
        subtitle = f"{plan.config['recipe']} recipe, rank {plan.config['rank']}; {counted(len(seeds), 'seed')}"
        workspace.reporter.phase(DRAWING, costs.PICTURE)
        style.save(picture.draw(document, title=title, subtitle=subtitle), folder / PICTURE_FILE)
        text = markdown(document, settings.config, PICTURE_FILE)
        return text, {"rows": _plain_rows(document, chain_runs[0].every), "chain": document}

    return publish_report(workspace, plan.name, settings, write, start)


def _cost(strategy: str, chain_runs: Sequence[ChainRun], by_seed: Sequence[Sequence[State]]) -> Document:
    """Return what a strategy keeps and how long it took: the most of all seeds, and the mean."""
    files = STRATEGIES[strategy].keeps
    pairs = list(zip(chain_runs, by_seed, strict=True))
    kept = None if files is None else max(kept_bytes(states[-1], chain_run, files) for chain_run, states in pairs)
    return {"kept_bytes": kept, "seconds": fmean(seconds_of(states) for states in by_seed)}


def _report_work(chain_runs: Sequence[ChainRun]) -> Work:
    scoring = len(chain_runs) * costs.SCORING_ROUTED
    return {LOADING: costs.loading("matplotlib"), SCORING: scoring, DRAWING: costs.PICTURE}


def _works(plan: Plan) -> list[Work]:
    """Return the work of each piece of :func:`_learn`, and of the report."""
    by_seed = [works_of(plan.strategies, chain_run) for chain_run in plan.chain_runs]
    works = [work for strategy in zip(*by_seed, strict=True) for work in strategy]
    return [*(costs.of_base(chain_run.base) for chain_run in plan.chain_runs), *works, _report_work(plan.chain_runs)]


def _learn(plan: Plan, chain_runs: Sequence[ChainRun]) -> dict[str, list[list[State]]]:
    """Return the states of each strategy's runs, which are learned one after the other where they are not there."""
    turns = in_turn(chain_runs[0].workspace.reporter, _works(plan))
    for chain_run in chain_runs:
        chain_run.reporting_to(next(turns)).first()
    learned = {
        name: [STRATEGIES[name].states(chain_run.reporting_to(next(turns))) for chain_run in chain_runs]
        for name in plan.strategies
    }
    next(turns)
    return learned


def _summary(runs: Sequence[Document], seeds: Sequence[int]) -> Document:
    return {
        measure: spread(
            [run[measure] for run in runs],
            seeds,
            worst=worst,
            possible=ACCURACIES if measure in _ACCURACIES else DIFFERENCES,
        )
        for measure, worst in MEASURES.items()
        if all(run[measure] is not None for run in runs)
    }


def _plain_rows(document: Document, every: DigitSet) -> list[Document]:
    """Return a row per strategy and accuracy, in the form that every report has."""
    digits = {"all": str(every), "old": document["old"], "new": document["new"]}
    return [
        {"what": strategy["title"], "digits": digits[key], "measure": "accuracy", "study": None, "difference": None,
         "here": measure["mean"]} | {key: measure[key] for key in ("n", "sd", "low", "high", "worst", "worst_seed")}
        for strategy in document["cures"]
        for key, measure in strategy["summary"].items()
        if key in digits
    ]  # fmt: skip
