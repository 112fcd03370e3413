"""Two sweeps, seed by seed, or two models, image by image: which is better, and whether the data can tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lora_mnist_cli.evaluation import seed_planning, significance
from lora_mnist_cli.evaluation.intervals import CONFIDENCE, wilson_interval
from lora_mnist_cli.evaluation.seeds import spread
from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.settings.grid import in_words, varying_axes
from lora_mnist_cli.stages.records.samples import Sample, described, named_without_rank, samples, tuned
from lora_mnist_cli.stages.workspace import Workspace
from lora_mnist_cli.system.errors import ArtifactError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

Document = dict[str, Any]

_NO_RANK = {"rank": 0}


def check_confidence(confidence: float) -> float:
    """The confidence itself.

    Raises:
        UsageError: where it is not between a half and one.
    """
    if not 0.5 <= confidence < 1:
        hint = "write it as a fraction, 0.95"
        raise UsageError(f"a confidence is from 0.5 to below 1, not {confidence:g}", hint=hint, value=confidence)
    return confidence


def compare(
    first: str, second: str | None = None, *, digits: DigitSet | None = None, confidence: float = CONFIDENCE,
    tune: bool = False, workspace: Workspace | None = None,
) -> Document:  # fmt: skip
    """Whether the second of two is better than the first on the same test images.

    Two sweeps are compared at each rank that both have (or, where each has one only, at these two; a sweep of a method
    without ranks, as full fine-tuning, with each rank of the other), over the seeds that both have, with an exact
    permutation test. Two models are compared image by image, with McNemar's. A sweep alone is compared with itself:
    whatever it varies beside rank, seed and a tuned rate, as methods, each with the first.

    Args:
        first: a sweep, or a base or an adapter.
        second: another of the same sort; None where ``first`` is a sweep that varies more than ranks and seeds.
        tune: of sweeps that vary the learning rate, take each setting at the rate that did best on its validation
            images, as mean over seeds. Test images have no part in that choice.
        digits: whose test images are looked at; by default the digits that both have learned.
        confidence: of the intervals; what is less likely by chance than 1 − confidence counts as a difference.

    Returns:
        ``a``, ``b``, ``of`` (``sweeps`` or ``models``), ``dataset``, ``digits``, ``confidence``, and ``rows``. Of
        sweeps a row is a rank: ``setting_a``, ``setting_b``, ``seeds`` (those compared), ``left_out``, the spreads
        ``accuracy_a``, ``accuracy_b`` and ``difference`` (b − a), ``p_value``, ``exact``, ``p_holm`` and
        ``seeds_needed``. Of models there is one: ``images``, the counts ``both``, ``only_a``, ``only_b`` and
        ``neither``, ``accuracy_a`` and ``accuracy_b`` with their Wilson intervals, ``difference``, ``p_value`` and
        ``images_needed``. Each has ``a`` and ``b``, ``better``, one of them or None, and a ``verdict`` in words.
        Tuned, ``tuned`` has a row a setting: its ``sweep``, ``setting``, ``lr``, ``validation`` accuracy there and
        ``edge`` (see ``evaluation.seeds.best_rate``), and the spread of its ``accuracy`` on the test images.

    Raises:
        UsageError: where one is a sweep and the other a model, they have no digits or ranks in common, one sweep alone
            has nothing to compare, or there are no rates to choose from.
        ArtifactError: where one is missing or damaged, or they were scored on different test images.
        DataError: where the test images of two models can't be had.
    """
    workspace = workspace or Workspace()
    check_confidence(confidence)
    a = workspace.registry.get(first, "sweep", "adapter", "base")
    if second is None and a.kind != "sweep":
        raise UsageError(
            f"'{first}' is a single {a.kind}, and there is nothing to compare it with",
            hint=f"lora-mnist compare {first} B",
            value=first,
        )
    b = a if second is None else workspace.registry.get(second, "sweep", "adapter", "base")
    if (a.kind == "sweep") != (b.kind == "sweep"):
        sweep, model = (a, b) if a.kind == "sweep" else (b, a)
        raise UsageError(
            f"'{sweep.name}' is a sweep and '{model.name}' a single {model.kind}",
            hint="compare two sweeps, or two models",
            value=model.name,
        )
    if a.settings.dataset != b.settings.dataset:
        files = " in two versions" if a.dataset == b.dataset else f" and {b.dataset}"
        raise ArtifactError(
            f"'{a.name}' and '{b.name}' have no test images in common: {a.dataset}{files}",
            hint="compare what was trained on the same data set",
            value=b.dataset,
        )
    if tune and a.kind != "sweep":
        raise UsageError("--tune is for sweeps", hint="leave it out, or compare two sweeps", value=first)
    chosen = digits or _common_digits(workspace, a, b)
    ours, theirs = ([parent for parent in artifact.parents if parent.role == "base"] for artifact in (a, b))
    if ours and theirs and ours[0].digest != theirs[0].digest:
        workspace.reporter.notice(
            f"'{a.name}' is on base '{ours[0].name}' and '{b.name}' on '{theirs[0].name}': the difference is theirs too"
        )
    document: Document = {
        "a": a.name, "b": None if second is None else b.name, "of": "sweeps" if a.kind == "sweep" else "models",
        "dataset": a.dataset, "digits": str(chosen), "confidence": confidence,
    }  # fmt: skip
    if a.kind != "sweep":
        return document | {"rows": [_models(workspace, a, b, chosen, confidence)]}
    sides = [a] if second is None else [a, b]
    found = [(tuned if tune else samples)(workspace.registry, sweep, chosen) for sweep in sides]
    if tune:
        if all(sample.rate is None for side in found for sample in side):
            raise UsageError(
                f"{' and '.join(sweep.name for sweep in sides)}: one learning rate alone, and none to choose",
                hint="lora-mnist sweep --lrs 3e-4,1e-3,3e-3,1e-2 --seeds 0-4 --name rates",
                value=first,
            )
        document["tuned"] = [
            {"sweep": sweep.name, "setting": sample.setting}
            | (sample.rate or {"lr": sweep.config["lr"], "validation": None, "edge": None})
            | {"accuracy": sample.spread(confidence)}
            for sweep, side in zip(sides, found, strict=True)
            for sample in side
        ]
    pairs = _within(a, found[0]) if second is None else _between(a, b, *found)
    return document | {"rows": _sweeps(pairs, chosen, confidence)}


def _common_digits(workspace: Workspace, a: Artifact, b: Artifact) -> DigitSet:
    ours, theirs = (DigitSet.parse(artifact.config["digits"]) for artifact in (a, b))
    common = [digit for digit in ours if digit in theirs]
    if not common:
        raise UsageError(
            f"'{a.name}' learned {ours} and '{b.name}' {theirs}, which have no digit in common",
            hint="--digits says on which test images they are compared",
            value=str(theirs),
        )
    if ours != theirs:
        workspace.reporter.notice(
            f"'{a.name}' learned {ours} and '{b.name}' {theirs}: compared on {DigitSet(common)}, which both learned"
        )
    return DigitSet(common)


Pair = tuple[str, Sample, str, Sample]
"""Name and sample of A, and of B."""


def _between(a: Artifact, b: Artifact, ours: list[Sample], theirs: list[Sample]) -> list[Pair]:
    """What two sweeps have in common.

    Raises:
        UsageError: where that is nothing.
    """
    pairs = [(x, y) for x in ours for y in theirs if x.setting == y.setting]
    if not pairs and len(ours) == len(theirs) == 1:
        pairs = [(ours[0], theirs[0])]
    if not pairs:
        # What has no rank is the same beside each.
        pairs = [
            (x, y) for x in ours for y in theirs
            if (len(ours) == 1 and x.setting == _NO_RANK) or (len(theirs) == 1 and y.setting == _NO_RANK)
        ]  # fmt: skip
    if not pairs:
        for one, other in ((a, b), (b, a)):
            if more := [in_words(axis.field) for axis in varying_axes(one.config) if axis.plural not in other.config]:
                raise UsageError(
                    f"'{one.name}' varies {' and '.join(more)} too, and '{other.name}' does not",
                    hint=f"lora-mnist compare {one.name} compares its own with each other",
                    value=one.name,
                )
        listed = (", ".join(described(sample.setting) for sample in some) for some in (ours, theirs))
        raise UsageError(
            f"'{a.name}' and '{b.name}' have no rank in common: {' against '.join(listed)}",
            hint="sweep the same ranks, or one rank each",
            value=b.name,
        )
    return [(a.name, x, b.name, y) for x, y in pairs]


def _within(sweep: Artifact, found: list[Sample]) -> list[Pair]:
    """The first setting that a sweep has beside rank and seed, with each other one at the same rank.

    Raises:
        UsageError: where there is no other.
    """
    named = [(named_without_rank(sample.setting), sample) for sample in found]
    first = named[0][0]
    # What has no rank is the same beside each.
    pairs: list[Pair] = [
        (first, x, name, y) for name, y in named if name != first
        for own, x in named
        if own == first and (x.setting["rank"] == y.setting["rank"] or not x.setting["rank"] or not y.setting["rank"])
    ]  # fmt: skip
    if not pairs:
        raise UsageError(
            f"'{sweep.name}' varies nothing beside rank and seed that could be compared",
            hint=f"lora-mnist compare {sweep.name} B, with another sweep",
            value=sweep.name,
        )
    return pairs


def _sweeps(pairs: list[Pair], digits: DigitSet, confidence: float) -> list[Document]:
    if not any(sample.count for _, x, _, y in pairs for sample in (x, y)):
        raise UsageError(f"there are no test images of digits {digits}", value=str(digits))
    rows = [_paired(x, y, confidence) | {"a": a, "b": b} for a, x, b, y in pairs]
    tested = [row for row in rows if row["p_value"] is not None]
    for row, adjusted in zip(tested, significance.holm([row["p_value"] for row in tested]), strict=True):
        row["p_holm"] = adjusted
    for row in rows:
        _judge_seeds(row, row["a"], row["b"], max(1, len(tested)), confidence)
    return rows


def _paired(x: Sample, y: Sample, confidence: float) -> Document:
    ours, theirs = x.accuracies, y.accuracies
    seeds = sorted(ours.keys() & theirs.keys())
    row: Document = {
        "setting_a": x.setting_at_rate,
        "setting_b": y.setting_at_rate,
        "images": max(x.count, y.count),
        "seeds": seeds,
        "left_out": sorted((x.scores.keys() | y.scores.keys()) - set(seeds)),
        "accuracy_a": spread([ours[seed] for seed in seeds], seeds, confidence=confidence),
        "accuracy_b": spread([theirs[seed] for seed in seeds], seeds, confidence=confidence),
        "difference": spread([theirs[seed] - ours[seed] for seed in seeds], seeds, confidence=confidence),
        "p_value": None, "exact": None, "p_holm": None,
    }  # fmt: skip
    if seeds:
        found = significance.paired_comparison([ours[s] for s in seeds], [theirs[s] for s in seeds], confidence)
        row |= {"p_value": found.p_value, "exact": found.exact}
    return row


def _judge_seeds(row: Document, a: str, b: str, tests: int, confidence: float) -> None:
    """Add what follows from a row's figures: who is better, how many seeds would tell, and both in words."""
    difference, n = row["difference"], len(row["seeds"])
    least = seed_planning.fewest_pairs(tests, confidence)
    needed = None
    if n >= 2 and difference["sd"] > 0:
        # As strict as the first step of Holm's adjustment.
        strict = 1 - (1 - confidence) / tests
        found = seed_planning.seeds_needed(difference["mean"], difference["sd"], strict)
        needed = None if found is None else max(found, least)
    decided = row["p_holm"] is not None and row["p_holm"] <= 1 - confidence + 1e-12
    better = None if not decided else b if difference["mean"] > 0 else a
    row |= {"better": better, "seeds_needed": needed, "verdict": ""}
    if not n:
        row["verdict"] = "The data can't tell: no seed has a figure in both."
        return
    evidence = f"{points(difference['mean'])}{_bounds(difference, confidence)}, p = {row['p_value']:.2g}"
    if tests > 1:
        evidence += f" ({row['p_holm']:.2g} after Holm's adjustment for {tests} comparisons)"
    evidence += f", {n} seed{'s' if n > 1 else ''}"
    if better is not None:
        row["verdict"] = f"{better} is better: {b} − {a} is {evidence}."
        return
    told = f"The data can't tell: {evidence}."
    if n < least:
        told += f" With so few no outcome could: {least} seeds is the least."
    if needed is not None and needed > n:
        told += f" If these show the true difference and spread, {needed:,} seeds would tell, four times of five."
    elif n >= least and difference["sd"] == 0 and difference["mean"] == 0:
        told += " There is no difference in any seed."
    elif needed is None and n >= 2 and difference["sd"] > 0:
        told += f" No number of seeds up to {seed_planning.MAX_SEEDS:,} would, with a difference as small as that."
    row["verdict"] = told


def _models(workspace: Workspace, a: Artifact, b: Artifact, digits: DigitSet, confidence: float) -> Document:
    import torch

    ours, labels = _correct(workspace, a)
    theirs, _ = _correct(workspace, b)
    chosen = torch.isin(labels, torch.tensor(digits.members))
    if not chosen.any():
        raise UsageError(f"there are no test images of digits {digits}", value=str(digits))
    found = significance.mcnemar(ours[chosen].tolist(), theirs[chosen].tolist(), confidence)
    count = int(chosen.sum())
    row: Document = {
        "a": a.name, "b": b.name, "images": count,
        "both": found.both, "only_a": found.only_first, "only_b": found.only_second, "neither": found.neither,
        "accuracy_a": _score(found.both + found.only_first, count, confidence),
        "accuracy_b": _score(found.both + found.only_second, count, confidence),
        "difference": {"mean": found.difference, "low": found.interval.low, "high": found.interval.high},
        "p_value": found.p_value, "exact": True,
        "images_needed": seed_planning.images_needed(found.only_first, found.only_second, count, confidence),
    }  # fmt: skip
    decided = found.p_value <= 1 - confidence
    row["better"] = None if not decided else b.name if found.difference > 0 else a.name
    evidence = f"{points(found.difference)}{_bounds(row['difference'], confidence)}, p = {found.p_value:.2g}"
    if row["better"]:
        told = f"{row['better']} is better on these images: {b.name} − {a.name} is {evidence}, {count:,} images."
    else:
        told = f"The data can't tell: {evidence}, {count:,} images."
        if row["images_needed"]:
            told += f" {row['images_needed']:,} images would, four times of five."
        elif not found.only_first + found.only_second:
            told += " They are right and wrong on the same images."
    least = seed_planning.fewest_pairs(1, confidence)
    row["verdict"] = (
        f"{told} This is about these two models; whether one recipe is better, seeds tell, {least} at the least: "
        "compare two sweeps with --seeds 0-9."
    )
    return row


def _correct(workspace: Workspace, artifact: Artifact) -> tuple[Tensor, Tensor]:
    """Whether a model has each test image right, and their labels; with a loss that is not finite it has not."""
    from torch.nn.functional import cross_entropy

    from lora_mnist_cli.evaluation.logits import predict
    from lora_mnist_cli.stages.records.loading import load_model

    loaded = load_model(workspace.registry, artifact)
    test = workspace.test_images(artifact, loaded.pixel_stats)
    logits = predict(loaded.model, test.images)
    finite = cross_entropy(logits.double(), test.labels, reduction="none").isfinite()
    return (logits.argmax(1) == test.labels) & finite, test.labels


def _score(right: int, count: int, confidence: float) -> Document:
    interval = wilson_interval(right, count, confidence)
    return {"mean": right / count, "low": interval.low, "high": interval.high}


def points(difference: float) -> str:
    """A difference of accuracies, as ``+0.42 points``."""
    return f"{100 * difference:+.2f} points"


def _bounds(difference: Document, confidence: float) -> str:
    if difference["low"] is None:
        return ""
    low, high = (f"{100 * difference[key]:+.2f}" for key in ("low", "high"))
    return f" ({100 * confidence:g} % interval {low} to {high})"
