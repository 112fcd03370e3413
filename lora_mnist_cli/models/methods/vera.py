"""VeRA (Kopiczko et al. 2023, arXiv:2310.11454): two vectors scale a random product that is the same in all layers.

``W' = W + diag(b) B diag(d) A`` with ``b`` (out) zero and ``d`` (rank) 0.1 at the start (§3.2 and §4). ``A``
(rank × in) and ``B`` (out × rank) are never trained: both are cut out of one random pair for a layer with as many
inputs as an image has pixels, uniform by Kaiming's rule. The seed gives them back, so the file holds the two vectors
alone. An alpha given later multiplies the change.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lora_mnist_cli.models.architecture import PIXELS
from lora_mnist_cli.models.methods import PeftFiles, Tensors, peft_description
from lora_mnist_cli.models.methods.random_pair import RandomPair, drawn
from lora_mnist_cli.settings.adapter_config import AdapterConfig

LAMBDA_B, LAMBDA_D = "vera_lambda_b", "vera_lambda_d"
RANDOM_A, RANDOM_B = "vera_A", "vera_B"
D_START = 0.1


class VeRA(RandomPair):
    """See the module."""

    names = (RANDOM_A, RANDOM_B)
    alpha_not_in_peft = "PEFT's VeRA has none"

    def shapes(self, rank: int, fan_in: int, fan_out: int) -> dict[str, tuple[int, ...]]:
        """A number per output, and one per rank."""
        return {LAMBDA_B: (fan_out,), LAMBDA_D: (rank,)}

    def trainable(self, config: AdapterConfig, fan_in: int, fan_out: int) -> int:
        """rank + out."""
        return config.rank + fan_out

    def change_rank(self, config: AdapterConfig, fan_in: int, fan_out: int) -> int:
        """The rank of the product."""
        return min(config.rank, fan_in, fan_out)

    def pair(self, seed: int, rank: int, fan_in: int, fan_out: int) -> tuple[Any, Any]:
        """See :func:`random_numbers`."""
        return random_numbers(seed, rank, fan_in, fan_out)

    def scales(self, weight: Any, config: AdapterConfig) -> dict[str, Any]:
        """``b`` zero and ``d`` constant."""
        return {LAMBDA_B: weight.new_zeros(len(weight)), LAMBDA_D: weight.new_full((config.rank,), D_START)}

    def product(self, scales: Tensors, A: Any, B: Any, weight: Any, config: AdapterConfig) -> Any:
        """``diag(b) B diag(d) A``."""
        return config.alpha * ((scales[LAMBDA_B][:, None] * B) @ (scales[LAMBDA_D][:, None] * A))

    def factors(self, tensors: Tensors) -> tuple[Any, Any]:
        """``diag(d) A`` and ``diag(b) B``."""
        d, b = tensors[LAMBDA_D], tensors[LAMBDA_B]
        return d[..., None] * tensors[RANDOM_A], b[..., None] * tensors[RANDOM_B]

    def gradients(self, tensors: Tensors, of_A: Any, of_B: Any) -> dict[str, Any]:
        """Sums over the rows of both."""
        return {LAMBDA_D: (of_A * tensors[RANDOM_A]).sum(-1), LAMBDA_B: (of_B * tensors[RANDOM_B]).sum(-1)}

    def random_for_peft(
        self, config: AdapterConfig, layers: Mapping[str, Sequence[int]], alpha: float
    ) -> PeftFiles | None:
        """The pair of the largest layer."""
        A, B = self.largest_pair(config, layers)
        described = peft_description(
            "VERA", r=config.rank, d_initial=D_START, vera_dropout=config.dropout, save_projection=True,
            target_modules=list(layers), bias="none", fan_in_fan_out=False,
        )  # fmt: skip
        return described, {"base_model.vera_A": A, "base_model.vera_B": B}


def random_numbers(seed: int, rank: int, fan_in: int, fan_out: int) -> tuple[Any, Any]:
    """Draw ``A`` (rank × in) and ``B`` (out × rank) as arrays of float32.

    The numbers of an input or output do not depend on how many there are, so that a smaller layer has a part of the
    pair of a larger one.
    """
    A = drawn(seed, 0, fan_in, rank, math.sqrt(6 / PIXELS)).T
    return A, drawn(seed, 1, fan_out, rank, math.sqrt(6 / rank))


IMPLEMENTATION = VeRA()
