"""Settings: frozen dataclasses that check themselves.

A config holds everything that decides a result and nothing that doesn't: where files lie, which device computes and
what is logged is in :class:`~lora_mnist_cli.settings.runtime.Runtime` or in the caller's hands. So a config is what a
fingerprint is made of.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, TypeVar

from lora_mnist_cli.models.combining import COMBINERS
from lora_mnist_cli.models.methods import METHODS
from lora_mnist_cli.settings.checks import Problems
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.system.errors import ArtifactError, ConfigError, UsageError
from lora_mnist_cli.training.protections import PROTECTIONS, in_order

TRAINING_CODE = 3
"""The number of the code that turns a config into weights; raised only when the same config gives other results."""

OPTIMIZERS = ("adam", "adamw", "sgd")
SCHEDULES = ("constant", "plateau", "cosine")
PRECISIONS = ("32-true", "64-true", "bf16-mixed")
SCALINGS = ("constant", "standard", "rslora")
INITS = ("reference", "kaiming", "gaussian")
VARIED = ("all", "init", "order", "split")
"""What of an adapter's training its seed decides: all of it, or one random stream alone."""
ROUTES = ("mixture", "choose")
"""How experts answer: all together, each as likely as it is to be the right one; or the likeliest alone."""
DATASETS = ("mnist", "fashion-mnist", "kmnist", "qmnist", "emnist-digits")

MAX_EPOCHS = 1_000_000
MAX_RANK = 4096
MAX_HIDDEN = 16384
MAX_HIDDEN_LAYERS = 64
MAX_BATCH = 10_000_000
MAX_SEED = 2**63 - 1

PROTECTION_SETTINGS = tuple(name for each in PROTECTIONS.values() for name in each.settings)
"""Fields of an adapter's config that are the strengths of protections."""

_LAYER = re.compile(r"fc[1-9][0-9]{0,2}", re.ASCII)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)

_DEFAULT_RANK = 8

ConfigT = TypeVar("ConfigT", bound="TrainingConfig")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How weights are found. The defaults are the reference recipe's, where base and adapter share them.

    Raises:
        ConfigError: at construction, with every field that doesn't hold.
    """

    seed: int = field(
        default=0, metadata={"help": "Fixes initialisation, split and data order, each by its own stream."}
    )
    epochs: int = field(
        default=10, metadata={"help": "Passes over the training split; 0 publishes the untouched start."}
    )
    batch_size: int = field(default=64, metadata={"help": "Images an optimiser step."})
    lr: float = field(default=1e-3, metadata={"help": "Learning rate."})
    optimizer: str = field(default="adam", metadata={"help": f"One of {', '.join(OPTIMIZERS)}."})
    weight_decay: float | None = field(
        default=None, metadata={"help": "Weight decay; the optimiser's own default if not given."}
    )
    schedule: str = field(
        default="constant",
        metadata={"help": "The rate: constant; plateau, a tenth where validation stalls; or cosine, up and down to 0."},
    )
    val_split: float = field(default=0.2, metadata={"help": "Share of the training images held out for validation."})
    precision: str = field(default="32-true", metadata={"help": f"One of {', '.join(PRECISIONS)}."})

    _OPTIONAL: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            # 1 and 1.0 are the same setting, and must have the same fingerprint.
            if str(f.type).startswith("float") and isinstance(value, int) and not isinstance(value, bool):
                with contextlib.suppress(OverflowError):
                    object.__setattr__(self, f.name, float(value))
        problems = Problems()
        self._check(problems)
        if problems:
            raise ConfigError(list(dict.fromkeys(problems)), value=self)

    def _check(self, problems: Problems) -> None:
        problems.whole("seed", self.seed, 0, MAX_SEED)
        problems.whole("epochs", self.epochs, 0, MAX_EPOCHS)
        problems.whole("batch size", self.batch_size, 1, MAX_BATCH)
        problems.real("learning rate", self.lr, lambda lr: lr > 0, "a finite number above 0")
        problems.choice("optimizer", self.optimizer, OPTIMIZERS)
        if self.weight_decay is not None:
            problems.real("weight decay", self.weight_decay, lambda decay: decay >= 0, "a finite number of at least 0")
        problems.choice("schedule", self.schedule, SCHEDULES)
        problems.real("val-split", self.val_split, lambda share: 0 <= share < 1, "at least 0 and below 1")
        problems.choice("precision", self.precision, PRECISIONS)

    @property
    def rate(self) -> float:
        """The learning rate that training begins with, or that its schedule is a share of."""
        return self.lr

    def seed_of(self, stream: str) -> int:  # noqa: ARG002 - here all streams have one seed
        """The seed that a random stream of the training has: ``init``, ``split``, ``order`` or ``dropout``."""
        return self.seed

    def to_json(self) -> dict[str, Any]:
        """The config as JSON values, a key a field; what came later and is as it always was is left out."""
        left_out = self._left_out()
        return {f.name: _to_json(getattr(self, f.name)) for f in fields(self) if f.name not in left_out}

    def _left_out(self) -> tuple[str, ...]:
        """Fields that are not written down, so that artifacts from before there were any keep their fingerprints."""
        defaults = {f.name: f.default for f in fields(self)}
        return tuple(name for name in self._OPTIONAL if getattr(self, name) == defaults[name])

    @classmethod
    def from_json(cls: type[ConfigT], values: Mapping[str, Any]) -> ConfigT:
        """The config that :meth:`to_json` wrote.

        Raises:
            ArtifactError: where a key is missing or unknown, or a value doesn't hold.
        """
        known = {f.name for f in fields(cls)}
        odd = sorted(set(values) - known | known - set(values) - set(cls._OPTIONAL))
        if odd:
            raise ArtifactError(f"the settings don't fit this version: {', '.join(odd)}", value=dict(values))
        try:
            given: dict[str, Any] = {name: _from_json(name, value) for name, value in values.items()}
            return cls(**given)
        except (UsageError, TypeError) as error:
            raise ArtifactError(f"the settings don't hold: {error}", value=dict(values)) from error


@dataclass(frozen=True, kw_only=True)
class BaseConfig(TrainingConfig):
    """How a base is trained: the digits it learns, its hidden layers, and the training itself."""

    dataset: str = field(default="mnist", metadata={"help": f"One of {', '.join(DATASETS)}."})
    digits: DigitSet = field(
        default=DigitSet(range(5)), metadata={"help": "Digits that the base learns: 0-4, 5,7-9 or all."}
    )
    hidden_sizes: tuple[int, ...] = field(default=(64, 64), metadata={"help": "Units of each hidden layer."})
    merged_alpha: float | None = field(
        default=None, metadata={"help": "Of a base that is an adapter merged into another: the adapter's multiplier."}
    )

    _OPTIONAL: ClassVar[tuple[str, ...]] = ("merged_alpha",)

    def _check(self, problems: Problems) -> None:
        super()._check(problems)
        problems.choice("dataset", self.dataset, DATASETS)
        problems.digits(self.digits)
        if self.merged_alpha is not None:
            problems.real("merged alpha", self.merged_alpha, lambda _: True, "a finite number")
        if not self.hidden_sizes:
            problems.append("at least one hidden layer is needed")
        if len(self.hidden_sizes) > MAX_HIDDEN_LAYERS:
            problems.append(f"at most {MAX_HIDDEN_LAYERS} hidden layers are possible, not {len(self.hidden_sizes)}")
        for size in self.hidden_sizes:
            problems.whole("hidden size", size, 1, MAX_HIDDEN)


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
            object.__setattr__(self, "protect", in_order(self.protect))
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
    def lesson(self) -> tuple[object, ...]:
        """What decides what is learned from, beside the digits: the members of a bank share it."""
        return self.protect, *(getattr(self, name) for name in PROTECTION_SETTINGS)

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
            if not isinstance(self.imported, str) or not _DIGEST.fullmatch(self.imported):
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
        odd = [layer for layer in layers if not isinstance(layer, str) or not _LAYER.fullmatch(layer)]
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


def training_images(count: int, val_split: float) -> int:
    """How many of so many images are trained on; the rest is for validation."""
    # Rounded first: 10 · (1 - 0.9) is a little less than 1 in floating point.
    return int(round(count * (1 - val_split), 6))


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


def _to_json(value: object) -> object:
    if isinstance(value, DigitSet):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def _from_json(name: str, value: object) -> object:
    if name == "digits" and value is not None:
        return DigitSet.parse(str(value))
    return tuple(value) if isinstance(value, list) else value
