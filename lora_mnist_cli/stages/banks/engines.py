"""What a plan has to know of the engine that will train it. No torch here."""

from __future__ import annotations

from collections.abc import Sequence

from lora_mnist_cli.models.architecture import CLASSES, PIXELS
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.runtime import Runtime
from lora_mnist_cli.stages.banks.cut import Bank
from lora_mnist_cli.training.bank.grouping import cohorts
from lora_mnist_cli.training.fused.plan import plan_launches
from lora_mnist_cli.training.fused.support import refuse_obstacle


def check_engine(runtime: Runtime, banks: Sequence[Bank], hidden_sizes: Sequence[int]) -> None:
    """Refuse adapters that the engine can't train, before any work, by a UsageError that says what it can't."""
    if runtime.engine_taken == "fused":
        for member in (member for bank in banks for member in bank):
            refuse_obstacle(member.config, (PIXELS, *hidden_sizes, CLASSES))


def trained_together(
    configs: Sequence[AdapterConfig], runtime: Runtime, hidden_sizes: Sequence[int]
) -> list[list[int]]:  # fmt: skip
    """Return which members of a bank take their steps at the same time, which progress counts once."""
    if runtime.engine_taken == "fused":
        return [plan.members for plan in plan_launches(configs, (PIXELS, *hidden_sizes, CLASSES))]
    return [members for members, _ in cohorts(configs)]
