"""Which tensors a weight file has to hold, by the settings alone; and whether it does, by its header. No torch."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, deserialize

from lora_mnist_cli.architecture import layer_shapes, scale
from lora_mnist_cli.artifact import Artifact
from lora_mnist_cli.catalog import refuse_role
from lora_mnist_cli.config import AdapterConfig, BaseConfig
from lora_mnist_cli.disk import machine_errors
from lora_mnist_cli.errors import ArtifactError, make_again

BASE_FILE = "model.safetensors"
ADAPTER_FILE = "adapter_model.safetensors"
ADAPTER_CONFIG_FILE = "adapter_config.json"
PEFT_PREFIX = "base_model.model."

MAX_WEIGHTS = 2**31
"""Bytes: ten times the largest network that the options allow; a file that promises more was not made here."""
_MAX_HEADER = 2**20

Shapes = Mapping[str, tuple[int, ...]]


def base_shapes(base: Artifact) -> dict[str, tuple[int, ...]]:
    """Key → shape of each tensor of a base's file: weight (out × in) and bias (out) of each layer.

    Raises:
        ArtifactError: where its settings make no sense.
    """
    layers = layer_shapes(BaseConfig.from_json(base.config).hidden_sizes)
    if {name: list(shape) for name, shape in layers.items()} != base.details["layers"]:
        raise ArtifactError(f"'{base.name}' is damaged: its layers are not those of its settings", value=base.name)
    shapes: dict[str, tuple[int, ...]] = {}
    for name, (fan_in, fan_out) in layers.items():
        shapes |= {f"{name}.weight": (fan_out, fan_in), f"{name}.bias": (fan_out,)}
    return shapes


def adapter_shapes(adapter: Artifact, base: Artifact) -> dict[str, tuple[int, ...]]:
    """Key → shape of each tensor of an adapter's file: ``lora_A`` (rank × in) and ``lora_B`` (out × rank).

    Raises:
        ArtifactError: where its settings make no sense, or the base has no such layer.
    """
    config = AdapterConfig.from_json(adapter.config)
    refuse_role(adapter.name, "base", base.name, base.kind)
    shapes: dict[str, tuple[int, ...]] = {}
    for name in config.target_layers or ():
        if name not in base.details["layers"]:
            raise ArtifactError(f"'{adapter.name}' adapts {name}, which '{base.name}' has not", value=name)
        fan_in, fan_out = base.details["layers"][name]
        prefix = f"{PEFT_PREFIX}{name}."
        shapes |= {
            f"{prefix}lora_A.weight": (config.rank, fan_in),
            f"{prefix}lora_B.weight": (fan_out, config.rank),
        }
    return shapes


def check_size(artifact: Artifact, file: str, shapes: Shapes) -> None:
    """Compare the size of a weight file with what its tensors need. A file that is too large is not read.

    Raises:
        ArtifactError: where there is no such file, or it can't hold such tensors; it names those that lack.
    """
    if file not in artifact.files:
        artifact.read(file)  # says that there is none
    size = artifact.files[file]["bytes"]
    need = 4 * sum(math.prod(shape) for shape in shapes.values())
    if need <= size <= need + _MAX_HEADER and need <= MAX_WEIGHTS:
        return
    if size < need <= MAX_WEIGHTS:
        refuse_differences(artifact, _header(artifact, file), shapes)
    raise ArtifactError(
        f"'{artifact.name}' does not fit: {file} has {size:,} bytes, and its tensors need {need:,}",
        hint=make_again(artifact.name),
        value=file,
    )


def read_weights(artifact: Artifact, file: str, shapes: Shapes) -> bytes:
    """A weight file whose size fits its tensors.

    Raises:
        ArtifactError: where the file is missing or damaged, or its size does not fit.
    """
    check_size(artifact, file, shapes)
    return artifact.read(file)


@contextlib.contextmanager
def parsing(artifact: Artifact, file: str) -> Iterator[None]:
    """What the parser of a weight file complains of inside is the artifact's damage.

    Raises:
        ArtifactError: then.
    """
    try:
        yield
    except SafetensorError as error:
        raise ArtifactError(f"'{artifact.name}' is damaged: {file}: {error}", value=file) from error
    except KeyError as error:  # the format knows more types than the parser can make tensors of
        raise ArtifactError(
            f"'{artifact.name}' does not fit: {file} has a tensor as {error}, not F32", value=file
        ) from error


def differences(found: Mapping[str, tuple[tuple[int, ...], str]], shapes: Shapes) -> list[str]:
    """What keys, shapes and types (``F32``) differ in from what has to be there, a sentence each.

    Args:
        found: key → shape and type.
    """
    problems = [f"lacks {key}" for key in shapes if key not in found]
    problems += [f"has the unknown {key}" for key in found if key not in shapes]
    for key, shape in shapes.items():
        if key in found and found[key][0] != shape:
            problems.append(f"has {key} of shape {found[key][0]}, not {shape}")
        if key in found and found[key][1] != "F32":
            problems.append(f"has {key} as {found[key][1]}, not F32")
    return problems


def refuse_differences(artifact: Artifact, found: Mapping[str, tuple[tuple[int, ...], str]], shapes: Shapes) -> None:
    """Refuse tensors that are not those that have to be there, whether of a base or of an adapter.

    Raises:
        ArtifactError: with all of :func:`differences`.
    """
    if problems := differences(found, shapes):
        raise ArtifactError(
            f"{artifact.kind} '{artifact.name}' does not fit: it {'; it '.join(problems)}", value=problems
        )


def check_header(artifact: Artifact, base: Artifact) -> None:
    """Compare the header of an artifact's weights with its settings; a sweep, a report or what diverged has none.

    Args:
        base: the base of an adapter, or the artifact itself.

    Raises:
        ArtifactError: where the file is damaged, or a key, shape or type differs.
    """
    if artifact.kind not in ("base", "adapter") or artifact.details.get("failed"):
        return
    file = BASE_FILE if artifact.kind == "base" else ADAPTER_FILE
    shapes = base_shapes(artifact) if artifact.kind == "base" else adapter_shapes(artifact, base)
    check_size(artifact, file, shapes)
    refuse_differences(artifact, _header(artifact, file), shapes)


def check_finite(artifact: Artifact) -> None:
    """Look for values that are no numbers in an artifact's weights: what diverged has no weights, and says so.

    Raises:
        ArtifactError: where there are some; it names the tensors.
    """
    file = {"base": BASE_FILE, "adapter": ADAPTER_FILE}.get(artifact.kind)
    if file is None or artifact.details.get("failed"):
        return
    import numpy as np

    with parsing(artifact, file):
        tensors = deserialize(artifact.read(file))  # type: ignore[no-untyped-call]
    odd = [key for key, tensor in tensors if not np.isfinite(np.frombuffer(tensor["data"], "<f4")).all()]
    if odd:
        raise ArtifactError(
            f"{artifact.kind} '{artifact.name}' has values that are no finite numbers in {', '.join(odd)}",
            hint=make_again(artifact.name),
            value=odd,
        )


def write_adapter(weights: bytes, config: AdapterConfig, layers: list[str], folder: Path) -> None:
    """Write an adapter's file of weights, and PEFT's description of it.

    Raises:
        MachineError: where they can't be written.
    """
    with machine_errors(f"can't write {ADAPTER_FILE}"):
        (folder / ADAPTER_FILE).write_bytes(weights)
    text = json.dumps(peft_config(config, layers), indent=2) + "\n"
    with machine_errors(f"can't write {ADAPTER_CONFIG_FILE}"):
        (folder / ADAPTER_CONFIG_FILE).write_text(text, encoding="utf-8")


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


def _header(artifact: Artifact, file: str) -> dict[str, tuple[tuple[int, ...], str]]:
    with parsing(artifact, file):
        tensors = deserialize(artifact.read(file))  # type: ignore[no-untyped-call]
    return {key: (tuple(tensor["shape"]), str(tensor["dtype"])) for key, tensor in tensors}
