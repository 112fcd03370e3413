"""The changes that an adapter makes to the weights of its base, per layer, in double precision. No torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_mnist_cli.models.methods import mathematics_of
from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.registry.catalog import Catalog
from lora_mnist_cli.registry.file_names import ADAPTER_FILE
from lora_mnist_cli.registry.weights import BASE_FILE, check_header, parsing
from lora_mnist_cli.settings.adapter_config import AdapterConfig

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Matrices = dict[str, npt.NDArray[np.float64]]


def load_matrices(artifact: Artifact, base: Artifact, file: str) -> Matrices:
    """Return key → tensor of a weight file, after checking it against the settings.

    Args:
        base: the base of an adapter, or the artifact itself.

    Raises:
        ArtifactError: where the file is damaged or does not fit.
    """
    import safetensors.numpy

    check_header(artifact, base)
    with parsing(artifact, file):
        state = safetensors.numpy.load(artifact.read(file))
    return {key: tensor.astype("float64") for key, tensor in state.items()}


def adapter_changes(catalog: Catalog, adapter: Artifact) -> Matrices:
    """Return ``fc1`` → the change of the weight (out × in) at the trained alpha, and ``fc1 bias`` → that of the bias.

    Raises:
        ArtifactError: where the adapter or its base is missing, damaged or does not fit.
    """
    import numpy as np

    config = AdapterConfig.from_json(adapter.config)
    method, base, plain = mathematics_of(config), catalog.parent(adapter), None
    changes = {}
    for layer, own in adapter_tensors(catalog, adapter).items():
        if plain is None and method.needs_weight:
            plain = load_matrices(base, base, BASE_FILE)
        with np.errstate(all="ignore"):
            weight, bias = method.change(own, plain and plain[f"{layer}.weight"], config.for_layer(layer))
        changes[layer] = weight
        if bias is not None:
            changes[f"{layer} bias"] = bias
    return changes


def adapter_tensors(catalog: Catalog, adapter: Artifact) -> dict[str, Matrices]:
    """Return layer → name → tensor of an adapter, from the input layer to the output layer."""
    config = AdapterConfig.from_json(adapter.config)
    tensors = load_matrices(adapter, catalog.parent(adapter), ADAPTER_FILE)
    found = {}
    for layer in config.target_layers or ():
        prefix = f"{mathematics_of(config).prefix}{layer}."
        found[layer] = {key.removeprefix(prefix): each for key, each in tensors.items() if key.startswith(prefix)}
    return found
