"""The settings of an adapter: how it is trained on a frozen base, or how it was combined or imported."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from lora_mnist_cli.settings.checks import Problems
from lora_mnist_cli.settings.choices import (
    COMBINERS,
    INITS,
    METHODS,
    PROTECTION_SETTINGS,
    PROTECTIONS,
    SCALINGS,
    VARIED,
    protections_in_order,
)  # fmt: skip
from lora_mnist_cli.settings.config import MAX_RANK, MAX_SEED, ConfigT, TrainingConfig
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.system.errors import ConfigError

LAYER = re.compile(r"fc[1-9][0-9]{0,2}", re.ASCII)
DIGEST = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)

_DEFAULT_RANK = 8


@dataclass(frozen=True, kw_only=True)
class AdapterConfig(TrainingConfig):
    """How an adapter is trained on a frozen base.

    ``digits`` and ``target_layers`` may be None: then they are what the base did not learn, and all its layers.
    """

    digits: DigitSet | None = field(
        default=None, metadata={"help": "Digits that the adapter learns; default: those that the base did not."}
    )
    method: str = field(
        default="lora",
        metadata={"help": "; ".join(f"{name}: {method.about}" for name, method in METHODS.items()) + "."},
    )
    rank: int = field(
        default=_DEFAULT_RANK, metadata={"help": "Rank of the adapter's product; full and head have none."}
    )
    alpha: float = field(default=1.0, metadata={"help": "Multiplier on the adapter's product."})
    scaling: str = field(
        default="constant", metadata={"help": "scale(rank): constant 1, standard 1/rank, rslora 1/sqrt(rank)."}
    )
    init: str = field(
        default="reference",
        metadata={"help": "Start of A: reference U(±1/sqrt(rank)), kaiming U(±1/sqrt(in)), gaussian N(0, 1/rank²)."},
    )
    dropout: float = field(
        default=0.0, metadata={"help": "Probability that an input of the adapter is dropped in training."}
    )
    target_layers: tuple[str, ...] | None = field(
        default=None, metadata={"help": "Linear layers that get an adapter, as fc1,fc3, or all."}
    )
    vary: str = field(
        default="all",
        metadata={"help": "What the seed varies: all, or init, order or split alone, the others held at --seed."},
    )
    lr_power: float = field(
        default=0.0, metadata={"help": "The learning rate is lr / rank^power: small ranks take a higher one."}
    )
    held_seed: int = field(
        default=0, metadata={"help": "Seed of the random streams that are held where the seed varies one alone."}
    )
    lr_ratio_b: float = field(
        default=1.0, metadata={"help": "LoRA+: how many times the learning rate of A that of B is."}
    )
    combined: str | None = field(
        default=None,
        metadata={"help": "; ".join(f"{name}: {combiner.about}" for name, combiner in COMBINERS.items()) + "."},
    )
    combined_weights: tuple[float, ...] | None = field(
        default=None, metadata={"help": "Of an adapter that was combined from others: a multiplier for each."}
    )
    combined_density: float | None = field(
        default=None, metadata={"help": "Share of each adapter's entries that is kept (ties, dare)."}
    )
    imported: str | None = field(
        default=None,
        metadata={"help": "Of an adapter that was trained elsewhere: the SHA-256 of its file of weights."},
    )
    protect: tuple[str, ...] = field(
        default=(),
        metadata={
            "help": "Keep what the base knows, by any of "
            + "; ".join(f"{name}: {each.about}" for name, each in PROTECTIONS.items())
            + ". As replay,mask."
        },
    )
    replay_old: float = field(
        default=1.0, metadata={"help": "Replay: samples of an old digit for each image of a digit to learn."}
    )
    replay_new: float = field(
        default=1.0, metadata={"help": "Replay: samples of a digit to learn for each of its images."}
    )
    distill_weight: float = field(default=1.0, metadata={"help": "Distill: weight of the base's answers in the loss."})
    nullspace_energy: float = field(
        default=0.95, metadata={"help": "Nullspace: share of the old inputs' energy that adapters keep out of."}
    )
    # The study trains its adapters with AdamW under reduce-on-plateau.
    optimizer: str = "adamw"
    schedule: str = "plateau"

    _OPTIONAL: ClassVar[tuple[str, ...]] = (
        "vary", "held_seed", "lr_power", "method", "lr_ratio_b", "combined", "combined_weights", "combined_density",
        "imported", "protect", *PROTECTION_SETTINGS,
    )  # fmt: skip

    def __post_init__(self) -> None:
        # A rank that was not asked for is none, where the method has none.
        if self.rank == _DEFAULT_RANK and self.method in METHODS and not METHODS[self.method].ranked:
            object.__setattr__(self, "rank", 0)
        if isinstance(self.protect, tuple) and all(isinstance(name, str) for name in self.protect):
            object.__setattr__(self, "protect", protections_in_order(self.protect))
        super().__post_init__()

    @property
    def rate(self) -> float:
        """The learning rate of this rank; a method without ranks has that of rank 1."""
        return float(self.lr / max(self.rank, 1) ** self.lr_power)

    @property
    def alone(self) -> bool:
        """Whether it is trained by itself, one adapter after the other: a bank knows neither its gradients nor mixed
        precision.
        """
        return not METHODS[self.method].in_banks or self.precision == "bf16-mixed"

    @property
    def objective(self) -> tuple[object, ...]:
        """What decides what is learned from, beside the digits: the members of a bank share it."""
        return self.protect, *(getattr(self, name) for name in PROTECTION_SETTINGS)

    @property
    def needs_statistics(self) -> bool:
        """Whether its protections need the class statistics of the base."""
        return any(PROTECTIONS[name].needs_statistics for name in self.protect)

    def sample_counts(self, images: int, base_digits: DigitSet) -> tuple[int, int]:
        """Return how many samples of old digits, and of the digits to learn, ``replay`` adds to that many images.

        The ratios are those of a digit's samples to a digit's images, so that many old digits have many samples.
        """
        if "replay" not in self.protect:
            return 0, 0
        assert self.digits is not None
        old = [digit for digit in base_digits.members if digit not in self.digits.members]
        share = len(old) / len(self.digits.members)
        return math.ceil(self.replay_old * images * share), math.ceil(self.replay_new * images)

    def seed_of(self, stream: str) -> int:
        """The seed of a random stream: the config's own, but the held one where another stream alone is varied."""
        return self.seed if self.vary in ("all", stream) else self.held_seed

    def _left_out(self) -> tuple[str, ...]:
        written = ("held_seed",) if self.vary != "all" else ()
        return tuple(name for name in super()._left_out() if name not in written)

    def _check(self, problems: Problems) -> None:
        super()._check(problems)
        if self.digits is not None:
            problems.digits(self.digits)
        problems.choice("method", self.method, tuple(METHODS))
        if self.method in METHODS:
            self._check_method(problems)
        problems.real("ratio of learning rates", self.lr_ratio_b, lambda ratio: ratio > 0, "a finite number above 0")
        problems.real("alpha", self.alpha, lambda _: True, "a finite number")
        if self.alpha == 0 and self.epochs != 0:
            # No gradient reaches the factors then. An untouched start may have it.
            problems.append("alpha is another number than 0 where there are epochs: at 0.0 nothing learns")
        if self.imported is not None:
            if not isinstance(self.imported, str) or not DIGEST.fullmatch(self.imported):
                problems.append(f"imported is the SHA-256 of a file of weights, not {self.imported!r}")
            if self.epochs != 0:
                problems.append(f"what was trained elsewhere has no epochs here: it takes no {self.epochs}")
        problems.choice("scaling", self.scaling, SCALINGS)
        problems.choice("init", self.init, INITS)
        problems.real("learning rate's power", self.lr_power, lambda power: abs(power) <= 4, "of -4 to 4")
        problems.choice("vary", self.vary, VARIED)
        problems.whole("held seed", self.held_seed, 0, MAX_SEED)
        if self.vary == "all" and self.held_seed != 0:
            problems.append(f"a held seed needs something that is held: vary init, order or split, not {self.vary}")
        self._check_protections(problems)
        problems.real("dropout", self.dropout, lambda share: 0 <= share < 1, "at least 0 and below 1")
        if self.target_layers is not None:
            self._check_layers(problems, self.target_layers)
        self._check_combined(problems)

    def _check_combined(self, problems: Problems) -> None:
        """Of an adapter that was combined from others, and not trained."""
        if self.combined is None:
            if self.combined_weights is not None or self.combined_density is not None:
                problems.append("weights and density are those of a combined adapter")
            return
        problems.choice("way to combine", self.combined, tuple(COMBINERS))
        if self.combined not in COMBINERS:
            return
        if self.epochs != 0 or self.method != "lora":
            problems.append(f"a combined adapter is a product that was not trained: no {self.epochs} of {self.method}")
        weights, density = self.combined_weights, self.combined_density
        if not isinstance(weights, tuple) or not weights:
            problems.append("a combined adapter has a weight for each that it was made of")
        else:
            for weight in weights:
                problems.real("weight", weight, lambda _: True, "a finite number")
        if COMBINERS[self.combined].density is None:
            if density is not None:
                problems.append(f"{self.combined} keeps every entry: it takes no density {density}")
        elif density is None:
            problems.append(f"{self.combined} has a density")
        else:
            problems.real("density", density, lambda share: 0 < share <= 1, "above 0 and at most 1")

    def _check_method(self, problems: Problems) -> None:
        method = METHODS[self.method]
        if method.ranked:
            problems.whole("rank", self.rank, 1, MAX_RANK)
        elif type(self.rank) is not int or self.rank != 0:
            problems.append(f"{self.method} has no rank: it takes no {self.rank}")
        for name in method.unused:
            value, default = getattr(self, name), unused_value(name)
            if name != "rank" and value != default:
                problems.append(f"{self.method} has no {name.replace('_', ' ')}: it takes no {value}")
        if self.vary == "init" and not method.random_start:
            problems.append(f"{self.method} starts from the base's own weights: nothing of it varies with init")
        if method.last_layer_only and self.target_layers is not None and len(self.target_layers) != 1:
            problems.append(f"{self.method} has one layer, the last, not {', '.join(map(str, self.target_layers))}")

    def _check_protections(self, problems: Problems) -> None:
        if not isinstance(self.protect, tuple):
            problems.append(f"protections are a list of names, not {self.protect!r}")
            return
        for name in self.protect:
            problems.choice("protect", name, tuple(PROTECTIONS))
        if len(set(self.protect)) != len(self.protect):
            problems.append(f"protections are named once each, not {','.join(self.protect)}")
        if self.protect and self.method in METHODS and self.alone:
            why = "in mixed precision" if METHODS[self.method].in_banks else f"by {self.method}"
            problems.append(f"protections are for banks, and what is trained {why} is trained alone")
        for name, protection in PROTECTIONS.items():
            for setting, rule in protection.settings.items():
                value = getattr(self, setting)
                problems.real(setting.replace("_", " "), value, rule.holds, rule.rule)
                if name not in self.protect and value != AdapterConfig.__dataclass_fields__[setting].default:
                    problems.append(f"{setting.replace('_', ' ')} means something with --protect {name} alone")

    @staticmethod
    def _check_layers(problems: Problems, layers: object) -> None:
        if not isinstance(layers, tuple):
            problems.append(f"target layers are a list of names, not {layers!r}")
            return
        odd = [layer for layer in layers if not isinstance(layer, str) or not LAYER.fullmatch(layer)]
        for layer in odd:
            problems.append(f"a layer is named fc1, fc2, …, not {layer!r}")
        if not layers or (not odd and len(set(layers)) != len(layers)):
            problems.append("target layers are named once each, and at least one")


HOW_TRAINED = (*(f.name for f in fields(TrainingConfig)), "init")
"""Fields that mean nothing of an adapter that was trained elsewhere."""


def unused_value(name: str) -> Any:
    """What a field of an adapter's config is where the method has no use for it."""
    return 0 if name == "rank" else AdapterConfig.__dataclass_fields__[name].default


def without_unused(values: Mapping[str, Any], method: str | None = None) -> dict[str, Any]:
    """An adapter's settings, as JSON or as fields, with those at their defaults that its method has no use for.

    Args:
        method: by default the one that the settings name.
    """
    known = METHODS.get(str(method or values.get("method", "lora")))
    unused = known.unused if known else ()
    return {name: unused_value(name) if name in unused else value for name, value in values.items()}


def with_overrides(config: ConfigT, **overrides: object) -> ConfigT:
    """The config with those fields changed whose new value is not None.

    Raises:
        ConfigError: for values that don't hold; also for those that the method of an adapter has no use for.
    """
    given: dict[str, Any] = {name: value for name, value in overrides.items() if value is not None}
    if isinstance(config, AdapterConfig):
        name = given.get("method", config.method)
        method = METHODS.get(name)
        if method is not None and "rank" in given and not method.ranked:
            raise ConfigError([f"{name} has no rank: it takes no {given['rank']}"], value=given["rank"])
        # What the recipe has of them is not what was asked for.
        given = {field: unused_value(field) for field in (method.unused if method else ())} | given
    return dataclasses.replace(config, **given)
