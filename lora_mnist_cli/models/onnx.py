"""Models as files for other programs, with the normalisation inside or beside them."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from lora_mnist_cli.models.mlp import MNISTModel
from lora_mnist_cli.system.errors import UsageError
from lora_mnist_cli.system.extras import install_command
from lora_mnist_cli.system.files import machine_errors
from lora_mnist_cli.system.output_file import is_plain, output_file

OPSET = 18


class WithNormalisation(nn.Module):
    """Logits (n × 10) of images (n × 28 × 28) whose pixels go from 0 to 1, by a model of normalised images."""

    def __init__(self, model: nn.Module, mean: float, std: float) -> None:
        super().__init__()
        self.model, self.mean, self.std = model, mean, std

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logits."""
        logits: Tensor = self.model((images - self.mean) / self.std)
        return logits


def encoded(model: MNISTModel, stats: tuple[float, float], format_name: str, metadata: Mapping[str, str]) -> bytes:
    """Encode a plain model as the content of a file.

    Args:
        stats: mean and standard deviation of the normalisation of its inputs.
        format_name: ``safetensors``, ``state-dict`` (for ``torch.load(…, weights_only=True)``) or ``onnx``.
        metadata: texts that go into the file, where its format has a place for them.

    Raises:
        UsageError: for ``onnx`` where its packages are not installed.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    if format_name == "safetensors":
        return safetensors.torch.save(tensors, metadata=dict(metadata))
    if format_name == "state-dict":
        buffer = io.BytesIO()
        torch.save({name: tensor.clone() for name, tensor in tensors.items()}, buffer)
        return buffer.getvalue()
    return onnx_of(model, stats, metadata)


def onnx_of(model: nn.Module, stats: tuple[float, float], metadata: Mapping[str, str]) -> bytes:
    """Encode a model as an ONNX file that takes any number of images, pixels from 0 to 1; raises as :func:`encoded`."""
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise UsageError(f"{error.name} is not installed", hint=install_command("onnx"), value="onnx") from error
    example = torch.zeros(2, 28, 28)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        program: Any = torch.onnx.export(
            WithNormalisation(model, *stats).eval(), (example,), input_names=["images"], output_names=["logits"],
            opset_version=OPSET, dynamo=True, dynamic_shapes={"images": {0: torch.export.Dim("n", min=1)}},
            verbose=False,
        )  # fmt: skip
    exported = program.model_proto
    for key, value in metadata.items():
        exported.metadata_props.add(key=key, value=value)
    content: bytes = exported.SerializeToString()
    return content


def write_export(
    path: Path, content: bytes | Mapping[str, bytes], described: Mapping[str, Any], *, force: bool
) -> Path:
    """Write a file, or a folder of files, and beside it a JSON file that describes it; returns the path of the JSON.

    Args:
        content: the content of the file, or of each file of a folder by name.

    Raises:
        UsageError: where one of the two exists and ``force`` is not given.
        MachineError: where they can't be written.
    """
    beside = path.with_name(f"{path.name}.json")
    if not (is_plain(path) or path.is_dir()):
        problem = f"{path} is no plain file, and the description can't lie beside it"
        raise UsageError(problem, hint="choose another --output", value=str(path))
    for target in (path, beside):
        if target.exists() and not force:
            raise UsageError(f"{target} exists", hint="--force replaces it", value=str(target))
    text = json.dumps(described, indent=2, allow_nan=False) + "\n"
    with machine_errors(f"can't write {path}", "--output"):
        if isinstance(content, bytes):
            files = {path: content}
        else:
            path.mkdir(exist_ok=True)
            files = {path / name: part for name, part in content.items()}
        for target, part in (*files.items(), (beside, text.encode())):
            with output_file(target) as file:
                file.write(part)
    return beside
