"""Small models with adapters by any method, trained here and by a plain loop of PyTorch."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lora_mnist_cli.data.dataset import MNISTDataset, ShuffledBlocks, split_rows
from lora_mnist_cli.models import adapted_linear, lora
from lora_mnist_cli.models.mlp import MNISTModel
from lora_mnist_cli.registry.checkpoint import save_adapter
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.training.bank.trainer import fit_bank

LAYERS = {"fc1": (784, 16), "fc2": (16, 12), "fc3": (12, 10)}


def settings(method: str, **more: Any) -> AdapterConfig:
    layers = ("fc3",) if method == "head" else ("fc1", "fc2", "fc3")
    own = {"target_layers": layers, "epochs": 2, "batch_size": 16, "lr": 0.01, "weight_decay": 0.1} | more
    return AdapterConfig(method=method, **own)


def plain() -> MNISTModel:
    torch.manual_seed(0)
    return MNISTModel((16, 12))


def adapted(config: AdapterConfig, base: MNISTModel | None = None) -> nn.Module:
    model = copy.deepcopy(base or plain())
    torch.manual_seed(1)
    return adapted_linear.attach(model, config)


def train(config: AdapterConfig, images: MNISTDataset) -> nn.Module:
    model = adapted(config)
    (outcome,) = fit_bank([model], images, [config])
    assert outcome.failed is None
    return model


def compare_with_peft(model: nn.Module, config: AdapterConfig, images: MNISTDataset, folder: Path) -> None:
    """Save a trained model's adapter, load it by PEFT, and compare the logits, which the adapter has to change."""
    peft = pytest.importorskip("peft")
    save_adapter(model, config, folder)
    theirs = peft.PeftModel.from_pretrained(plain(), folder)
    with torch.no_grad():
        torch.testing.assert_close(theirs(images.images), model(images.images), rtol=1e-4, atol=1e-5)
        assert float((model(images.images) - plain()(images.images)).abs().max()) > 0.01


def compare_with_peft_training(
    theirs: Any, config: AdapterConfig, images: MNISTDataset, *, atol: float = 3e-4, least: float = 0.02
) -> None:
    """Train an adapter here and PEFT's by a plain loop, and compare: the logits, and the weights when merged.

    The weights have a tenth of the tolerance, and some logit has to be changed by ``least``.
    """
    ours = train(config, images)
    loop(theirs, config, images, [{"params": [p for p in theirs.parameters() if p.requires_grad]}])
    theirs.eval()
    with torch.no_grad():
        torch.testing.assert_close(ours(images.images), theirs(images.images), rtol=1e-3, atol=atol)
        assert float((ours(images.images) - plain()(images.images)).abs().max()) > least
    merged = theirs.merge_and_unload()
    for name, layer in lora.adapted_layers(ours).items():
        reached = layer.base.weight + layer.change()[0]
        torch.testing.assert_close(reached, merged.get_submodule(name).weight, rtol=1e-3, atol=atol / 10)


def batches(config: AdapterConfig, images: MNISTDataset) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches that a training with that config sees, epoch by epoch."""
    rows, _ = split_rows(len(images), config.val_split, config.seed)
    order = ShuffledBlocks(images, rows, config.batch_size, config.seed)
    for _ in range(config.epochs):
        for block in order:
            for batch in torch.split(block, config.batch_size):
                yield images[batch]


def loop(
    model: nn.Module, config: AdapterConfig, images: MNISTDataset, groups: list[dict[str, Any]], forward: Any = None
) -> None:
    """A plain loop, written without anything of the program's."""
    kind = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[config.optimizer]
    optimizer = kind(groups, lr=config.lr, weight_decay=config.weight_decay or 0.0)
    for x, y in batches(config, images):
        optimizer.zero_grad()
        F.cross_entropy((forward or model)(x), y).backward()
        optimizer.step()
