"""What the tests of interchange share: the exported base as a stranger has it, and the images that both sides see."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from lora_mnist_cli.evaluation.logits import predict
from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.stages import Workspace
from lora_mnist_cli.stages.exporting import export_model
from lora_mnist_cli.stages.records.loading import load_model


class Stranger(nn.Module):
    """The network as someone writes it who has read the JSON file beside an exported base, and nothing else."""

    def __init__(self, layers: dict[str, list[int]]) -> None:
        super().__init__()
        for name, (fan_in, fan_out) in layers.items():
            self.add_module(name, nn.Linear(fan_in, fan_out))

    def forward(self, images: Tensor) -> Tensor:
        *inner, last = self.children()
        for layer in inner:
            images = layer(images).relu()
        return last(images)  # type: ignore[no-any-return]


@pytest.fixture(scope="session")
def exported(small_trained: Path, small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Stranger]:
    """Loads the small base from what ``export`` wrote of it."""
    file = tmp_path_factory.mktemp("exported") / "base.safetensors"
    described = export_model(
        "base-fashion-mnist-0-4", "safetensors", output=file, workspace=Workspace(small_trained, small_data)
    )

    def load() -> Stranger:
        model = Stranger(described["layers"])
        model.load_state_dict(safetensors.torch.load_file(file))
        return model

    return load


@pytest.fixture
def images(small: Workspace) -> Tensor:
    """The test images (n × 784), normalised as the small base wants them."""
    base = small.registry.get("base-fashion-mnist-0-4")
    return small.test_images(base, tuple(base.details["pixel_stats"])).images.flatten(1)


@pytest.fixture
def our_logits(images: Tensor) -> Callable[[Workspace, Artifact], Tensor]:
    """Logits of an artifact as this program uses it, its adapter beside the base."""
    return lambda workspace, artifact: predict(load_model(workspace.registry, artifact).model, images)


@pytest.fixture
def save_peft(tmp_path: Path) -> Callable[..., Path]:
    """Writes a folder as PEFT does: options over those of a sound adapter of rank 2, and tensors over its own."""

    def save(name: str = "theirs", *, tensors: Any = None, file: bytes | None = None, **options: Any) -> Path:
        import json

        folder = tmp_path / name
        folder.mkdir()
        sizes = {"fc1": (784, 16), "fc2": (16, 12), "fc3": (12, 10)}
        generator = torch.Generator().manual_seed(0)
        state = {}
        for layer, (fan_in, fan_out) in sizes.items():
            for factor, shape in (("A", (2, fan_in)), ("B", (fan_out, 2))):
                state[f"base_model.model.{layer}.lora_{factor}.weight"] = torch.randn(shape, generator=generator) / 20
        for key, tensor in (tensors or {}).items():
            if tensor is None:
                del state[key]
            else:
                state[key] = tensor
        given = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["fc3", "fc1", "fc2"]} | options
        given = {key: value for key, value in given.items() if value is not ...}
        (folder / "adapter_config.json").write_text(json.dumps(given))
        (folder / "adapter_model.safetensors").write_bytes(safetensors.torch.save(state) if file is None else file)
        return folder

    return save
