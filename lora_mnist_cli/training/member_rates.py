"""The learning rates of many members, each on its own schedule."""

from __future__ import annotations

from collections.abc import Sequence

from lora_mnist_cli.settings.config import TrainingConfig
from lora_mnist_cli.training.optimizers import Plateau


class MemberRates:
    """Each member's learning rate. A schedule acts on each member alone: it watches that member's rate.

    Args:
        configs: each member's.

    Attributes:
        full: each member's rate; on the cosine schedule, its peak.
        cosine: which members are on the cosine schedule.
        share: of their peak, which these use at present.
    """

    def __init__(self, configs: Sequence[TrainingConfig]) -> None:
        self.full = [config.rate for config in configs]
        self.cosine = [config.schedule == "cosine" for config in configs]
        self.share = 1.0
        self._schedules = [Plateau(config.rate) if config.schedule == "plateau" else None for config in configs]

    @property
    def now(self) -> list[float]:
        """Each member's present learning rate."""
        return [rate * self.share if moves else rate for rate, moves in zip(self.full, self.cosine, strict=True)]

    def watch(self, losses: Sequence[float]) -> bool:
        """Let each member's schedule see its loss; return whether a rate changes."""
        before = list(self.full)
        for member, (schedule, loss) in enumerate(zip(self._schedules, losses, strict=True)):
            if schedule is not None:
                schedule.watch(loss)
                self.full[member] = schedule.rate
        return self.full != before
