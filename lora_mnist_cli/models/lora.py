"""LoRA on one page: low-rank adaptation of a frozen network's linear layers (Hu et al. 2021, arXiv:2106.09685, §4.1).

An adapted layer computes ``h = W x + b + alpha · scale(rank) · B A x``, with ``A`` (rank × in) random, ``B``
(out × rank) zero at the start, and W, b frozen. :func:`attach` puts such layers in the place of a model's linear
ones; the model's own code never learns of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lora_mnist_cli.models.architecture import scale
from lora_mnist_cli.system.errors import ArtifactError, UsageError, nearest


def init_A(rank: int, in_features: int, init: str) -> Tensor:
    """A new ``A`` (rank × in), drawn from PyTorch's global generator.

    ``reference`` is uniform in ±1/√rank (the study, whose Kaiming call takes the rank for the fan-in), ``kaiming``
    uniform in ±1/√in (what ``kaiming_uniform_(A, a=√5)`` gives, the common choice), ``gaussian`` normal with standard
    deviation 1/rank.
    """
    A = torch.empty(rank, in_features)
    if init == "gaussian":
        return A.normal_(std=1 / rank)
    bound = 1 / math.sqrt(rank if init == "reference" else in_features)
    return A.uniform_(-bound, bound)


class AdaptedLinear(nn.Module):
    """A frozen linear layer with something trainable beside it, of which alpha is the multiplier.

    Args:
        base: the layer to adapt; its weights are frozen.
        alpha: may be changed later; at 0 the base is all there is.
    """

    def __init__(self, base: nn.Linear, alpha: float) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.alpha = alpha
        self.enabled = True
        self._plain_weight: Tensor | None = None
        self._plain_bias: Tensor | None = None

    @property
    def merged(self) -> bool:
        """Whether what was learned is in the base's weight at present."""
        return self._plain_weight is not None

    def change(self) -> tuple[Tensor, Tensor | None]:
        """What is added to the weight (out × in), and to the bias, at the present alpha."""
        raise NotImplementedError

    def has_effect(self) -> bool:
        """Whether anything changes at any alpha."""
        raise NotImplementedError

    @torch.no_grad()
    def merge(self) -> None:
        """Add what was learned to the base's weight and bias; nothing to do where it is there already."""
        if not self.merged:
            weight, bias = self.change()
            self._plain_weight = self.base.weight.clone()
            self.base.weight.add_(weight)
            if bias is not None:
                self._plain_bias = self.base.bias.clone()
                self.base.bias.add_(bias)

    @torch.no_grad()
    def unmerge(self) -> None:
        """Give the base its weight back, bit for bit: it was kept, because subtracting the change would round."""
        if self._plain_weight is not None:
            self.base.weight.copy_(self._plain_weight)
            self._plain_weight = None
        if self._plain_bias is not None:
            self.base.bias.copy_(self._plain_bias)
            self._plain_bias = None


class LoRALinear(AdaptedLinear):
    """A frozen linear layer with a trainable low-rank product beside it.

    Args:
        base: the layer to adapt; its weights are frozen.
        rank: of the product; at least 1, and above the layer's smaller side where the study wants it.
        alpha: multiplier on the product; may be changed later.
        scaling: see :func:`lora_mnist_cli.models.architecture.scale`.
        init: see :func:`init_A`.
        dropout: probability that an input of ``A`` is dropped, in training only.
    """

    def __init__(
        self, base: nn.Linear, rank: int, *, alpha: float = 1.0, scaling: str = "constant",
        init: str = "reference", dropout: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__(base, alpha)
        self.rank = rank
        self.scale = scale(scaling, rank)
        self.dropout = dropout
        like = base.weight
        self.lora_A = nn.Parameter(init_A(rank, base.in_features, init).to(like))
        self.lora_B = nn.Parameter(like.new_zeros(base.out_features, rank))

    def delta(self) -> Tensor:
        """What the adapter adds to the weight: ``alpha · scale(rank) · B A`` (out × in); zeros at alpha 0."""
        if self.alpha == 0:
            return torch.zeros_like(self.base.weight)
        return self.alpha * self.scale * (self.lora_B @ self.lora_A)

    def change(self) -> tuple[Tensor, Tensor | None]:
        """:meth:`delta`; the bias stays as it is."""
        return self.delta(), None

    @torch.no_grad()
    def has_effect(self) -> bool:
        """Whether the product is anything but zero."""
        return bool((self.lora_B @ self.lora_A).any())

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (n × out) of inputs (n × in)."""
        hidden: Tensor = self.base(x)
        # At alpha 0 nothing is added, rather than zeros: the base's outputs come back bit for bit, whatever B A holds.
        if self.merged or not self.enabled or self.alpha == 0:
            return hidden
        x = F.dropout(x, self.dropout, self.training) if self.dropout else x
        return hidden + self.alpha * self.scale * F.linear(F.linear(x, self.lora_A), self.lora_B)


def attach(
    model: nn.Module, rank: int, *, alpha: float = 1.0, scaling: str = "constant", init: str = "reference",
    dropout: float = 0.0, target_layers: Sequence[str] | None = None,
) -> nn.Module:  # fmt: skip
    """Freeze a model and put adapters on its linear layers, in place.

    Args:
        target_layers: names of the layers to adapt; all linear layers by default.

    Returns:
        The model.

    Raises:
        UsageError: where it has adapters already, or a name is no linear layer of it.
    """

    def make(layer: nn.Linear) -> LoRALinear:
        return LoRALinear(layer, rank, alpha=alpha, scaling=scaling, init=init, dropout=dropout)

    return attach_made(model, make, target_layers)


def attach_made(
    model: nn.Module, make: Callable[[nn.Linear], AdaptedLinear], target_layers: Sequence[str] | None
) -> nn.Module:
    """Freeze a model and put what ``make`` makes of a linear layer in its place; else as :func:`attach`."""
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
            model.set_submodule(name, make(layer))
    return model


def detach(model: nn.Module) -> nn.Module:
    """Put the linear layers back in their places, in place: with the product if it is merged, else without."""
    for name, layer in adapted_layers(model).items():
        model.set_submodule(name, layer.base)
    return model


def adapted_layers(model: nn.Module) -> dict[str, AdaptedLinear]:
    """Name → adapted layer, from the input on."""
    return {name: module for name, module in model.named_modules() if isinstance(module, AdaptedLinear)}


def set_alpha(model: nn.Module, alpha: float) -> None:
    """Put ``alpha`` in the place of the multiplier of every adapter.

    Raises:
        UsageError: where the adapters are merged: then the weight has the old one in it.
    """
    layers = adapted_layers(model).values()
    if any(layer.merged for layer in layers):
        raise UsageError("alpha can't change while the adapters are merged", hint="unmerge first", value=alpha)
    for layer in layers:
        layer.alpha = alpha


@contextmanager
def switched_off(model: nn.Module) -> Iterator[nn.Module]:
    """The bare base inside, with merged adapters taken out; as before afterwards."""
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
    """Whether nothing changes on any adapted layer: whatever alpha is, the base is all there is."""
    return not any(layer.has_effect() for layer in adapted_layers(model).values())


def merge(model: nn.Module) -> None:
    """Merge every adapter into its layer; see :meth:`AdaptedLinear.merge`."""
    for layer in adapted_layers(model).values():
        layer.merge()


def unmerge(model: nn.Module) -> None:
    """Take every adapter out of its layer again; see :meth:`AdaptedLinear.unmerge`."""
    for layer in adapted_layers(model).values():
        layer.unmerge()


def lora_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """The adapters' tensors alone: ``fc1.lora_A`` (rank × in), ``fc1.lora_B`` (out × rank), …"""
    factors = ("lora_A", "lora_B")
    return {f"{name}.{f}": getattr(layer, f).detach() for name, layer in adapted_layers(model).items() for f in factors}


@torch.no_grad()
def load_lora_state_dict(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Put tensors into the model's adapters.

    Raises:
        ArtifactError: where a key is missing or unknown, or a shape differs. Nothing has been changed then.
    """
    own = lora_state_dict(model)
    for problem, keys in (("lacks", own.keys() - state.keys()), ("has the unknown", state.keys() - own.keys())):
        if keys:
            raise ArtifactError(f"the adapter {problem} {', '.join(sorted(keys))}", value=sorted(keys))
    for key, tensor in own.items():
        if tensor.shape != state[key].shape:
            got, want = tuple(state[key].shape), tuple(tensor.shape)
            raise ArtifactError(f"the adapter's {key} is {got}, and the base needs {want}", value=key)
    for key, tensor in own.items():
        tensor.copy_(state[key])
