"""Implementations of the protocol: this project's, PEFT's and loralib's of LoRA, and the first two of other methods.

Each is as thin as its library allows, and does not hide what PEFT or loralib do: the laws are to show that. The
libraries are imported when an implementation is made.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from lora_mnist_cli.models import adapted_linear, lora
from lora_mnist_cli.models.adapted_linear import adapter_tensors, load_adapter_tensors
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.choices import METHODS
from lora_mnist_cli.system.errors import UsageError


class Ours:
    """:mod:`lora_mnist_cli.models.lora`."""

    scaling = "constant"
    set_alpha = staticmethod(lora.set_alpha)
    merge = staticmethod(lora.merge)
    unmerge = staticmethod(lora.unmerge)
    state = staticmethod(adapter_tensors)
    load = staticmethod(load_adapter_tensors)

    def attach(self, model: nn.Module, *, rank: int, alpha: float, dropout: float) -> nn.Module:
        return lora.attach(model, rank, alpha=alpha, scaling=self.scaling, dropout=dropout)

    def factors(self, model: nn.Module) -> Mapping[str, tuple[Tensor, Tensor]]:
        layers = lora.adapted_layers(model).items()
        return {n: (layer.lora_A, layer.lora_B) for n, layer in layers if isinstance(layer, lora.LoRALinear)}

    def weights(self, model: nn.Module) -> Mapping[str, Tensor]:
        return _weights({name: layer.base for name, layer in lora.adapted_layers(model).items()})


class OursStandard(Ours):
    """The same with ``scale(rank)`` 1/rank."""

    scaling = "standard"


class OursRslora(Ours):
    """The same with ``scale(rank)`` 1/√rank."""

    scaling = "rslora"


class OursOf(Ours):
    """:mod:`lora_mnist_cli.models.adapted_linear`, by any method."""

    def __init__(self, method: str) -> None:
        self.method = METHODS[method]
        self.settings = {"method": method}

    def attach(self, model: nn.Module, *, rank: int, alpha: float, dropout: float) -> nn.Module:
        layers = tuple(name for name, module in model.named_modules() if isinstance(module, nn.Linear))
        chosen: dict[str, Any] = self.settings | ({"rank": rank} if self.method.ranked else {})
        chosen["target_layers"] = layers[-1:] if self.method.last_layer_only else layers
        return adapted_linear.attach(model, AdapterConfig(alpha=alpha, dropout=dropout, **chosen))

    def load(self, model: nn.Module, state: Mapping[str, Tensor]) -> None:
        adapted_linear.settle(model)
        load_adapter_tensors(model, state)

    def weights(self, model: nn.Module) -> Mapping[str, Tensor]:
        layers = {name: module for name, module in model.named_children() if isinstance(module, nn.Linear)}
        return _weights(layers | {name: layer.base for name, layer in lora.adapted_layers(model).items()})


class Peft:
    """Hugging Face's PEFT, with its documented functions."""

    scaling = "standard"

    def __init__(self) -> None:
        self.peft: Any = _library("peft")

    def attach(self, model: nn.Module, *, rank: int, alpha: float, dropout: float) -> Any:
        targets = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
        config = self.peft.LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=targets)
        return self.peft.get_peft_model(model, config)

    def set_alpha(self, model: nn.Module, alpha: float) -> None:
        # PEFT takes a multiple of the configured alpha.
        for layer in self._layers(model).values():
            attached = layer.alpha if hasattr(layer, "alpha") else layer.lora_alpha
            layer.set_scale("default", alpha / attached["default"])

    def merge(self, model: Any) -> None:
        model.merge_adapter()

    def unmerge(self, model: Any) -> None:
        model.unmerge_adapter()

    def state(self, model: nn.Module) -> Any:
        return self.peft.get_peft_model_state_dict(model)

    def load(self, model: nn.Module, state: Mapping[str, Tensor]) -> None:
        self.peft.set_peft_model_state_dict(model, dict(state))

    def factors(self, model: nn.Module) -> Mapping[str, tuple[Tensor, Tensor]]:
        layers = self._layers(model).items()
        return {name: (layer.lora_A["default"].weight, layer.lora_B["default"].weight) for name, layer in layers}

    def weights(self, model: nn.Module) -> Mapping[str, Tensor]:
        return _weights({name: layer.get_base_layer() for name, layer in self._layers(model).items()})

    def _layers(self, model: nn.Module) -> dict[str, Any]:
        kind = importlib.import_module("peft.tuners.tuners_utils").BaseTunerLayer
        prefix = "base_model.model."
        return {name.removeprefix(prefix): m for name, m in model.named_modules() if isinstance(m, kind)}


class PeftOf(Peft):
    """PEFT's implementation of another method, with the settings that ours has."""

    def __init__(self, method: str) -> None:
        super().__init__()
        if method not in PEFT_METHODS:
            hint = f"on the bench: {', '.join(PEFT_METHODS)}"
            raise UsageError(f"PEFT's {METHODS[method].title} is not on the bench", hint=hint, value=method)
        self.method = method

    def attach(self, model: nn.Module, *, rank: int, alpha: float, dropout: float) -> Any:
        targets = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
        chosen: dict[str, dict[str, Any]] = {
            "dora": {"use_dora": True},
            "pissa": {"init_lora_weights": "pissa"},
            "vera": {"r": rank, "d_initial": 0.1},
            "randlora": {"r": rank},
            "delora": {"r": rank},
            "lokr": {"r": rank, "alpha": alpha},
            "miss": {"r": rank},
            "hra": {"r": 2 * rank},
            "ia3": {"feedforward_modules": targets},
        }
        own = chosen[self.method]
        if PEFT_METHODS[self.method] == "LoraConfig":
            own |= {"r": rank, "lora_alpha": alpha, "lora_dropout": dropout}
        config = getattr(self.peft, PEFT_METHODS[self.method])(target_modules=targets, **own)
        return self.peft.get_peft_model(model, config)

    def set_alpha(self, model: nn.Module, alpha: float) -> None:
        if PEFT_METHODS[self.method] not in ("LoraConfig", "LoKrConfig"):
            raise NotImplementedError(f"PEFT's {METHODS[self.method].title} has no alpha")
        super().set_alpha(model, alpha)


PEFT_METHODS = {
    "dora": "LoraConfig",
    "pissa": "LoraConfig",
    "vera": "VeraConfig",
    "randlora": "RandLoraConfig",
    "delora": "DeloraConfig",
    "lokr": "LoKrConfig",
    "miss": "MissConfig",
    "hra": "HRAConfig",
    "ia3": "IA3Config",
}
"""PEFT's configuration of each method beside LoRA."""


class Loralib:
    """Microsoft's loralib, the LoRA paper's own code. Its layers merge in ``eval()`` and unmerge in ``train()``."""

    scaling = "standard"

    def __init__(self) -> None:
        self.loralib: Any = _library("loralib")

    def attach(self, model: nn.Module, *, rank: int, alpha: float, dropout: float) -> nn.Module:
        # loralib's documentation says to replace each layer by hand.
        for name, layer in list(model.named_modules()):
            if isinstance(layer, nn.Linear):
                new = self.loralib.Linear(
                    layer.in_features, layer.out_features, r=rank, lora_alpha=alpha, lora_dropout=dropout
                )
                new.load_state_dict(layer.state_dict(), strict=False)
                model.set_submodule(name, new)
        self.loralib.mark_only_lora_as_trainable(model)
        return model

    def set_alpha(self, model: nn.Module, alpha: float) -> None:
        # loralib has no function for it; its layers multiply with this number.
        for layer in self._layers(model).values():
            layer.lora_alpha, layer.scaling = alpha, alpha / layer.r

    def merge(self, model: nn.Module) -> None:
        for layer in self._layers(model).values():
            layer.eval()

    def unmerge(self, model: nn.Module) -> None:
        for layer in self._layers(model).values():
            layer.train()

    def state(self, model: nn.Module) -> Any:
        return self.loralib.lora_state_dict(model)

    def load(self, model: nn.Module, state: Mapping[str, Tensor]) -> None:
        # loralib's documentation loads without strictness.
        model.load_state_dict(dict(state), strict=False)

    def factors(self, model: nn.Module) -> Mapping[str, tuple[Tensor, Tensor]]:
        return {name: (layer.lora_A, layer.lora_B) for name, layer in self._layers(model).items()}

    def weights(self, model: nn.Module) -> Mapping[str, Tensor]:
        return _weights(self._layers(model))

    def _layers(self, model: nn.Module) -> dict[str, Any]:
        kind = importlib.import_module("loralib.layers").LoRALayer
        return {name: module for name, module in model.named_modules() if isinstance(module, kind)}


def _weights(layers: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the weight and bias of each layer, by the layer's name."""
    weights: dict[str, Tensor] = {}
    for name, layer in layers.items():
        weights |= {f"{name}.weight": layer.weight.detach(), f"{name}.bias": layer.bias.detach()}
    return weights


def _library(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise UsageError(f"{name} is not installed", hint=f"pip install {name}", value=name) from error
