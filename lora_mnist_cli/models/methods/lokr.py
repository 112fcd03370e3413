"""LoKr (Yeh et al. 2023, arXiv:2309.14859, §3.2): the change is a Kronecker product of two small matrices.

``W' = W + s C ⊗ (B A)`` with ``s = alpha · scale(rank)``. ``C`` is zero at the start, as in PEFT, so that nothing
changes. The rank of a Kronecker product is the product of the ranks (KronA, Edalati et al. 2022, arXiv:2212.10650), so
few numbers make a change of high rank. The sides of ``C`` are the largest divisors of the layer's sides up to their
square roots (the paper's equation 5 without a bound on the factor, PEFT's default): 784 = 28 · 28, 64 = 8 · 8,
10 = 2 · 5. Where the rank is half of the longer side of ``B A`` or more, one whole matrix stands in its place.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from lora_mnist_cli.models.architecture import scale
from lora_mnist_cli.models.methods import Change, Method, PeftKind, Tensors, own_ranks, peft_description
from lora_mnist_cli.settings.adapter_config import AdapterConfig

C, WHOLE, B, A = "lokr_w1", "lokr_w2", "lokr_w2_a", "lokr_w2_b"


class LoKr(Method):
    """See the module."""

    peft_kind = PeftKind(
        "LOKR",
        alpha="alpha",
        patterns=True,
        values={"decompose_both": (False,), "decompose_factor": (-1,), "init_weights": (True, False, "lycoris")},
        silent=frozenset({"rank_dropout", "rank_dropout_scale", "module_dropout", "use_effective_conv2d"}),
    )

    def shapes(self, rank: int, fan_in: int, fan_out: int) -> dict[str, tuple[int, ...]]:
        """``C``, and ``B`` and ``A`` or the whole matrix."""
        (up, vp), (uq, vq) = _divided(fan_out), _divided(fan_in)
        if rank >= max(vp, vq) / 2:
            return {C: (up, uq), WHOLE: (vp, vq)}
        return {C: (up, uq), B: (vp, rank), A: (rank, vq)}

    def trainable(self, config: AdapterConfig, fan_in: int, fan_out: int) -> int:
        """All of them."""
        return sum(math.prod(shape) for shape in self.shapes(config.rank, fan_in, fan_out).values())

    def change_rank(self, config: AdapterConfig, fan_in: int, fan_out: int) -> int:
        """The rank of ``C`` times that of ``B A``."""
        shapes = self.shapes(config.rank, fan_in, fan_out)
        return min(shapes.pop(C)) * min(side for shape in shapes.values() for side in shape)

    def start(self, weight: Any, bias: Any, config: AdapterConfig) -> tuple[dict[str, Any], dict[str, Any]]:
        """``C`` zero, and the others uniform in ±1/√columns."""
        trained = {}
        for name, shape in self.shapes(config.rank, weight.shape[1], weight.shape[0]).items():
            bound = 0.0 if name == C else 1 / math.sqrt(shape[1])
            trained[name] = weight.new_empty(shape).uniform_(-bound, bound)
        return trained, {}

    def change(self, kept: Tensors, weight: Any, config: AdapterConfig) -> Change:
        """``s C ⊗ (B A)``."""
        product = kept[WHOLE] if WHOLE in kept else kept[B] @ kept[A]
        (up, uq), (vp, vq) = kept[C].shape, product.shape
        kronecker = (kept[C][:, None, :, None] * product[None, :, None, :]).reshape(up * vp, uq * vq)
        return config.alpha * scale(config.scaling, config.rank) * kronecker, None

    def peft(self, config: AdapterConfig, layers: Sequence[str]) -> dict[str, Any] | None:
        """The same product; PEFT multiplies it by ``alpha / r`` of the layer."""
        own = own_ranks(config, layers)
        return peft_description(
            "LOKR", r=config.rank, alpha=_alpha(config, config.rank), rank_pattern=own,
            alpha_pattern={layer: _alpha(config, rank) for layer, rank in own.items()},
            decompose_both=False, decompose_factor=-1, target_modules=list(layers),
        )  # fmt: skip


def _divided(side: int) -> tuple[int, int]:
    """Return a side as the product of two numbers as near to each other as can be, the smaller one first."""
    smaller = next(number for number in range(math.isqrt(side), 0, -1) if side % number == 0)
    return smaller, side // smaller


def _alpha(config: AdapterConfig, rank: int) -> float:
    # alpha · (1/r) · r would round.
    return config.alpha * (1 if config.scaling == "standard" else scale(config.scaling, rank) * rank)


IMPLEMENTATION = LoKr()
