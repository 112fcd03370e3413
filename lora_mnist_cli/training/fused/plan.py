"""Which adapters share a launch, and the padded numbers that its kernel is compiled for. No torch.

A kernel is compiled for a shape, and each member is padded to it. What members have of their own (seed, order, rank,
rates, decay, alpha, layers) are numbers that the kernel reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lora_mnist_cli.settings.adapter_config import AdapterConfig

LEAST = 16
"""The smallest side of a product on tensor cores."""


def padded(number: int) -> int:
    """Return the side of a product that holds a number: a power of two, at least 16."""
    return max(LEAST, 1 << (number - 1).bit_length())


@dataclass(frozen=True)
class Shape:
    """The numbers that a kernel is compiled for.

    Args:
        sizes: features of the input, of each hidden layer, and classes; as they are.
        rank: padded, as are the next three.
        batch: images per step.
        units: of every hidden layer.
        classes: logits.
    """

    sizes: tuple[int, ...]
    rank: int
    batch: int
    units: int
    classes: int

    @property
    def depth(self) -> int:
        """How many hidden layers there are."""
        return len(self.sizes) - 2

    def factors(self, layer: int) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
        """Return where A and B of a layer lie in a member's parameters: start, rows and columns of each."""
        fan_out = self.classes if layer == self.depth else self.units
        if layer == 0:
            start, fan_in = 0, self.sizes[0]
        else:
            fan_in = self.units
            start = self.rank * (self.sizes[0] + self.units + (layer - 1) * 2 * self.units)
        end = start + self.rank * fan_in
        return (start, self.rank, fan_in), (end, fan_out, self.rank)

    @property
    def parameters(self) -> int:
        """How many numbers a member's factors take, padded."""
        start, rows, columns = self.factors(self.depth)[1]
        return start + rows * columns


@dataclass(frozen=True)
class LaunchPlan:
    """Members that one launch trains.

    Args:
        members: their places in the bank.
        shape: what they are padded to.
        batch_size: images per step, as it is.
    """

    members: list[int]
    shape: Shape
    batch_size: int


def plan_launches(configs: Sequence[AdapterConfig], sizes: Sequence[int]) -> list[LaunchPlan]:
    """Group members into launches: by padded rank, and by batch size and split, which decide the number of steps.

    The largest rank comes first, as its launch takes longest.
    """
    groups: dict[tuple[int, int, float], list[int]] = {}
    for m, config in enumerate(configs):
        groups.setdefault((padded(config.rank), config.batch_size, config.val_split), []).append(m)
    units, classes = padded(max(sizes[1:-1])), padded(sizes[-1])
    return [
        LaunchPlan(members, Shape(tuple(sizes), rank, padded(batch_size), units, classes), batch_size)
        for (rank, batch_size, _), members in sorted(groups.items(), key=lambda item: -item[0][0])
    ]
