"""What the tests of models share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from lora_mnist_cli.data.dataset import MNISTDataset


@pytest.fixture(scope="session")
def images(small_images: Callable[..., tuple[Any, Any]]) -> MNISTDataset:
    """200 small images."""
    pixels, labels = small_images(200)
    return MNISTDataset(torch.tensor(pixels / 255.0).float().flatten(1), torch.tensor(labels).long())
