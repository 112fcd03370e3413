"""The whole study in one stage, and a report of it beside the original's figures."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from lora_mnist_cli import study
from lora_mnist_cli.artifact import Artifact, Parent, Settings
from lora_mnist_cli.config import recipe, with_overrides
from lora_mnist_cli.digits import ALL_DIGITS, DigitSet
from lora_mnist_cli.disk import machine_errors
from lora_mnist_cli.errors import DivergedError, OtherSettingsError
from lora_mnist_cli.stages.adapt import finetune, sweep
from lora_mnist_cli.stages.base import train_base
from lora_mnist_cli.stages.scoring import evaluate
from lora_mnist_cli.stages.workspace import MAKE_ROOM, Workspace, environment

REPORT_FILE = "report.md"


def reproduce(*, seed: int = 0, epochs: int | None = None, workspace: Workspace | None = None) -> Artifact:
    """Run the study: base on 0-4, seven ranks on 5-9, rank 64 on 0-9, alpha 0; then its table and its pictures.

    Whatever is up to date is taken as it is.

    Args:
        seed: of the base and of every adapter.
        epochs: the recipe's by default; anything else is no reproduction, but a quick look at one.

    Returns:
        A report: a Markdown file with the table and the pictures; the table is in ``details["rows"]`` too.

    Raises:
        As the stages that it runs; OtherSettingsError where a name of theirs has other settings.
    """
    workspace = workspace or Workspace()
    reference = recipe("reference")
    base_config = with_overrides(reference.base, seed=seed, epochs=epochs)
    adapter_config = with_overrides(reference.adapter, seed=seed, epochs=epochs, digits=study.NEW_DIGITS)
    all_config = with_overrides(adapter_config, digits=ALL_DIGITS, rank=study.ALL_DIGITS_RANK)
    suffix = f"-s{seed}" if seed else ""
    try:
        base = train_base(base_config, workspace=workspace)
        ranks = sweep(
            study.RANKS, seeds=[seed], config=adapter_config, base=base.name, workspace=workspace,
            name=f"study-{study.NEW_DIGITS}{suffix}",
        )  # fmt: skip
        if failed := [row for row in ranks.details["results"] if row.get("failed")]:
            raise DivergedError(f"'{failed[0]['artifact']}' diverged: {failed[0]['failed']}")
        all_digits = finetune(all_config, base=base.name, workspace=workspace)
        inputs = tuple(Parent("input", artifact.name, artifact.digest) for artifact in (base, ranks, all_digits))
        settings = Settings("report", {"seed": seed, "epochs": base_config.epochs}, base.settings.dataset, inputs)
        name = f"study{suffix}"
        if found := workspace.up_to_date(name, settings, force=False):
            return found
    except OtherSettingsError as error:
        raise OtherSettingsError(error.problem, hint=MAKE_ROOM, value=error.value) from error
    with workspace.registry.staging(name, settings.parents) as folder:
        start = time.perf_counter()
        rows, same = _rows(workspace, base, ranks, all_digits)
        pictures = _pictures(workspace, base, ranks, all_digits, folder)
        text = _markdown(rows, same, pictures, seed, base_config.epochs)
        with machine_errors(f"can't write {REPORT_FILE}"):
            (folder / REPORT_FILE).write_text(text, encoding="utf-8")
        return workspace.registry.publish(
            folder,
            settings,
            scores={},
            details={"rows": rows, "alpha_0_equals_base_bit_for_bit": same},
            environment=environment(),
            wall_seconds=time.perf_counter() - start,
        )


def _rows(
    workspace: Workspace, base: Artifact, ranks: Artifact, all_digits: Artifact
) -> tuple[list[dict[str, Any]], bool]:
    """The table, a row a figure of the study; and whether alpha 0 gave the base's logits bit for bit."""
    old, new = str(study.BASE_DIGITS), str(study.NEW_DIGITS)
    rows = []

    def add(what: str, digits: str, measure: str, published: float, here: float | None) -> None:
        difference = None if here is None else here - published
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
        add("base", digits, "accuracy", study.BASE_ACCURACY[digits], score["accuracy"])
        add("base", digits, "loss", study.BASE_LOSS[digits], score["loss"])
    results = ranks.details["results"]
    for result in results:
        accuracy = _subset(result, new)["accuracy"]
        add(f"LoRA 5-9, rank {result['rank']}", new, "accuracy", study.ADAPTER_ACCURACY[result["rank"]], accuracy)
    kept = max(_subset(result, old)["accuracy"] for result in results)
    add("LoRA 5-9, any rank (highest)", old, "accuracy", study.OLD_DIGITS_AFTER, kept)
    last = results[-1]["artifact"]
    (bare,) = evaluate(last, alphas=[0.0], workspace=workspace)
    accuracy = _subset(bare.scores, old)["accuracy"]
    add(f"LoRA 5-9, rank {results[-1]['rank']}, alpha 0", old, "accuracy", study.BASE_ACCURACY[old], accuracy)
    accuracy = _subset(all_digits.scores, str(ALL_DIGITS))["accuracy"]
    add(f"LoRA 0-9, rank {study.ALL_DIGITS_RANK}", str(ALL_DIGITS), "accuracy", study.ALL_DIGITS_ACCURACY, accuracy)
    return rows, _same_logits(workspace, base, workspace.registry.get(last))


def _same_logits(workspace: Workspace, base: Artifact, adapter: Artifact) -> bool:
    """Whether the adapter at alpha 0 gives the base's logits on all test images, bit for bit."""
    import torch

    from lora_mnist_cli.evaluation import predict
    from lora_mnist_cli.lora import set_alpha
    from lora_mnist_cli.stages.models import load_model

    plain, adapted = load_model(workspace.registry, base), load_model(workspace.registry, adapter)
    set_alpha(adapted.model, 0.0)
    images = workspace.test_images(base, plain.pixel_stats).images
    return torch.equal(predict(plain.model, images), predict(adapted.model, images))


def _subset(scores: dict[str, Any], digits: str) -> dict[str, Any]:
    return next(row for row in scores["subsets"] if row["digits"] == digits)


def _pictures(
    workspace: Workspace, base: Artifact, ranks: Artifact, all_digits: Artifact, folder: Path
) -> list[tuple[str, str]]:
    """Draw every picture into a folder; returns caption and file name of each."""
    from lora_mnist_cli.stages.plotting import PlotOptions, plot

    old, new = study.BASE_DIGITS, study.NEW_DIGITS
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
        plot(kind, name, output=folder / file, options=PlotOptions(digits=digits), workspace=workspace)
        pictures.append((caption, file))
    return pictures


def format_row(row: dict[str, Any]) -> tuple[str, str, str, str, str]:
    """A row as text: what, digits with the measure, and study, here and difference with their units."""

    def figure(value: float | None, sign: str = "") -> str:
        if value is None:
            return "–"
        return f"{100 * value:{sign}.2f} %" if row["measure"] == "accuracy" else f"{value:{sign}.3f}"

    difference = figure(row["difference"], "+").replace("%", "points")
    return row["what"], f"{row['measure']} on {row['digits']}", figure(row["study"]), figure(row["here"]), difference


def _markdown(rows: list[dict[str, Any]], same: bool, pictures: list[tuple[str, str]], seed: int, epochs: int) -> str:
    lines = ["# The study, and its repetition here", ""]
    lines += [
        f"One run with seed {seed} and {epochs} epoch{'' if epochs == 1 else 's'} beside the study's one run. Neither "
        "column has a spread: single "
        "runs differ, most at the lowest ranks.",
        "",
        "| what | measure | study | here | difference |",
        "|---|---|---:|---:|---:|",
    ]
    lines += [f"| {' | '.join(format_row(row))} |" for row in rows]
    verdict = "equal the base's bit for bit" if same else "DIFFER from the base's"
    lines += ["", f"At alpha 0 the adapter's logits on all test images {verdict}.", ""]
    for caption, file in pictures:
        lines += [f"## {caption}", "", f"![{caption}]({file})", ""]
    return "\n".join(lines)
