"""Two sweeps, seed by seed, or two models, image by image: which is better, and whether the data can tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lora_mnist_cli.evaluation import seed_planning, significance
from lora_mnist_cli.evaluation.intervals import ACCURACIES, CONFIDENCE, DIFFERENCES, wilson_interval
from lora_mnist_cli.evaluation.seeds import spread
from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.settings.grid import in_words, varying_axes
from lora_mnist_cli.stages.records.samples import Sample, described, named_without_rank, samples, tuned
from lora_mnist_cli.stages.records.verdicts import check_confidence, judge_models, judge_seeds
from lora_mnist_cli.stages.workspace import Workspace
from lora_mnist_cli.system.caller import stage
from lora_mnist_cli.system.errors import ArtifactError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

Document = dict[str, Any]

_NO_RANK = {"rank": 0}


@stage
def compare(
    first: str, second: str | None = None, *, digits: DigitSet | None = None, confidence: float = CONFIDENCE,
    tune: bool = False, workspace: Workspace | None = None,
) -> Document:  # fmt: skip
    """Test whether the second of two is better than the first on the same test images.

    Two sweeps are compared at each rank that both have (or, where each has one only, at these two; a sweep of a method
    without ranks, as full fine-tuning, with each rank of the other), over the seeds that both have, with an exact
    permutation test. Two models are compared image by image, with McNemar's. A sweep alone is compared with itself:
    each further setting that it has beside rank, seed and a tuned rate, for example a method, with the first.

    Args:
        first: a sweep, or a base or an adapter.
        second: another of the same sort; None where ``first`` is a sweep that varies more than ranks and seeds.
        tune: of sweeps that vary the learning rate, take each setting at the rate that did best on its validation
            images, as mean over seeds. Test images have no part in that choice.
        digits: the comparison is on their test images; by default the digits that both have learned.
        confidence: of the intervals; a p-value up to 1 − confidence counts as a difference.

    Returns:
        ``a``, ``b``, ``of`` (``sweeps`` or ``models``), ``dataset``, ``digits``, ``confidence``, and ``rows``. Of
        sweeps a row is a rank: ``setting_a``, ``setting_b``, ``seeds`` (those compared), ``left_out``, the spreads
        ``accuracy_a``, ``accuracy_b`` and ``difference`` (b − a), ``p_value``, ``exact``, ``p_holm`` and
        ``seeds_needed``. Of models there is one: ``images``, the counts ``both``, ``only_a``, ``only_b`` and
        ``neither``, ``accuracy_a`` and ``accuracy_b`` with their Wilson intervals, ``difference``, ``p_value`` and
        ``images_needed``. Each has ``a`` and ``b``, ``better``, one of them or None, and a ``verdict`` in words.
        Tuned, ``tuned`` has a row per setting: its ``sweep``, ``setting``, ``lr``, ``validation`` accuracy there and
        ``edge`` (see ``evaluation.seeds.best_rate``), and the spread of its ``accuracy`` on the test images.

    Raises:
        UsageError: where one is a sweep and the other a model, they have no digits or ranks in common, one sweep alone
            has nothing to compare, or there are no rates to choose from.
        ArtifactError: where one is missing or damaged, or they were scored on different test images.
        DataError: where the test images of two models are not available.
    """
    workspace = workspace or Workspace()
    check_confidence(confidence)
    a, b = _sides(workspace, first, second)
    if tune and a.kind != "sweep":
        raise UsageError("--tune is for sweeps", hint="leave it out, or compare two sweeps", value=first)
    common_digits = DigitSet.of(digits) if digits is not None else _common_digits(workspace, a, b)
    _note_other_base(workspace, a, b)
    document: Document = {
        "a": a.name, "b": None if second is None else b.name, "of": "sweeps" if a.kind == "sweep" else "models",
        "dataset": a.dataset, "digits": str(common_digits), "confidence": confidence,
    }  # fmt: skip
    if a.kind != "sweep":
        return document | {"rows": [_models(workspace, a, b, common_digits, confidence)]}
    sweeps = [a] if second is None else [a, b]
    sides = [(tuned if tune else samples)(workspace.registry, sweep, common_digits) for sweep in sweeps]
    if tune:
        document["tuned"] = _tuned_rows(sweeps, sides, confidence)
    pairs = _within(a, sides[0]) if second is None else _between(a, b, *sides)
    return document | {"rows": _sweeps(pairs, common_digits, confidence)}


def _sides(workspace: Workspace, first: str, second: str | None) -> tuple[Artifact, Artifact]:
    """Return what is compared, and refuse what can't be; a sweep alone is both sides."""
    a = workspace.registry.get(first, "sweep", "adapter", "base")
    if second is None and a.kind != "sweep":
        problem = f"'{first}' is a single {a.kind}, and there is nothing to compare it with"
        raise UsageError(problem, hint=f"lora-mnist compare {first} B", value=first)
    b = a if second is None else workspace.registry.get(second, "sweep", "adapter", "base")
    if (a.kind == "sweep") != (b.kind == "sweep"):
        sweep, model = (a, b) if a.kind == "sweep" else (b, a)
        problem = f"'{sweep.name}' is a sweep and '{model.name}' a single {model.kind}"
        raise UsageError(problem, hint="compare two sweeps, or two models", value=model.name)
    if a.settings.dataset != b.settings.dataset:
        files = " in two versions" if a.dataset == b.dataset else f" and {b.dataset}"
        problem = f"'{a.name}' and '{b.name}' have no test images in common: {a.dataset}{files}"
        raise ArtifactError(problem, hint="compare what was trained on the same data set", value=b.dataset)
    return a, b


def _note_other_base(workspace: Workspace, a: Artifact, b: Artifact) -> None:
    ours, theirs = (next((parent for parent in side.parents if parent.role == "base"), None) for side in (a, b))
    if ours and theirs and ours.digest != theirs.digest:
        bases = f"'{a.name}' is on base '{ours.name}' and '{b.name}' on '{theirs.name}'"
        workspace.reporter.notice(f"{bases}: the difference is theirs too")


def _tuned_rows(sweeps: list[Artifact], sides: list[list[Sample]], confidence: float) -> list[Document]:
    """Return each setting at its chosen learning rate, with the accuracies on which it was chosen."""
    if all(sample.rate is None for side in sides for sample in side):
        problem = f"{' and '.join(sweep.name for sweep in sweeps)}: one learning rate alone, and none to choose"
        hint = "lora-mnist sweep --lrs 3e-4,1e-3,3e-3,1e-2 --seeds 0-4 --name rates"
        raise UsageError(problem, hint=hint, value=sweeps[0].name)
    return [
        {"sweep": sweep.name, "setting": sample.setting}
        | (sample.rate or {"lr": sweep.config["lr"], "validation": None, "edge": None})
        | {"accuracy": sample.spread(confidence)}
        for sweep, side in zip(sweeps, sides, strict=True)
        for sample in side
    ]


def _common_digits(workspace: Workspace, a: Artifact, b: Artifact) -> DigitSet:
    ours, theirs = (DigitSet.parse(artifact.config["digits"]) for artifact in (a, b))
    common = [digit for digit in ours if digit in theirs]
    if not common:
        problem = f"'{a.name}' learned {ours} and '{b.name}' {theirs}, which have no digit in common"
        raise UsageError(problem, hint="--digits says on which test images they are compared", value=str(theirs))
    if ours != theirs:
        workspace.reporter.notice(
            f"'{a.name}' learned {ours} and '{b.name}' {theirs}: compared on {DigitSet(common)}, which both learned"
        )
    return DigitSet(common)


Pair = tuple[str, Sample, str, Sample]
"""Name and sample of A, and of B."""


def _between(a: Artifact, b: Artifact, ours: list[Sample], theirs: list[Sample]) -> list[Pair]:
    """Pair the settings that two sweeps have in common; refuse two that have none."""
    pairs = [(x, y) for x in ours for y in theirs if x.setting == y.setting]
    if not pairs and len(ours) == len(theirs) == 1:
        pairs = [(ours[0], theirs[0])]
    if not pairs:
        # A method without ranks stands beside each rank of the other.
        pairs = [
            (x, y) for x in ours for y in theirs
            if (len(ours) == 1 and x.setting == _NO_RANK) or (len(theirs) == 1 and y.setting == _NO_RANK)
        ]  # fmt: skip
    if not pairs:
        for one, other in ((a, b), (b, a)):
            if more := [in_words(axis.field) for axis in varying_axes(one.config) if axis.plural not in other.config]:
                problem = f"'{one.name}' varies {' and '.join(more)} too, and '{other.name}' does not"
                hint = f"lora-mnist compare {one.name} compares its own with each other"
                raise UsageError(problem, hint=hint, value=one.name)
        listed = (", ".join(described(sample.setting) for sample in some) for some in (ours, theirs))
        problem = f"'{a.name}' and '{b.name}' have no rank in common: {' against '.join(listed)}"
        raise UsageError(problem, hint="sweep the same ranks, or one rank each", value=b.name)
    return [(a.name, x, b.name, y) for x, y in pairs]


def _within(sweep: Artifact, side: list[Sample]) -> list[Pair]:
    """Pair the first setting of a sweep, beside rank and seed, with each other one at the same rank."""
    named = [(named_without_rank(sample.setting), sample) for sample in side]
    first = named[0][0]
    # A method without ranks stands beside each rank of the other.
    pairs: list[Pair] = [
        (first, x, name, y) for name, y in named if name != first
        for setting, x in named
        if setting == first and (x.setting["rank"] == y.setting["rank"] or 0 in (x.setting["rank"], y.setting["rank"]))
    ]  # fmt: skip
    if not pairs:
        and_rate = ", once each rank has its own rate," if "lrs" in sweep.config else ""
        problem = f"'{sweep.name}' varies nothing beside rank and seed{and_rate} that could be compared"
        raise UsageError(problem, hint=f"lora-mnist compare {sweep.name} B, with another sweep", value=sweep.name)
    return pairs


def _sweeps(pairs: list[Pair], digits: DigitSet, confidence: float) -> list[Document]:
    _refuse_without_images(max(sample.count for _, x, _, y in pairs for sample in (x, y)), digits)
    rows = [_paired(x, y, confidence) | {"a": a, "b": b} for a, x, b, y in pairs]
    tested = [row for row in rows if row["p_value"] is not None]
    for row, adjusted in zip(tested, significance.holm([row["p_value"] for row in tested]), strict=True):
        row["p_holm"] = adjusted
    for row in rows:
        judge_seeds(row, max(1, len(tested)), confidence)
    return rows


def _paired(x: Sample, y: Sample, confidence: float) -> Document:
    ours, theirs = x.accuracies, y.accuracies
    seeds = sorted(ours.keys() & theirs.keys())
    differences = [theirs[seed] - ours[seed] for seed in seeds]
    row: Document = {
        "setting_a": x.setting_at_rate,
        "setting_b": y.setting_at_rate,
        "images": max(x.count, y.count),
        "seeds": seeds,
        "left_out": sorted((x.scores.keys() | y.scores.keys()) - set(seeds)),
        "accuracy_a": spread([ours[seed] for seed in seeds], seeds, possible=ACCURACIES, confidence=confidence),
        "accuracy_b": spread([theirs[seed] for seed in seeds], seeds, possible=ACCURACIES, confidence=confidence),
        "difference": spread(differences, seeds, possible=DIFFERENCES, confidence=confidence),
        "p_value": None, "exact": None, "p_holm": None,
    }  # fmt: skip
    if seeds:
        row["p_value"], row["exact"] = significance.sign_flip_p(differences)
    return row


def _models(workspace: Workspace, a: Artifact, b: Artifact, digits: DigitSet, confidence: float) -> Document:
    import torch

    ours, labels = _correct(workspace, a)
    theirs, _ = _correct(workspace, b)
    chosen = torch.isin(labels, torch.tensor(digits.members))
    count = int(chosen.sum())
    _refuse_without_images(count, digits)
    table = significance.mcnemar(ours[chosen].tolist(), theirs[chosen].tolist(), confidence)
    row: Document = {
        "a": a.name, "b": b.name, "images": count,
        "both": table.both, "only_a": table.only_first, "only_b": table.only_second, "neither": table.neither,
        "accuracy_a": _score(table.both + table.only_first, count, confidence),
        "accuracy_b": _score(table.both + table.only_second, count, confidence),
        "difference": {"mean": table.difference, "low": table.interval.low, "high": table.interval.high},
        "p_value": table.p_value, "exact": True,
        "images_needed": seed_planning.images_needed(table.only_first, table.only_second, count, confidence),
    }  # fmt: skip
    judge_models(row, confidence)
    return row


def _correct(workspace: Workspace, artifact: Artifact) -> tuple[Tensor, Tensor]:
    """Return whether a model has each test image right, which it has not at an infinite loss, and the labels."""
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


def _refuse_without_images(count: int, digits: DigitSet) -> None:
    if not count:
        raise UsageError(f"there are no test images of digits {digits}", value=str(digits))
