"""The whole study in one stage, and a report of it beside the original's figures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_mnist_cli.evaluation import original_study
from lora_mnist_cli.evaluation.intervals import CONFIDENCE, prediction_interval
from lora_mnist_cli.evaluation.seeds import plus_minus, spread
from lora_mnist_cli.registry.artifact import Artifact, Parent, Settings
from lora_mnist_cli.settings.adapter_config import with_overrides
from lora_mnist_cli.settings.choices import METHODS
from lora_mnist_cli.settings.digits import ALL_DIGITS, DigitSet
from lora_mnist_cli.settings.lists import as_ranges, distinct
from lora_mnist_cli.settings.recipes import recipe
from lora_mnist_cli.stages.adapting import finetune, sweep
from lora_mnist_cli.stages.evaluating import evaluate
from lora_mnist_cli.stages.records.reports import publish_report
from lora_mnist_cli.stages.records.results import result_row
from lora_mnist_cli.stages.training_base import train_base
from lora_mnist_cli.stages.workspace import MAKE_ROOM, Workspace
from lora_mnist_cli.system.errors import DivergedError, OtherSettingsError, UsageError, refuse_unknown
from lora_mnist_cli.system.files import machine_errors

Details = dict[str, Any]

RANKS_FILE = "ranks.png"
STUDIES = ("lora", "forgetting")
ROUNDED = {"accuracy": 1e-4, "loss": 1e-3}
"""The last place of the study's figures."""

FULL_TITLE = METHODS["full"].title


def reproduce(
    *, study: str = "lora", seed: int | None = None, seeds: Sequence[int] | None = None, epochs: int | None = None,
    ceiling: bool = False, dataset: str = "mnist", workers: int | None = None, workspace: Workspace | None = None,
) -> Artifact:  # fmt: skip
    """Run the study: base on 0-4, seven ranks on 5-9, rank 64 on 0-9, alpha 0; then its table and its pictures.

    Whatever is up to date is taken as it is.

    Args:
        study: ``lora`` for this one, or ``forgetting`` for chains of tasks with every cure, by
            :func:`~lora_mnist_cli.stages.chains.study.study_forgetting`.
        seed: of the base and of every adapter; 0 by default.
        seeds: the whole study with each of these, a base of its own included. Each row then has the mean, its interval,
            the worst seed and the range that one more run would lie in, and says whether the study's run lies there.
        epochs: the recipe's by default; anything else is no reproduction, but a quick look at one.
        ceiling: full fine-tuning on 5-9 too, by the same recipe, which the study has not: a row more.
        dataset: on another one than MNIST the study has no figures to set beside ours.
        workers: of the study of forgetting, as :func:`~lora_mnist_cli.stages.chains.run.chain` has them.

    Returns:
        A report: a Markdown file with the table and the pictures; the table is in ``details["rows"]`` too.

    Raises:
        As the stages that it runs; OtherSettingsError where a name of theirs has other settings. UsageError where
        ``seeds`` has none, or one twice; or there is no such study, or it has no ceiling.
    """
    workspace = workspace or Workspace()
    refuse_unknown("study", study, STUDIES, "studies:")
    if study == "forgetting":
        if ceiling:
            raise UsageError("the study of forgetting has its ceiling, joint training, in any case", value=ceiling)
        from lora_mnist_cli.stages.chains.study import SEEDS, study_forgetting

        chosen = seeds if seeds is not None else SEEDS if seed is None else (seed,)
        return study_forgetting(chosen, epochs=epochs, dataset=dataset, workers=workers, workspace=workspace)
    if workers is not None:
        raise UsageError("this study has no workers: its adapters are trained together", value=workers)
    seed = seed or 0
    if seeds is not None:
        distinct("seeds", seeds)
        if len(seeds) > 1:
            return _reproduce_seeds(seeds, epochs, ceiling, dataset, workspace)
        (seed,) = seeds
    with _making_room():
        run = _train(seed, epochs, ceiling, dataset, workspace)
        config = {"seed": seed, "epochs": run.epochs} | _asked(ceiling)
        settings = Settings("report", config, run.base.settings.dataset, run.inputs)

        def write(folder: Path) -> tuple[str, Details]:
            rows, same = _rows(workspace, run)
            pictures = _pictures(workspace, run, folder)
            text = _markdown(rows, same, pictures, seed, run)
            return text, {"rows": rows, "alpha_0_equals_base_bit_for_bit": same}

        return publish_report(workspace, _name(ceiling, dataset) + _suffix(seed), settings, write)


@contextmanager
def _making_room() -> Iterator[None]:
    """A name that has other settings is refused with what helps a report, whose parts have no names to choose."""
    try:
        yield
    except OtherSettingsError as error:
        raise OtherSettingsError(error.problem, hint=MAKE_ROOM, value=error.value) from error


@dataclass(frozen=True)
class _Run:
    """What the study trains with one seed."""

    base: Artifact
    ranks: Artifact
    all_digits: Artifact
    full: Artifact | None

    @property
    def inputs(self) -> tuple[Parent, ...]:
        known = (self.base, self.ranks, self.all_digits, self.full)
        return tuple(Parent("input", artifact.name, artifact.digest) for artifact in known if artifact)

    @property
    def dataset(self) -> str:
        return self.base.dataset

    @property
    def epochs(self) -> int:
        return int(self.base.config["epochs"])


def _suffix(seed: int) -> str:
    return f"-s{seed}" if seed else ""


def _name(ceiling: bool, dataset: str) -> str:
    name = "study-ceiling" if ceiling else "study"
    return name if dataset == "mnist" else f"{name}-{dataset}"


def _asked(ceiling: bool) -> dict[str, Any]:
    """What a report's settings say of a row that most have not."""
    return {"ceiling": True} if ceiling else {}


def _train(seed: int, epochs: int | None, ceiling: bool, dataset: str, workspace: Workspace) -> _Run:
    reference = recipe("reference")
    base_config = with_overrides(reference.base, seed=seed, epochs=epochs, dataset=dataset)
    adapter_config = with_overrides(reference.adapter, seed=seed, epochs=epochs, digits=original_study.NEW_DIGITS)
    all_config = with_overrides(adapter_config, digits=ALL_DIGITS, rank=original_study.ALL_DIGITS_RANK)
    base = train_base(base_config, workspace=workspace)
    ranks = sweep(
        original_study.RANKS, seeds=[seed], config=adapter_config, base=base.name, workspace=workspace,
        name=f"{_name(False, dataset)}-{original_study.NEW_DIGITS}{_suffix(seed)}",
    )  # fmt: skip
    if failed := [row for row in ranks.details["results"] if row.get("failed")]:
        raise DivergedError(f"'{failed[0]['artifact']}' diverged: {failed[0]['failed']}")
    all_digits = finetune(all_config, base=base.name, workspace=workspace)
    full_config = with_overrides(adapter_config, method="full")
    full = finetune(full_config, base=base.name, workspace=workspace) if ceiling else None
    return _Run(base, ranks, all_digits, full)


def _reproduce_seeds(
    seeds: Sequence[int], epochs: int | None, ceiling: bool, dataset: str, workspace: Workspace
) -> Artifact:
    with _making_room():
        runs = [_train(seed, epochs, ceiling, dataset, workspace) for seed in seeds]
        inputs = tuple(parent for run in runs for parent in run.inputs)
        config = {"seeds": list(seeds), "epochs": runs[0].epochs} | _asked(ceiling)
        settings = Settings("report", config, runs[0].base.settings.dataset, inputs)

        def write(folder: Path) -> tuple[str, Details]:
            tables, same = zip(*(_rows(workspace, run) for run in runs), strict=True)
            rows = [over_seeds(figures, seeds) for figures in zip(*tables, strict=True)]
            with machine_errors(f"can't write {RANKS_FILE}"):
                _ranks_picture(runs, folder / RANKS_FILE)
            text = _seeds_markdown(rows, all(same), seeds, runs[0])
            return text, {"rows": rows, "confidence": CONFIDENCE, "alpha_0_equals_base_bit_for_bit": all(same)}

        return publish_report(workspace, f"{_name(ceiling, dataset)}-seeds-{as_ranges(seeds)}", settings, write)


def over_seeds(figures: Sequence[dict[str, Any]], seeds: Sequence[int]) -> dict[str, Any]:
    """A row of the study over several seeds: ``here`` is the mean.

    Its ``evaluation.seeds.spread`` is beside it, and ``prediction_low`` and ``prediction_high``: the range in
    which one more run of ours would lie. ``agrees`` says whether the study's one run does. That, and not the interval
    of the mean, is what a single run can be held against.
    """
    first = figures[0]
    here = [figure["here"] for figure in figures]
    known = spread(here, seeds, worst=min if first["measure"] == "accuracy" else max)
    row = {key: first[key] for key in ("what", "digits", "measure", "study")}
    row |= {"here": known["mean"], "difference": None, "prediction_low": None, "prediction_high": None, "agrees": None}
    if known["n"] == len(seeds):
        interval = prediction_interval(here)
        highest = 1.0 if first["measure"] == "accuracy" else math.inf
        low, high = max(0.0, interval.low), min(highest, interval.high)
        # The study's figures are rounded to their last place.
        half = ROUNDED[first["measure"]] / 2 + 1e-12
        row |= {"prediction_low": low, "prediction_high": high}
        if first["study"] is not None:
            row["difference"] = known["mean"] - first["study"]
            row["agrees"] = low - half <= first["study"] <= high + half
    return row | {key: known[key] for key in ("n", "sd", "low", "high", "worst", "worst_seed")}


def _rows(workspace: Workspace, run: _Run) -> tuple[list[dict[str, Any]], bool]:
    """The table, a row a figure of the study; and whether alpha 0 gave the base's logits bit for bit."""
    base, ranks, all_digits = run.base, run.ranks, run.all_digits
    old, new = str(original_study.BASE_DIGITS), str(original_study.NEW_DIGITS)
    rows = []

    def add(what: str, digits: str, measure: str, studied: float | None, here: float | None) -> None:
        published = studied if run.dataset == "mnist" else None
        difference = None if here is None or published is None else here - published
        rows.append(
            {
                "what": what,
                "digits": digits,
                "measure": measure,
                "study": published,
                "here": here,
                "difference": difference,
            }
        )

    for digits in (old, new):
        score = _subset(base.scores, digits)
        add("base", digits, "accuracy", original_study.BASE_ACCURACY[digits], score["accuracy"])
        add("base", digits, "loss", original_study.BASE_LOSS[digits], score["loss"])
    results = ranks.details["results"]
    for result in results:
        accuracy = _subset(result, new)["accuracy"]
        add(
            f"LoRA 5-9, rank {result['rank']}",
            new,
            "accuracy",
            original_study.ADAPTER_ACCURACY[result["rank"]],
            accuracy,
        )
    if run.full is not None:
        add(f"{METHODS['full'].title} {new}", new, "accuracy", None, _subset(run.full.scores, new)["accuracy"])
    kept = max(_subset(result, old)["accuracy"] for result in results)
    add("LoRA 5-9, any rank (highest)", old, "accuracy", original_study.OLD_DIGITS_AFTER, kept)
    last = results[-1]["artifact"]
    (bare,) = evaluate(last, alphas=[0.0], workspace=workspace)
    accuracy = _subset(bare.scores, old)["accuracy"]
    add(f"LoRA 5-9, rank {results[-1]['rank']}, alpha 0", old, "accuracy", original_study.BASE_ACCURACY[old], accuracy)
    accuracy = _subset(all_digits.scores, str(ALL_DIGITS))["accuracy"]
    add(
        f"LoRA 0-9, rank {original_study.ALL_DIGITS_RANK}",
        str(ALL_DIGITS),
        "accuracy",
        original_study.ALL_DIGITS_ACCURACY,
        accuracy,
    )
    return rows, _same_logits(workspace, base, workspace.registry.get(last))


def _same_logits(workspace: Workspace, base: Artifact, adapter: Artifact) -> bool:
    """Whether the adapter at alpha 0 gives the base's logits on all test images, bit for bit."""
    import torch

    from lora_mnist_cli.evaluation.logits import predict
    from lora_mnist_cli.models.lora import set_alpha
    from lora_mnist_cli.stages.records.loading import load_model

    plain, adapted = load_model(workspace.registry, base), load_model(workspace.registry, adapter)
    set_alpha(adapted.model, 0.0)
    images = workspace.test_images(base, plain.pixel_stats).images
    return torch.equal(predict(plain.model, images), predict(adapted.model, images))


def _subset(scores: dict[str, Any], digits: str) -> dict[str, Any]:
    return next(row for row in scores["subsets"] if row["digits"] == digits)


def _pictures(workspace: Workspace, run: _Run, folder: Path) -> list[tuple[str, str]]:
    """Draw every picture into a folder; returns caption and file name of each."""
    from lora_mnist_cli.stages.plotting import PlotOptions, plot

    base, ranks, all_digits = run.base, run.ranks, run.all_digits
    beside = (run.full.name,) if run.full else ()
    old, new = original_study.BASE_DIGITS, original_study.NEW_DIGITS
    highest = ranks.details["results"][-1]["artifact"]
    wanted: list[tuple[str, str, str, DigitSet | None]] = [
        ("Accuracy by rank", "ranks", ranks.name, None),
        ("Old and new digits as alpha grows", "alpha", highest, None),
        ("The base on the digits that it learned", "predictions", base.name, old),
        ("The base on the digits that it never saw", "predictions", base.name, new),
        ("The adapter on the digits that it learned", "predictions", highest, new),
        ("The adapter on the base's digits: forgotten", "predictions", highest, old),
        ("The adapter that learned all ten digits", "predictions", all_digits.name, ALL_DIGITS),
        ("What the base takes for what", "confusion", base.name, None),
        ("What the adapter on 5-9 takes for what", "confusion", highest, None),
        ("What the adapter on 0-9 takes for what", "confusion", all_digits.name, None),
        ("The base's training", "history", base.name, None),
        ("The adapter's training", "history", highest, None),
    ]
    pictures = []
    for caption, kind, name, digits in wanted:
        file = f"{kind}-{name}{f'-on-{digits}' if digits else ''}.png"
        options = PlotOptions(digits=digits, beside=beside if kind == "ranks" else ())
        plot(kind, name, output=folder / file, options=options, workspace=workspace)
        pictures.append((caption, file))
    return pictures


def _ranks_picture(runs: Sequence[_Run], path: Path) -> None:
    """The ranks of all seeds in one picture."""
    from lora_mnist_cli.plots import ranks, style

    results = [result for run in runs for result in run.ranks.details["results"]]
    dataset = runs[0].dataset
    full = [result_row(run.full) for run in runs if run.full]
    figure = ranks.draw(
        results, base_digits=str(original_study.BASE_DIGITS), new_digits=str(original_study.NEW_DIGITS),
        study=original_study.ADAPTER_ACCURACY if dataset == "mnist" else {},
        ceilings={FULL_TITLE: full} if full else {},
        title=f"The study{_on(dataset)} with {len(runs)} seeds, each on a base of its own: accuracy by rank",
    )  # fmt: skip
    style.save(figure, path)


def figure(row: dict[str, Any], value: float | None, sign: str = "") -> str:
    """One figure of a row with its unit; a dash where there is none."""
    if value is None:
        return "–"
    return f"{100 * value:{sign}.2f} %" if row["measure"] == "accuracy" else f"{value:{sign}.3f}"


def _on(dataset: str) -> str:
    return "" if dataset == "mnist" else f" on {dataset}"


def heading(dataset: str) -> str:
    """What a report is called."""
    return "The study, and its repetition here" if dataset == "mnist" else f"The study{_on(dataset)}"


def report_table(rows: Sequence[dict[str, Any]]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """A report's rows as text, with their columns: what, measure, figures. What is the study's is there if it has any.

    With several seeds, a row has the mean with half its interval, the range of one run, and the worst seed.
    """
    several = "n" in rows[0]
    columns = _SEEDS_COLUMNS if several else _COLUMNS
    cells = [_seeds_cells(row) if several else _cells(row) for row in rows]
    if all(row["study"] is None for row in rows):
        kept = [place for place, column in enumerate(columns) if "study" not in column and column != "difference"]
        return tuple(columns[place] for place in kept), [tuple(each[place] for place in kept) for each in cells]
    return columns, cells


_COLUMNS = ("what", "measure", "study", "here", "difference")
_SEEDS_COLUMNS = ("what", "measure", "study", "ours: mean ± 95 %", "one run of ours", "worst (seed)", "study's run is")


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    difference = figure(row, row["difference"], "+").replace("%", "points")
    measure = f"{row['measure']} on {row['digits']}"
    return row["what"], measure, figure(row, row["study"]), figure(row, row["here"]), difference


def _seeds_cells(row: dict[str, Any]) -> tuple[str, ...]:
    def bare(value: float | None) -> str:
        return figure(row, value).removesuffix(" %")

    mean = plus_minus(row["here"], row["low"], row["high"], bare)
    verdict = {True: "in range", False: "OUT OF RANGE", None: "–"}[row["agrees"]]
    return (
        row["what"], f"{row['measure']} on {row['digits']}", figure(row, row["study"]), mean,
        f"{bare(row['prediction_low'])} to {bare(row['prediction_high'])}",
        f"{bare(row['worst'])} ({row['worst_seed']})", verdict,
    )  # fmt: skip


def told(rows: Sequence[dict[str, Any]], epochs: int) -> list[str]:
    """What the verdicts of a table over seeds come to, in sentences."""
    if all(row["study"] is None for row in rows):
        return []
    compared = [row for row in rows if row["study"] is not None]
    agreeing = sum(row["agrees"] is True for row in compared)
    lines = [
        f"In {agreeing} of {len(compared)} rows the study's one run lies in the range that one run of ours would show: "
        f"the {100 * CONFIDENCE:g} % prediction interval. By chance alone, one row in twenty would lie outside."
    ]
    if epochs != recipe("reference").base.epochs:
        lines.append(f"The study trains for {recipe('reference').base.epochs} epochs, and these runs for {epochs}.")
    return lines


def _table_lines(rows: Sequence[dict[str, Any]]) -> list[str]:
    columns, cells = report_table(rows)
    text = ("what", "measure", _SEEDS_COLUMNS[-1])
    rule = "|".join("---" if column in text else "---:" for column in columns)
    return [f"| {' | '.join(columns)} |", f"|{rule}|", *(f"| {' | '.join(each)} |" for each in cells)]


def _markdown(rows: list[dict[str, Any]], same: bool, pictures: list[tuple[str, str]], seed: int, run: _Run) -> str:
    one = f"One run with seed {seed} and {run.epochs} epoch{'' if run.epochs == 1 else 's'}"
    if run.dataset == "mnist":
        first = f"{one} beside the study's one run. Neither column has a spread: single runs differ, most at low ranks."
    else:
        first = f"{one}{_on(run.dataset)}, by the study's recipe, of which the study has no figures."
    lines = [f"# {heading(run.dataset)}", "", first, "", *_table_lines(rows)]
    verdict = "equal the base's bit for bit" if same else "DIFFER from the base's"
    lines += ["", f"At alpha 0 the adapter's logits on all test images {verdict}.", ""]
    for caption, file in pictures:
        lines += [f"## {caption}", "", f"![{caption}]({file})", ""]
    return "\n".join(lines)


def _seeds_markdown(rows: list[dict[str, Any]], same: bool, seeds: Sequence[int], run: _Run) -> str:
    beside = ", beside the study's one run" if run.dataset == "mnist" else f"{_on(run.dataset)}, by the study's recipe"
    held = ": the study's run is held against that" if run.dataset == "mnist" else ""
    lines = [
        f"# {heading(run.dataset)}",
        "",
        f"{len(seeds)} runs with seeds {as_ranges(seeds)}, each with a base of its own, and {run.epochs} "
        f"epoch{'' if run.epochs == 1 else 's'}{beside}. ± is half the 95 % interval of our mean; "
        f"“one run of ours” is the range in which one more run would lie{held}.",
        "",
        *_table_lines(rows),
    ]
    verdict = "equal the base's bit for bit" if same else "DIFFER from the base's"
    lines += ["", *(line for sentence in told(rows, run.epochs) for line in (sentence, ""))]
    lines += [f"At alpha 0 the adapters' logits on all test images {verdict}.", ""]
    lines += ["## Accuracy by rank", "", f"![Accuracy by rank]({RANKS_FILE})", ""]
    return "\n".join(lines)
