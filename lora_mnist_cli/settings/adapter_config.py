"""The settings of an adapter: how it is trained on a frozen base, or how it was combined or imported."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, field, fields
from functools import partial
from typing import Any

from lora_mnist_cli.settings.checks import digit_set, is_digest, number, one_of, setting, whole
from lora_mnist_cli.settings.choices import (
    COMBINERS,
    INITS,
    METHODS,
    PROTECTION_SETTINGS,
    PROTECTIONS,
    SCALINGS,
    STARTS,
    TRAINED,
    VARIED,
    MethodChoice,
    protections_in_order,
)
from lora_mnist_cli.settings.config import MAX_RANK, MAX_SEED, ConfigT, TrainingConfig
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.settings.layer_ranks import UNIFORM, is_pattern, ranks_in
from lora_mnist_cli.system.errors import ConfigError

added = partial(setting, added_later=True)

_DEFAULT_RANK = 8
LAYER = re.compile(r"fc[1-9][0-9]{0,2}", re.ASCII)


def _other_default(name: str, default: Any) -> Any:
    return field(default=default, metadata=TrainingConfig.__dataclass_fields__[name].metadata)


def _table_help(table: Mapping[str, Any]) -> str:
    return "; ".join(f"{name}: {choice.about}" for name, choice in table.items())


def _protections(_: str, names: object) -> Iterator[str]:
    if not isinstance(names, tuple):
        yield f"protections are a list of names, not {names!r}"
        return
    for name in names:
        yield from one_of(PROTECTIONS)("protect", name)
    if len(set(names)) != len(names):
        yield f"protections are named once each, not {','.join(names)}"


def _layers(_: str, layers: object) -> Iterator[str]:
    if not isinstance(layers, tuple):
        yield f"target layers are a list of names, not {layers!r}"
        return
    odd = [layer for layer in layers if not (isinstance(layer, str) and LAYER.fullmatch(layer))]
    for layer in odd:
        yield f"a layer is named fc1, fc2, …, not {layer!r}"
    if not layers or (not odd and len(set(layers)) != len(layers)):
        yield "target layers are named once each, and at least one"


def _combined_weights(_: str, weights: object) -> Iterator[str]:
    if not isinstance(weights, tuple) or not weights:
        yield "a combined adapter has a weight for each that it was made of"
        return
    for weight in weights:
        yield from number()("weight", weight)


def _imported(name: str, digest: object) -> Iterator[str]:
    if not is_digest(digest):
        yield f"{name} is the SHA-256 of a file of weights, not {digest!r}"


@dataclass(frozen=True, kw_only=True)
class AdapterConfig(TrainingConfig):
    """How an adapter is trained on a frozen base.

    ``digits`` and ``target_layers`` may be None: the digits that the base did not learn, and all its layers.
    """

    digits: DigitSet | None = setting(None, "Digits to learn; default: those that the base did not.", digit_set)
    method: str = added("lora", f"{_table_help(METHODS)}.", one_of(METHODS))
    rank: int = setting(
        _DEFAULT_RANK, "Rank of the adapter's product; methods without one have none.", whole(1, MAX_RANK)
    )
    alpha: float = setting(1.0, "Multiplier on the adapter's product.", number())
    scaling: str = setting(
        "constant", "scale(rank): constant 1, standard 1/rank, rslora 1/sqrt(rank).", one_of(SCALINGS)
    )
    init: str = setting(
        "reference",
        "Start of A: reference U(±1/sqrt(rank)), kaiming U(±1/sqrt(in)), gaussian N(0, 1/rank²), orthogonal random "
        f"orthonormal rows; of A and B, computed: {_table_help(STARTS)}.",
        one_of(INITS),
    )  # fmt: skip
    dropout: float = setting(
        0.0, "Probability that an input of the adapter is dropped in training.", number("at least 0 and below 1")
    )
    target_layers: tuple[str, ...] | None = setting(None, "Layers that get an adapter, as fc1,fc3, or all.", _layers)
    vary: str = added(
        "all", "What the seed varies: all, or only init, order or split, the others held at --seed.", one_of(VARIED)
    )
    lr_power: float = added(
        0.0, "The learning rate is lr / rank^power: small ranks take a higher one.",
        number("at least -4 and at most 4"), words="learning rate's power",
    )  # fmt: skip
    held_seed: int = added(0, "Seed of the random streams that --vary holds.", whole(0, MAX_SEED))
    lr_ratio_b: float = added(
        1.0, "LoRA+: learning rate of B over that of A.", number("above 0"), words="ratio of learning rates"
    )
    train: str = added(
        "both", "Factors that are trained: both, B (A stays as it starts), or A (B stays random, A starts at zero).",
        one_of(TRAINED),
    )  # fmt: skip
    rank_pattern: str = added(
        UNIFORM, "Ranks of layers below --rank, as fc2r4-fc3r2; --rank fc1=8,fc2=4 gives both.", is_pattern
    )
    combined: str | None = added(None, f"{_table_help(COMBINERS)}.", one_of(COMBINERS), words="way to combine")
    combined_weights: tuple[float, ...] | None = added(
        None, "Multiplier of each adapter that a combined one was made of.", _combined_weights
    )
    combined_density: float | None = added(
        None, "Share of each adapter's entries that is kept (ties, dare).", number("above 0 and at most 1"),
        words="density",
    )  # fmt: skip
    imported: str | None = added(None, "SHA-256 of the file of weights of an imported adapter.", _imported)
    protect: tuple[str, ...] = added(
        (), f"Keep what the base knows, by any of {_table_help(PROTECTIONS)}. As replay,mask.", _protections
    )
    replay_old: float = added(
        1.0, "Replay: samples of an old digit for each image of a digit to learn.", number("above 0 and at most 16")
    )
    replay_new: float = added(
        1.0, "Replay: samples of a digit to learn for each of its images.", number("at least 0 and at most 16")
    )
    distill_weight: float = added(1.0, "Distill: weight of the base's answers in the loss.", number("above 0"))
    nullspace_energy: float = added(
        0.95, "Nullspace: share of the old inputs' energy that adapters keep out of.", number("above 0 and below 1")
    )
    # The study trains its adapters with AdamW under reduce-on-plateau.
    optimizer: str = _other_default("optimizer", "adamw")
    schedule: str = _other_default("schedule", "plateau")

    def __post_init__(self) -> None:
        # The default rank, with a method that has no ranks, was not asked for.
        if self.rank == _DEFAULT_RANK and self.method in METHODS and not METHODS[self.method].ranked:
            object.__setattr__(self, "rank", 0)
        if isinstance(self.protect, tuple) and all(isinstance(name, str) for name in self.protect):
            object.__setattr__(self, "protect", protections_in_order(self.protect))
        super().__post_init__()

    @property
    def rate(self) -> float:
        """The learning rate at this rank; a method without ranks has that of rank 1."""
        return float(self.lr / max(self.rank, 1) ** self.lr_power)

    def for_layer(self, layer: str) -> AdapterConfig:
        """Return the settings of one layer, which has a rank of its own where the pattern names it."""
        if self.rank_pattern == UNIFORM:
            return self
        own = ranks_in(self.rank_pattern).get(layer, self.rank)
        return dataclasses.replace(self, rank=own, rank_pattern=UNIFORM)

    @property
    def alone(self) -> bool:
        """Whether it is trained outside banks, which know neither the gradients of its method nor mixed precision."""
        return not METHODS[self.method].in_banks or self.precision == "bf16-mixed"

    @property
    def plain(self) -> bool:
        """Whether it trains the factors of plain LoRA, rather than numbers of a method that factors are made of."""
        return self.method == "lora" and not self.moves_weight

    @property
    def moves_weight(self) -> bool:
        """Whether its start is a part of the base's weight, or beside it, which is subtracted from the weight."""
        return self.init in STARTS and STARTS[self.init].moves_weight

    @property
    def objective(self) -> tuple[object, ...]:
        """The settings of the objective, beside the digits; the members of a bank share them."""
        return self.protect, *(getattr(self, name) for name in PROTECTION_SETTINGS)

    @property
    def needs_statistics(self) -> bool:
        """Whether its protections or its start need the class statistics of the base."""
        start = self.init in STARTS and STARTS[self.init].needs_statistics
        return start or any(PROTECTIONS[name].needs_statistics for name in self.protect)

    def sample_counts(self, images: int, base_digits: DigitSet) -> tuple[int, int]:
        """Return how many samples of old digits, and of the digits to learn, ``replay`` adds to that many images.

        The ratios are per digit, so that many old digits have many samples.
        """
        if "replay" not in self.protect:
            return 0, 0
        assert self.digits is not None
        old = [digit for digit in base_digits.members if digit not in self.digits.members]
        share = len(old) / len(self.digits.members)
        # A ratio next to 0 gives a sample too, though arithmetic that flushes subnormal numbers takes it for 0.
        return max(math.ceil(self.replay_old * images * share), min(len(old), 1)), math.ceil(self.replay_new * images)

    def seed_of(self, stream: str) -> int:
        """Return the seed of a random stream: ``held_seed`` where ``vary`` names another stream, else ``seed``."""
        return self.seed if self.vary in ("all", stream) else self.held_seed

    def _is_left_out(self, f: Field[Any]) -> bool:
        return super()._is_left_out(f) and (f.name != "held_seed" or self.vary == "all")

    def _unused(self) -> tuple[str, ...]:
        return METHODS[self.method].unused if self.method in METHODS else ()

    def _conflicts(self) -> Iterator[str]:
        if self.method in METHODS:
            yield from self._conflicts_of_method(METHODS[self.method])
        if self.init in STARTS:
            yield from self._conflicts_of_start()
        if self.alpha == 0 and self.epochs != 0:
            # No gradient reaches the factors then. An untouched start may have it.
            yield "alpha is another number than 0 where there are epochs: at 0.0 nothing learns"
        if self.imported is not None and self.epochs != 0:
            yield f"what was trained elsewhere has no epochs here, so they cannot be {self.epochs}"
        if self.vary == "all" and self.held_seed != 0:
            yield f"a held seed needs something that is held: vary init, order or split, not {self.vary}"
        yield from self._conflicts_of_ranks()
        if self.train != "both" and self.lr_ratio_b != 1:
            yield f"a ratio of learning rates needs both factors trained, not {self.train} alone"
        yield from self._conflicts_of_protections()
        yield from self._conflicts_of_combining()

    def _conflicts_of_method(self, method: MethodChoice) -> Iterator[str]:
        for name in method.unused:
            value, unused = getattr(self, name), unused_value(name)
            if type(value) is not type(unused) or value != unused:
                yield f"{self.method} has no {name.replace('_', ' ')}, so it cannot be {value}"
        if self.vary == "init" and not method.random_start:
            yield f"{self.method} starts from the base's own weights: nothing of it varies with init"
        if method.last_layer_only and self.target_layers is not None and len(self.target_layers) != 1:
            yield f"{self.method} has one layer, the last, not {', '.join(map(str, self.target_layers))}"

    def _conflicts_of_start(self) -> Iterator[str]:
        if self.method in METHODS and "init" not in METHODS[self.method].unused and self.method != "lora":
            yield f"{self.init} is a start of LoRA: {self.method} takes one that is drawn"
        if self.train == "A":
            yield f"A starts at zero where it is trained alone: its start cannot be {self.init}"
        if self.vary == "init":
            yield f"{self.init} is computed, not drawn: nothing of it varies with init"

    def _conflicts_of_ranks(self) -> Iterator[str]:
        if not isinstance(self.rank, int) or [*is_pattern("", self.rank_pattern)]:
            return
        for layer, rank in ranks_in(self.rank_pattern).items():
            if rank >= self.rank:
                yield f"a layer's own rank is below the adapter's, {self.rank}: {layer} takes no {rank}"
            if self.target_layers is not None and layer not in self.target_layers:
                yield f"{layer} has a rank and no adapter: target layers are {', '.join(map(str, self.target_layers))}"

    def _conflicts_of_protections(self) -> Iterator[str]:
        if not isinstance(self.protect, tuple):
            return
        if self.protect and self.method in METHODS and (self.alone or not self.plain):
            why = f"from {self.init}" if self.moves_weight else f"by {self.method}"
            why = "in mixed precision" if self.precision == "bf16-mixed" else why
            yield f"protections are for banks of LoRA, and not for what is trained {why}"
        for name, protection in PROTECTIONS.items():
            for strength in protection.settings:
                if name not in self.protect and getattr(self, strength) != _default(strength):
                    yield f"{strength.replace('_', ' ')} means something with --protect {name} alone"

    def _conflicts_of_combining(self) -> Iterator[str]:
        weights, density = self.combined_weights, self.combined_density
        if self.combined is None:
            if weights is not None or density is not None:
                yield "weights and density are those of a combined adapter"
        elif self.combined in COMBINERS:
            if self.epochs != 0 or self.method != "lora":
                yield f"a combined adapter is a product that was not trained: no {self.epochs} of {self.method}"
            if weights is None:
                yield "a combined adapter has a weight for each that it was made of"
            if COMBINERS[self.combined].density is None and density is not None:
                yield f"{self.combined} keeps every entry: its density cannot be {density}"
            elif COMBINERS[self.combined].density is not None and density is None:
                yield f"{self.combined} has a density"


HOW_TRAINED = (*(f.name for f in fields(TrainingConfig)), "init")
"""Fields that say nothing about an adapter that was trained elsewhere."""


def _default(name: str) -> Any:
    return AdapterConfig.__dataclass_fields__[name].default


def unused_value(name: str) -> Any:
    """Return the value of a field that the method has no use for: rank 0, or the default."""
    return 0 if name == "rank" else _default(name)


def without_unused(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return an adapter's settings, as JSON or as fields, without the values that its method has no use for."""
    choice = METHODS.get(str(values.get("method", "lora")))
    unused = choice.unused if choice else ()
    return {name: unused_value(name) if name in unused else value for name, value in values.items()}


def with_overrides(config: ConfigT, **overrides: object) -> ConfigT:
    """Return the config with the given values in place of its own; None leaves a field as it is.

    Raises:
        ConfigError: for values that don't hold, and for those that the method of an adapter has no use for.
    """
    given: dict[str, Any] = {name: value for name, value in overrides.items() if value is not None}
    if isinstance(config, AdapterConfig):
        name = given.get("method", config.method)
        method = METHODS.get(name)
        if method is not None and "rank" in given and not method.ranked:
            raise ConfigError([f"{name} has no rank, so it cannot be {given['rank']}"], value=given["rank"])
        # The recipe may hold values for them that nobody asked for.
        given = {field: unused_value(field) for field in (method.unused if method else ())} | given
    return dataclasses.replace(config, **given)
