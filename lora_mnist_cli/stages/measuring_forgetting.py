"""Measuring what an adapter has forgotten of earlier digits and what is merely outranked, on its whole chain."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from lora_mnist_cli.evaluation.transfer import transfer
from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.settings.config import BaseConfig
from lora_mnist_cli.settings.digits import ALL_DIGITS, DigitSet
from lora_mnist_cli.settings.tasks import old_digits
from lora_mnist_cli.stages import costs
from lora_mnist_cli.stages.intruding import FACTORS, THRESHOLD, check_threshold
from lora_mnist_cli.stages.workspace import Workspace
from lora_mnist_cli.system.caller import stage
from lora_mnist_cli.system.errors import ArtifactError, DataError
from lora_mnist_cli.system.progress import Reporter
from lora_mnist_cli.system.work import IMAGES, LOADING, SCORING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from lora_mnist_cli.data.dataset import MNISTDataset
    from lora_mnist_cli.models.mlp import MNISTModel

Document = dict[str, Any]
PROBES = "fitting probes"
"""The phase that takes most of the time."""


@dataclass(frozen=True)
class Step:
    """A state of the network in a chain: the artifact that holds it, and the digits that it had learned last."""

    artifact: Artifact
    task: DigitSet


@stage
def forgetting(
    name: str | None = None, *, threshold: float = THRESHOLD, workspace: Workspace | None = None
) -> Document:  # fmt: skip
    """Measure forgetting: adapter and base on the digits before it (old) and those it was the first to learn (new).

    Args:
        name: of an adapter; the newest by default.
        threshold: the cosine with the base's singular vectors below which one of the adapted weight is an intruder.

    Returns:
        ``artifact``, ``base``, ``dataset``, ``old`` and ``new`` digits (None where the adapter learned no new ones).
        ``halves``: a row for base and adapter on each of the two, with ``model``, ``half``, ``digits``, ``count``,
        ``accuracy`` over all ten logits, ``accuracy_known`` with those of other digits masked, and ``calibration`` and
        ``calibration_known``, each with the ``error`` (ECE), mean ``confidence`` and the ``bins``.
        ``probes``: a row per hidden layer and network (``untrained``, ``base``, ``adapter``), with the accuracy of a
        linear probe on ``old``, ``new`` and ``all`` digits, fitted on ``probe_images`` training images of all digits.
        ``transfer``: for ``all`` ten logits, and with the task ``known``: ``R``, ``untrained`` and the measures of
        ``Transfer`` over ``tasks``: the digits of the base, of each adapter merged on the way, and of this adapter.
        ``chain`` has the names of the artifacts.
        ``intruders``, by :func:`~lora_mnist_cli.stages.intruding.intruders_of`: the ``layers`` with their ``count``,
        and a ``path`` of old and new digits as the intruders are scaled from 1 to 0.

    Raises:
        ArtifactError: where the adapter or its base is missing, damaged or doesn't fit.
        DataError: where the images are not available, or digits have no test images.
        UsageError: for a threshold that is not above 0 and at most 1.
    """
    check_threshold(threshold)
    workspace = workspace or Workspace()
    steps = _chain(workspace, workspace.latest("adapter") if name is None else workspace.registry.get(name, "adapter"))
    adapter = steps[-1].artifact
    tasks = [step.task for step in steps]
    halves = _halves(tasks)
    reporter, probes = workspace.reporter, sum(costs.PROBES.values())
    scoring = (len(steps) + len(FACTORS)) * costs.SCORING_ONE
    reporter.plan({LOADING: costs.loading(), IMAGES: costs.READING_ALL, SCORING: scoring, PROBES: probes})
    reporter.phase(LOADING, costs.loading())

    from lora_mnist_cli.data.dataset import MNISTDataset
    from lora_mnist_cli.evaluation.logits import predict
    from lora_mnist_cli.stages.intruding import intruders_of
    from lora_mnist_cli.stages.records.loading import finite_logits, load_model, untrained_base

    reporter.phase(IMAGES, costs.READING_ALL)
    loaded = [load_model(workspace.registry, step.artifact) for step in steps]
    stats = loaded[-1].pixel_stats
    test = workspace.test_images(adapter, stats)
    train = MNISTDataset.load("train", dataset=adapter.dataset, data_dir=workspace.data_dir, pixel_stats=stats)
    labels = test.labels
    _refuse_without_images(test, [*tasks, *halves.values()])
    reporter.phase(SCORING, scoring)
    untrained = untrained_base(BaseConfig.from_json(steps[0].artifact.config))
    start = predict(untrained, test.images)
    after = [
        finite_logits(state.model, test.images, f"'{step.artifact.name}'")
        for step, state in zip(steps, loaded, strict=True)
    ]
    networks = {"untrained": untrained, "base": loaded[-2].model, "adapter": loaded[-1].model}
    return {
        "artifact": adapter.name, "base": steps[-2].artifact.name, "dataset": adapter.dataset,
        "old": str(halves["old"]), "new": str(halves["new"]) if "new" in halves else None,
        "all": str(adapter.known_digits),
        "halves": [
            {"model": model, "half": half, **_half(logits, labels, digits)}
            for model, logits in (("base", after[-2]), ("adapter", after[-1]))
            for half, digits in halves.items()
        ],
        "intruders": intruders_of(loaded[-2].model, loaded[-1].model, adapter.name, test, halves, threshold),
        "probe_images": len(train.labels), "probes": _probes(reporter, networks, train, test, halves),
        "chain": [step.artifact.name for step in steps], "tasks": [str(task) for task in tasks],
        "transfer": {
            key: _measured(start, after, labels, tasks, known=known) for key, known in (("all", False), ("known", True))
        },
    }  # fmt: skip


def _halves(tasks: Sequence[DigitSet]) -> dict[str, DigitSet]:
    """Return the digits of the earlier tasks as ``old``, and those that the last one added, if any, as ``new``."""
    old = old_digits(tasks)
    new = tasks[-1].without(old)
    return {"old": old} | ({"new": new} if new else {})


def _chain(workspace: Workspace, adapter: Artifact) -> list[Step]:
    """Return the states of a network: its first base, each adapter merged on the way, and this adapter."""
    steps = [Step(adapter, DigitSet.parse(adapter.config["digits"]))]
    base = workspace.registry.parent(adapter)
    while base.parents:
        steps.append(Step(base, DigitSet.parse(base.details["merged"]["adapter_digits"])))
        base = workspace.registry.parent(base)
    return [Step(base, DigitSet.parse(base.config["digits"])), *reversed(steps)]


def _measured(
    untrained: Tensor, after: Sequence[Tensor], labels: Tensor, tasks: Sequence[DigitSet], *, known: bool
) -> Document:
    """Return ``R``, ``untrained`` and the measures of a chain, from logits (n × 10) before any training and after each
    task; ``known`` says whether the task is known at test time.
    """
    from lora_mnist_cli.evaluation.forgetting import accuracy_matrix

    first, *R = accuracy_matrix([untrained, *after], labels, tasks, known=known)
    measures = asdict(transfer(R, first))
    return {"R": R, "untrained": first, **measures, "so_far": list(measures["so_far"])}


def _half(logits: Tensor, labels: Tensor, digits: DigitSet) -> Document:
    """Return accuracy and calibration on some digits, over all ten logits and among their own."""
    from lora_mnist_cli.evaluation.forgetting import accuracy, calibration, masked, rows_of

    rows = rows_of(labels, digits)
    free, true = logits[rows], labels[rows]
    curves = [asdict(calibration(answers, true)) for answers in (free, masked(free, digits))]
    over_all, among_known = [curve | {"bins": list(curve["bins"])} for curve in curves]
    return {
        "digits": str(digits), "count": len(true), "accuracy": accuracy(logits, labels, digits),
        "accuracy_known": accuracy(logits, labels, digits, among=digits),
        "calibration": over_all, "calibration_known": among_known,
    }  # fmt: skip


def _probes(
    reporter: Reporter,
    networks: dict[str, MNISTModel],
    train: MNISTDataset,
    test: MNISTDataset,
    halves: dict[str, DigitSet],
) -> list[Document]:
    """Return the accuracies of a linear probe on each hidden layer of each network, sorted by layer."""
    from lora_mnist_cli.evaluation.forgetting import accuracy, hidden_features
    from lora_mnist_cli.evaluation.probe import fit_probe
    from lora_mnist_cli.system.arithmetic import computing

    rows: dict[str, list[Document]] = {}
    with computing():
        for number, (model, network) in enumerate(networks.items(), start=1):
            reporter.phase(PROBES, costs.PROBES[model], f"{number}/{len(networks)}")
            seen, unseen = hidden_features(network, train.images), hidden_features(network, test.images)
            for layer, features in seen.items():
                if not bool(features.mean(0).isfinite().all()):
                    problem = f"the {model} network has outputs in {layer} whose mean is not finite"
                    raise ArtifactError(problem, value=layer)
                logits = fit_probe(features, train.labels).logits(unseen[layer])
                reached = {half: accuracy(logits, test.labels, digits) for half, digits in halves.items()}
                row = {"layer": layer, "model": model, "old": reached["old"], "new": reached.get("new")}
                rows.setdefault(layer, []).append(row | {"all": accuracy(logits, test.labels, ALL_DIGITS)})
    return [row for of_layer in rows.values() for row in of_layer]


def _refuse_without_images(test: MNISTDataset, digit_sets: Sequence[DigitSet]) -> None:
    present = set(test.labels.tolist())
    for digits in digit_sets:
        if present.isdisjoint(digits):
            raise DataError(f"there are no test images of digits {digits}", value=str(digits))
