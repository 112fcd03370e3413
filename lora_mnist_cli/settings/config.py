"""Settings: frozen dataclasses that check themselves.

A config holds everything that decides a result and nothing that doesn't: where files lie, which device computes and
what is logged is in :class:`~lora_mnist_cli.settings.runtime.Runtime` or in the caller's hands. So a config is what a
fingerprint is made of.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, TypeVar

from lora_mnist_cli.settings.checks import Problems
from lora_mnist_cli.settings.choices import (
    DATASETS,
    OPTIMIZERS,
    PRECISIONS,
    SCHEDULES,
)  # fmt: skip
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.system.errors import ArtifactError, ConfigError, UsageError

TRAINING_CODE = 3
"""The number of the code that turns a config into weights; raised only when the same config gives other results."""

MAX_EPOCHS = 1_000_000
MAX_RANK = 4096
MAX_HIDDEN = 16384
MAX_HIDDEN_LAYERS = 64
MAX_BATCH = 10_000_000
MAX_SEED = 2**63 - 1

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


def training_images(count: int, val_split: float) -> int:
    """How many of so many images are trained on; the rest is for validation."""
    # Rounded first: 10 · (1 - 0.9) is a little less than 1 in floating point.
    return int(round(count * (1 - val_split), 6))


def _to_json(value: object) -> object:
    if isinstance(value, DigitSet):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def _from_json(name: str, value: object) -> object:
    if name == "digits" and value is not None:
        return DigitSet.parse(str(value))
    return tuple(value) if isinstance(value, list) else value
