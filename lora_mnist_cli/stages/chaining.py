"""Chains of tasks, class-incremental: each cure side by side, over several seeds, in a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lora_mnist_cli.artifact import Artifact, Parent, Settings, check_name
from lora_mnist_cli.config import DATASETS, with_overrides
from lora_mnist_cli.digits import DigitSet
from lora_mnist_cli.errors import DataError, OtherSettingsError, UsageError, refuse_unknown
from lora_mnist_cli.lists import folded
from lora_mnist_cli.published import published
from lora_mnist_cli.recipes import recipe
from lora_mnist_cli.scores import subset_scores
from lora_mnist_cli.stages.abreast import learn_abreast
from lora_mnist_cli.stages.cures import CURES, Course, State
from lora_mnist_cli.stages.reporting import publish_report
from lora_mnist_cli.stages.routing import evaluate_routed
from lora_mnist_cli.stages.workspace import MAKE_ROOM, Workspace
from lora_mnist_cli.statistics import CONFIDENCE
from lora_mnist_cli.summary import spread
from lora_mnist_cli.tasks import check_tasks, parse_tasks, written
from lora_mnist_cli.transfer import transfer

Document = dict[str, Any]

PICTURE_FILE = "cures.png"
RECIPE, RANK = "tuned", 64
"""By default. Both were chosen on validation images, of single tasks: docs/tuned-recipe.md has the search."""
MEASURES = {
    "all": min, "old": min, "new": min, "accuracy": min, "backward": min, "forward": min, "forgetting": max
}  # fmt: skip
"""Figure of a chain → which of two is the worse."""


def chain(
    tasks: str | Sequence[DigitSet] = "0-4,5-9", *, cures: Sequence[str] | None = None, seeds: Sequence[int] = (0,),
    recipe_name: str = RECIPE, rank: int = RANK, epochs: int | None = None, dataset: str = "mnist",
    workers: int = 1, name: str | None = None, workspace: Workspace | None = None,
) -> Artifact:  # fmt: skip
    """Learn tasks one after the other, by each cure and with each seed, and report what is left of them.

    Whatever is up to date is taken as it is. Each seed has networks of its own, from the first task on.

    Args:
        tasks: each digit is in exactly one; as a text, ``0-4,5-9``.
        cures: names of :data:`~lora_mnist_cli.stages.cures.CURES`; all by default.
        recipe_name: of bases and adapters; the whole network is always trained by the reference.
        rank: of the adapters.
        epochs: the recipe's by default.
        workers: processes that learn beside each other; with more than one, a script that calls this needs the usual
            ``if __name__ == "__main__"``.
        name: of the report, and what the names of its adapters begin with; by default it says tasks, recipe and rank.

    Returns:
        A report, with a Markdown file and a picture. Its ``details["chain"]`` has the ``tasks``, the ``published``
        figures, and ``cures``: for each its ``runs``, a seed each, with ``R``, ``untrained``, the measures of
        :class:`~lora_mnist_cli.transfer.Transfer`, the accuracies on ``all`` digits, the ``old`` and the ``new`` ones
        (those of the last task) and the ``artifacts`` that answer after each task; and ``summary``, with the
        :func:`~lora_mnist_cli.summary.spread` of each.

    Raises:
        UsageError: where tasks are no chain, or a cure, seed or data set is none or is given twice.
        OtherSettingsError: where a name has other settings.
        DataError: where the data set can't be had, or has no test images of a digit.
        DivergedError: where a loss stops being finite.
    """
    workspace = workspace or Workspace()
    tasks = parse_tasks(tasks) if isinstance(tasks, str) else check_tasks(tasks)
    cures = _distinct("cure", list(CURES) if cures is None else cures)
    for cure in cures:
        refuse_unknown("cure", cure, list(CURES), "cures:")
    cures = [cure for cure in CURES if cure in cures]
    _distinct("seed", seeds)
    refuse_unknown("data set", dataset, DATASETS, "data sets:")
    if workers < 1:
        raise UsageError(f"there is at least one worker, not {workers}", value=workers)
    chosen = recipe(recipe_name)
    base = with_overrides(chosen.base, digits=tasks[0], epochs=epochs, dataset=dataset)
    adapter = with_overrides(chosen.adapter, rank=rank, epochs=epochs)
    of = [dataset] if dataset != "mnist" else []
    prefix = check_name(name or "-".join(["chain", *of, "_".join(map(str, tasks)), recipe_name, f"r{rank}"]))
    courses = [
        Course(tasks, with_overrides(base, seed=seed), with_overrides(adapter, seed=seed), prefix, workspace)
        for seed in seeds
    ]
    try:
        if workers > 1:
            learn_abreast(courses, cures, workers)
        learned = {cure: [CURES[cure].states(course) for course in courses] for cure in cures}
        unique = {each.digest: each for runs in learned.values() for run in runs for state in run for each in state}
        config = {
            "tasks": written(tasks), "cures": cures, "seeds": list(seeds), "recipe": recipe_name, "rank": rank,
            "epochs": base.epochs,
        }  # fmt: skip
        parents = tuple(Parent("input", each.name, digest) for digest, each in unique.items())
        settings = Settings("report", config, workspace.dataset_settings(dataset), parents)
        report = name or "-".join([
            prefix, *([] if len(cures) == len(CURES) else cures), *([] if list(seeds) == [0] else [f"s{folded(seeds)}"])
        ])  # fmt: skip
        return _report(check_name(report), settings, courses, learned)
    except OtherSettingsError as error:
        raise OtherSettingsError(error.problem, hint=MAKE_ROOM, value=error.value) from error


def _report(
    name: str, settings: Settings, courses: Sequence[Course], learned: Mapping[str, Sequence[Sequence[State]]]
) -> Artifact:
    workspace, tasks = courses[0].workspace, courses[0].tasks

    def write(folder: Path) -> tuple[str, Document]:
        before = [_untrained(course) for course in courses]
        seeds = [course.base.seed for course in courses]
        rows = []
        for cure, by_seed in learned.items():
            runs = [
                {"seed": course.base.seed, **figures(states, tasks, untrained, workspace)}
                for course, states, untrained in zip(courses, by_seed, before, strict=True)
            ]
            rows.append({"cure": cure, "title": CURES[cure].title, "runs": runs, "summary": _summary(runs, seeds)})
        document: Document = {
            "tasks": [str(task) for task in tasks], "old": str(_old(tasks)), "new": str(tasks[-1]),
            "confidence": CONFIDENCE, "cures": rows, "published": published(tasks, settings.dataset["name"]),
        }  # fmt: skip
        from lora_mnist_cli.plots import cures as picture
        from lora_mnist_cli.plots import style
        from lora_mnist_cli.stages.chain_text import markdown

        n = len(seeds)
        title = f"{', then '.join(document['tasks'])}: old digits against new ones ({n} seed{'' if n == 1 else 's'})"
        style.save(picture.draw(document, title=title), folder / PICTURE_FILE)
        text = markdown(document, settings.config, PICTURE_FILE)
        return text, {"rows": _plain_rows(document), "chain": document}

    return publish_report(workspace, name, settings, write)


def figures(
    states: Sequence[State], tasks: Sequence[DigitSet], untrained: Sequence[float], workspace: Workspace
) -> Document:
    """What :func:`chain` says of one run.

    Args:
        states: what answers after each task; or a single one, which has no transfer.
        untrained: the accuracy on each task before the first.
    """
    scored = [_per_digit(state, workspace) for state in states]
    R = [[_accuracy(each, task) for task in tasks] for each in scored]
    told: Document = {"accuracy": sum(R[-1]) / len(tasks)} | dict.fromkeys(("backward", "forward", "forgetting"))
    told["so_far"] = None
    if len(R) == len(tasks):
        told = asdict(transfer(R, untrained))
        told["so_far"] = list(told["so_far"])
    every = DigitSet(digit for task in tasks for digit in task)
    return {
        "R": R, "untrained": list(untrained), **told,
        **{key: _accuracy(scored[-1], digits) for key, digits in (
            ("all", every), ("old", _old(tasks)), ("new", tasks[-1])
        )},
        "artifacts": [[each.name for each in state] for state in states],
    }  # fmt: skip


def _old(tasks: Sequence[DigitSet]) -> DigitSet:
    return DigitSet(digit for task in tasks[:-1] for digit in task)


def _per_digit(state: State, workspace: Workspace) -> list[Document]:
    """The scores on each digit's test images; a single network's are those it was published with."""
    if len(state) == 1:
        return list(state[0].scores["per_digit"])
    return list(evaluate_routed([each.name for each in state], workspace=workspace).scores["per_digit"])


def _accuracy(per_digit: Sequence[Document], digits: DigitSet) -> float:
    accuracy = subset_scores(per_digit, [digits])[0]["accuracy"]
    if accuracy is None:
        raise DataError(f"there are no test images of digits {digits}", value=str(digits))
    return float(accuracy)


def _untrained(course: Course) -> list[float]:
    """The accuracy on each task of the network as its first training finds it."""
    from lora_mnist_cli.evaluation import predict, scores
    from lora_mnist_cli.stages.models import untrained_base

    base = course.first()
    mean, std = base.details["pixel_stats"]
    test = course.workspace.test_images(base, (mean, std))
    per_digit = scores(predict(untrained_base(course.base), test.images), test.labels, [])["per_digit"]
    return [_accuracy(per_digit, task) for task in course.tasks]


def _summary(runs: Sequence[Document], seeds: Sequence[int]) -> Document:
    return {
        measure: spread([run[measure] for run in runs], seeds, worst=worst)
        for measure, worst in MEASURES.items()
        if all(run[measure] is not None for run in runs)
    }


def _plain_rows(document: Document) -> list[Document]:
    """A row a cure and accuracy, in the form that every report has."""
    digits = {"all": "0-9", "old": document["old"], "new": document["new"]}
    return [
        {"what": cure["title"], "digits": digits[key], "measure": "accuracy", "study": None, "difference": None,
         "here": known["mean"]} | {key: known[key] for key in ("n", "sd", "low", "high", "worst", "worst_seed")}
        for cure in document["cures"]
        for key, known in cure["summary"].items()
        if key in digits
    ]  # fmt: skip


def _distinct(what: str, values: Sequence[Any]) -> list[Any]:
    if not values or len(set(values)) != len(values):
        raise UsageError(f"each {what} is named once, and at least one: {list(values)}", value=list(values))
    return list(values)
