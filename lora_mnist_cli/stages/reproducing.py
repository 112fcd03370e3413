"""The whole study in one stage, and a report of it beside the original's figures."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lora_mnist_cli.evaluation import original_study
from lora_mnist_cli.evaluation.intervals import CONFIDENCE
from lora_mnist_cli.registry.artifact import Artifact, Parent, Settings
from lora_mnist_cli.settings.adapter_config import AdapterConfig, with_overrides
from lora_mnist_cli.settings.choices import METHODS
from lora_mnist_cli.settings.config import BaseConfig
from lora_mnist_cli.settings.digits import ALL_DIGITS, DigitSet
from lora_mnist_cli.settings.lists import as_ranges, distinct
from lora_mnist_cli.settings.own_data import halves
from lora_mnist_cli.settings.recipes import recipe
from lora_mnist_cli.stages import costs, plotting
from lora_mnist_cli.stages.adapting import finetune_part, sweep
from lora_mnist_cli.stages.evaluating import evaluate
from lora_mnist_cli.stages.exploring import PAGE_FILE, explore
from lora_mnist_cli.stages.records.datasets import digits_of, named_dataset
from lora_mnist_cli.stages.records.publishing import publish_report
from lora_mnist_cli.stages.records.results import result_row
from lora_mnist_cli.stages.study_report import Row, markdown, on_dataset, over_seeds
from lora_mnist_cli.stages.training_base import train_base
from lora_mnist_cli.stages.workspace import Workspace, advising
from lora_mnist_cli.system.caller import stage
from lora_mnist_cli.system.errors import DivergedError, UsageError, refuse_unknown
from lora_mnist_cli.system.progress import Inside, Reporter, Work
from lora_mnist_cli.system.work import SCORING, in_turn

STUDIES = ("lora", "forgetting", "papers")
RANKS_FILE = "ranks.png"
PAGE = "making the page"
PICTURES, _PICTURES = "pictures", 12
"""The phase that draws, and how many pictures a report of one run has."""
FULL_TITLE = METHODS["full"].title


@stage
def reproduce(
    *, study: str = "lora", seed: int | None = None, seeds: Sequence[int] | None = None, epochs: int | None = None,
    ceiling: bool = False, dataset: str | Path = "mnist", workers: int | None = None,
    workspace: Workspace | None = None, baselines: bool = False, claims: Sequence[str] | None = None,
) -> Artifact:  # fmt: skip
    """Run the study: base on 0-4, seven ranks on 5-9, rank 64 on 0-9, alpha 0; then its table, pictures and page.

    Artifacts that are up to date are used as they are.

    Args:
        study: ``lora`` for this one; ``forgetting`` for chains of tasks with every strategy, by
            :func:`~lora_mnist_cli.stages.chains.study.study_forgetting`; ``papers`` for claims of papers, by
            :func:`~lora_mnist_cli.stages.papers.study.study_papers`.
        seed: of the base and of every adapter; 0 by default.
        seeds: run the whole study with each of these, on a base per seed. Each row then has the mean, its interval, the
            worst seed and the range that one more run would lie in, and says whether the study's run lies there.
        epochs: the recipe's by default; with any other number this is no reproduction, but a quick look at one.
        ceiling: add full fine-tuning on 5-9 by the same recipe, a row that the study does not have.
        dataset: a name, or the path of a user's own, as :func:`~lora_mnist_cli.stages.training_base.train_base` has it;
            a half of its classes takes the place of 0-4. The study has figures for MNIST only.
        workers: processes of the other studies.
        baselines: of the study of forgetting, as :func:`~lora_mnist_cli.stages.chains.run.chain` has them.
        claims: those of the study of papers that are tried; all by default.

    Returns:
        A report: a Markdown file with the table and the pictures, and the page to explore the ranks (of the first
        seed); the table is in ``details["rows"]`` too.

    Raises:
        As the stages that it runs; OtherSettingsError where a name of theirs has other settings. UsageError where
        ``seeds`` is empty or has a seed twice, there is no such study, or an option means nothing to it.
    """
    workspace = workspace or Workspace()
    refuse_unknown("study", study, STUDIES, "studies:")
    _refuse_options_of_others(study, ceiling=ceiling, baselines=baselines, claims=claims, workers=workers)
    if study == "papers":
        from lora_mnist_cli.stages.papers import study as papers

        chosen = seeds if seeds is not None else papers.SEEDS if seed is None else (seed,)
        return papers.study_papers(
            chosen, claims=claims, epochs=epochs, dataset=dataset, workers=workers, workspace=workspace
        )
    if study == "forgetting":
        from lora_mnist_cli.stages.chains.study import SEEDS, study_forgetting

        chosen = seeds if seeds is not None else SEEDS if seed is None else (seed,)
        return study_forgetting(
            chosen, epochs=epochs, dataset=dataset, workers=workers, workspace=workspace, baselines=baselines
        )
    seeds = [seed or 0] if seeds is None else seeds
    distinct("seeds", seeds)
    start = time.perf_counter()
    dataset = named_dataset(workspace, dataset)
    with advising():  # the parts of a report have no names to choose
        every = digits_of(workspace, dataset)
        trainings = [_trainings(seed, epochs, ceiling, dataset, every) for seed in seeds]
        turns = in_turn(
            workspace.reporter, [work for each in trainings for work in each.works()] + [_report_work(seeds)]
        )
        runs = [_train(each, workspace, turns) for each in trainings]
        next(turns)
        return _report(runs, seeds, ceiling, workspace, start)


def _refuse_options_of_others(
    study: str, *, ceiling: bool, baselines: bool, claims: Sequence[str] | None, workers: int | None
) -> None:
    """Refuse options that mean something to other studies alone, by a UsageError."""
    if ceiling and study != "lora":
        raise UsageError("--ceiling is for the study of ranks; the others train the whole network too", value=ceiling)
    if baselines and study != "forgetting":
        raise UsageError("this study has no baselines: they are of --study forgetting", value=baselines)
    if claims is not None and study != "papers":
        raise UsageError("claims are those of --study papers", value=list(claims))
    if workers is not None and study == "lora":
        raise UsageError("this study has no workers: its adapters are trained together", value=workers)


@dataclass(frozen=True)
class StudyRun:
    """The artifacts that the study trains with one seed."""

    base: Artifact
    ranks: Artifact
    all_digits: Artifact
    full: Artifact | None

    @property
    def sets(self) -> tuple[DigitSet, DigitSet, DigitSet]:
        """The digits of the base, those of the ranks, and all: 0-4, 5-9 and 0-9 where there are ten classes."""
        return (*halves(self.base.known_digits), self.base.known_digits)

    @property
    def inputs(self) -> tuple[Parent, ...]:
        """The artifacts as parents of a report."""
        artifacts = (self.base, self.ranks, self.all_digits, self.full)
        return tuple(Parent("input", artifact.name, artifact.digest) for artifact in artifacts if artifact)

    @property
    def highest(self) -> Row:
        """The result of the highest rank."""
        return dict(self.ranks.details["results"][-1])


def _study_name(dataset: str, seeds: Sequence[int], *, ceiling: bool = False, digits: str = "") -> str:
    seeded = f"seeds-{as_ranges(seeds)}" if len(seeds) > 1 else f"s{seeds[0]}" if seeds[0] else ""
    words = ("study", "ceiling" if ceiling else "", "" if dataset == "mnist" else dataset, digits, seeded)
    return "-".join(filter(None, words))


@dataclass(frozen=True)
class Trainings:
    """How the study trains with one seed: the base, its ranks, all digits, and the ceiling where it is wanted."""

    base: BaseConfig
    ranks: AdapterConfig
    all_digits: AdapterConfig
    full: AdapterConfig | None

    def works(self) -> list[Work]:
        """Return about how much work each of them is."""
        banks = [[replace(self.ranks, rank=rank) for rank in original_study.RANKS], [self.all_digits]]
        banks += [[self.full]] if self.full else []
        return [costs.of_base(self.base), *(costs.of_bank(bank, self.base.digits) for bank in banks)]


def _trainings(seed: int, epochs: int | None, ceiling: bool, dataset: str, known: DigitSet) -> Trainings:
    reference, (old, new) = recipe("reference"), halves(known)
    base = with_overrides(reference.base, seed=seed, epochs=epochs, dataset=dataset, digits=old)
    ranks = with_overrides(reference.adapter, seed=seed, epochs=epochs, digits=new)
    all_digits = with_overrides(ranks, digits=known, rank=original_study.ALL_DIGITS_RANK)
    return Trainings(base, ranks, all_digits, with_overrides(ranks, method="full") if ceiling else None)


def _train(trainings: Trainings, workspace: Workspace, turns: Iterator[Reporter]) -> StudyRun:
    def turn() -> Workspace:
        return replace(workspace, reporter=next(turns))

    base, seed = train_base(trainings.base, workspace=turn()), trainings.base.seed
    ranks = sweep(
        original_study.RANKS, seeds=[seed], config=trainings.ranks, base=base.name, workspace=turn(),
        name=_study_name(base.dataset, [seed], digits=str(trainings.ranks.digits)),
    )  # fmt: skip
    if failed := [row for row in ranks.details["results"] if row.get("failed")]:
        raise DivergedError(f"'{failed[0]['artifact']}' diverged: {failed[0]['failed']}")
    all_digits = finetune_part(trainings.all_digits, base=base.name, workspace=turn())
    full = finetune_part(trainings.full, base=base.name, workspace=turn()) if trainings.full else None
    return StudyRun(base, ranks, all_digits, full)


def _report_work(seeds: Sequence[int]) -> Work:
    """Return about how much work the report is: scores at alpha 0 of each run, the pictures and the page."""
    return {
        SCORING: 4 * costs.SCORING_ONE * len(seeds), PICTURES: costs.PICTURE * (1 if len(seeds) > 1 else _PICTURES),
        PAGE: len(original_study.RANKS) * costs.PAGE_OF_ADAPTER,
    }  # fmt: skip


def _report(
    runs: Sequence[StudyRun], seeds: Sequence[int], ceiling: bool, workspace: Workspace, start: float
) -> Artifact:
    """Publish the table and the pictures of one run, or of several."""
    first, several = runs[0].base, len(runs) > 1
    epochs, dataset = int(first.config["epochs"]), first.dataset
    config: dict[str, Any] = {"seeds": list(seeds)} if several else {"seed": seeds[0]}
    config |= {"epochs": epochs} | ({"ceiling": True} if ceiling else {})
    inputs = tuple(parent for run in runs for parent in run.inputs)

    def write(folder: Path) -> tuple[str, dict[str, Any]]:
        workspace.reporter.phase(SCORING, 4 * costs.SCORING_ONE * len(seeds))
        inside = replace(workspace, reporter=Inside(workspace.reporter))
        tables = [_rows(inside, run) for run in runs]
        same = all(_same_logits(workspace, run) for run in runs)
        rows = [over_seeds(figures, seeds) for figures in zip(*tables, strict=True)] if several else tables[0]
        pictures = _ranks_picture(workspace, runs, folder) if several else _pictures(workspace, runs[0], folder)
        workspace.reporter.phase(PAGE, _report_work(seeds)[PAGE])
        explore([runs[0].ranks.name], output=folder / PAGE_FILE, workspace=inside)
        text = markdown(rows, pictures=pictures, page=PAGE_FILE, same=same, seeds=seeds, epochs=epochs, dataset=dataset)
        confidence = {"confidence": CONFIDENCE} if several else {}
        return text, {"rows": rows, **confidence, "alpha_0_equals_base_bit_for_bit": same}

    settings = Settings("report", config, first.settings.dataset, inputs)
    return publish_report(workspace, _study_name(dataset, seeds, ceiling=ceiling), settings, write, start)


def _rows(workspace: Workspace, run: StudyRun) -> list[Row]:
    """Return the table of one run, a row per figure of the study."""
    old, new, every = map(str, run.sets)

    def row(what: str, digits: str, study: float | None, scores: Row, measure: str = "accuracy") -> Row:
        here = _subset(scores, digits)[measure]
        study = study if run.base.dataset == "mnist" else None
        named = {"what": what, "digits": digits, "measure": measure, "study": study, "here": here}
        return named | {"difference": None if here is None or study is None else here - study}

    rows = []
    for digits in (old, new):
        rows.append(row("base", digits, original_study.BASE_ACCURACY.get(digits), run.base.scores))
        rows.append(row("base", digits, original_study.BASE_LOSS.get(digits), run.base.scores, "loss"))
    results, all_rank = run.ranks.details["results"], original_study.ALL_DIGITS_RANK
    for result in results:
        rank = result["rank"]
        rows.append(row(f"LoRA {new}, rank {rank}", new, original_study.ADAPTER_ACCURACY[rank], result))
    if run.full is not None:
        rows.append(row(f"{FULL_TITLE} {new}", new, None, run.full.scores))
    keeps_most = max(results, key=lambda result: _subset(result, old)["accuracy"])
    rows.append(row(f"LoRA {new}, any rank (highest)", old, original_study.OLD_DIGITS_AFTER, keeps_most))
    (bare,) = evaluate(run.highest["artifact"], alphas=[0.0], workspace=workspace)
    bare_title, all_title = f"LoRA {new}, rank {run.highest['rank']}, alpha 0", f"LoRA {every}, rank {all_rank}"
    rows.append(row(bare_title, old, original_study.BASE_ACCURACY.get(old), bare.scores))
    rows.append(row(all_title, every, original_study.ALL_DIGITS_ACCURACY, run.all_digits.scores))
    return rows


def _same_logits(workspace: Workspace, run: StudyRun) -> bool:
    """Tell whether the highest rank at alpha 0 gives the base's logits on all test images, bit for bit."""
    import torch

    from lora_mnist_cli.evaluation.logits import predict
    from lora_mnist_cli.models.lora import set_alpha
    from lora_mnist_cli.stages.records.loading import load_model

    adapter = workspace.registry.get(run.highest["artifact"])
    plain, adapted = load_model(workspace.registry, run.base), load_model(workspace.registry, adapter)
    set_alpha(adapted.model, 0.0)
    images = workspace.test_images(run.base, plain.pixel_stats).images
    return torch.equal(predict(plain.model, images), predict(adapted.model, images))


def _subset(scores: dict[str, Any], digits: str) -> dict[str, Any]:
    return next(row for row in scores["subsets"] if row["digits"] == digits)


def _pictures(workspace: Workspace, run: StudyRun, folder: Path) -> list[tuple[str, str]]:
    """Draw every picture of one run into a folder; return caption and file name of each."""
    base, all_digits, highest = run.base.name, run.all_digits.name, run.highest["artifact"]
    old, new, every = run.sets
    count = "ten" if every == ALL_DIGITS else len(every)
    wanted: list[tuple[str, str, str, DigitSet | None]] = [
        ("Accuracy by rank", "ranks", run.ranks.name, None),
        ("Old and new digits as alpha grows", "alpha", highest, None),
        ("The base on the digits that it learned", "predictions", base, old),
        ("The base on the digits that it never saw", "predictions", base, new),
        ("The adapter on the digits that it learned", "predictions", highest, new),
        ("The adapter on the base's digits", "predictions", highest, old),
        (f"The adapter that learned all {count} digits", "predictions", all_digits, every),
        ("Confusion matrix of the base", "confusion", base, None),
        (f"Confusion matrix of the adapter on {new}", "confusion", highest, None),
        (f"Confusion matrix of the adapter on {every}", "confusion", all_digits, None),
        ("The base's training", "history", base, None),
        ("The adapter's training", "history", highest, None),
    ]
    assert len(wanted) == _PICTURES
    pictures, inside = [], replace(workspace, reporter=Inside(workspace.reporter))
    for number, (caption, kind, name, digits) in enumerate(wanted, start=1):
        workspace.reporter.phase(PICTURES, costs.PICTURE, f"{number}/{_PICTURES}")
        file = f"{kind}-{name}{f'-on-{digits}' if digits else ''}.png"
        beside = (run.full.name,) if run.full and kind == "ranks" else ()
        options = plotting.PlotOptions(digits=digits, beside=beside)
        plotting.plot(kind, name, output=folder / file, options=options, workspace=inside)
        pictures.append((caption, file))
    return pictures


def _ranks_picture(workspace: Workspace, runs: Sequence[StudyRun], folder: Path) -> list[tuple[str, str]]:
    """Draw the ranks of all seeds into a folder; return caption and file name."""
    from lora_mnist_cli.plots import ranks, style

    dataset, (old, new, _) = runs[0].base.dataset, runs[0].sets
    workspace.reporter.phase(PICTURES, costs.PICTURE)
    full = [result_row(run.full) for run in runs if run.full]
    figure = ranks.draw(
        [result for run in runs for result in run.ranks.details["results"]],
        base_digits=str(old), new_digits=str(new),
        study=original_study.ADAPTER_ACCURACY if dataset == "mnist" else {},
        ceilings={FULL_TITLE: full} if full else {},
        bases=[_subset(run.base.scores, str(old))["accuracy"] for run in runs],
        title=f"The study{on_dataset(dataset)} with {len(runs)} seeds: test accuracy by rank",
        subtitle="each seed has a base of its own; reference recipe",
    )  # fmt: skip
    style.save(figure, folder / RANKS_FILE)
    return [("Accuracy by rank", RANKS_FILE)]
