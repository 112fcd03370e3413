"""Weights to and from safetensors, with exact checks of keys, shapes and dtypes. Nothing is ever unpickled.

Adapters lie on disk in the format of Hugging Face's PEFT, so that ``PeftModel.from_pretrained`` takes the folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from lora_mnist_cli.architecture import scale
from lora_mnist_cli.artifact import Artifact
from lora_mnist_cli.config import AdapterConfig
from lora_mnist_cli.disk import machine_errors
from lora_mnist_cli.lora import load_lora_state_dict, lora_state_dict
from lora_mnist_cli.weights import (
    ADAPTER_CONFIG_FILE,
    ADAPTER_FILE,
    BASE_FILE,
    PEFT_PREFIX,
    parsing,
    read_weights,
    refuse_differences,
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
    factors = lora_state_dict(model)
    _save({f"{PEFT_PREFIX}{key}.weight": tensor for key, tensor in factors.items()}, folder / ADAPTER_FILE)
    layers = sorted({key.rpartition(".")[0] for key in factors})
    text = json.dumps(peft_config(config, layers), indent=2) + "\n"
    with machine_errors(f"can't write {ADAPTER_CONFIG_FILE}"):
        (folder / ADAPTER_CONFIG_FILE).write_text(text, encoding="utf-8")


def load_adapter(model: nn.Module, artifact: Artifact) -> None:
    """Put an adapter's factors into a model with adapters of its rank attached.

    Raises:
        ArtifactError: where the file is damaged, or a key, shape or dtype differs; nothing has been changed then.
    """
    shapes = {f"{PEFT_PREFIX}{key}.weight": tuple(tensor.shape) for key, tensor in lora_state_dict(model).items()}
    state = _load(artifact, ADAPTER_FILE, shapes)
    own = {key.removeprefix(PEFT_PREFIX).removesuffix(".weight"): tensor for key, tensor in state.items()}
    load_lora_state_dict(model, own)


def peft_config(config: AdapterConfig, layers: list[str]) -> dict[str, Any]:
    """PEFT's ``adapter_config.json`` for an adapter.

    PEFT multiplies the product by ``lora_alpha / r``, or by ``lora_alpha / sqrt(r)`` with ``use_rslora``; so
    ``lora_alpha`` is chosen to make that ``alpha · scale(rank)``.
    """
    rslora = config.scaling == "rslora"
    return {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": None,
        "r": config.rank,
        "lora_alpha": config.alpha if rslora else config.alpha * scale(config.scaling, config.rank) * config.rank,
        "use_rslora": rslora,
        "lora_dropout": config.dropout,
        "target_modules": layers,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "modules_to_save": None,
    }


def _save(state: Mapping[str, Tensor], path: Path) -> None:
    # Without metadata of several keys the bytes depend on the tensors alone.
    tensors = {name: tensor.detach().to("cpu", torch.float32).contiguous() for name, tensor in state.items()}
    content = safetensors.torch.save(tensors, metadata={"format": "pt"})
    with machine_errors(f"can't write {path.name}"):
        path.write_bytes(content)


def _load(artifact: Artifact, file: str, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    with parsing(artifact, file):
        state = safetensors.torch.load(read_weights(artifact, file, shapes))
    types = {torch.float32: "F32"}
    found = {key: (tuple(t.shape), types.get(t.dtype, str(t.dtype))) for key, t in state.items()}
    refuse_differences(artifact, found, shapes)
    return state
