"""Which adapters the fused engine can train. No torch: plans ask too."""

from __future__ import annotations

from collections.abc import Sequence

from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.config import TrainingConfig
from lora_mnist_cli.settings.layer_ranks import UNIFORM
from lora_mnist_cli.system.errors import UsageError

MAX_RANK, MAX_BATCH, MAX_UNITS, MAX_HIDDEN_LAYERS = 64, 128, 128, 3
"""What one thread block has registers and shared memory for."""


def obstacle(config: TrainingConfig, sizes: Sequence[int] | None = None) -> str | None:
    """Return what keeps the fused engine from a training, in a few words; None where nothing does.

    Args:
        sizes: features of the input, of each hidden layer, and classes; None where they are not known yet.
    """
    if not isinstance(config, AdapterConfig) or config.method != "lora":
        return f"{config.method}" if isinstance(config, AdapterConfig) else "a base"
    hidden = sizes[1:-1] if sizes else ()
    checks = (
        (config.precision != "32-true", f"precision {config.precision}"),
        (config.optimizer not in ("adam", "adamw"), f"the optimiser {config.optimizer}"),
        (config.dropout > 0, "dropout"),
        (config.train != "both", f"{config.train} alone"),
        (config.moves_weight, f"the start {config.init}"),
        (bool(config.protect), f"the protection {', '.join(config.protect)}"),
        (config.rank_pattern != UNIFORM, f"layers of several ranks, {config.rank_pattern}"),
        (config.rank > MAX_RANK, f"rank {config.rank}, above {MAX_RANK}"),
        (config.batch_size > MAX_BATCH, f"a batch of {config.batch_size} images, above {MAX_BATCH}"),
        (max(hidden, default=1) > MAX_UNITS, f"{max(hidden, default=1)} units, above {MAX_UNITS}"),
        (len(hidden) > MAX_HIDDEN_LAYERS, f"{len(hidden)} hidden layers, more than {MAX_HIDDEN_LAYERS}"),
    )
    return next((words for found, words in checks if found), None)


def refuse_obstacle(config: TrainingConfig, sizes: Sequence[int] | None = None) -> None:
    """Refuse a training that the fused engine can't do.

    Raises:
        UsageError: with what it can't do.
    """
    if words := obstacle(config, sizes):
        hint = "it trains LoRA adapters by adam or adamw in 32-true; --engine auto trains everything"
        raise UsageError(f"the engine fused does not train {words}", hint=hint, value="fused")
