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
from typing import Any

from lora_mnist_cli.models.methods import Change, Method, Tensors
from lora_mnist_cli.models.methods.vera import drawn, like
from lora_mnist_cli.settings.adapter_config import AdapterConfig

LAMBDA, GAMMA = "randlora_lambda", "randlora_gamma"
SCALE = 20


class RandLoRA(Method):
    """See the module."""

    needs_weight = True  # for its shape
    prefix = ""
    not_in_peft = "its random matrices come from the seed, and by PEFT's own draws they would be others"

    def shapes(self, rank: int, fan_in: int, fan_out: int) -> dict[str, tuple[int, ...]]:
        """Scales of each base's ranks, and of each base's smaller side."""
        bases, smaller = _bases(rank, fan_in, fan_out), min(fan_in, fan_out)
        return {LAMBDA: (rank, bases), GAMMA: (bases, smaller)}

    def trainable(self, config: AdapterConfig, fan_in: int, fan_out: int) -> int:
        """n · (rank + d)."""
        return _bases(config.rank, fan_in, fan_out) * (config.rank + min(fan_in, fan_out))

    def start(self, weight: Any, bias: Any, config: AdapterConfig) -> tuple[dict[str, Any], dict[str, Any]]:
        """``Λ`` zero and ``Γ`` constant, and the random pair."""
        shapes = self.shapes(config.rank, weight.shape[1], weight.shape[0])
        trained = {
            LAMBDA: weight.new_zeros(shapes[LAMBDA]),
            GAMMA: weight.new_full(shapes[GAMMA], 1 / max(shapes[GAMMA])),
        }
        A, B = _random_pair(config, weight)
        return trained, {"randlora_A": A, "randlora_B": B}

    def learned(self, trained: Tensors, weight: Any, bias: Any, config: AdapterConfig) -> Change:
        """The sum of the products."""
        return _sum(trained, trained["randlora_A"], trained["randlora_B"], weight, config), None

    def kept(self, trained: Tensors, weight: Any, bias: Any, config: AdapterConfig) -> dict[str, Any]:
        """The scales."""
        return {name: trained[name] for name in (LAMBDA, GAMMA)}

    def change(self, kept: Tensors, weight: Any, config: AdapterConfig) -> Change:
        """The sum of the products."""
        return _sum(kept, *_random_pair(config, weight), weight, config), None


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


def _random_pair(config: AdapterConfig, weight: Any) -> tuple[Any, Any]:
    fan_out, fan_in = weight.shape
    A, B = random_pair(config.seed_of("init"), config.rank, fan_in, fan_out)
    return like(A, weight), like(B, weight)


def _sum(kept: Tensors, A: Any, B: Any, weight: Any, config: AdapterConfig) -> Any:
    fan_out, fan_in = weight.shape
    scaled = kept[LAMBDA][:, :, None] * A[:, None, :] * kept[GAMMA][None]
    product = SCALE * config.alpha * (B @ scaled.reshape(-1, A.shape[1]))
    return product if fan_in <= fan_out else product.T


IMPLEMENTATION = RandLoRA()
