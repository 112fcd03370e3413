"""What adapters learn from in tests: few images of new digits, and statistics of old ones."""

from __future__ import annotations

from torch import nn

from lora_mnist_cli.data.dataset import MNISTDataset
from lora_mnist_cli.models.densities import ClassStatistics
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.training.objective import ProtectionContext

MEAN, STD = 0.1307, 0.3081


def load(digits: str, count: int) -> MNISTDataset:
    """The first training images of some digits."""
    return MNISTDataset(*MNISTDataset.load("train", DigitSet.parse(digits), pixel_stats=(MEAN, STD))[:count])


def context_of(base: nn.Module, config: AdapterConfig) -> ProtectionContext:
    """A base of 0-4, of which statistics of 400 images are known, and 300 images of 5-9."""
    old = load("0-4", 400)
    statistics = ClassStatistics.fit(old.images, old.labels)
    return ProtectionContext(base, DigitSet.parse("0-4"), config, load("5-9", 300), (MEAN, STD), statistics)
