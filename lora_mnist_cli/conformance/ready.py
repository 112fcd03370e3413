"""Three implementations behind the protocol: ours, PEFT's and loralib's. Each is as thin as its library lets it be.

What PEFT or loralib do themselves is not made up for here: it is what the laws are to show. Neither is imported
before it is asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from lora_mnist_cli.models import lora
from lora_mnist_cli.system.errors import UsageError


class Ours:
    """:mod:`lora_mnist_cli.models.lora`."""

    scaling = "constant"

    def attach(self, model: nn.Module, *, rank: int, alpha: float, dropout: float) -> nn.Module:
        """See the protocol."""
        return lora.attach(model, rank, alpha=alpha, scaling=self.scaling, dropout=dropout)

    def set_alpha(self, model: nn.Module, alpha: float) -> None:
        """See the protocol."""
        lora.set_alpha(model, alpha)

    def merge(self, model: nn.Module) -> None:
        """See the protocol."""
        lora.merge(model)

    def unmerge(self, model: nn.Module) -> None:
        """See the protocol."""
        lora.unmerge(model)

    def state(self, model: nn.Module) -> Mapping[str, Tensor]:
        """See the protocol."""
        return lora.lora_state_dict(model)

    def load(self, model: nn.Module, state: Mapping[str, Tensor]) -> None:
        """See the protocol."""
        lora.load_lora_state_dict(model, state)

    def factors(self, model: nn.Module) -> Mapping[str, tuple[Tensor, Tensor]]:
        """See the protocol."""
        layers = lora.adapted_layers(model).items()
        return {n: (layer.lora_A, layer.lora_B) for n, layer in layers if isinstance(layer, lora.LoRALinear)}

    def weights(self, model: nn.Module) -> Mapping[str, Tensor]:
        """See the protocol."""
        return _weights({name: layer.base for name, layer in lora.adapted_layers(model).items()})


class OursStandard(Ours):
    """The same with ``scale(rank)`` 1/rank."""

    scaling = "standard"


class OursRslora(Ours):
    """The same with ``scale(rank)`` 1/√rank."""

    scaling = "rslora"


class Peft:
    """Hugging Face's PEFT, with its documented functions."""

    scaling = "standard"

    def __init__(self) -> None:
        self.peft: Any = _library("peft")

    def attach(self, model: nn.Module, *, rank: int, alpha: float, dropout: float) -> nn.Module:
        """See the protocol."""
        targets = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
        config = self.peft.LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=targets)
        adapted: nn.Module = self.peft.get_peft_model(model, config)
        return adapted

    def set_alpha(self, model: nn.Module, alpha: float) -> None:
        """See the protocol. PEFT has it as a multiple of the alpha that it was configured with."""
        for layer in self._layers(model).values():
            layer.set_scale("default", alpha / layer.lora_alpha["default"])

    def merge(self, model: Any) -> None:
        """See the protocol."""
        model.merge_adapter()

    def unmerge(self, model: Any) -> None:
        """See the protocol."""
        model.unmerge_adapter()

    def state(self, model: nn.Module) -> Mapping[str, Tensor]:
        """See the protocol."""
        found: Mapping[str, Tensor] = self.peft.get_peft_model_state_dict(model)
        return found

    def load(self, model: nn.Module, state: Mapping[str, Tensor]) -> None:
        """See the protocol."""
        self.peft.set_peft_model_state_dict(model, dict(state))

    def factors(self, model: nn.Module) -> Mapping[str, tuple[Tensor, Tensor]]:
        """See the protocol."""
        layers = self._layers(model).items()
        return {name: (each.lora_A["default"].weight, each.lora_B["default"].weight) for name, each in layers}

    def weights(self, model: nn.Module) -> Mapping[str, Tensor]:
        """See the protocol."""
        return _weights({name: layer.get_base_layer() for name, layer in self._layers(model).items()})

    def _layers(self, model: nn.Module) -> dict[str, Any]:
        kind = importlib.import_module("peft.tuners.lora").LoraLayer
        prefix = "base_model.model."
        return {name.removeprefix(prefix): m for name, m in model.named_modules() if isinstance(m, kind)}


class Loralib:
    """Microsoft's loralib, the LoRA paper's own code. Its layers merge in ``eval()`` and unmerge in ``train()``."""

    scaling = "standard"

    def __init__(self) -> None:
        self.loralib: Any = _library("loralib")

    def attach(self, model: nn.Module, *, rank: int, alpha: float, dropout: float) -> nn.Module:
        """See the protocol. A layer has to be replaced by hand, as its documentation says."""
        for name, layer in list(model.named_modules()):
            if isinstance(layer, nn.Linear):
                new = self.loralib.Linear(
                    layer.in_features, layer.out_features, r=rank, lora_alpha=alpha, lora_dropout=dropout
                )
                new.load_state_dict(_weights({"": layer}, separator=""), strict=False)
                model.set_submodule(name, new)
        self.loralib.mark_only_lora_as_trainable(model)
        return model

    def set_alpha(self, model: nn.Module, alpha: float) -> None:
        """See the protocol. It has no function for it; this is the number that its layers multiply with."""
        for layer in self._layers(model).values():
            layer.lora_alpha, layer.scaling = alpha, alpha / layer.r

    def merge(self, model: nn.Module) -> None:
        """See the protocol."""
        for layer in self._layers(model).values():
            layer.eval()

    def unmerge(self, model: nn.Module) -> None:
        """See the protocol."""
        for layer in self._layers(model).values():
            layer.train()

    def state(self, model: nn.Module) -> Mapping[str, Tensor]:
        """See the protocol."""
        found: Mapping[str, Tensor] = self.loralib.lora_state_dict(model)
        return found

    def load(self, model: nn.Module, state: Mapping[str, Tensor]) -> None:
        """See the protocol; as its documentation says, without strictness."""
        model.load_state_dict(dict(state), strict=False)

    def factors(self, model: nn.Module) -> Mapping[str, tuple[Tensor, Tensor]]:
        """See the protocol."""
        return {name: (layer.lora_A, layer.lora_B) for name, layer in self._layers(model).items()}

    def weights(self, model: nn.Module) -> Mapping[str, Tensor]:
        """See the protocol."""
        return _weights(self._layers(model))

    def _layers(self, model: nn.Module) -> dict[str, Any]:
        kind = importlib.import_module("loralib.layers").LoRALayer
        return {name: module for name, module in model.named_modules() if isinstance(module, kind)}


def _weights(layers: Mapping[str, Any], separator: str = ".") -> dict[str, Tensor]:
    """The weight and bias of each layer, by the layer's name."""
    found: dict[str, Tensor] = {}
    for name, layer in layers.items():
        found |= {f"{name}{separator}weight": layer.weight.detach(), f"{name}{separator}bias": layer.bias.detach()}
    return found


def _library(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise UsageError(f"{name} is not installed", hint=f"pip install {name}", value=name) from error
