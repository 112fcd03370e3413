"""The intruder dimensions of an adapter, and what its digits do when they are scaled; in tables and in pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.system.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from lora_mnist_cli.data.dataset import MNISTDataset
    from lora_mnist_cli.evaluation.intruders import Intruders
    from lora_mnist_cli.models.mlp import MNISTModel

Document = dict[str, Any]
THRESHOLD = 0.5
"""The cosine below which a singular vector is an intruder; PEFT's default."""
FACTORS = (1.0, 0.75, 0.5, 0.25, 0.0)
"""What intruders are multiplied by; 1 is the adapter as it was trained."""


def check_threshold(threshold: float) -> None:
    """Check a threshold.

    Raises:
        UsageError: where it is not above 0 and at most 1.
    """
    if not (math.isfinite(threshold) and 0 < threshold <= 1):
        raise UsageError(f"the threshold is a cosine above 0 and at most 1, not {threshold:g}", value=threshold)


def intruders_of(
    base: MNISTModel, adapted: MNISTModel, whose: str, test: MNISTDataset, halves: Mapping[str, DigitSet],
    threshold: float,
) -> Document:  # fmt: skip
    """Find the intruders of an adapted network, and score it as they are scaled.

    Returns:
        ``threshold``; ``layers``: a row per layer with ``layer``, ``count``, and the ``cosines`` of its leading
        singular vectors; ``path``: a row per factor with ``factor``, and the accuracies on the ``old`` digits over all
        ten logits, on them with the task known (``old_known``), and on the ``new`` ones (None where there are none).

    Raises:
        ArtifactError: where a weight is not finite.
    """
    from lora_mnist_cli.evaluation.forgetting import accuracy
    from lora_mnist_cli.evaluation.logits import predict
    from lora_mnist_cli.models.lora import merged_weights
    from lora_mnist_cli.models.mlp import MNISTModel
    from lora_mnist_cli.system.arithmetic import computing

    weights = merged_weights(adapted)
    with computing():
        found = find_by_layer(merged_weights(base), weights, whose, threshold)
    network = MNISTModel(adapted.sizes[1:-1])
    path = []
    for factor in FACTORS:
        scaled = {f"{layer}.weight": one.scaled(weights[f"{layer}.weight"], factor) for layer, one in found.items()}
        network.load_state_dict(weights | scaled)
        logits = predict(network, test.images)
        row: Document = {"factor": factor, "old": accuracy(logits, test.labels, halves["old"])}
        row["old_known"] = accuracy(logits, test.labels, halves["old"], among=halves["old"])
        path.append(row | {"new": accuracy(logits, test.labels, halves["new"]) if "new" in halves else None})
    layers = [{"layer": layer, "count": len(one.indices), "cosines": one.cosines} for layer, one in found.items()]
    return {"threshold": threshold, "layers": layers, "path": path}


def find_by_layer(
    base: Mapping[str, Tensor], adapted: Mapping[str, Tensor], whose: str, threshold: float
) -> dict[str, Intruders]:  # fmt: skip
    """Return layer → its intruders, from the weights of two plain networks.

    Raises:
        ArtifactError: where a weight is not finite; it names the layer.
    """
    from lora_mnist_cli.evaluation.intruders import find_intruders, left_vectors
    from lora_mnist_cli.stages.records.loading import refuse_too_large

    found = {}
    for key, weight in base.items():
        if not key.endswith(".weight"):
            continue
        layer = key.removesuffix(".weight")
        refuse_too_large(adapted[key].numpy(), whose, layer)
        found[layer] = find_intruders(left_vectors(weight), adapted[key], threshold=threshold)
    return found
