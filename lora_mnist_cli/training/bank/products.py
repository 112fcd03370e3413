"""Adapters whose change is a product of two small matrices that follow from the trained numbers, as in VeRA.

A bank computes the gradients by two factors, as LoRA has them. At the start of each step the factors are made of the
numbers (:meth:`~lora_mnist_cli.models.methods.Method.factors`), and at its end the gradients by the numbers of those by
the factors.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from lora_mnist_cli.models.adapted_linear import MethodLinear
from lora_mnist_cli.models.architecture import scale
from lora_mnist_cli.models.lora import LoRALinear
from lora_mnist_cli.training.bank.layers import Call, MemberGroup


class ProductLinear(LoRALinear):
    """A layer of LoRA in the place of another method's, of which it trains the numbers.

    Args:
        layer: the layer in whose place it is.
    """

    def __init__(self, layer: MethodLinear) -> None:
        nn.Module.__init__(self)
        config = layer.config
        self.base, self.alpha, self.dropout, self.instead_of = layer.base, layer.alpha, layer.dropout, layer
        self.scale = scale(config.scaling, config.rank)
        A, B = layer.method.factors(layer.tensors())
        self.rank = len(A)
        self.lora_A, self.lora_B = (nn.Parameter(factor.detach(), requires_grad=False) for factor in (A, B))


def stand_in(model: nn.Module) -> nn.Module:
    """Return the layers of a model with a layer of LoRA in the place of each that another method adapts."""
    layers = dict(model.named_children())
    if not any(isinstance(layer, MethodLinear) for layer in layers.values()):
        return model
    made = [(name, ProductLinear(x) if isinstance(x, MethodLinear) else x) for name, x in layers.items()]
    return nn.Sequential(OrderedDict(made))


def numbers_of(layer: LoRALinear) -> dict[str, nn.Parameter]:
    """Return the parameters that a layer trains instead of its factors, by name; none in LoRA."""
    return layer.instead_of.numbers() if isinstance(layer, ProductLinear) else {}


def product_calls(
    group: MemberGroup, layers: Sequence[LoRALinear], numbers: Mapping[str, Tensor], gradients: Mapping[str, Tensor]
) -> tuple[Call, Call]:
    """Return the making of a group's factors, and of the gradients by its numbers.

    Args:
        layers: one per member.
        numbers: the trained tensors of all members, as views of the cohort's parameters, by name.
        gradients: where the gradients by them are written.
    """
    sources = [layer.instead_of for layer in layers if isinstance(layer, ProductLinear)]
    method, each = sources[0].method, [source.tensors() for source in sources]
    fixed = {name: torch.stack([one[name].to(group.A) for one in each]) for name in each[0] if name not in numbers}
    tensors = {**numbers, **fixed}

    def make_factors() -> None:
        for factor, made in zip((group.A, group.B), method.factors(tensors), strict=True):
            factor.copy_(made)

    def make_gradients() -> None:
        for name, gradient in method.gradients(tensors, group.dA, group.dB).items():
            if name in gradients:  # one factor may be trained alone
                gradients[name].copy_(gradient)

    return make_factors, make_gradients
