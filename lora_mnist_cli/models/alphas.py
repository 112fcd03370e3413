"""An adapted network at many alphas, at little more than the cost of one."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from lora_mnist_cli.models.lora import LoRALinear, set_alpha
from lora_mnist_cli.models.mlp import MNISTModel


def at_alphas(model: MNISTModel, images: Tensor, alphas: Sequence[float]) -> tuple[Tensor, ...]:
    """Return the logits (n × 10) of a model with adapters attached at each alpha; images are n × 784, normalised.

    They are the model's own, bit for bit. The products of the first layer take most of the time and do not depend on
    alpha, so LoRA's are computed once. The model has the last alpha afterwards.
    """
    first, *others = model.children()
    products: tuple[Tensor, Tensor] | None = None
    if isinstance(first, LoRALinear):
        products = first.base(images), F.linear(F.linear(images, first.lora_A), first.lora_B)
    logits = []
    for alpha in alphas:
        set_alpha(model, alpha)
        if products is None or not isinstance(first, LoRALinear):
            hidden = first(images)
        else:
            hidden = products[0] if alpha == 0 else products[0] + alpha * first.scale * products[1]
        for layer in others:
            hidden = layer(F.relu(hidden))
        logits.append(hidden)
    return tuple(logits)
