"""DeLoRA (Bini et al. 2025, arXiv:2503.18225, §2.2): strength and angles of a low-rank change are learned separately.

``W' = W + (λ / rank) B Ξ A diag(w)``, where ``Ξ`` divides each column of ``B`` and each row of ``A`` by its length, and
``w`` (in) holds the lengths of the columns of W (equation 15). ``λ`` bounds the change and is learned too; it starts at
PEFT's default, 15. ``A`` starts at random and ``B`` at zero, as in PEFT, with lengths of at least 1e-4; the paper has
both random and subtracts a frozen copy. An alpha given later multiplies the change.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from lora_mnist_cli.models.methods import Change, Method, PeftKind, Tensors, own_ranks, peft_description
from lora_mnist_cli.settings.adapter_config import AdapterConfig

A, B, LAMBDA, NORMS = "delora_A", "delora_B", "delora_lambda", "delora_w_norm"
LAMBDA_START, _SHORTEST = 15, 1e-4


class DeLoRA(Method):
    """See the module."""

    alpha_not_in_peft = "PEFT's DeLoRA has none"
    peft_kind = PeftKind(
        "DELORA",
        dropout="module_dropout",
        patterns=True,
        values={"bias": ("none",), "init_weights": (True, False)},
        silent=frozenset({"delora_lambda", "lambda_pattern"}),  # starts of what the file holds
    )

    def shapes(self, rank: int, fan_in: int, fan_out: int) -> dict[str, tuple[int, ...]]:
        """The factors, the bound, and the lengths of W's columns."""
        return {A: (rank, fan_in), B: (fan_out, rank), LAMBDA: (1,), NORMS: (fan_in,)}

    def trainable(self, config: AdapterConfig, fan_in: int, fan_out: int) -> int:
        """The factors and the bound."""
        return config.rank * (fan_in + fan_out) + 1

    def change_rank(self, config: AdapterConfig, fan_in: int, fan_out: int) -> int:
        """The rank of the product."""
        return min(config.rank, fan_in, fan_out)

    def start(self, weight: Any, bias: Any, config: AdapterConfig) -> tuple[dict[str, Any], dict[str, Any]]:
        """``A`` uniform in ±1/√in, ``B`` zero, ``λ`` constant, and the lengths of W's columns, fixed."""
        fan_out, fan_in = weight.shape
        bound = 1 / math.sqrt(fan_in)
        trained = {
            A: weight.new_empty(config.rank, fan_in).uniform_(-bound, bound),
            B: weight.new_zeros(fan_out, config.rank),
            LAMBDA: weight.new_full((1,), LAMBDA_START),
        }
        return trained, {NORMS: (weight * weight).sum(0) ** 0.5}

    def factors(self, tensors: Tensors) -> tuple[Any, Any]:
        """The rows of A over their lengths, times ``w``, and the columns of B over theirs, times ``λ / rank``."""
        rows, columns, strength = self._normalised(tensors)
        return rows * tensors[NORMS][..., None, :], columns * strength

    def gradients(self, tensors: Tensors, of_A: Any, of_B: Any) -> dict[str, Any]:
        """Across each row and column, because their lengths are divided out."""
        rows, columns, strength = self._normalised(tensors)
        return {
            A: _across(tensors[A], rows, of_A * tensors[NORMS][..., None, :], -1),
            B: _across(tensors[B], columns, of_B * strength, -2),
            LAMBDA: (of_B * columns).sum((-2, -1))[..., None] / tensors[A].shape[-2],
        }

    def _normalised(self, tensors: Tensors) -> tuple[Any, Any, Any]:
        rows = tensors[A] / _lengths(tensors[A], -1)[..., None]
        columns = tensors[B] / _lengths(tensors[B], -2)[..., None, :]
        return rows, columns, tensors[LAMBDA][..., None] / tensors[A].shape[-2]

    def change(self, kept: Tensors, weight: Any, config: AdapterConfig) -> Change:
        """``(λ / rank) B Ξ A diag(w)``."""
        strength = config.alpha * kept[LAMBDA] / config.rank
        xi = strength / (_lengths(kept[A], 1) * _lengths(kept[B], 0))
        return (kept[B] * xi) @ kept[A] * kept[NORMS], None

    def peft(self, config: AdapterConfig, layers: Sequence[str]) -> dict[str, Any] | None:
        """The same product."""
        return peft_description(
            "DELORA", r=config.rank, rank_pattern=own_ranks(config, layers), delora_lambda=LAMBDA_START,
            module_dropout=config.dropout, target_modules=list(layers), bias="none",
        )  # fmt: skip


def _lengths(matrix: Any, axis: int) -> Any:
    # The bound is on the squares, where a length of zero has a gradient.
    return (matrix * matrix).sum(axis).clip(_SHORTEST**2) ** 0.5


def _across(vectors: Any, normalised: Any, gradient: Any, axis: int) -> Any:
    """Return the gradient by vectors of that by the same vectors over their lengths."""
    lengths = _lengths(vectors, axis)
    along = (normalised * gradient).sum(axis) * (lengths > _SHORTEST)
    rows = (Ellipsis, None) if axis == -1 else (Ellipsis, None, slice(None))
    return (gradient - normalised * along[rows]) / lengths[rows]


IMPLEMENTATION = DeLoRA()
