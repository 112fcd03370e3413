"""Layers that are adapted by any method of ``models.methods``; LoRA's layers are in ``models.lora``."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lora_mnist_cli.models import lora
from lora_mnist_cli.models.lora import AdaptedLinear, LoRALinear, adapted_layers
from lora_mnist_cli.models.methods import mathematics_of, method_named
from lora_mnist_cli.models.methods.full import Full
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.layer_ranks import ranks_in
from lora_mnist_cli.system.errors import ArtifactError


class MethodLinear(AdaptedLinear):
    """A frozen linear layer with a change that a method learns.

    The layer first holds the tensors that are trained. :meth:`settle` replaces them by the tensors that a file of
    weights holds.

    Args:
        base: the layer to adapt; its weights are frozen.
        config: the settings, which name the method.
        start: make the method's start, drawn from PyTorch's global generator. Otherwise the layer is settled, with
            zeros in all its tensors until :meth:`load`.
    """

    def __init__(self, base: nn.Linear, config: AdapterConfig, *, start: bool = True) -> None:
        super().__init__(base, config.alpha)
        self.method, self.config, self.dropout = mathematics_of(config), config, config.dropout
        self.trained = nn.ParameterDict()
        self._fixed: list[str] = []
        self._kept: list[str] = []
        if start:
            trained, fixed = self.method.start(base.weight, base.bias, config)
            for name, tensor in trained.items():
                self.trained[name.replace(".", "_")] = nn.Parameter(tensor)
            self._trained = list(trained)
            self._hold(fixed, self._fixed)
        else:
            shapes = self.method.shapes(config.rank, base.in_features, base.out_features)
            self._hold({name: base.weight.new_zeros(shape) for name, shape in shapes.items()}, self._kept)

    @property
    def settled(self) -> bool:
        """Whether the layer holds the tensors of a file, and no longer those that are trained."""
        return bool(self._kept)

    @property
    def trained_like_plain(self) -> bool:
        """Whether the trained tensors are a weight and a bias that give the outputs as those of a plain layer do.

        At an alpha other than 1 they don't, because it multiplies their change.
        """
        return (
            isinstance(self.method, Full) and self.config.alpha == self.alpha == 1
            and self.enabled and not self.merged and not self.settled
            and all(parameter.requires_grad for parameter in self.trained.values())
        )  # fmt: skip

    @torch.no_grad()
    def settle(self) -> None:
        """Replace the tensors that were trained by those that the file of weights will hold."""
        if not self.settled:
            kept = self.kept()
            self.trained = nn.ParameterDict()
            for name in self._fixed:
                delattr(self, _buffer(name))
            self._hold({name: tensor.clone() for name, tensor in kept.items()}, self._kept)

    @torch.no_grad()
    def kept(self) -> dict[str, Tensor]:
        """Return the tensors that the file of weights holds, by name."""
        if self.settled:
            return {name: getattr(self, _buffer(name)) for name in self._kept}
        kept = self.method.kept(self.tensors(), self.base.weight, self.base.bias, self.config)
        return {name: tensor.detach() for name, tensor in kept.items()}

    def numbers(self) -> dict[str, nn.Parameter]:
        """Return the parameters that are trained, by the method's names; none where the layer is settled."""
        return {} if self.settled else {name: self.trained[name.replace(".", "_")] for name in self._trained}

    def tensors(self) -> dict[str, Tensor]:
        """Return the trained and the fixed tensors by the method's names."""
        return {**self.numbers(), **{name: getattr(self, _buffer(name)) for name in self._fixed}}

    @torch.no_grad()
    def begin(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy a start into the trained and the fixed tensors."""
        for name, tensor in self.tensors().items():
            tensor.copy_(tensors[name])

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy tensors into a settled layer."""
        for name, tensor in self.kept().items():
            tensor.copy_(tensors[name])

    def trained_change(self) -> tuple[Tensor, Tensor | None]:
        """Return the change of weight and bias at the alpha of the training."""
        # A small difference of large products would lose all its digits in half precision.
        with torch.autocast(self.base.weight.device.type, enabled=False):
            if self.settled:
                return self.method.change(self.kept(), self.base.weight, self.config)
            return self.method.learned(self.tensors(), self.base.weight, self.base.bias, self.config)

    def change(self) -> tuple[Tensor, Tensor | None]:
        """Return the change of weight and bias at the present alpha."""
        if self.alpha == 0 or self.config.alpha == 0:
            return torch.zeros_like(self.base.weight), None
        weight, bias = self.trained_change()
        if self.alpha == self.config.alpha:
            return weight, bias
        ratio = self.alpha / self.config.alpha
        return ratio * weight, None if bias is None else ratio * bias

    @torch.no_grad()
    def has_effect(self) -> bool:
        """Tell whether the outputs change at any alpha."""
        if self.config.alpha == 0:
            return False
        return any(bool(part.any()) for part in self.trained_change() if part is not None)

    def forward(self, x: Tensor) -> Tensor:
        """Compute outputs (n × out) of inputs (n × in).

        Dropout acts on the inputs of the change, which is zero at the start. PEFT's dropout also drops inputs of the
        weight itself where a method starts from a part of it (PiSSA) or rescales it (DoRA).
        """
        hidden: Tensor = self.base(x)
        if self.merged or not self.enabled or self.alpha == 0:
            return hidden
        x = F.dropout(x, self.dropout, self.training) if self.dropout else x
        weight, bias = self.change()
        return hidden + F.linear(x, weight, bias)

    def _hold(self, tensors: Mapping[str, Tensor], names: list[str]) -> None:
        for name, tensor in tensors.items():
            self.register_buffer(_buffer(name), tensor, persistent=False)
            names.append(name)


def _buffer(name: str) -> str:
    return f"held_{name.replace('.', '_')}"


def attach(model: nn.Module, config: AdapterConfig, *, start: bool = True) -> nn.Module:
    """Freeze a model and put the adapters of a config on it, in place; they draw from PyTorch's global generator.

    A start of ``settings.choices.STARTS`` is put in afterwards, by ``training.starts``.

    Args:
        start: see :class:`MethodLinear`; LoRA's layers always have a start.

    Returns:
        The model.

    Raises:
        UsageError: where the model lacks a target layer, or has adapters already.
    """
    if config.plain:
        return lora.attach(
            model, config.rank, alpha=config.alpha, scaling=config.scaling, init=config.init, dropout=config.dropout,
            train=config.train, target_layers=config.target_layers, ranks=ranks_in(config.rank_pattern),
        )  # fmt: skip

    def make(name: str, layer: nn.Linear) -> MethodLinear:
        return MethodLinear(layer, config.for_layer(name), start=start)

    return lora.attach_made(model, make, config.target_layers)


def settle(model: nn.Module) -> None:
    """Settle all layers; see :meth:`MethodLinear.settle`."""
    for layer in adapted_layers(model).values():
        if isinstance(layer, MethodLinear):
            layer.settle()


def adapter_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of an adapted model's file of weights, by key."""
    tensors: dict[str, Tensor] = {}
    for name, layer in adapted_layers(model).items():
        if isinstance(layer, MethodLinear):
            tensors |= {f"{layer.method.prefix}{name}.{key}": tensor for key, tensor in layer.kept().items()}
        elif isinstance(layer, LoRALinear):
            prefix = method_named("lora").prefix
            tensors |= {f"{prefix}{name}.{key}.weight": getattr(layer, key).detach() for key in ("lora_A", "lora_B")}
    return tensors


@torch.no_grad()
def load_adapter_tensors(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy the tensors of a file into a model with settled adapters of their shapes.

    Raises:
        ArtifactError: where a key or a shape differs; then the model is unchanged.
    """
    targets = adapter_tensors(model)
    given, needed = ({key: tuple(t.shape) for key, t in some.items()} for some in (tensors, targets))
    if given != needed:
        odd = sorted(key for key in given.keys() | needed.keys() if given.get(key) != needed.get(key))
        raise ArtifactError(f"the adapter does not fit: {', '.join(odd)}", value=odd)
    for key, tensor in targets.items():
        tensor.copy_(tensors[key])
