"""RandLoRA (Albert et al. 2025, arXiv:2502.00987, §4.2): scales of random products whose sum has full rank.

``W' = W + s Σⱼ Bⱼ Λⱼ A Γⱼ`` of n = ⌈d / rank⌉ terms, for a layer whose smaller side is d (equation 4); transposed where
it has more inputs than outputs. ``Λ`` (rank × n) is zero at the start and ``Γ`` (n × d) one over the larger of n
and d. ``s`` is PEFT's default, 20; the paper has 10 / rank for images. ``A`` and all ``Bⱼ`` are never trained: they are
cut out of one random pair, uniform with variance 1, and ``Bⱼ`` is every n-th column of its part, as in PEFT. The seed
gives them back, so the file holds the scales alone.

A lower rank has more terms and more numbers to train. An alpha given later multiplies the change.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lora_mnist_cli.models.methods import PEFT_PREFIX, PeftFiles, Tensors, peft_description
from lora_mnist_cli.models.methods.random_pair import RandomPair, drawn
from lora_mnist_cli.settings.adapter_config import AdapterConfig

LAMBDA, GAMMA = "randlora_lambda", "randlora_gamma"
SCALE = 20


class RandLoRA(RandomPair):
    """See the module."""

    names = ("randlora_A", "randlora_B")

    def shapes(self, rank: int, fan_in: int, fan_out: int) -> dict[str, tuple[int, ...]]:
        """Scales of each base's ranks, and of each base's smaller side."""
        bases, smaller = _bases(rank, fan_in, fan_out), min(fan_in, fan_out)
        return {LAMBDA: (rank, bases), GAMMA: (bases, smaller)}

    def trainable(self, config: AdapterConfig, fan_in: int, fan_out: int) -> int:
        """n · (rank + d)."""
        return _bases(config.rank, fan_in, fan_out) * (config.rank + min(fan_in, fan_out))

    def pair(self, seed: int, rank: int, fan_in: int, fan_out: int) -> tuple[Any, Any]:
        """See :func:`random_pair`."""
        return random_pair(seed, rank, fan_in, fan_out)

    def scales(self, weight: Any, config: AdapterConfig) -> dict[str, Any]:
        """``Λ`` zero and ``Γ`` constant."""
        shapes = self.shapes(config.rank, weight.shape[1], weight.shape[0])
        largest = max(shapes[GAMMA])
        return {LAMBDA: weight.new_zeros(shapes[LAMBDA]), GAMMA: weight.new_full(shapes[GAMMA], 1 / largest)}

    def product(self, scales: Tensors, A: Any, B: Any, weight: Any, config: AdapterConfig) -> Any:
        """The sum of the products."""
        fan_out, fan_in = weight.shape
        scaled = scales[LAMBDA][:, :, None] * A[:, None, :] * scales[GAMMA][None]
        product = SCALE * config.alpha * (B @ scaled.reshape(-1, A.shape[1]))
        return product if fan_in <= fan_out else product.T

    def random_for_peft(
        self, config: AdapterConfig, layers: Mapping[str, Sequence[int]], alpha: float
    ) -> PeftFiles | None:
        """The pair of the largest layer; PEFT multiplies the sum by ``randlora_alpha / r``."""
        A, B = self.largest_pair(config, layers)
        described = peft_description(
            "RANDLORA", r=config.rank, randlora_alpha=SCALE * alpha * config.rank, randlora_dropout=config.dropout,
            save_projection=True, target_modules=list(layers), bias="none", fan_in_fan_out=False,
        )  # fmt: skip
        shaped = {"randlora_A": A[:, None], "randlora_B": B.reshape(len(B), -1, config.rank)}
        places = ("base_model.", *(f"{PEFT_PREFIX}{layer}." for layer in layers))  # PEFT's file repeats them per layer
        return described, {place + name: array for place in places for name, array in shaped.items()}


def random_pair(seed: int, rank: int, fan_in: int, fan_out: int) -> tuple[Any, Any]:
    """Draw ``A`` (rank × smaller side) and all ``Bⱼ`` (larger side × columns) as arrays of float32.

    A layer has the first numbers of a larger one's.
    """
    import numpy as np

    bound = math.sqrt(3)
    blocks = range(_bases(rank, fan_in, fan_out))
    B = np.concatenate([drawn(seed, 1 + block, max(fan_in, fan_out), rank, bound) for block in blocks], axis=1)
    return drawn(seed, 0, min(fan_in, fan_out), rank, bound).T, B


def _bases(rank: int, fan_in: int, fan_out: int) -> int:
    return -(-min(fan_in, fan_out) // rank)


IMPLEMENTATION = RandLoRA()
