"""LoRA on one page: low-rank adaptation of a frozen network's linear layers (Hu et al. 2021, arXiv:2106.09685, §4.1).

An adapted layer computes ``h = W x + b + alpha · scale(rank) · B A x``, with ``A`` (rank × in) random, ``B``
(out × rank) zero at the start, and W, b frozen. :func:`attach` replaces a model's linear layers by adapted ones; the
code of the model does not change.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lora_mnist_cli.models.architecture import scale
from lora_mnist_cli.settings.choices import STARTS
from lora_mnist_cli.system.errors import UsageError, nearest


def init_A(rank: int, in_features: int, init: str) -> Tensor:
    """Draw a new ``A`` (rank × in) from PyTorch's global generator.

    ``reference`` is uniform in ±1/√rank (the study, whose Kaiming call takes the rank for the fan-in), ``kaiming``
    uniform in ±1/√in (the common choice, ``kaiming_uniform_(A, a=√5)``), ``gaussian`` normal with standard deviation
    1/rank. ``orthogonal`` has orthonormal rows in random directions, or columns where the rank is above the inputs: the
    frozen factor of Zhu et al. 2024 (arXiv:2402.16842). A start that is computed (``settings.choices.STARTS``) is zeros
    here, until :mod:`lora_mnist_cli.training.starts` puts it in.
    """
    if init in STARTS:
        return torch.zeros(rank, in_features)
    A = torch.empty(rank, in_features)
    if init == "orthogonal":
        return nn.init.orthogonal_(A)
    if init == "gaussian":
        return A.normal_(std=1 / rank)
    bound = 1 / math.sqrt(rank if init == "reference" else in_features)
    return A.uniform_(-bound, bound)


def init_B(out_features: int, rank: int, init: str) -> Tensor:
    """Draw a random ``B`` (out × rank) by the rules of :func:`init_A`, for training A alone.

    The inputs of B are the rank, so ``reference`` and ``kaiming`` are the same.
    """
    B = torch.empty(out_features, rank)
    if init == "orthogonal":
        return nn.init.orthogonal_(B)
    return B.normal_(std=1 / rank) if init == "gaussian" else B.uniform_(-1 / math.sqrt(rank), 1 / math.sqrt(rank))


class AdaptedLinear(nn.Module):
    """A frozen linear layer with a trainable change beside it, which alpha multiplies.

    Args:
        base: the layer to adapt; its weights are frozen.
        alpha: the multiplier; it may be changed later, and at 0 only the base is left.
    """

    def __init__(self, base: nn.Linear, alpha: float) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.alpha = alpha
        self.enabled = True
        self._plain: list[Tensor] | None = None

    @property
    def merged(self) -> bool:
        """Whether the change is in the base's weight at present."""
        return self._plain is not None

    def change(self) -> tuple[Tensor, Tensor | None]:
        """Return the change of the weight (out × in), and of the bias, at the present alpha."""
        raise NotImplementedError

    def has_effect(self) -> bool:
        """Tell whether the outputs change at any alpha."""
        raise NotImplementedError

    @torch.no_grad()
    def merge(self) -> None:
        """Add the change to the base's weight and bias; does nothing where it is merged already."""
        if not self.merged:
            weight, bias = self.change()
            self._plain = [parameter.clone() for parameter in self.base.parameters()]
            self.base.weight.add_(weight)
            if bias is not None:
                self.base.bias.add_(bias)

    @torch.no_grad()
    def unmerge(self) -> None:
        """Restore the base's weight and bias bit for bit, from copies, because subtracting the change would round."""
        if self._plain is not None:
            for parameter, plain in zip(self.base.parameters(), self._plain, strict=True):
                parameter.copy_(plain)
            self._plain = None


class LoRALinear(AdaptedLinear):
    """A frozen linear layer with a trainable low-rank product beside it.

    Args:
        base: the layer to adapt; its weights are frozen.
        rank: rank of the product, at least 1; it may be above the layer's smaller side, as in the study.
        alpha: multiplier on the product; it may be changed later.
        scaling: see :func:`lora_mnist_cli.models.architecture.scale`.
        init: see :func:`init_A`.
        dropout: probability that an input of ``A`` is dropped, in training only.
        train: ``both``, or the one factor that is trained. The other is frozen at random values, and the trained one
            starts at zero, so that nothing changes at the start (Zhu et al. 2024, arXiv:2402.16842; B alone is LoRA-FA,
            Zhang et al. 2023, arXiv:2308.03303).
    """

    def __init__(
        self, base: nn.Linear, rank: int, *, alpha: float = 1.0, scaling: str = "constant",
        init: str = "reference", dropout: float = 0.0, train: str = "both",
    ) -> None:  # fmt: skip
        super().__init__(base, alpha)
        self.rank = rank
        self.scale = scale(scaling, rank)
        self.dropout = dropout
        like = base.weight
        fan_in, fan_out = base.in_features, base.out_features
        A = torch.zeros(rank, fan_in) if train == "A" else init_A(rank, fan_in, init)
        B = init_B(fan_out, rank, init) if train == "A" else torch.zeros(fan_out, rank)
        self.lora_A = nn.Parameter(A.to(like), requires_grad=train != "B")
        self.lora_B = nn.Parameter(B.to(like), requires_grad=train != "A")

    def delta(self) -> Tensor:
        """Return the change of the weight: ``alpha · scale(rank) · B A`` (out × in); zeros at alpha 0."""
        if self.alpha == 0:
            return torch.zeros_like(self.base.weight)
        return self.alpha * self.scale * (self.lora_B @ self.lora_A)

    def change(self) -> tuple[Tensor, Tensor | None]:
        """Return :meth:`delta`; the bias does not change."""
        return self.delta(), None

    @torch.no_grad()
    def has_effect(self) -> bool:
        """Tell whether the product is not zero."""
        return bool((self.lora_B @ self.lora_A).any())

    def forward(self, x: Tensor) -> Tensor:
        """Compute outputs (n × out) of inputs (n × in)."""
        hidden: Tensor = self.base(x)
        # At alpha 0 nothing is added, not even zeros: the outputs are the base's bit for bit, even where B A is NaN.
        if self.merged or not self.enabled or self.alpha == 0:
            return hidden
        x = F.dropout(x, self.dropout, self.training) if self.dropout else x
        return hidden + self.alpha * self.scale * F.linear(F.linear(x, self.lora_A), self.lora_B)


def attach(
    model: nn.Module, rank: int, *, alpha: float = 1.0, scaling: str = "constant", init: str = "reference",
    dropout: float = 0.0, train: str = "both", target_layers: Sequence[str] | None = None,
    ranks: Mapping[str, int] | None = None,
) -> nn.Module:  # fmt: skip
    """Freeze a model and put adapters on its linear layers, in place.

    Args:
        target_layers: names of the layers to adapt; all linear layers by default.
        ranks: name → rank of layers whose rank is another one.

    Returns:
        The model.

    Raises:
        UsageError: where it has adapters already, or a name is no linear layer of it.
    """
    own = ranks or {}

    def make(name: str, layer: nn.Linear) -> LoRALinear:
        return LoRALinear(
            layer, own.get(name, rank), alpha=alpha, scaling=scaling, init=init, dropout=dropout, train=train
        )

    return attach_made(model, make, target_layers)


def attach_made(
    model: nn.Module, make: Callable[[str, nn.Linear], AdaptedLinear], target_layers: Sequence[str] | None
) -> nn.Module:
    """Freeze a model and replace its linear layers by what ``make`` returns, in place, as :func:`attach`."""
    if adapted_layers(model):
        raise UsageError("the model has adapters already", hint="merge or detach them first")
    linear = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    for name in target_layers or ():
        if name not in linear:
            hint = nearest(name, list(linear)) or f"layers: {', '.join(linear)}"
            raise UsageError(f"the model has no linear layer '{name}'", hint=hint, value=name)
    model.requires_grad_(False)
    for name, layer in linear.items():
        if target_layers is None or name in target_layers:
            model.set_submodule(name, make(name, layer))
    return model


def detach(model: nn.Module) -> nn.Module:
    """Put the plain linear layers back, in place: with the change where it is merged, else without."""
    for name, layer in adapted_layers(model).items():
        model.set_submodule(name, layer.base)
    return model


def adapted_layers(model: nn.Module) -> dict[str, AdaptedLinear]:
    """Return the adapted layers by name, from the input on."""
    return {name: module for name, module in model.named_modules() if isinstance(module, AdaptedLinear)}


def set_alpha(model: nn.Module, alpha: float) -> None:
    """Set the multiplier of every adapter.

    Raises:
        UsageError: where the adapters are merged, with the old multiplier.
    """
    layers = adapted_layers(model).values()
    if any(layer.merged for layer in layers):
        raise UsageError("alpha can't change while the adapters are merged", hint="unmerge first", value=alpha)
    for layer in layers:
        layer.alpha = alpha


@contextmanager
def switched_off(model: nn.Module) -> Iterator[nn.Module]:
    """Give the bare base inside the block, without merged adapters; restores everything afterwards."""
    layers = list(adapted_layers(model).values())
    before = [(layer.enabled, layer.merged) for layer in layers]
    for layer in layers:
        layer.unmerge()
        layer.enabled = False
    try:
        yield model
    finally:
        for layer, (enabled, merged) in zip(layers, before, strict=True):
            layer.enabled = enabled
            if merged:
                layer.merge()


def has_no_effect(model: nn.Module) -> bool:
    """Tell whether no adapted layer changes anything, at any alpha."""
    return not any(layer.has_effect() for layer in adapted_layers(model).values())


def merge(model: nn.Module) -> None:
    """Merge every adapter into its layer; see :meth:`AdaptedLinear.merge`."""
    for layer in adapted_layers(model).values():
        layer.merge()


def unmerge(model: nn.Module) -> None:
    """Unmerge every adapter; see :meth:`AdaptedLinear.unmerge`."""
    for layer in adapted_layers(model).values():
        layer.unmerge()


@torch.no_grad()
def merged_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return copies of the weights of the plain network that answers as an adapted multilayer perceptron.

    Their names are those of the plain network: ``fc1.weight``, ``fc1.bias``, …
    """
    weights: dict[str, Tensor] = {}
    for name, layer in model.named_children():
        base = layer.base if isinstance(layer, AdaptedLinear) else layer
        weights |= {f"{name}.{key}": value.detach().clone() for key, value in base.named_parameters()}
        if isinstance(layer, AdaptedLinear) and not layer.merged:
            change, of_bias = layer.change()
            weights[f"{name}.weight"] += change
            if of_bias is not None:
                weights[f"{name}.bias"] += of_bias
    return weights


def linear_layers(model: nn.Module) -> list[nn.Linear | LoRALinear]:
    """Return a multilayer perceptron's layers, adapted or not, from the input on."""
    return [layer for layer in model.children() if isinstance(layer, (nn.Linear, LoRALinear))]
