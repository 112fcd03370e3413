"""Exporting a base, or an adapter merged into its base, as a file for other programs; or an adapter for PEFT."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_mnist_cli.models.methods import mathematics_of
from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.stages.exporting_as_lora import lora_of
from lora_mnist_cli.stages.records.resolving import chosen_alpha
from lora_mnist_cli.stages.workspace import Workspace
from lora_mnist_cli.system.caller import stage
from lora_mnist_cli.system.errors import UsageError, refuse_unknown

if TYPE_CHECKING:
    from lora_mnist_cli.models.mlp import MNISTModel

FORMATS = {"safetensors": ".safetensors", "onnx": ".onnx", "state-dict": ".pt", "peft": "-peft"}
"""Format → suffix of its file or folder, after the artifact's name."""
_INPUTS = {
    True: "n × 28 × 28 float32, light on dark, pixels from 0 to 1; the normalisation is inside",
    False: "n × 784 float32, light on dark, pixels from 0 to 1, then (pixel - mean) / std",
}


@stage
def export_model(
    name: str, format_name: str | None = None, *, alpha: float | None = None, as_lora: int | None = None,
    output: Path | str | None = None, force: bool = False, workspace: Workspace | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Write a model as one plain network, with any adapter merged into its weights; or the adapter for PEFT.

    Args:
        format_name: one of :data:`FORMATS`; by default that of the suffix of ``output``, or else ``safetensors``.
            ``peft`` is a folder with the adapter's two files, and takes no base.
        alpha: of an adapter, in place of the trained one.
        as_lora: a rank; with ``peft``, the adapter is written as the plain LoRA of that rank that is nearest to its
            change, whatever its method.
        output: the file; by default in the current folder, the artifact's name with the format's suffix.

    Returns:
        The description written beside it as JSON: ``file``, ``format``, ``artifact`` and ``base`` (name and digest),
        ``alpha`` (None for a base), ``layers``, ``activation``, ``input``, ``normalisation``, ``dataset``,
        ``digits``; and ``as_lora`` where that is asked for
        (see :func:`~lora_mnist_cli.stages.exporting_as_lora.lora_of`).

    Raises:
        UsageError: where there is no such format, the file exists, ONNX's packages are not installed, alpha is not
            finite or given for a base, or PEFT has no such adapter.
        ArtifactError: where the artifact or its base is missing, damaged or doesn't fit, or alpha is too large for it.
        MachineError: where it can't be written.
    """
    format_name = _format(format_name, output, "safetensors")
    workspace = workspace or Workspace()
    artifact = workspace.registry.get(name, *(("adapter",) if format_name == "peft" else ("adapter", "base")))
    chosen = chosen_alpha(artifact, alpha)
    if as_lora is not None and format_name != "peft":
        raise UsageError("--as-lora writes an adapter for PEFT", hint="add --format peft", value=as_lora)
    content: bytes | Mapping[str, bytes] = b""
    more: dict[str, Any] = {}
    if as_lora is not None:
        assert chosen is not None
        content, held = lora_of(workspace.registry, artifact, chosen, as_lora)
        more = {"as_lora": held}
    elif format_name == "peft":
        content = _peft_files(artifact, chosen)

    from lora_mnist_cli.models.onnx import encoded, write_export
    from lora_mnist_cli.stages.records.loading import load_model

    loaded = load_model(workspace.registry, artifact)
    mean, std = loaded.pixel_stats
    at = "" if alpha is None or alpha == artifact.config["alpha"] else f"-a{alpha:g}"
    at += "" if as_lora is None else f"-lora-r{as_lora}"
    path = Path(output or f"{artifact.name}{at}{FORMATS[format_name]}")
    described: dict[str, Any] = {
        "file": path.name, "format": format_name, "artifact": {"name": artifact.name, "digest": artifact.digest},
        "base": {"name": loaded.base.name, "digest": loaded.base.digest}, "alpha": chosen,
        "layers": loaded.base.details["layers"], "activation": "relu", "input": _INPUTS[format_name == "onnx"],
        "normalisation": {"mean": mean, "std": std}, "dataset": artifact.dataset, "digits": artifact.config["digits"],
        **more,
    }  # fmt: skip
    if not content:
        _merge(loaded.model, chosen, artifact.name)
        metadata = {"artifact": artifact.name, "digest": artifact.digest, "mean": repr(mean), "std": repr(std)}
        content = encoded(loaded.model, loaded.pixel_stats, format_name, metadata)
    write_export(path, content, described, force=force)
    return described | {"file": str(path)}


def _format(given: str | None, output: Path | str | None, default: str) -> str:
    """Return the format that is given, or that a file's suffix tells; a UsageError refuses two that differ."""
    if given is not None:
        refuse_unknown("format", given, list(FORMATS), "formats:")
    suffix = Path(output).suffix.lower() if output is not None else ""
    told = next((name for name, ending in FORMATS.items() if ending == suffix), None)
    if None not in (given, told) and given != told:
        hint = f"--format {told}, or another name for the file"
        raise UsageError(f"'{output}' has the suffix of {told}, and the format is {given}", hint=hint, value=given)
    return given or told or default


@stage
def export_routed(
    names: Sequence[str], format_name: str | None = None, *, by: str | None = None, output: Path | str | None = None,
    force: bool = False, workspace: Workspace | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Write experts behind a router as one graph: images in, log probabilities of the digits out.

    Args:
        names, by: as :func:`lora_mnist_cli.stages.evaluating_routed.load_experts` has them.
        format_name: ``onnx``; a router is no plain network, so its tensors alone would be of no use.

    Returns:
        The description written beside it as JSON: ``file``, ``format``, ``artifact`` (None), ``base`` and ``experts``
        (name, digest, digits), ``route_by``, ``input``, ``output``, ``normalisation`` and ``dataset``.
    """
    format_name = _format(format_name, output, "onnx")
    if format_name != "onnx":
        raise UsageError(f"a router has no form '{format_name}'", hint="--format onnx", value=format_name)
    workspace = workspace or Workspace()
    from lora_mnist_cli.stages.evaluating_routed import load_experts

    experts = load_experts(names, by=by, workspace=workspace)
    from lora_mnist_cli.models.onnx import onnx_of, write_export

    path = Path(output or f"routed-{experts.artifacts[-1].name}.onnx")
    mean, std = experts.pixel_stats
    described: dict[str, Any] = {
        "file": path.name, "format": format_name, "artifact": None,
        "base": {"name": experts.base.name, "digest": experts.base.digest},
        "experts": [
            {"name": expert.name, "digest": expert.digest, "digits": expert.config["digits"]}
            for expert in experts.artifacts
        ],
        "route_by": experts.by, "input": _INPUTS[True], "output": "n × 10 float32, log probabilities of the digits",
        "normalisation": {"mean": mean, "std": std}, "dataset": experts.base.dataset,
    }  # fmt: skip
    metadata = {
        "experts": ",".join(expert.name for expert in experts.artifacts),
        "digests": ",".join(expert.digest for expert in experts.artifacts), "mean": repr(mean), "std": repr(std),
    }  # fmt: skip
    write_export(path, onnx_of(experts.model, experts.pixel_stats, metadata), described, force=force)
    return described | {"file": str(path)}


def _peft_files(adapter: Artifact, alpha: float | None) -> dict[str, bytes]:
    """Return PEFT's two files for an adapter at an alpha, or say why PEFT has no such adapter."""
    config = AdapterConfig.from_json(adapter.config)
    method = mathematics_of(config)
    hint = "--format safetensors writes the merged model"
    if not method.changes_biases:
        hint += ", and --as-lora 8 the nearest LoRA of rank 8"
    if method.not_in_peft:
        problem = f"PEFT can't say what '{adapter.name}' is, by {config.method}: {method.not_in_peft}"
        raise UsageError(problem, hint=hint, value=config.method)
    assert alpha is not None
    if alpha != config.alpha and method.alpha_not_in_peft:
        raise UsageError(
            f"PEFT can't say what '{adapter.name}' is at alpha {alpha:g}: by {config.method}, alpha multiplies the "
            f"whole change here, and {method.alpha_not_in_peft}",
            hint=hint, value=alpha,
        )  # fmt: skip
    from lora_mnist_cli.registry.file_names import ADAPTER_FILE
    from lora_mnist_cli.registry.weights import ADAPTER_CONFIG_FILE, peft_json

    at = dataclasses.replace(config, alpha=alpha, epochs=0)  # a config that is to be trained can't have alpha 0
    described = peft_json(at, sorted(config.target_layers or ()))
    assert described is not None
    return {ADAPTER_FILE: adapter.read(ADAPTER_FILE), ADAPTER_CONFIG_FILE: described}


def _merge(model: MNISTModel, alpha: float | None, name: str) -> None:
    from lora_mnist_cli.models import lora
    from lora_mnist_cli.stages.records.loading import merge_into_base

    if alpha is not None:
        lora.set_alpha(model, alpha)
    merge_into_base(model, f"'{name}'" if alpha is None else f"'{name}' merged at alpha {alpha:g}")
