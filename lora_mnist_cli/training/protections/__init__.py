"""Ways to learn new digits without losing those that the base knows: a file each, and an entry each in
:data:`PROTECTIONS`. No torch.

None of them sees an image of an old digit. What they know of those is what the base's artifact keeps, its weights and
its class statistics. They combine, and are applied in the table's order.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from lora_mnist_cli.training.protections.distill import Distill
from lora_mnist_cli.training.protections.mask import Mask
from lora_mnist_cli.training.protections.nullspace import NullSpace
from lora_mnist_cli.training.protections.protection import Protection, Setting
from lora_mnist_cli.training.protections.replay import Replay, sample_counts

if TYPE_CHECKING:
    from lora_mnist_cli.settings.config import AdapterConfig
    from lora_mnist_cli.settings.digits import DigitSet

__all__ = ["PROTECTIONS", "Protection", "Setting", "in_order", "need_statistics", "samples"]

PROTECTIONS: dict[str, Protection] = {each.name: each for each in (Replay(), NullSpace(), Mask(), Distill())}


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """The names in the table's order, so that the same protections are the same settings; unknown ones come last."""
    known = list(PROTECTIONS)
    return tuple(sorted(names, key=lambda name: known.index(name) if name in known else len(known)))


def need_statistics(config: AdapterConfig) -> bool:
    """Whether a config's protections ask for the class statistics of the base."""
    return any(PROTECTIONS[name].needs_statistics for name in config.protect)


def samples(config: AdapterConfig, images: int, base_digits: DigitSet) -> int:
    """How many sampled images a config adds to so many images of the digits to learn."""
    return sum(sample_counts(config, images, base_digits)) if Replay.name in config.protect else 0
