"""Which tensors a weight file has to hold, by the settings alone; and whether it does, by its header. No torch."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, deserialize

from lora_mnist_cli.models import statistics_file
from lora_mnist_cli.models.architecture import layer_shapes
from lora_mnist_cli.models.methods import mathematics_of, tensor_shapes
from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.registry.file_names import ADAPTER_FILE, DIMENSIONS
from lora_mnist_cli.registry.manifest import refuse_role
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.config import BaseConfig
from lora_mnist_cli.system.errors import ArtifactError, make_again
from lora_mnist_cli.system.files import machine_errors

BASE_FILE = "model.safetensors"
ADAPTER_CONFIG_FILE = "adapter_config.json"
"""PEFT's description; not there for a method that PEFT has not."""

MAX_WEIGHTS = 2**31
"""Bytes: ten times the largest network that the options allow; a file that promises more was not made here."""
_MAX_HEADER = 2**20

Shapes = Mapping[str, tuple[int, ...]]
Tensors = list[tuple[str, dict[str, Any]]]
"""Keys, and ``shape``, ``dtype`` and ``data`` of each."""


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
    """Key → shape of each tensor of an adapter's file, as its method has them.

    Raises:
        ArtifactError: where its settings make no sense, or the base has no such layer.
    """
    config = AdapterConfig.from_json(adapter.config)
    refuse_role(adapter.name, "base", base.name, base.kind)
    layers: dict[str, list[int]] = {}
    for name in config.target_layers or ():
        if name not in base.details["layers"]:
            raise ArtifactError(f"'{adapter.name}' adapts {name}, which '{base.name}' has not", value=name)
        layers[name] = base.details["layers"][name]
    return tensor_shapes(config, layers)


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
        refuse_differences(artifact, _header(_tensors(artifact, file)), shapes)
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
    _checked_tensors(artifact, base)


def check_weights(artifact: Artifact, base: Artifact) -> None:
    """Check all of an artifact's weights, as :func:`check_header` and value by value.

    Raises:
        ArtifactError: as there; and where values are no finite numbers, with the names of the tensors. What diverged
            has no weights, and says so.
    """
    import numpy as np

    tensors = _checked_tensors(artifact, base)
    odd = sorted(key for key, tensor in tensors if not np.isfinite(np.frombuffer(tensor["data"], "<f4")).all())
    if odd:
        raise ArtifactError(
            f"{artifact.kind} '{artifact.name}' has values that are no finite numbers in {', '.join(odd)}",
            hint=make_again(artifact.name),
            value=odd,
        )


def _checked_tensors(artifact: Artifact, base: Artifact) -> Tensors:
    """Return the tensors of an artifact's weights, whose keys, shapes and types are those of its settings."""
    if artifact.kind not in ("base", "adapter") or artifact.details.get("failed"):
        return []
    file = BASE_FILE if artifact.kind == "base" else ADAPTER_FILE
    shapes = base_shapes(artifact) if artifact.kind == "base" else adapter_shapes(artifact, base)
    check_size(artifact, file, shapes)
    tensors = _tensors(artifact, file)
    refuse_differences(artifact, _header(tensors), shapes)
    check_statistics(artifact)
    return tensors


def check_statistics(artifact: Artifact) -> None:
    """Check the size and the content of an artifact's files of statistics, as far as there are any.

    Raises:
        ArtifactError: where it is too large or damaged, or a key, type, shape or value makes no sense.
    """
    for file, dimensions in DIMENSIONS.items():
        if file not in artifact.files:
            continue
        size, most = artifact.files[file]["bytes"], statistics_file.MAX_BYTES
        if size > most:
            raise ArtifactError(
                f"'{artifact.name}' does not fit: {file} has {size:,} bytes, {most:,} at most make sense",
                hint=make_again(artifact.name),
                value=file,
            )
        with parsing(artifact, file):
            problems = statistics_file.problems(artifact.read(file), dimensions)
        if problems:
            raise ArtifactError(
                f"{artifact.kind} '{artifact.name}' does not fit: {file}: {'; '.join(problems)}",
                hint=make_again(artifact.name),
                value=problems,
            )


def write_adapter(weights: bytes, config: AdapterConfig, layers: list[str], folder: Path) -> None:
    """Write an adapter's file of weights, and PEFT's description of it.

    Raises:
        MachineError: where they can't be written.
    """
    with machine_errors(f"can't write {ADAPTER_FILE}"):
        (folder / ADAPTER_FILE).write_bytes(weights)
    described = peft_json(config, layers)
    if described is None:
        return
    with machine_errors(f"can't write {ADAPTER_CONFIG_FILE}"):
        (folder / ADAPTER_CONFIG_FILE).write_bytes(described)


def peft_json(config: AdapterConfig, layers: list[str]) -> bytes | None:
    """The content of PEFT's ``adapter_config.json`` for an adapter; None where PEFT has no such method.

    Raises:
        ArtifactError: where PEFT's alpha, alpha times the rank, is no finite number.
    """
    described = mathematics_of(config).peft(config, layers)
    if not all(math.isfinite((described or {}).get(name, 0.0)) for name in ("lora_alpha", "alpha")):
        raise ArtifactError(f"alpha {config.alpha:g} times rank {config.rank} is no finite number", value=config.alpha)
    return None if described is None else (json.dumps(described, indent=2) + "\n").encode()


def _tensors(artifact: Artifact, file: str) -> Tensors:
    with parsing(artifact, file):
        tensors: Tensors = deserialize(artifact.read(file))  # type: ignore[no-untyped-call]
    return tensors


def _header(tensors: Tensors) -> dict[str, tuple[tuple[int, ...], str]]:
    return {key: (tuple(tensor["shape"]), str(tensor["dtype"])) for key, tensor in tensors}
