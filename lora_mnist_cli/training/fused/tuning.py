"""How the kernels are compiled: what decides their speed, and no figure beyond rounding."""

from __future__ import annotations

from dataclasses import dataclass

from lora_mnist_cli.training.fused.plan import Shape


@dataclass(frozen=True)
class Tuning:
    """Choices for a kernel.

    Args:
        tile: pixels in registers at a time.
        warps: groups of 32 threads in a block.
        stages: tiles of pixels that are loaded ahead.
        way: how products of fp32 numbers are formed; see :mod:`.products`. The default is as exact as fp32, and a
            tenth of the code of ``ieee``, whose sums are written out.
    """

    tile: int = 64
    warps: int = 4
    stages: int = 2
    way: str = "bf16x6"


TRAINING: dict[int, Tuning] = {16: Tuning(), 32: Tuning(), 64: Tuning(tile=32, warps=8)}
"""By padded rank."""
SCORING = Tuning()
WIDE = Tuning(tile=32, warps=8)
"""For more than 64 images or units, whose products fill the registers of four warps."""
SCORED_AT_ONCE = 64
"""Images per block in scoring."""


def for_training(shape: Shape) -> Tuning:
    """Return how the kernel that trains is compiled."""
    return WIDE if max(shape.batch, shape.units) > 64 else TRAINING[shape.rank]


def for_scoring(shape: Shape) -> Tuning:
    """Return how the kernel that scores is compiled."""
    return WIDE if shape.units > 64 else SCORING
