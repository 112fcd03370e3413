"""Gates over seeds: whether a recipe reaches an accuracy, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from lora_mnist_cli.evaluation.intervals import (
    ACCURACIES,
    CONFIDENCE,
    Interval,
    mean_interval,
    t_quantile,
    wilson_interval,
)
from lora_mnist_cli.evaluation.seed_planning import POWER, seeds_needed
from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.stages.evaluating import Gate
from lora_mnist_cli.stages.records.samples import Sample, described, samples, single
from lora_mnist_cli.stages.records.verdicts import check_confidence
from lora_mnist_cli.stages.workspace import Workspace
from lora_mnist_cli.system.caller import stage
from lora_mnist_cli.system.errors import UsageError

PASS, FAIL, INCONCLUSIVE = "PASS", "FAIL", "INCONCLUSIVE"
MARGINS = (0.001, 0.002, 0.005, 0.01, 0.02)
"""Margins for which a plan gives the number of seeds, beside the sweep's own."""

_ONE_SEED = (
    "one seed: the spread between seeds is not known "
    "(sweep --seeds 0-9 shows it; evaluate --min-accuracy is a gate on one model)"
)

Document = dict[str, Any]


@stage
def gate(
    gates: Sequence[Gate], name: str | None = None, *, rank: int | None = None, confidence: float = CONFIDENCE,
    workspace: Workspace | None = None,
) -> Document:  # fmt: skip
    """Compare the mean accuracy over a sweep's seeds with thresholds.

    PASS where the interval of the mean lies wholly at or above the threshold, FAIL where it lies wholly below, and
    INCONCLUSIVE otherwise. A recipe that does not reach its threshold therefore passes at most once in
    2 / (1 − confidence) tries. Without evidence nothing passes: a run without a finite figure, or no test images, is a
    FAIL, and a single seed at best INCONCLUSIVE.

    Args:
        name: of a sweep, by default the newest; or of a base or an adapter, which counts as one run.
        rank: the only one to look at; by default each rank has to pass.

    Returns:
        ``artifact``, ``confidence``, ``verdict`` (the worst of all) and ``gates``: a row per gate and rank, with
        ``setting``, ``digits``, ``images``, ``minimum``, ``n``, the spread ``accuracy``, the ``interval`` that decides
        (``of`` seeds, or of the test images where there is one seed), the Wilson interval ``test_set`` of the mean,
        ``seeds_needed`` and ``verdict`` with its ``reason``.

    Raises:
        UsageError: where the sweep does not have the rank.
        ArtifactError: where the artifact is missing or damaged, or an adapter whose scores are needed is gone.
    """
    workspace = workspace or Workspace()
    check_confidence(confidence)
    artifact, samples_of = _samples(workspace, gates, name, rank)
    rows = [_judge(sample, gate, confidence) for gate, sample in samples_of]
    verdicts = {row["verdict"] for row in rows}
    overall = next(verdict for verdict in (FAIL, INCONCLUSIVE, PASS) if verdict in verdicts)
    return {"artifact": artifact.name, "confidence": confidence, "verdict": overall, "gates": rows}


@stage
def plan_gate(
    gates: Sequence[Gate], name: str | None = None, *, rank: int | None = None, confidence: float = CONFIDENCE,
    workspace: Workspace | None = None,
) -> Document:  # fmt: skip
    """Plan how many seeds a gate takes, if the spread of a sweep is the true one; see :func:`gate`.

    Returns:
        ``artifact``, ``confidence``, ``power`` and ``plans``: a row per gate and rank, with ``n``, ``mean`` and ``sd``
        of the sweep, its ``margin`` over the threshold, the ``seeds_needed`` for that, and ``seeds_by_margin``, pairs
        of a margin and the seeds for it.
    """
    workspace = workspace or Workspace()
    check_confidence(confidence)
    artifact, samples_of = _samples(workspace, gates, name, rank)
    rows = []
    for gate, sample in samples_of:
        spread = sample.spread()
        has_spread = spread["n"] >= 2 and sample.count > 0
        deviation = _deviation(spread["sd"], sample.count) if has_spread else math.nan
        margin = spread["mean"] - gate.minimum if has_spread else None
        rows.append({
            "setting": sample.setting, "digits": str(gate.digits), "minimum": gate.minimum,
            **{key: spread[key] for key in ("n", "mean", "sd")}, "margin": margin,
            "seeds_needed": None if margin is None else seeds_needed(margin, deviation, confidence),
            "seeds_by_margin": [[m, seeds_needed(m, deviation, confidence)] for m in MARGINS],
        })  # fmt: skip
    return {"artifact": artifact.name, "confidence": confidence, "power": POWER, "plans": rows}


def _samples(
    workspace: Workspace, gates: Sequence[Gate], name: str | None, rank: int | None
) -> tuple[Artifact, list[tuple[Gate, Sample]]]:
    """Return the artifact, and each gate with each sample that it is about."""
    registry = workspace.registry
    artifact = workspace.latest("sweep") if name is None else registry.get(name, "sweep", "adapter", "base")
    of_sweep, pairs = artifact.kind == "sweep", []
    for gate in gates:
        found = samples(registry, artifact, gate.digits) if of_sweep else [single(artifact, gate.digits)]
        chosen = [sample for sample in found if rank in (None, sample.setting.get("rank"))]
        if not chosen:
            ranks = dict.fromkeys(str(sample.setting.get("rank", "none")) for sample in found)
            raise UsageError(f"'{artifact.name}' has no rank {rank}", hint=f"ranks: {', '.join(ranks)}", value=rank)
        pairs += [(gate, sample) for sample in chosen]
    return artifact, pairs


def _judge(sample: Sample, gate: Gate, confidence: float) -> Document:
    accuracies, minimum, count = list(sample.accuracies.values()), gate.minimum, sample.count
    row: Document = {
        "setting": sample.setting, "digits": str(gate.digits), "images": count, "minimum": minimum,
        "n": len(sample.scores), "accuracy": sample.spread(), "interval": {"of": None, "low": None, "high": None},
        "test_set": {"low": None, "high": None}, "seeds_needed": None, "verdict": FAIL,
    }  # fmt: skip
    if accuracies:
        of_images = wilson_interval(round(row["accuracy"]["mean"] * count), count, confidence)
        row["test_set"] = {"low": of_images.low, "high": of_images.high}
    if not count:
        row["reason"] = f"there are no test images of digits {gate.digits}"
    elif sample.missing:
        seeds = ", ".join(map(str, sample.missing))
        row["reason"] = f"no finite figure in {len(sample.missing)} of {row['n']} runs (seed {seeds}), which is no pass"
    elif len(accuracies) == 1:
        row["interval"] = {"of": "test images", **row["test_set"]}
        if row["interval"]["high"] < minimum:
            row["reason"] = "the interval of its finite test set lies wholly below"
        else:
            row |= {"verdict": INCONCLUSIVE, "reason": _ONE_SEED}
    else:
        row |= _over_seeds(accuracies, minimum, count, confidence)
    return row


def _over_seeds(accuracies: Sequence[float], minimum: float, count: int, confidence: float) -> Document:
    """Return interval, verdict and reason for several seeds that all have a figure."""
    spread = mean_interval(accuracies, confidence)
    deviation = _deviation(spread.deviation or 0.0, count)
    half = t_quantile(confidence, spread.n - 1) * deviation / math.sqrt(spread.n)
    interval = Interval(spread.mean - half, spread.mean + half).within(*ACCURACIES)
    row: Document = {"interval": {"of": "seeds", "low": interval.low, "high": interval.high}}
    if interval.low >= minimum:
        return row | {"verdict": PASS, "reason": "the interval of the mean lies wholly at or above"}
    if interval.high < minimum:
        return row | {"verdict": FAIL, "reason": "the interval of the mean lies wholly below"}
    needed = seeds_needed(spread.mean - minimum, deviation, confidence)
    more = "no number of seeds would" if needed is None else f"{needed:,} seeds would most likely"
    reason = f"the threshold lies within the interval; {more} decide it"
    return row | {"verdict": INCONCLUSIVE, "seeds_needed": needed, "reason": reason}


def _deviation(deviation: float, count: int) -> float:
    """Return the deviation between seeds, but no less than that of rounding to whole images: 1 / (√12 · images)."""
    # A few seeds can have the same count right by chance. Without a floor, a gate would pass or fail without evidence.
    return max(deviation, 1 / (math.sqrt(12) * count))


def about(row: Document) -> str:
    """Return what a gate's row is about, in words: ``rank 8, digits 5-9``."""
    return ", ".join(part for part in (described(row["setting"]), f"digits {row['digits']}") if part)


def in_one_line(row: Document) -> str:
    """Return a gate's row as one line: what it is about, verdict, threshold, interval, n and reason."""
    mean, interval = row["accuracy"]["mean"], row["interval"]
    reached = "no figure" if mean is None else f"mean {100 * mean:.2f} %"
    if interval["low"] is not None:
        low, high = (f"{100 * interval[end]:.2f}" for end in ("low", "high"))
        reached += f", interval {low} to {high} % (of {interval['of']})"
    needed = f"required {100 * row['minimum']:.2f} %"
    return f"{about(row)}: {row['verdict']}: {needed}, {reached}, n = {row['n']}: {row['reason']}"
