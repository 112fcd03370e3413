"""Starts of LoRA's factors that are computed, from the base's weights or from data.

A start is a row in :data:`lora_mnist_cli.settings.choices.STARTS` and a file here with the row's name. One with
``moves_weight`` is subtracted from the weight (:mod:`lora_mnist_cli.models.methods.moved`), so that the network
answers as the base at the start.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from lora_mnist_cli.models.adapted_linear import MethodLinear
from lora_mnist_cli.models.lora import LoRALinear
from lora_mnist_cli.models.methods.lora import A, B
from lora_mnist_cli.models.methods.moved import START_A, START_B, start_strength
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.choices import STARTS, implementation
from lora_mnist_cli.system.arithmetic import computing
from lora_mnist_cli.training.objective import ProtectionContext

SAMPLES = 4096
"""How many images, or samples of old digits, a start is computed from."""


class Start:
    """A start of LoRA's factors.

    :func:`begin` alone calls it: before the training, in the process that trains the bank, on one thread and on the
    CPU. Equal arguments give equal bytes, and nothing is drawn from the global generator. A start keeps no state.
    """

    of_new_images: ClassVar[bool] = False
    """Whether it reads training images, so that seeds that split them differently start differently."""

    def measure(self, context: ProtectionContext) -> Sequence[Any]:
        """Return what the start needs to know about each of the base's layers; adapters of one split share it.

        Args:
            context: with the adapter's own config. A start whose row has ``needs_statistics`` finds ``statistics``
                filled in, and reads samples of them; others read ``context.training_images``, or nothing.

        Raises:
            ValueError: where the context has nothing to read.
        """
        raise NotImplementedError

    def factors(self, weight: Tensor, measured: Any, rank: int, strength: float) -> tuple[Tensor, Tensor]:
        """Return A (k × in) and B (out × k) of a layer, float64, with k at most the rank.

        Args:
            weight: out × in, float64.
            measured: what :meth:`measure` returned for the layer.
            strength: the factor on B A, above 0.
        """
        raise NotImplementedError


def begin(models: Sequence[nn.Module], configs: Sequence[AdapterConfig], context: ProtectionContext) -> None:
    """Put the computed starts of a bank's members into their adapters; members whose start is drawn stay as they are.

    Args:
        models: the base with each member's adapters attached.
        context: with any member's config.
    """
    latest: dict[str, tuple[object, Sequence[Any]]] = {}
    for model, config in zip(models, configs, strict=True):
        if config.init in STARTS:
            start: Start = implementation(__name__, config.init)
            split = (config.val_split, config.seed_of("split")) if start.of_new_images else None
            with computing():
                # One split is remembered: the members of a bank are sorted by seed, and a measurement is large.
                if config.init not in latest or latest[config.init][0] != split:
                    latest[config.init] = split, start.measure(dataclasses.replace(context, config=config))
                _begin(model, config, start, latest[config.init][1])


def _begin(model: nn.Module, config: AdapterConfig, start: Start, measured: Sequence[Any]) -> None:
    for (name, layer), known in zip(model.named_children(), measured, strict=True):
        if not isinstance(layer, (LoRALinear, MethodLinear)):
            continue
        own, weight = config.for_layer(name), layer.base.weight.detach()
        rank = own.rank
        first, second = start.factors(weight.double(), known, rank, start_strength(own))
        tensors = {A: weight.new_zeros(rank, weight.shape[1]), B: weight.new_zeros(weight.shape[0], rank)}
        tensors[A][: len(first)] = first
        tensors[B][:, : second.shape[1]] = second
        if isinstance(layer, MethodLinear):
            layer.begin(tensors | {START_A: tensors[A], START_B: tensors[B]})
        else:
            layer.lora_A.data.copy_(tensors[A])
            layer.lora_B.data.copy_(tensors[B])
