"""Loading models from artifacts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor, nn

from lora_mnist_cli.data.streams import seeded
from lora_mnist_cli.evaluation.logits import overflowing_layer, predict
from lora_mnist_cli.models import adapted_linear, lora
from lora_mnist_cli.models.mlp import MNISTModel
from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.registry.checkpoint import load_adapter, load_base
from lora_mnist_cli.registry.file_names import ADAPTER_FILE
from lora_mnist_cli.registry.registry import Registry
from lora_mnist_cli.registry.weights import BASE_FILE, adapter_shapes, base_shapes, check_size
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.checks import LARGEST
from lora_mnist_cli.settings.config import BaseConfig
from lora_mnist_cli.system.errors import ArtifactError

if TYPE_CHECKING:
    import numpy.typing as npt

_TOO_LARGE = "its weights or its alpha are larger than any training leaves them"


@dataclass(frozen=True)
class LoadedModel:
    """A model with what is needed to use it.

    Args:
        model: the plain base, or the base with the adapter attached and its trained alpha set.
        base: the base's artifact, which is the artifact itself where that is a base.
        pixel_stats: mean and standard deviation that its inputs are normalised with.
    """

    model: MNISTModel
    base: Artifact
    base_config: BaseConfig
    pixel_stats: tuple[float, float]


def untrained_base(config: BaseConfig) -> MNISTModel:
    """Return the network as it is before a base is trained."""
    with seeded(config.seed_of("init"), "init"):
        return MNISTModel(config.hidden_sizes)


def load_model(registry: Registry, artifact: Artifact) -> LoadedModel:
    """Load the model of a base, or of an adapter on the base that it was trained on.

    Raises:
        ArtifactError: where the base is missing or another one, weights are damaged or don't fit, or training failed.
    """
    if reason := artifact.details.get("failed"):
        problem = f"'{artifact.name}' has no weights: its training diverged, {reason}"
        raise ArtifactError(problem, hint="name another, or train it with a lower --lr", value=artifact.name)
    base = artifact if artifact.kind == "base" else registry.parent(artifact)
    for part in {base.name: base, artifact.name: artifact}.values():
        part.check_files()
    base_config = BaseConfig.from_json(base.config)
    # The sizes of files first: a model of absurd settings would fill the memory before its weights are looked at.
    check_size(base, BASE_FILE, base_shapes(base))
    model = MNISTModel(base_config.hidden_sizes)
    load_base(model, base)
    if artifact.kind == "adapter":
        check_size(artifact, ADAPTER_FILE, adapter_shapes(artifact, base))
        adapted_linear.attach(model, AdapterConfig.from_json(artifact.config), start=False)
        load_adapter(model, artifact)
    mean, std = base.details["pixel_stats"]
    return LoadedModel(model, base, base_config, (mean, std))


def finite_logits(model: nn.Module, images: Tensor, whose: str, on: str = "") -> Tensor:
    """Return logits (n × 10) of images (n × 784).

    Args:
        whose: the model, for a message; ``on`` stands behind the word logits there.

    Raises:
        ArtifactError: where one is not finite; it names the layer whose numbers are too large.
    """
    logits = predict(model, images)
    if not bool(logits.isfinite().all()):
        layer = overflowing_layer(model, images)
        problem = f"{whose} has logits{on} that are not finite: the numbers in {layer} are too large"
        raise ArtifactError(problem, hint=_TOO_LARGE, value=layer)
    return logits


def merge_into_base(model: MNISTModel, whose: str) -> None:
    """Merge a model's adapter, at its present alpha, into its layers, so that it is a plain network.

    Raises:
        ArtifactError: where a weight is not finite then; it names the tensors.
    """
    lora.merge(model)
    lora.detach(model)
    if odd := [key for key, tensor in model.state_dict().items() if not bool(tensor.isfinite().all())]:
        problem = f"{whose} has weights that are not finite: {', '.join(odd)}"
        raise ArtifactError(problem, hint=_TOO_LARGE, value=odd)


def refuse_too_large(change: npt.NDArray[np.floating[Any]], whose: str, layer: str) -> None:
    """Refuse a layer's change, or a factor of it, with values that no 32-bit number holds.

    Raises:
        ArtifactError: with the name of the layer.
    """
    if not float(np.abs(change).max(initial=0.0)) <= LARGEST:  # it may be NaN
        problem = f"what {whose} adds to {layer} has values that are no finite numbers of 32 bits"
        raise ArtifactError(problem, hint=_TOO_LARGE, value=layer)


def twin(model: MNISTModel, config: AdapterConfig) -> MNISTModel:
    """Return another model of the same layers with a config's adapters on them; the two share the layers' weights.

    Raises:
        UsageError: where a target layer is none of the model's.
    """
    other = model.sharing_layers()
    with seeded(config.seed_of("init"), "init"):
        adapted_linear.attach(other, config)
    return other
