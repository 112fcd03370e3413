"""Settings: frozen dataclasses that check themselves.

A config holds everything that decides a result and nothing else, so a fingerprint is made of it. Devices and loggers
are in :class:`~lora_mnist_cli.settings.runtime.Runtime`, folders are arguments of the stages.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import Field, dataclass, fields
from functools import lru_cache
from typing import Any, TypeVar

from lora_mnist_cli.settings.checks import SelfChecking, digit_set, number, one_of, setting, whole
from lora_mnist_cli.settings.choices import DATASETS, OPTIMIZERS, PRECISIONS, SCHEDULES
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.settings.own_data import is_own
from lora_mnist_cli.system.errors import ArtifactError, UsageError

TRAINING_CODE = 3
"""The number of the code that turns a config into weights and statistics; raised only when the same config gives other
results: runs/ has statistics of earlier commands, which it takes for those of now if they have the same number."""

MAX_EPOCHS = 1_000_000
MAX_RANK = 4096
MAX_HIDDEN = 16384
MAX_HIDDEN_LAYERS = 64
MAX_BATCH = 10_000_000
MAX_SEED = 2**63 - 1

ConfigT = TypeVar("ConfigT", bound="TrainingConfig")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(SelfChecking):
    """How weights are trained. The defaults are the reference recipe's, where base and adapter share them."""

    seed: int = setting(0, "Fixes initialisation, split and data order, each by its own stream.", whole(0, MAX_SEED))
    epochs: int = setting(10, "Passes over the training split; 0 publishes the untouched start.", whole(0, MAX_EPOCHS))
    batch_size: int = setting(64, "Images per optimiser step.", whole(1, MAX_BATCH))
    lr: float = setting(1e-3, "Learning rate.", number("above 0"), words="learning rate")
    optimizer: str = setting("adam", "Optimiser.", one_of(OPTIMIZERS))
    weight_decay: float | None = setting(
        None, "Weight decay; the optimiser's own default if not given.", number("at least 0")
    )
    schedule: str = setting(
        "constant", "The rate: constant; plateau, a tenth where validation stalls; or cosine, up and down to 0.",
        one_of(SCHEDULES),
    )  # fmt: skip
    val_split: float = setting(
        0.2, "Share of the training images held out for validation.", number("at least 0 and below 1"),
        words="val-split",
    )  # fmt: skip
    precision: str = setting("32-true", "Floating-point numbers of the training.", one_of(PRECISIONS))

    @property
    def rate(self) -> float:
        """The initial learning rate, or the peak of a cosine schedule."""
        return self.lr

    def seed_of(self, stream: str) -> int:  # noqa: ARG002 - here all streams have one seed
        """Return the seed of a random stream: ``init``, ``split``, ``order`` or ``dropout``."""
        return self.seed

    def to_json(self) -> dict[str, Any]:
        """Return the config as JSON values by field; fields added later are left out at their defaults."""
        return {f.name: _to_json(getattr(self, f.name)) for f in fields(self) if not self._is_left_out(f)}

    def _is_left_out(self, f: Field[Any]) -> bool:
        return f.metadata["added_later"] and bool(getattr(self, f.name) == f.default)

    @classmethod
    def from_json(cls: type[ConfigT], values: Mapping[str, Any]) -> ConfigT:
        """Read a config that :meth:`to_json` wrote.

        Raises:
            ArtifactError: where a key is missing or unknown, or a value doesn't hold.
        """
        needed, optional = _field_names(cls)  # type: ignore[arg-type] # see SelfChecking
        if odd := sorted((values.keys() ^ needed) - optional):
            raise ArtifactError(f"the settings don't fit this version: {', '.join(odd)}", value=dict(values))
        try:
            given: dict[str, Any] = {name: _from_json(name, value) for name, value in values.items()}
            return cls(**given)
        except (UsageError, TypeError) as error:
            raise ArtifactError(f"the settings don't hold: {error}", value=dict(values)) from error


@lru_cache
def _field_names(kind: type[TrainingConfig]) -> tuple[set[str], set[str]]:
    """Names of the fields that a manifest must have, and of those that it may leave out."""
    optional = {f.name for f in fields(kind) if f.metadata["added_later"]}
    return {f.name for f in fields(kind)} - optional, optional


def _hidden_sizes(_: str, sizes: Sequence[object]) -> Iterator[str]:
    if not sizes:
        yield "at least one hidden layer is needed"
    if len(sizes) > MAX_HIDDEN_LAYERS:
        yield f"at most {MAX_HIDDEN_LAYERS} hidden layers are possible, not {len(sizes)}"
    for size in sizes:
        yield from whole(1, MAX_HIDDEN)("hidden size", size)


def _data_set(name: str, value: object) -> Iterator[str]:
    if not is_own(value):
        yield from one_of(DATASETS)(name, value)


@dataclass(frozen=True, kw_only=True)
class BaseConfig(TrainingConfig):
    """How a base is trained: the digits it learns, its hidden layers, and the training itself."""

    dataset: str = setting("mnist", "Data set.", _data_set)
    digits: DigitSet = setting(DigitSet(range(5)), "Digits that the base learns: 0-4, 5,7-9 or all.", digit_set)
    hidden_sizes: tuple[int, ...] = setting((64, 64), "Units of each hidden layer.", _hidden_sizes)
    merged_alpha: float | None = setting(
        None, "Of a base that is an adapter merged into another: the adapter's multiplier.", number(), added_later=True
    )


def training_images(count: int, val_split: float) -> int:
    """Return how many of ``count`` images are trained on; the others are for validation."""
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
