"""What an adapter lost of the digits before it, and what it only outshouts: measured on its whole chain."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from lora_mnist_cli.evaluation.transfer import transfer
from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.settings.config import BaseConfig
from lora_mnist_cli.settings.digits import ALL_DIGITS, DigitSet
from lora_mnist_cli.stages.workspace import Workspace
from lora_mnist_cli.system.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from lora_mnist_cli.data.dataset import MNISTDataset
    from lora_mnist_cli.models.mlp import MNISTModel

Document = dict[str, Any]


@dataclass(frozen=True)
class Step:
    """A state of the network in a chain: what it had learned last, and the artifact that holds it."""

    artifact: Artifact
    task: DigitSet


def forgetting(name: str | None = None, *, workspace: Workspace | None = None) -> Document:
    """Take an adapter and its base apart, on the digits before it (old) and those it was the first to learn (new).

    Args:
        name: of an adapter; the newest by default.

    Returns:
        ``artifact``, ``base``, ``dataset``, ``old`` and ``new`` digits (None where the adapter learned no new ones).

        ``halves``: a row for base and adapter on each of them, with ``model``, ``half``, ``digits``, ``count``,
        ``accuracy`` over all ten logits, ``accuracy_known`` with those of other digits masked, and ``calibration`` and
        ``calibration_known``, each with the ``error`` (ECE), mean ``confidence`` and the ``bins``.

        ``probes``: a row a hidden layer and network (``untrained``, ``base``, ``adapter``), with the accuracy of a
        linear probe on ``old``, ``new`` and ``all`` digits; ``probe_images`` is how many training images, of all
        digits, it was fitted on.

        ``transfer``: for ``all`` ten logits, and with the task ``known``: ``R``, ``untrained`` and the measures of
        ``Transfer`` over ``tasks``: the digits of the base, of each adapter that was
        merged on the way, and of this one; ``chain`` has the names of the artifacts.

    Raises:
        ArtifactError: where the adapter or its base is missing, damaged or doesn't fit.
        DataError: where the images can't be had, or digits have no test images.
    """
    workspace = workspace or Workspace()
    adapter = workspace.latest("adapter") if name is None else workspace.registry.get(name, "adapter")
    steps = chain(workspace, adapter)
    base = steps[-2].artifact
    before = {digit for step in steps[:-1] for digit in step.task}
    fresh = [digit for digit in steps[-1].task if digit not in before]
    halves = {"old": DigitSet(before)} | ({"new": DigitSet(fresh)} if fresh else {})

    from lora_mnist_cli.data.dataset import MNISTDataset
    from lora_mnist_cli.evaluation.logits import predict
    from lora_mnist_cli.stages.records.loading import load_model, untrained_base

    loaded = [load_model(workspace.registry, step.artifact) for step in steps]
    stats = loaded[-1].pixel_stats
    test = workspace.test_images(adapter, stats)
    train = MNISTDataset.load("train", dataset=adapter.dataset, data_dir=workspace.data_dir, pixel_stats=stats)
    tasks = [step.task for step in steps]
    _refuse_without_images(test, [*tasks, *halves.values()])
    untrained = untrained_base(BaseConfig.from_json(steps[0].artifact.config))
    start = predict(untrained, test.images)
    after = [predict(each.model, test.images) for each in loaded]
    models: dict[str, MNISTModel] = {"untrained": untrained, "base": loaded[-2].model, "adapter": loaded[-1].model}
    return {
        "artifact": adapter.name,
        "base": base.name,
        "dataset": adapter.dataset,
        "old": str(halves["old"]),
        "new": str(halves["new"]) if fresh else None,
        "halves": [
            {"model": model, "half": half, **_half(logits, test.labels, digits)}
            for model, logits in (("base", after[-2]), ("adapter", after[-1]))
            for half, digits in halves.items()
        ],
        "probe_images": len(train.labels),
        "probes": _probes(models, train, test, halves),
        "chain": [step.artifact.name for step in steps],
        "tasks": [str(task) for task in tasks],
        "transfer": {
            "all": measured(start, after, test.labels, tasks, known=False),
            "known": measured(start, after, test.labels, tasks, known=True),
        },
    }


def chain(workspace: Workspace, adapter: Artifact) -> list[Step]:
    """The states that a network went through, the base that was trained first: each adapter that was merged into a
    base on the way is one, and this one is the last.

    Raises:
        ArtifactError: where one of them is missing or damaged.
    """
    steps = [Step(adapter, DigitSet.parse(adapter.config["digits"]))]
    base = workspace.registry.parent(adapter)
    while base.parents:
        steps.append(Step(base, DigitSet.parse(base.details["merged"]["adapter_digits"])))
        base = workspace.registry.parent(base)
    return [Step(base, DigitSet.parse(base.config["digits"])), *reversed(steps)]


def measured(
    untrained: Tensor, after: Sequence[Tensor], labels: Tensor, tasks: Sequence[DigitSet], *, known: bool
) -> Document:
    """``R``, ``untrained`` and the measures of a chain, from logits (n × 10) of the same images.

    Args:
        untrained: of the network that learned nothing yet.
        after: of its state after each task.
        labels: n.
        known: whether the task is; see :func:`lora_mnist_cli.evaluation.forgetting.accuracy_matrix`.
    """
    from lora_mnist_cli.evaluation.forgetting import accuracy_matrix

    first, *R = accuracy_matrix([untrained, *after], labels, tasks, known=known)
    told = asdict(transfer(R, first))
    return {"R": R, "untrained": first, **told, "so_far": list(told["so_far"])}


def _half(logits: Tensor, labels: Tensor, digits: DigitSet) -> Document:
    from lora_mnist_cli.evaluation.forgetting import accuracy, calibration, masked, rows_of

    rows = rows_of(labels, digits)
    own, true = logits[rows], labels[rows]
    told = [asdict(calibration(each, true)) for each in (own, masked(own, digits))]
    return {
        "digits": str(digits),
        "count": len(true),
        "accuracy": accuracy(logits, labels, digits),
        "accuracy_known": accuracy(logits, labels, digits, among=digits),
        "calibration": told[0] | {"bins": list(told[0]["bins"])},
        "calibration_known": told[1] | {"bins": list(told[1]["bins"])},
    }


def _probes(
    models: dict[str, MNISTModel], train: MNISTDataset, test: MNISTDataset, halves: dict[str, DigitSet]
) -> list[Document]:
    from lora_mnist_cli.evaluation.forgetting import accuracy, hidden_features
    from lora_mnist_cli.evaluation.logits import one_thread
    from lora_mnist_cli.evaluation.probe import fit_probe

    rows: dict[str, list[Document]] = {}
    with one_thread():
        for model, network in models.items():
            seen, unseen = hidden_features(network, train.images), hidden_features(network, test.images)
            for layer, features in seen.items():
                logits = fit_probe(features, train.labels).logits(unseen[layer])
                found = {half: accuracy(logits, test.labels, digits) for half, digits in halves.items()}
                every = accuracy(logits, test.labels, ALL_DIGITS)
                row = {"layer": layer, "model": model, "old": found["old"], "new": found.get("new"), "all": every}
                rows.setdefault(layer, []).append(row)
    return [row for of_layer in rows.values() for row in of_layer]


def _refuse_without_images(test: MNISTDataset, digit_sets: Sequence[DigitSet]) -> None:
    there = set(test.labels.tolist())
    for digits in digit_sets:
        if there.isdisjoint(digits):
            raise DataError(f"there are no test images of digits {digits}", value=str(digits))
