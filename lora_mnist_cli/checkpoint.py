"""Weights to and from safetensors, with exact checks of keys, shapes and dtypes. Nothing is ever unpickled.

Adapters lie on disk in the format of Hugging Face's PEFT, so that ``PeftModel.from_pretrained`` takes the folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from lora_mnist_cli.artifact import Artifact
from lora_mnist_cli.config import AdapterConfig
from lora_mnist_cli.disk import machine_errors
from lora_mnist_cli.lora import load_lora_state_dict, lora_state_dict
from lora_mnist_cli.weights import (
    ADAPTER_FILE,
    BASE_FILE,
    PEFT_PREFIX,
    parsing,
    read_weights,
    refuse_differences,
    write_adapter,
)


def save_base(model: nn.Module, folder: Path) -> None:
    """Write a plain model's weights as float32 to ``model.safetensors``."""
    _save(model.state_dict(), folder / BASE_FILE)


def load_base(model: nn.Module, artifact: Artifact) -> None:
    """Put a base's weights into a plain model of its sizes.

    Raises:
        ArtifactError: where the file is damaged, or a key, shape or dtype differs; nothing has been changed then.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    model.load_state_dict(_load(artifact, BASE_FILE, shapes))


def save_adapter(model: nn.Module, config: AdapterConfig, folder: Path) -> None:
    """Write an adapted model's factors and PEFT's description of them."""
    layers = sorted({key.rpartition(".")[0] for key in lora_state_dict(model)})
    write_adapter(adapter_bytes(model), config, layers, folder)


def adapter_bytes(model: nn.Module) -> bytes:
    """What an adapted model's file of weights holds."""
    return _bytes({f"{PEFT_PREFIX}{key}.weight": tensor for key, tensor in lora_state_dict(model).items()})


def load_adapter(model: nn.Module, artifact: Artifact) -> None:
    """Put an adapter's factors into a model with adapters of its rank attached.

    Raises:
        ArtifactError: where the file is damaged, or a key, shape or dtype differs; nothing has been changed then.
    """
    shapes = {f"{PEFT_PREFIX}{key}.weight": tuple(tensor.shape) for key, tensor in lora_state_dict(model).items()}
    state = _load(artifact, ADAPTER_FILE, shapes)
    own = {key.removeprefix(PEFT_PREFIX).removesuffix(".weight"): tensor for key, tensor in state.items()}
    load_lora_state_dict(model, own)


def _bytes(state: Mapping[str, Tensor]) -> bytes:
    # Without metadata of several keys the bytes depend on the tensors alone.
    tensors = {name: tensor.detach().to("cpu", torch.float32).contiguous() for name, tensor in state.items()}
    return safetensors.torch.save(tensors, metadata={"format": "pt"})


def _save(state: Mapping[str, Tensor], path: Path) -> None:
    content = _bytes(state)
    with machine_errors(f"can't write {path.name}"):
        path.write_bytes(content)


def _load(artifact: Artifact, file: str, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    with parsing(artifact, file):
        state = safetensors.torch.load(read_weights(artifact, file, shapes))
    types = {torch.float32: "F32"}
    found = {key: (tuple(t.shape), types.get(t.dtype, str(t.dtype))) for key, t in state.items()}
    refuse_differences(artifact, found, shapes)
    return state
