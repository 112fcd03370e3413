"""LoRA (Hu et al. 2021, arXiv:2106.09685): the change of a weight is a product of two thin matrices.

``W' = W + alpha · scale(rank) · B A``. The layer itself is in ``models.lora``, because banks train it by hand-written
gradients.

LoRA+ (Hayou et al. 2024, arXiv:2402.12354) is LoRA with a learning rate for B that is a multiple of A's
(``lr_ratio_b``). With one rate for both, a wide layer learns features less efficiently, because B, which starts at
zero, should move faster (their §4). Every method with a B can use it.

``train`` freezes one of the factors at random values, and starts the other at zero. B alone learns about as well as
both, and A alone does not (Zhu et al. 2024, arXiv:2402.16842); B alone is LoRA-FA (Zhang et al. 2023,
arXiv:2308.03303). The file holds both factors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lora_mnist_cli.models.architecture import scale
from lora_mnist_cli.models.methods import Change, Method, PeftKind, Tensors, own_ranks, peft_description
from lora_mnist_cli.settings.adapter_config import AdapterConfig

A, B = "lora_A.weight", "lora_B.weight"


class LoRA(Method):
    """See the module."""

    peft_kind = PeftKind(
        "LORA",
        alpha="lora_alpha",
        dropout="lora_dropout",
        patterns=True,
        values={
            "use_rslora": (False, True),
            "use_dora": (False, True),
            "bias": ("none",),
            "fan_in_fan_out": (False,),
            # Starts that leave the base's own weights as they are; of the others the file holds a part of the change.
            "init_lora_weights": (True, False, "gaussian", "eva", "orthogonal", "mica"),
        },
    )

    def shapes(self, rank: int, fan_in: int, fan_out: int) -> dict[str, tuple[int, ...]]:
        """``A`` (rank × in) and ``B`` (out × rank)."""
        return {A: (rank, fan_in), B: (fan_out, rank)}

    def trainable(self, config: AdapterConfig, fan_in: int, fan_out: int) -> int:
        """rank · (in + out), or the part of the factor that is trained."""
        return config.rank * ((config.train != "B") * fan_in + (config.train != "A") * fan_out)

    def change_rank(self, config: AdapterConfig, fan_in: int, fan_out: int) -> int:
        """The rank of the kept factors, which may be above the layer's smaller side."""
        return self.shapes(config.rank, fan_in, fan_out)[A][0]

    def change(self, kept: Tensors, weight: Any, config: AdapterConfig) -> Change:
        """``alpha · scale(rank) · B A``."""
        return config.alpha * scale(config.scaling, config.rank) * (kept[B] @ kept[A]), None

    def peft(self, config: AdapterConfig, layers: Sequence[str]) -> dict[str, Any] | None:
        """Choose ``lora_alpha`` to make PEFT's factor ``alpha · scale(rank)``.

        PEFT multiplies the product by ``lora_alpha / r``, or by ``lora_alpha / sqrt(r)`` with ``use_rslora``.
        """
        rslora = config.scaling == "rslora"
        # Scalings that PEFT has keep their alpha: alpha · (1/r) · r would round.
        constant = config.scaling == "constant"
        own = own_ranks(config, layers)
        patterns: dict[str, Any] = {"rank_pattern": own}
        if constant:
            patterns["alpha_pattern"] = {layer: config.alpha * rank for layer, rank in own.items()}
        described = peft_description(
            "LORA", init="init_lora_weights", r=config.rank,
            lora_alpha=config.alpha * config.rank if constant else config.alpha, use_rslora=rslora,
            lora_dropout=config.dropout, target_modules=list(layers), bias="none", fan_in_fan_out=False,
        )  # fmt: skip
        return described | (patterns if own else {})


IMPLEMENTATION = LoRA()
