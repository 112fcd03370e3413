"""HRA (Yuan et al. 2024, arXiv:2405.17484): the weight is multiplied by a chain of Householder reflections.

``W' = W H₁ H₂ …`` with ``Hᵢ = I − 2 uᵢ uᵢᵀ / ‖uᵢ‖²``: lengths and angles between the rows of W stay as they are, as in
OFT (Qiu et al. 2023, arXiv:2306.07280). Reflections come in pairs, whose two vectors are equal at the start, so that
nothing changes (§4.1 there). A rank here is a number of pairs: PEFT's ``r`` is twice as large. An alpha given later
multiplies the change ``W' − W``, and the product is orthogonal at alpha 1 alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from lora_mnist_cli.models.methods import Change, Method, Tensors, peft_description
from lora_mnist_cli.settings.adapter_config import AdapterConfig

VECTORS = "hra_u"


class HRA(Method):
    """See the module."""

    needs_weight = True
    alpha_not_in_peft = "PEFT's HRA has none"

    def shapes(self, rank: int, fan_in: int, fan_out: int) -> dict[str, tuple[int, ...]]:
        """Two vectors per pair."""
        return {VECTORS: (fan_in, 2 * rank)}

    def trainable(self, config: AdapterConfig, fan_in: int, fan_out: int) -> int:
        """All of them."""
        return 2 * config.rank * fan_in

    def change_rank(self, config: AdapterConfig, fan_in: int, fan_out: int) -> int:
        """Each reflection changes one direction."""
        return min(2 * config.rank, fan_in, fan_out)

    def start(self, weight: Any, bias: Any, config: AdapterConfig) -> tuple[dict[str, Any], dict[str, Any]]:
        """Random vectors, each twice."""
        bound = 1 / math.sqrt(config.rank)
        vectors = weight.new_empty(weight.shape[1], config.rank).uniform_(-bound, bound)
        return {VECTORS: vectors.repeat_interleave(2, 1)}, {}

    def change(self, kept: Tensors, weight: Any, config: AdapterConfig) -> Change:
        """``W' − W``; exactly zero where the vectors of each pair are equal."""
        X, Y = _pairs(kept[VECTORS], config.rank)
        return config.alpha * ((weight @ X) @ Y), None

    def peft(self, config: AdapterConfig, layers: Sequence[str]) -> dict[str, Any] | None:
        """The same chain; PEFT counts reflections."""
        return peft_description(
            "HRA", r=2 * config.rank, apply_GS=False, target_modules=list(layers), bias="none"
        )  # fmt: skip


def _pairs(vectors: Any, rank: int) -> tuple[Any, Any]:
    """Return X (in × 2 rank) and Y (2 rank × in) with ``H₁ H₂ … = I + X Y``.

    With ``d = v − u`` for the vectors of a pair, of length one, ``(I − 2 u uᵀ)(I − 2 v vᵀ) = I + x yᵀ`` for the columns
    ``x = [d, u]`` and ``y = [−2 v, 2 (d − ‖d‖² v)]``: nothing cancels where d is small. A product of many is
    ``I + X (I − N)⁻¹ Yᵀ``, where N holds ``yᵢᵀ xⱼ`` for each pair i before a pair j (Bischof & Van Loan 1987).
    """
    if hasattr(vectors, "detach"):
        import torch

        xp: Any = torch
        place = {"device": vectors.device}
    else:
        import numpy

        xp, place = numpy, {}
    length_one = vectors / (vectors * vectors).sum(0) ** 0.5
    u, v = length_one[:, 0::2], length_one[:, 1::2]
    d = v - u
    X, Y = (xp.stack(both, 2).reshape(len(vectors), -1) for both in ((d, u), (-2 * v, 2 * (d - (d * d).sum(0) * v))))
    pair = xp.arange(2 * rank, **place) // 2
    N = (Y.T @ X) * (pair[:, None] < pair)
    identity = xp.eye(2 * rank, dtype=N.dtype, **place)
    return X, xp.linalg.solve(identity - N, Y.T)


IMPLEMENTATION = HRA()
