"""A base, or an adapter merged into its base, as a file for other programs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lora_mnist_cli.errors import UsageError, refuse_unknown
from lora_mnist_cli.stages.workspace import Workspace

FORMATS = {"safetensors": ".safetensors", "onnx": ".onnx", "state-dict": ".pt"}
"""Name → suffix of its files."""
_INPUTS = {
    True: "n × 28 × 28 float32, light on dark, pixels from 0 to 1; the normalisation is inside",
    False: "n × 784 float32, light on dark, pixels from 0 to 1, then (pixel - mean) / std",
}


def export_model(
    name: str, form: str, *, output: Path | None = None, force: bool = False, workspace: Workspace | None = None
) -> dict[str, Any]:
    """Write a model as one plain network, whatever adapter it has merged into its weights.

    Args:
        form: one of :data:`FORMATS`.
        output: the file; by default the artifact's name with the format's suffix, in the present folder.

    Returns:
        What is written beside it as JSON: ``file``, ``format``, ``artifact`` and ``base`` (name and digest), ``alpha``
        (None for a base), ``layers``, ``activation``, ``input``, ``normalisation``, ``dataset`` and ``digits``.

    Raises:
        UsageError: where there is no such format, the file is there, or ONNX's packages are not installed.
        ArtifactError: where the artifact or its base is missing, damaged or doesn't fit.
        MachineError: where it can't be written.
    """
    refuse_unknown("format", form, list(FORMATS), "formats:")
    workspace = workspace or Workspace()
    artifact = workspace.registry.get(name, "adapter", "base")

    from lora_mnist_cli import lora
    from lora_mnist_cli.exporting import encoded, write_export
    from lora_mnist_cli.stages.models import load_model

    loaded = load_model(workspace.registry, artifact)
    lora.merge(loaded.model)
    lora.detach(loaded.model)
    path = output or Path(f"{artifact.name}{FORMATS[form]}")
    mean, std = loaded.pixel_stats
    described: dict[str, Any] = {
        "file": path.name,
        "format": form,
        "artifact": {"name": artifact.name, "digest": artifact.digest},
        "base": {"name": loaded.base.name, "digest": loaded.base.digest},
        "alpha": artifact.config["alpha"] if artifact.kind == "adapter" else None,
        "layers": loaded.base.details["layers"],
        "activation": "relu",
        "input": _INPUTS[form == "onnx"],
        "normalisation": {"mean": mean, "std": std},
        "dataset": artifact.dataset,
        "digits": artifact.config["digits"],
    }
    metadata = {"artifact": artifact.name, "digest": artifact.digest, "mean": repr(mean), "std": repr(std)}
    write_export(path, encoded(loaded.model, loaded.pixel_stats, form, metadata), described, force=force)
    return described | {"file": str(path)}


def export_routed(
    names: Sequence[str], form: str = "onnx", *, by: str = "mixture", output: Path | None = None, force: bool = False,
    workspace: Workspace | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Write experts behind a router as one graph: images in, log probabilities of the digits out.

    Args:
        names, by: as :func:`lora_mnist_cli.stages.routing.load_experts` has them.
        form: ``onnx``; a router is no plain network, so its tensors alone would be of no use.

    Returns:
        What is written beside it as JSON: ``file``, ``format``, ``artifact`` (None), ``base`` and ``experts`` (name,
        digest, digits), ``route_by``, ``input``, ``output``, ``normalisation`` and ``dataset``.

    Raises:
        UsageError, ArtifactError, MachineError: as :func:`export_model` and ``load_experts``.
    """
    if form != "onnx":
        raise UsageError(f"a router has no form '{form}'", hint="--format onnx", value=form)
    workspace = workspace or Workspace()
    from lora_mnist_cli.stages.routing import load_experts

    experts = load_experts(names, by=by, workspace=workspace)
    from lora_mnist_cli.exporting import onnx_of, write_export

    path = output or Path(f"routed-{experts.artifacts[-1].name}.onnx")
    mean, std = experts.pixel_stats
    described: dict[str, Any] = {
        "file": path.name, "format": form, "artifact": None,
        "base": {"name": experts.base.name, "digest": experts.base.digest},
        "experts": [
            {"name": each.name, "digest": each.digest, "digits": each.config["digits"]} for each in experts.artifacts
        ],
        "route_by": by, "input": _INPUTS[True], "output": "n × 10 float32, log probabilities of the digits",
        "normalisation": {"mean": mean, "std": std}, "dataset": experts.base.dataset,
    }  # fmt: skip
    metadata = {
        "experts": ",".join(each.name for each in experts.artifacts),
        "digests": ",".join(each.digest for each in experts.artifacts), "mean": repr(mean), "std": repr(std),
    }  # fmt: skip
    write_export(path, onnx_of(experts.model, experts.pixel_stats, metadata), described, force=force)
    return described | {"file": str(path)}
