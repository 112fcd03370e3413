"""Gates over seeds: whether a recipe reaches an accuracy, with the evidence that it takes to say so."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from lora_mnist_cli.evaluation.intervals import CONFIDENCE, mean_interval, t_quantile, wilson_interval
from lora_mnist_cli.evaluation.seed_planning import POWER, seeds_needed
from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.stages.comparing import check_confidence, points
from lora_mnist_cli.stages.evaluating import Gate
from lora_mnist_cli.stages.records.samples import Sample, described, samples, single
from lora_mnist_cli.stages.workspace import Workspace
from lora_mnist_cli.system.errors import UsageError

PASS, FAIL, INCONCLUSIVE = "PASS", "FAIL", "INCONCLUSIVE"
MARGINS = (0.001, 0.002, 0.005, 0.01, 0.02)
"""Margins that a plan tells the number of seeds for, beside the sweep's own."""

Document = dict[str, Any]


def gate(
    gates: Sequence[Gate], name: str | None = None, *, rank: int | None = None, confidence: float = CONFIDENCE,
    workspace: Workspace | None = None,
) -> Document:  # fmt: skip
    """Hold the mean accuracy over a sweep's seeds against thresholds.

    PASS where the interval of the mean lies wholly at or above the threshold, FAIL where it lies wholly below, and
    INCONCLUSIVE otherwise. So a recipe that does not reach its threshold passes at most once in 2 / (1 − confidence)
    tries, which is less than the confidence alone promises. A gate without the evidence is never passed: a run without
    a finite figure, or no test images, is a FAIL, and a single seed at best INCONCLUSIVE.

    Args:
        name: a sweep, by default the newest; of a base or an adapter, the one run that it is.
        rank: the one to look at; by default each has to pass.

    Returns:
        ``artifact``, ``confidence``, ``verdict`` (the worst of all) and ``gates``: a row a gate and rank, with
        ``setting``, ``digits``, ``images``, ``minimum``, ``n``, the spread ``accuracy``, the ``interval`` that decides
        (``of`` seeds, or of the test images where there is one seed), the Wilson interval ``test_set`` of the mean,
        ``seeds_needed`` and ``verdict`` with its ``reason``.

    Raises:
        UsageError: where the sweep has not the rank.
        ArtifactError: where the artifact is missing or damaged, or an adapter that would be asked is gone.
    """
    workspace = workspace or Workspace()
    check_confidence(confidence)
    artifact, chosen = _samples(workspace, gates, name, rank)
    rows = [_judge(sample, wanted, confidence) for wanted, some in chosen for sample in some]
    verdicts = {row["verdict"] for row in rows}
    overall = next(verdict for verdict in (FAIL, INCONCLUSIVE, PASS) if verdict in verdicts)
    return {"artifact": artifact.name, "confidence": confidence, "verdict": overall, "gates": rows}


def plan_gate(
    gates: Sequence[Gate], name: str | None = None, *, rank: int | None = None, confidence: float = CONFIDENCE,
    workspace: Workspace | None = None,
) -> Document:  # fmt: skip
    """How many seeds a gate would take, with the spread that a sweep has shown: see :func:`gate`.

    Returns:
        ``artifact``, ``confidence``, ``power`` and ``plans``: a row a gate and rank, with ``n``, ``mean`` and ``sd`` of
        the sweep, its ``margin`` over the threshold, the ``seeds_needed`` for that, and ``seeds_by_margin``, pairs of a
        margin and the seeds for it.
    """
    workspace = workspace or Workspace()
    check_confidence(confidence)
    artifact, chosen = _samples(workspace, gates, name, rank)
    rows = []
    for wanted, some in chosen:
        for sample in some:
            spread = sample.spread()
            known = spread["n"] >= 2 and sample.count > 0
            deviation = _deviation(spread["sd"], sample.count) if known else math.nan
            margin = spread["mean"] - wanted.minimum if known else None
            rows.append(
                {
                    "setting": sample.setting,
                    "digits": str(wanted.digits),
                    "minimum": wanted.minimum,
                    **{key: spread[key] for key in ("n", "mean", "sd")},
                    "margin": margin,
                    "seeds_needed": None if margin is None else seeds_needed(margin, deviation, confidence),
                    "seeds_by_margin": [[m, seeds_needed(m, deviation, confidence)] for m in MARGINS],
                }
            )
    return {"artifact": artifact.name, "confidence": confidence, "power": POWER, "plans": rows}


def _samples(
    workspace: Workspace, gates: Sequence[Gate], name: str | None, rank: int | None
) -> tuple[Artifact, list[tuple[Gate, list[Sample]]]]:
    """The artifact, and of each gate the samples that it is about."""
    registry = workspace.registry
    artifact = workspace.latest("sweep") if name is None else registry.get(name, "sweep", "adapter", "base")
    chosen = []
    for wanted in gates:
        found = (
            samples(registry, artifact, wanted.digits)
            if artifact.kind == "sweep"
            else [single(artifact, wanted.digits)]
        )
        if rank is not None:
            ranks = list(dict.fromkeys(str(sample.setting.get("rank", "none")) for sample in found))
            found = [sample for sample in found if sample.setting.get("rank") == rank]
            if not found:
                hint = f"ranks: {', '.join(ranks)}"
                raise UsageError(f"'{artifact.name}' has no rank {rank}", hint=hint, value=rank)
        chosen.append((wanted, found))
    return artifact, chosen


def _judge(sample: Sample, wanted: Gate, confidence: float) -> Document:
    accuracies, minimum, count = list(sample.accuracies.values()), wanted.minimum, sample.count
    row: Document = {
        "setting": sample.setting, "digits": str(wanted.digits), "images": count, "minimum": minimum,
        "n": len(sample.scores), "accuracy": sample.spread(), "interval": {"of": None, "low": None, "high": None},
        "test_set": {"low": None, "high": None}, "seeds_needed": None, "verdict": FAIL,
    }  # fmt: skip
    if accuracies:
        of_images = wilson_interval(round(row["accuracy"]["mean"] * count), count, confidence)
        row["test_set"] = {"low": of_images.low, "high": of_images.high}
    if not count:
        row["reason"] = f"there are no test images of digits {wanted.digits}"
    elif sample.missing:
        seeds = ", ".join(map(str, sample.missing))
        row["reason"] = f"no finite figure in {len(sample.missing)} of {row['n']} runs (seed {seeds}), which is no pass"
    elif len(accuracies) == 1:
        row["interval"] = {"of": "test images", **row["test_set"]}
        if row["interval"]["high"] < minimum:
            row["reason"] = "the interval of its finite test set lies wholly below"
        else:
            row["verdict"] = INCONCLUSIVE
            row["reason"] = (
                "one seed: how far others scatter is not known (sweep --seeds 0-9 tells; evaluate --min-accuracy is a "
                "gate on one model)"
            )
    else:
        row |= _over_seeds(accuracies, minimum, count, confidence)
    return row


def _over_seeds(accuracies: Sequence[float], minimum: float, count: int, confidence: float) -> Document:
    """Interval, verdict and reason of several seeds, all of which have a figure."""
    spread = mean_interval(accuracies, confidence)
    deviation = _deviation(spread.deviation or 0.0, count)
    half = t_quantile(confidence, spread.n - 1) * deviation / math.sqrt(spread.n)
    low, high = max(0.0, spread.mean - half), min(1.0, spread.mean + half)
    row: Document = {"interval": {"of": "seeds", "low": low, "high": high}}
    if low >= minimum:
        return row | {"verdict": PASS, "reason": "the interval of the mean lies wholly at or above"}
    if high < minimum:
        return row | {"verdict": FAIL, "reason": "the interval of the mean lies wholly below"}
    margin = spread.mean - minimum
    needed = seeds_needed(margin, deviation, confidence)
    more = "no number of seeds would do" if needed is None else f"{needed:,} seeds would do, four times of five"
    reason = f"the threshold lies within the interval; with a mean {points(margin)} from it and this spread, {more}"
    return row | {"verdict": INCONCLUSIVE, "seeds_needed": needed, "reason": reason}


def _deviation(deviation: float, count: int) -> float:
    """The deviation between seeds, but no less than that of rounding to whole images.

    A few seeds can have the very same count right by chance. To take that for no spread at all would let a gate pass,
    or fail, on nothing; a figure that is known to one image has a deviation of 1 / (√12 · images) from that alone.
    """
    return max(deviation, 1 / (math.sqrt(12) * count))


def about(row: Document) -> str:
    """What a gate's row is about, in words: ``rank 8, digits 5-9``."""
    return ", ".join(part for part in (described(row["setting"]), f"digits {row['digits']}") if part)


def told(row: Document) -> str:
    """A gate's row as one line: what it is about, threshold, interval, n, verdict and reason."""
    mean, interval = row["accuracy"]["mean"], row["interval"]
    reached = "no figure" if mean is None else f"mean {mean:.4f}"
    if interval["low"] is not None:
        reached += f", interval {interval['low']:.4f} to {interval['high']:.4f} (of {interval['of']})"
    return f"{about(row)}: {row['verdict']}: required {row['minimum']:g}, {reached}, n = {row['n']}: {row['reason']}"
