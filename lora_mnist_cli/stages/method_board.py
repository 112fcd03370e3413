"""A board of a sweep's settings: what each learns, forgets and costs, and which of them another one beats."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lora_mnist_cli.evaluation import significance
from lora_mnist_cli.evaluation.intervals import ACCURACIES, CONFIDENCE, DIFFERENCES, mean_interval
from lora_mnist_cli.evaluation.seeds import setting, spread
from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.registry.file_names import ADAPTER_FILE
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.stages.records.histories import members, validation_runs
from lora_mnist_cli.stages.records.samples import Sample, described, named_without_rank, tuned
from lora_mnist_cli.stages.records.verdicts import check_confidence
from lora_mnist_cli.stages.workspace import Workspace
from lora_mnist_cli.system.caller import stage
from lora_mnist_cli.system.errors import ArtifactError, UsageError

Document = dict[str, Any]

_AIMS = {"new": 1, "forgetting": -1}
"""Figure over seeds → whether more of it is better (1) or less (-1)."""


@stage
def board(name: str, *, confidence: float = CONFIDENCE, workspace: Workspace | None = None) -> Document:
    """Rank the settings of a sweep by accuracy on new digits, beside what each forgets of old ones and costs.

    A setting is what the sweep varies beside seed and learning rate, for example method and rank. Each is taken at the
    rate that did best on its validation images, as mean over seeds; test images have no part in that choice.

    A setting is on the Pareto front where every other one is worse in something: it trains more parameters, or the
    interval of the difference over seeds shows its new accuracy to be lower or its forgetting to be higher. For a
    setting that is not, the challenger is the one of the others with the highest validation accuracy. It beats the
    setting where a permutation test over the seeds shows its new accuracy or its forgetting to be better, after Holm's
    adjustment for all the tests of the board; elsewhere the data can't tell.

    Returns:
        ``sweep``, ``base``, ``dataset``, ``old`` and ``new`` digits, ``confidence``, ``tuned`` (whether there were
        rates to choose from), ``tests`` (how many were made) and ``rows``, the best new accuracy
        first: ``setting``, ``described``, ``lr``, its ``validation`` accuracy there and ``edge`` (see
        ``evaluation.seeds.best_rate``); the spreads over seeds of ``new`` (accuracy), ``forgetting`` (the base's
        accuracy on old digits less the adapter's), ``bytes`` of weights, ``parameters`` trained, and ``seconds`` of
        training per adapter; ``front``, ``challenger``, ``p_holm`` (of the smaller p-value) and ``beaten``.

    Raises:
        UsageError: where the sweep has one setting, or learned no digit that its base did not know.
        ArtifactError: where the sweep or an adapter is missing or damaged, or at no rate all seeds of a setting ended
            well.
    """
    workspace = workspace or Workspace()
    check_confidence(confidence)
    sweep = workspace.registry.get(name, "sweep")
    base = workspace.registry.parent(sweep)
    old = DigitSet.parse(base.config["digits"])
    new = DigitSet.parse(sweep.config["digits"]).without(old)
    if new is None:
        problem = f"'{name}' learned no digit that its base, on {old}, did not know"
        raise UsageError(problem, hint="name a sweep on new digits", value=name)
    learned, kept = (tuned(workspace.registry, sweep, digits) for digits in (new, old))
    if len(learned) < 2:
        hint = "lora-mnist sweep --methods lora,dora,full --lrs 1e-3,3e-3,1e-2 --seeds 0-9 --name methods"
        raise UsageError(f"'{name}' has one setting, and a board several", hint=hint, value=name)
    known = _base_accuracy(base, old)
    rows = [_row(workspace, sweep, mine, theirs, known, confidence) for mine, theirs in zip(learned, kept, strict=True)]
    tests = judge(rows, confidence)
    for row in rows:
        del row["per_seed"]
    rows.sort(key=lambda row: -row["new"]["mean"])
    return {
        "sweep": sweep.name, "base": base.name, "dataset": sweep.dataset, "old": str(old), "new": str(new),
        "confidence": confidence, "tuned": learned[0].rate is not None, "tests": tests, "rows": rows,
    }  # fmt: skip


def _base_accuracy(base: Artifact, old: DigitSet) -> float:
    for score in base.scores["subsets"]:
        if score["digits"] == str(old):
            return float(score["accuracy"])
    raise ArtifactError(f"'{base.name}' has no score on its own digits {old}", value=base.name)


def _row(
    workspace: Workspace, sweep: Artifact, learned: Sample, kept: Sample, known: float, confidence: float
) -> Document:
    """Return the figures of a setting, and those of each seed under ``per_seed``."""
    results = [row for row in sweep.details["results"] if setting(row) == learned.setting_at_rate]
    adapters = members(workspace.registry, sweep, results)
    new, forgetting = learned.accuracies, {seed: known - value for seed, value in kept.accuracies.items()}
    if not new:
        problem = f"'{sweep.name}' has no figure for {described(learned.setting)}: every run diverged"
        raise ArtifactError(problem, hint="sweep lower --lrs", value=sweep.name)
    rate = learned.rate or {
        "lr": sweep.config.get("lr"), "validation": _validation(workspace, sweep, results), "edge": None
    }  # fmt: skip
    seeds = list(learned.scores)
    over_seeds = {
        name: spread([figures.get(seed) for seed in seeds], seeds, worst=worst, possible=ends, confidence=confidence)
        for name, figures, worst, ends in (
            ("new", new, min, ACCURACIES),
            ("forgetting", forgetting, max, DIFFERENCES),
            ("seconds", dict(zip(seeds, (a.wall_seconds for a in adapters), strict=True)), max, (0.0, math.inf)),
        )
    }
    sizes = [adapter.files[ADAPTER_FILE]["bytes"] for adapter in adapters if ADAPTER_FILE in adapter.files]
    return {
        "setting": learned.setting, "described": named(learned.setting), **rate,
        **over_seeds, "parameters": results[0]["trainable_parameters"], "bytes": max(sizes, default=None),
        "per_seed": {"new": new, "forgetting": forgetting},
    }  # fmt: skip


def _validation(workspace: Workspace, sweep: Artifact, results: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the mean accuracy on validation images; None where a run diverged, or there were no such images."""
    try:
        found = [run["accuracy"] for run in validation_runs(workspace.registry, sweep, results)]
    except ArtifactError:
        return None
    return None if None in found else math.fsum(found) / len(found)


def named(settings: Mapping[str, Any]) -> str:
    """Return a setting in words, the method first: ``dora, rank 4``; the rank alone where nothing else varies."""
    others = named_without_rank(settings)
    rank = f"rank {settings['rank']}" if settings["rank"] else ""
    return ", ".join(filter(None, (others, rank)))


def judge(rows: list[Document], confidence: float) -> int:
    """Add to each row whether it is on the front, its challenger and whether that beats it; return the tests made."""
    tests: list[tuple[Document, float, bool]] = []
    for row in rows:
        rivals = [other for other in rows if other is not row and _may_be_as_good(other, row, confidence)]
        row |= {"front": not rivals, "challenger": None, "p_holm": None, "beaten": False}
        if rivals:
            # Not by test images, which would favour a lucky one.
            challenger = max(rivals, key=lambda other: (other["validation"] or 0.0, -other["parameters"]))
            row["challenger"] = challenger["described"]
            for name in _AIMS:
                gains = _gains(challenger, row, name)
                tests.append((row, significance.sign_flip_p(gains)[0], math.fsum(gains) > 0))
    adjusted = significance.holm([p_value for _, p_value, _ in tests])
    for (row, _, better), p_value in zip(tests, adjusted, strict=True):
        if row["p_holm"] is None or (better and p_value < row["p_holm"]):
            row["p_holm"] = p_value if better else 1.0
        row["beaten"] = row["p_holm"] <= 1 - confidence + 1e-12
    return len(tests)


def _may_be_as_good(one: Document, other: Document, confidence: float) -> bool:
    """Tell whether one has as few parameters as another, is not shown to be worse in any figure, and better in one."""
    if one["parameters"] > other["parameters"]:
        return False
    better = one["parameters"] < other["parameters"]
    for name in _AIMS:
        found = mean_interval(_gains(one, other, name), confidence)
        if found.mean < 0 and (found.interval is None or found.interval.high < 0):
            return False
        better = better or found.mean > 0
    return bool(better)


def _gains(one: Document, other: Document, name: str) -> list[float]:
    """Return by how much one is better than another in a figure, for each seed that both have."""
    ours, theirs = one["per_seed"][name], other["per_seed"][name]
    return [_AIMS[name] * (ours[seed] - theirs[seed]) for seed in sorted(ours.keys() & theirs.keys())]
