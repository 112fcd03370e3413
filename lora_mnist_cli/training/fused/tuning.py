"""How a kernel is compiled, by rank: what decides its speed and no figure beyond rounding."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tuning:
    """Choices for a kernel.

    Args:
        tile: pixels in registers at a time.
        warps: groups of 32 threads in a block.
        stages: tiles of pixels that are loaded ahead.
        way: how products of fp32 numbers are formed; see :mod:`.products`.
    """

    tile: int = 64
    warps: int = 4
    stages: int = 2
    way: str = "ieee"


TRAINING: dict[int, Tuning] = {16: Tuning(), 32: Tuning(), 64: Tuning(tile=32, warps=8)}
"""By padded rank."""
SCORING = Tuning()
SCORED_AT_ONCE = 64
"""Images per block in scoring."""
