"""The options of a picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.settings.grid import Axis, Value
from lora_mnist_cli.stages.intruding import check_threshold
from lora_mnist_cli.stages.records.resolving import finite
from lora_mnist_cli.system.caller import plain
from lora_mnist_cli.system.errors import UsageError


@dataclass(frozen=True)
class PlotOptions:
    """The choices that a user has for a picture; a kind refuses those that mean nothing to it.

    Args:
        digits: the test images shown or counted; by default the digits that the artifact learned.
        alpha: takes the place of the trained alpha.
        count: how many images a grid shows.
        where: field → value: which results of a sweep are drawn, where it varies more than rank and seed.
        beside: names of further artifacts drawn in the same picture.
        axes: the two settings of a sweep that a landscape is drawn over, for its columns and its rows.
        threshold: count intruder dimensions too, by this cosine.

    Raises:
        UsageError: for an alpha that is not finite, or a count or threshold out of range.
    """

    digits: DigitSet | None = None
    alpha: float | None = None
    count: int | None = None
    where: Mapping[str, Value] = field(default_factory=dict)
    beside: tuple[str, ...] = ()
    axes: tuple[Axis, ...] = ()
    threshold: float | None = None

    def __post_init__(self) -> None:
        for name in ("alpha", "count", "threshold"):
            object.__setattr__(self, name, plain(getattr(self, name)))
        if self.alpha is not None:
            finite(self.alpha)
        if self.threshold is not None:
            check_threshold(self.threshold)
        if self.count is not None and not 1 <= self.count <= 500:
            raise UsageError(f"a grid shows 1 to 500 images, not {self.count}", value=self.count)

    def given(self) -> list[str]:
        """Return the names of the options that were set."""
        return [name for name, value in vars(self).items() if value not in (None, {}, ())]
