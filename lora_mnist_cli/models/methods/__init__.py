"""Ways to adapt a frozen base, one file per method, named as its row of ``settings.choices.METHODS``.

A method trains tensors beside a frozen layer. They make a change of the layer's weight, and of its bias in some
methods. The file of weights holds the kept tensors, which may differ from the trained ones. The layers that train them
are in :mod:`lora_mnist_cli.models.adapted_linear`, and LoRA's in :mod:`lora_mnist_cli.models.lora`. No torch here:
methods work on the tensors they are given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, ClassVar

from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.choices import implementation

Tensors = Mapping[str, Any]
"""Name → tensor of PyTorch, or array of NumPy where nothing is trained."""
Change = tuple[Any, Any]
"""The change of a layer's weight (out × in) and of its bias (out); None for no change."""

PeftFiles = tuple[dict[str, Any], dict[str, Any]]
"""The content of PEFT's ``adapter_config.json``, and arrays by key."""

PEFT_PREFIX = "base_model.model."


@dataclass(frozen=True)
class PeftKind:
    """The words of PEFT's ``adapter_config.json`` for a method whose file of weights can be imported.

    Args:
        name: the ``peft_type``.
        alpha: option of the multiplier, which PEFT divides by the rank; empty where it has none.
        dropout: option of the dropout of inputs; empty where it has none.
        patterns: whether layers may have ranks of their own, and alphas where there is one.
        values: option → the values that mean what is done here, the default first.
        silent: options that say nothing about the trained adapter.
    """

    name: str
    alpha: str = ""
    dropout: str = ""
    patterns: bool = False
    values: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    silent: frozenset[str] = frozenset()

    @property
    def read(self) -> frozenset[str]:
        """All options that have a meaning here, or none at all."""
        named = {"peft_type", "r", "target_modules", *self.values, *filter(None, (self.alpha, self.dropout))}
        if self.patterns:
            named |= {"rank_pattern", "alpha_pattern"} if self.alpha else {"rank_pattern"}
        return self.silent | named


class Method:
    """The mathematics of one way to adapt linear layers."""

    needs_weight: ClassVar[bool] = False
    """Whether the change of the kept tensors depends on the layer's weight."""
    prefix: ClassVar[str] = PEFT_PREFIX
    """Prefix of a layer's name in a file of weights."""
    not_in_peft: ClassVar[str] = ""
    """The reason why PEFT has no format for the kept tensors; empty where it has."""
    alpha_not_in_peft: ClassVar[str] = ""
    """The reason why another alpha after the training means something else in PEFT than here; empty where it doesn't.
    Here it multiplies the whole change."""
    peft_kind: ClassVar[PeftKind | None] = None
    """What an import reads; None where it takes none."""
    changes_biases: ClassVar[bool] = False
    """Whether the change has a part in biases, which no low-rank product holds."""

    def shapes(self, rank: int, fan_in: int, fan_out: int) -> dict[str, tuple[int, ...]]:
        """Return the shape of each kept tensor of a layer, by name."""
        raise NotImplementedError

    def largest_rank(self, fan_in: int, fan_out: int) -> int | None:
        """Return the highest rank that a layer can have; None where any can."""
        return None

    def trainable(self, config: AdapterConfig, fan_in: int, fan_out: int) -> int:
        """Count the numbers that are trained for a layer."""
        raise NotImplementedError

    def change_rank(self, config: AdapterConfig, fan_in: int, fan_out: int) -> int:
        """Return the rank that the change of a layer's weight may have."""
        return min(fan_in, fan_out)

    def start(self, weight: Any, bias: Any, config: AdapterConfig) -> tuple[dict[str, Any], dict[str, Any]]:
        """Make the trained tensors and the fixed ones; draws from the global generator.

        Args:
            weight, bias: those of the frozen layer.
        """
        raise NotImplementedError

    def learned(self, trained: Tensors, weight: Any, bias: Any, config: AdapterConfig) -> Change:
        """Compute the change from the trained and fixed tensors, with gradients."""
        return self.change(trained, weight, config)

    def factors(self, tensors: Tensors) -> tuple[Any, Any]:
        """Compute A' (rank × in) and B' (out × rank) of a method that banks train: the change is alpha · scale · B' A'.

        Args:
            tensors: the trained and the fixed ones of a layer, or of many layers with one more dimension in front.
        """
        raise NotImplementedError

    def gradients(self, tensors: Tensors, of_A: Any, of_B: Any) -> dict[str, Any]:
        """Compute the gradients by the trained tensors from those by A' and B' of :meth:`factors`."""
        raise NotImplementedError

    def kept(self, trained: Tensors, weight: Any, bias: Any, config: AdapterConfig) -> dict[str, Any]:
        """Compute the kept tensors from the trained and fixed ones; by default those are kept that have a shape."""
        fan_out, fan_in = weight.shape
        return {name: trained[name] for name in self.shapes(config.rank, fan_in, fan_out)}

    def change(self, kept: Tensors, weight: Any, config: AdapterConfig) -> Change:
        """Compute the change from the kept tensors, of PyTorch or NumPy, at the config's alpha."""
        raise NotImplementedError

    def peft(self, config: AdapterConfig, layers: Sequence[str]) -> dict[str, Any] | None:
        """Return PEFT's ``adapter_config.json``; None where PEFT has no such method."""
        return None

    def random_for_peft(
        self, config: AdapterConfig, layers: Mapping[str, Sequence[int]], alpha: float
    ) -> PeftFiles | None:
        """Return what a folder for PEFT holds besides the kept tensors, where they leave random ones to the seed.

        Args:
            layers: name → (in, out) of each adapted layer.
            alpha: multiplier on the change.
        """
        return None


def own_ranks(config: AdapterConfig, layers: Sequence[str]) -> dict[str, int]:
    """Return the layers that have another rank than the config, with their ranks."""
    ranks = {layer: config.for_layer(layer).rank for layer in layers}
    return {layer: rank for layer, rank in ranks.items() if rank != config.rank}


def peft_description(kind: str, *, init: str = "init_weights", **options: Any) -> dict[str, Any]:
    """Return PEFT's ``adapter_config.json``: the options in their order, between those that all methods have.

    Args:
        kind: the ``peft_type``.
        init: the option that says how the method starts.
    """
    return {
        "peft_type": kind, "task_type": None, "base_model_name_or_path": None, **options,
        "inference_mode": True, init: True, "modules_to_save": None,
    }  # fmt: skip


def method_named(name: str) -> Method:
    """Return the mathematics of a method."""
    method: Method = implementation(__name__, name)
    return method


def mathematics_of(config: AdapterConfig) -> Method:
    """Return the mathematics of an adapter, which for LoRA depends on its start."""
    if config.moves_weight:
        moved: Method = import_module(f"{__name__}.moved").MOVED
        return moved
    return method_named(config.method)


def tensor_shapes(config: AdapterConfig, layers: Mapping[str, Sequence[int]]) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor in an adapter's file of weights, by key.

    Args:
        layers: name → (in, out) of each adapted layer.
    """
    method = mathematics_of(config)
    return {
        f"{method.prefix}{layer}.{name}": shape
        for layer, (fan_in, fan_out) in layers.items()
        for name, shape in method.shapes(config.for_layer(layer).rank, fan_in, fan_out).items()
    }


def trainable_parameters(config: AdapterConfig, layers: Mapping[str, Sequence[int]]) -> int:
    """Count the numbers that an adapter trains on layers of (in, out) features."""
    method = mathematics_of(config)
    return sum(method.trainable(config.for_layer(layer), *fans) for layer, fans in layers.items())
