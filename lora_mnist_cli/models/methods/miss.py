"""MiSS (Kang & Yin 2024, arXiv:2409.15371, §4.2): all shards of a weight, each of rank inputs, move by the same matrix.

``W' = W + [D D … D]``, cut at the last input, with ``D`` (out × rank) of zeros at the start: the inputs of a layer are
summed over blocks of as many as the rank, and ``D`` multiplies the sum. There is one factor to train, and nothing
random. This is the paper's efficient form and PEFT's default; PEFT stores ``D`` transposed. An alpha given later
multiplies the change.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lora_mnist_cli.models.methods import Change, Method, PeftKind, Tensors, peft_description
from lora_mnist_cli.settings.adapter_config import AdapterConfig

BLOCK, PLACES = "miss_block", "miss_places"


class MiSS(Method):
    """See the module."""

    needs_weight = True  # for its shape
    alpha_not_in_peft = "PEFT's MiSS has none"
    peft_kind = PeftKind(
        "MISS",
        dropout="miss_dropout",
        values={"bias": ("none",), "init_weights": (True, False)},
        silent=frozenset({"mini_r"}),
    )

    def shapes(self, rank: int, fan_in: int, fan_out: int) -> dict[str, tuple[int, ...]]:
        """``Dᵀ``."""
        return {BLOCK: (rank, fan_out)}

    def largest_rank(self, fan_in: int, fan_out: int) -> int | None:
        """A shard of all inputs."""
        return fan_in

    def trainable(self, config: AdapterConfig, fan_in: int, fan_out: int) -> int:
        """rank · out."""
        return config.rank * fan_out

    def change_rank(self, config: AdapterConfig, fan_in: int, fan_out: int) -> int:
        """That of ``D``."""
        return min(config.rank, fan_in, fan_out)

    def start(self, weight: Any, bias: Any, config: AdapterConfig) -> tuple[dict[str, Any], dict[str, Any]]:
        """Zeros, and fixed ones where an input has its place in a shard."""
        fan_out, fan_in = weight.shape
        places = _side_by_side(weight.new_zeros(config.rank, config.rank).fill_diagonal_(1), -(-fan_in // config.rank))
        return {BLOCK: weight.new_zeros(config.rank, fan_out)}, {PLACES: places[:, :fan_in].contiguous()}

    def factors(self, tensors: Tensors) -> tuple[Any, Any]:
        """The places, which sum the inputs over the shards, and ``D``."""
        return tensors[PLACES], tensors[BLOCK].mT

    def gradients(self, tensors: Tensors, of_A: Any, of_B: Any) -> dict[str, Any]:
        """That by ``D``, transposed."""
        return {BLOCK: of_B.mT}

    def change(self, kept: Tensors, weight: Any, config: AdapterConfig) -> Change:
        """``[D D … D]``."""
        fan_in, rank = weight.shape[1], len(kept[BLOCK])
        return config.alpha * _side_by_side(kept[BLOCK].T, -(-fan_in // rank))[:, :fan_in], None

    def peft(self, config: AdapterConfig, layers: Sequence[str]) -> dict[str, Any] | None:
        """The same shards."""
        return peft_description(
            "MISS", r=config.rank, miss_dropout=config.dropout, target_modules=list(layers), bias="none"
        )


def _side_by_side(matrix: Any, times: int) -> Any:
    if hasattr(matrix, "detach"):
        return matrix.repeat(1, times)
    import numpy as np

    return np.tile(matrix, (1, times))


IMPLEMENTATION = MiSS()
