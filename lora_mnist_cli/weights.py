"""Which tensors a weight file has to hold, by the settings alone; and whether it does, by its header. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping

from lora_mnist_cli.architecture import layer_shapes
from lora_mnist_cli.artifact import Artifact
from lora_mnist_cli.config import AdapterConfig, BaseConfig
from lora_mnist_cli.errors import ArtifactError

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


def read_weights(artifact: Artifact, file: str, shapes: Shapes) -> bytes:
    """A weight file, after its size was compared with what its tensors need: before that, nothing is read.

    Raises:
        ArtifactError: where the file is missing, damaged, or can't hold such tensors; it names those that lack.
    """
    entry = artifact.files.get(file)
    need = 4 * sum(math.prod(shape) for shape in shapes.values())
    if entry is not None and (entry["bytes"] > need + _MAX_HEADER or need > MAX_WEIGHTS):
        raise _misfit(artifact, file, need)
    content = artifact.read(file, MAX_WEIGHTS + _MAX_HEADER)
    if len(content) < need:
        from safetensors import SafetensorError, deserialize

        try:
            tensors = deserialize(content)  # type: ignore[no-untyped-call]
            found = {key: (tuple(tensor["shape"]), str(tensor["dtype"])) for key, tensor in tensors}
        except SafetensorError as error:
            raise ArtifactError(f"'{artifact.name}' is damaged: {file}: {error}", value=file) from error
        refuse_differences(artifact, found, shapes)
        raise _misfit(artifact, file, need)
    return content


def _misfit(artifact: Artifact, file: str, need: int) -> ArtifactError:
    size = artifact.files[file]["bytes"]
    return ArtifactError(
        f"'{artifact.name}' does not fit: {file} has {size:,} bytes, and its tensors need {need:,}",
        hint=f"lora-mnist runs remove {artifact.name}, then make it again",
        value=file,
    )


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
    from safetensors import SafetensorError, safe_open

    file = BASE_FILE if artifact.kind == "base" else ADAPTER_FILE
    shapes = base_shapes(artifact) if artifact.kind == "base" else adapter_shapes(artifact, base)
    read_weights(artifact, file, shapes)
    try:
        with safe_open(artifact.path / file, framework="numpy") as opened:
            slices = {key: opened.get_slice(key) for key in opened.keys()}  # noqa: SIM118 - it is no mapping
            found = {key: (tuple(part.get_shape()), str(part.get_dtype())) for key, part in slices.items()}
    except (SafetensorError, OSError) as error:
        raise ArtifactError(f"'{artifact.name}' is damaged: {file}: {error}", value=file) from error
    refuse_differences(artifact, found, shapes)
