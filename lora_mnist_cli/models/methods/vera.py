"""VeRA (Kopiczko et al. 2023, arXiv:2310.11454): two vectors scale a random product that is the same in all layers.

``W' = W + diag(b) B diag(d) A`` with ``b`` (out) zero and ``d`` (rank) 0.1 at the start (§3.2 and §4). ``A``
(rank × in) and ``B`` (out × rank) are never trained: both are cut out of one random pair for a layer with as many
inputs as an image has pixels, uniform by Kaiming's rule. The seed gives them back, so the file holds the two vectors
alone. An alpha given later multiplies the change.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

from lora_mnist_cli.models.architecture import PIXELS
from lora_mnist_cli.models.methods import Change, Method, Tensors
from lora_mnist_cli.settings.adapter_config import AdapterConfig

LAMBDA_B, LAMBDA_D = "vera_lambda_b", "vera_lambda_d"
RANDOM_A, RANDOM_B = "vera_A", "vera_B"
D_START = 0.1


class VeRA(Method):
    """See the module."""

    needs_weight = True  # for its shape
    prefix = ""
    not_in_peft = "its random matrices come from the seed, and by PEFT's own draws they would be others"

    def shapes(self, rank: int, fan_in: int, fan_out: int) -> dict[str, tuple[int, ...]]:
        """A number per output, and one per rank."""
        return {LAMBDA_B: (fan_out,), LAMBDA_D: (rank,)}

    def trainable(self, config: AdapterConfig, fan_in: int, fan_out: int) -> int:
        """rank + out."""
        return config.rank + fan_out

    def change_rank(self, config: AdapterConfig, fan_in: int, fan_out: int) -> int:
        """The rank of the product."""
        return min(config.rank, fan_in, fan_out)

    def start(self, weight: Any, bias: Any, config: AdapterConfig) -> tuple[dict[str, Any], dict[str, Any]]:
        """``b`` zero and ``d`` constant, and the random pair."""
        trained = {
            LAMBDA_B: weight.new_zeros(len(weight)),
            LAMBDA_D: weight.new_full((config.rank,), D_START),
        }
        A, B = _random_pair(config, weight)
        return trained, {RANDOM_A: A, RANDOM_B: B}

    def learned(self, trained: Tensors, weight: Any, bias: Any, config: AdapterConfig) -> Change:
        """``diag(b) B diag(d) A``."""
        return _product(trained, trained[RANDOM_A], trained[RANDOM_B], config), None

    def factors(self, tensors: Tensors) -> tuple[Any, Any]:
        """``diag(d) A`` and ``diag(b) B``."""
        d, b = tensors[LAMBDA_D], tensors[LAMBDA_B]
        return d[..., None] * tensors[RANDOM_A], b[..., None] * tensors[RANDOM_B]

    def gradients(self, tensors: Tensors, of_A: Any, of_B: Any) -> dict[str, Any]:
        """Sums over the rows of both."""
        return {LAMBDA_D: (of_A * tensors[RANDOM_A]).sum(-1), LAMBDA_B: (of_B * tensors[RANDOM_B]).sum(-1)}

    def kept(self, trained: Tensors, weight: Any, bias: Any, config: AdapterConfig) -> dict[str, Any]:
        """The two vectors."""
        return {name: trained[name] for name in (LAMBDA_B, LAMBDA_D)}

    def change(self, kept: Tensors, weight: Any, config: AdapterConfig) -> Change:
        """``diag(b) B diag(d) A``."""
        return _product(kept, *_random_pair(config, weight), config), None


def random_numbers(seed: int, rank: int, fan_in: int, fan_out: int) -> tuple[Any, Any]:
    """Draw ``A`` (rank × in) and ``B`` (out × rank) as arrays of float32.

    The numbers of an input or output do not depend on how many there are, so that a smaller layer has a part of the
    pair of a larger one.
    """
    A = drawn(seed, 0, fan_in, rank, math.sqrt(6 / PIXELS)).T
    return A, drawn(seed, 1, fan_out, rank, math.sqrt(6 / rank))


@lru_cache(maxsize=256)
def drawn(seed: int, stream: int, rows: int, columns: int, bound: float) -> Any:
    """Draw an array of float32, uniform in ±bound; a row is the same whatever the number of rows."""
    import numpy as np

    # The stream of this generator never changes between versions of NumPy.
    draw = np.random.RandomState(np.random.MT19937(np.random.SeedSequence([seed, stream])))
    return draw.uniform(-bound, bound, (rows, columns)).astype("float32")


def like(array: Any, weight: Any) -> Any:
    """Copy an array to the type of a weight, of PyTorch or NumPy, and to its device."""
    if not hasattr(weight, "detach"):
        return array.astype(weight.dtype)
    import torch

    return torch.from_numpy(array.copy()).to(weight)


def _random_pair(config: AdapterConfig, weight: Any) -> tuple[Any, Any]:
    fan_out, fan_in = weight.shape
    A, B = random_numbers(config.seed_of("init"), config.rank, fan_in, fan_out)
    return like(A, weight), like(B, weight)


def _product(kept: Tensors, A: Any, B: Any, config: AdapterConfig) -> Any:
    return config.alpha * ((kept[LAMBDA_B][:, None] * B) @ (kept[LAMBDA_D][:, None] * A))


IMPLEMENTATION = VeRA()
