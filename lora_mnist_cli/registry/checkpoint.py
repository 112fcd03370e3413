"""Weights to and from safetensors, with exact checks of keys, shapes and dtypes. Nothing is ever unpickled.

Adapters lie on disk in the format of Hugging Face's PEFT, so that ``PeftModel.from_pretrained`` takes the folder; what
PEFT has not (full fine-tuning, and that of the last layer) as differences from the base.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from lora_mnist_cli.models.adapted_linear import adapter_tensors, load_adapter_tensors
from lora_mnist_cli.models.densities import ClassStatistics, FeatureStatistics, Mixtures
from lora_mnist_cli.models.lora import adapted_layers
from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.registry.file_names import ADAPTER_FILE, FEATURES_FILE, STATISTICS_FILE
from lora_mnist_cli.registry.weights import (
    BASE_FILE,
    check_statistics,
    parsing,
    read_weights,
    refuse_differences,
    write_adapter,
)
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.system.errors import ArtifactError
from lora_mnist_cli.system.files import machine_errors

_CASCADE = {
    "adapter": ", then make it again",
    "base": " --cascade, then make it and its adapters again",
}


def save_base(model: nn.Module, folder: Path) -> None:
    """Write a plain model's weights as float32 to ``model.safetensors``."""
    save_tensors(model.state_dict(), folder / BASE_FILE)


def load_base(model: nn.Module, artifact: Artifact) -> None:
    """Put a base's weights into a plain model of its sizes.

    Raises:
        ArtifactError: where the file is damaged, or a key, shape or dtype differs; nothing has been changed then.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    model.load_state_dict(load_tensors(artifact, BASE_FILE, shapes))


def save_adapter(model: nn.Module, config: AdapterConfig, folder: Path) -> None:
    """Write what an adapted model has learned, and PEFT's description of it, where PEFT has the method."""
    write_adapter(adapter_bytes(model), config, sorted(adapted_layers(model)), folder)


def adapter_bytes(model: nn.Module) -> bytes:
    """What an adapted model's file of weights holds."""
    return _bytes(adapter_tensors(model))


def load_adapter(model: nn.Module, artifact: Artifact) -> None:
    """Put what an adapter learned into a model with adapters of its method and rank attached, as yet without a start.

    Raises:
        ArtifactError: where the file is damaged, or a key, shape or dtype differs; nothing has been changed then.
    """
    shapes = {key: tuple(tensor.shape) for key, tensor in adapter_tensors(model).items()}
    load_adapter_tensors(model, load_tensors(artifact, ADAPTER_FILE, shapes))


def statistics_bytes(statistics: Mixtures) -> bytes:
    """What a file of statistics holds."""
    tensors = {name: tensor.contiguous() for name, tensor in statistics.to_tensors().items()}
    return safetensors.torch.save(tensors, metadata={"format": "pt"})


def fit_statistics(
    images: Tensor, labels: Tensor, *, like: ClassStatistics | None = None, known: Mapping[str, bytes] | None = None
) -> dict[str, bytes]:
    """Fit the statistics of a training split; return each file of them by name.

    Args:
        images, labels, like: as :meth:`~lora_mnist_cli.models.densities.Mixtures.fit` takes them; features always have
            a basis of their own, because nothing is drawn from them.
        known: the files that are there already.
    """
    files = dict(known or {})
    if STATISTICS_FILE not in files:
        files[STATISTICS_FILE] = statistics_bytes(ClassStatistics.fit(images, labels, like=like))
    if FEATURES_FILE not in files:
        files[FEATURES_FILE] = statistics_bytes(FeatureStatistics.fit(images, labels))
    return files


def load_statistics(artifact: Artifact) -> ClassStatistics:
    """What an artifact remembers of the digits that it was trained on.

    Raises:
        ArtifactError: where it has no such file, which older ones have not, or the file is damaged or makes no sense.
    """
    return ClassStatistics(**_read_statistics(artifact, STATISTICS_FILE, "statistics of its digits"))


def load_features(artifact: Artifact) -> FeatureStatistics:
    """What an artifact remembers of the features of its digits; raises as :func:`load_statistics`."""
    return FeatureStatistics(**_read_statistics(artifact, FEATURES_FILE, "statistics of its digits' features"))


def _read_statistics(artifact: Artifact, file: str, what: str) -> dict[str, Tensor]:
    if file not in artifact.files:
        instead = artifact.instead_of_training
        again = f"lora-mnist runs remove {artifact.name}{_CASCADE[artifact.kind]}"
        raise ArtifactError(
            f"'{artifact.name}' has no {what}: {instead or 'it was made without them'}",
            hint="name one that was trained here" if instead else again,
            value=artifact.name,
        )
    check_statistics(artifact)
    tensors: dict[str, Tensor] = safetensors.torch.load(artifact.read(file))
    return tensors


def _bytes(state: Mapping[str, Tensor]) -> bytes:
    # Without metadata of several keys the bytes depend on the tensors alone.
    tensors = {name: tensor.detach().to("cpu", torch.float32).contiguous() for name, tensor in state.items()}
    return safetensors.torch.save(tensors, metadata={"format": "pt"})


def save_tensors(state: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors as float32 to a safetensors file."""
    content = _bytes(state)
    with machine_errors(f"can't write {path.name}"):
        path.write_bytes(content)


def load_tensors(artifact: Artifact, file: str, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Read a safetensors file of an artifact, whose keys and shapes are known.

    Raises:
        ArtifactError: where the file is missing or damaged, or a key, shape or dtype differs.
    """
    with parsing(artifact, file):
        state = safetensors.torch.load(read_weights(artifact, file, shapes))
    types = {torch.float32: "F32"}
    found = {key: (tuple(t.shape), types.get(t.dtype, str(t.dtype))) for key, t in state.items()}
    refuse_differences(artifact, found, shapes)
    return state
