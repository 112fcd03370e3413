"""The experts' densities on the page to explore, and how base and adapter do behind a router."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lora_mnist_cli.models.densities import ClassStatistics
from lora_mnist_cli.models.router import TEMPERATURE
from lora_mnist_cli.pages.packing import pack_floats
from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.registry.checkpoint import load_statistics
from lora_mnist_cli.registry.file_names import STATISTICS_FILE
from lora_mnist_cli.stages.evaluating_routed import load_experts
from lora_mnist_cli.stages.workspace import Workspace

if TYPE_CHECKING:
    from lora_mnist_cli.data.dataset import MNISTDataset

_INTEGERS = ("digits", "counts", "components")


def routing_record(
    workspace: Workspace, base: Artifact, adapters: Sequence[Artifact], test: MNISTDataset
) -> dict[str, Any]:
    """Return the experts' densities, each once, and for each adapter its pair of them and what the pair gets right.

    Raises:
        ArtifactError: where an expert has no statistics.
    """
    experts: dict[str, tuple[int, ClassStatistics]] = {}
    for artifact in (base, *adapters):
        digest = artifact.files.get(STATISTICS_FILE, {}).get("sha256", artifact.name)
        if digest not in experts:
            experts[digest] = len(experts), load_statistics(artifact)

    def number_of(artifact: Artifact) -> int:
        return experts[artifact.files[STATISTICS_FILE]["sha256"]][0]

    pairs = []
    for adapter in adapters:
        numbers = [number_of(base), number_of(adapter)]
        logits, _ = load_experts([base.name, adapter.name], by="mixture", workspace=workspace).answers(test.images)
        hits = logits.argmax(1) == test.labels
        right = [int((hits & (test.labels == digit)).sum()) for digit in range(10)]
        pairs.append({"adapter": adapter.name, "experts": numbers, "right": right})
    return {
        "temperature": TEMPERATURE, "pairs": pairs,
        "densities": [_packed(statistics) for _, statistics in experts.values()],
    }  # fmt: skip


def _packed(statistics: ClassStatistics) -> dict[str, Any]:
    """Return the statistics of an expert, with the numbers of all tensors that are no integers, one after the other."""
    tensors = statistics.to_tensors()
    floats = {name: tensor for name, tensor in tensors.items() if name not in _INTEGERS}
    return {
        **{name: tensors[name].tolist() for name in _INTEGERS},
        "shapes": {name: list(tensor.shape) for name, tensor in floats.items()},
        "numbers": pack_floats([tensor.float().numpy() for tensor in floats.values()]),
    }
