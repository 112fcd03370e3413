"""Settings one by one: the typed keywords of the stages, which are the fields of the configs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from lora_mnist_cli.settings.adapter_config import AdapterConfig, with_overrides
from lora_mnist_cli.settings.config import BaseConfig
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.settings.layer_ranks import parse_rank
from lora_mnist_cli.system.errors import UsageError


class TrainingKeywords(TypedDict, total=False):
    """Keywords of both stages of training: the fields of :class:`~lora_mnist_cli.settings.config.TrainingConfig`."""

    seed: int
    epochs: int
    batch_size: int
    lr: float
    optimizer: str
    weight_decay: float | None
    schedule: str
    val_split: float
    precision: str


class BaseKeywords(TrainingKeywords, total=False):
    """Keywords of a base: the fields of ``BaseConfig``. Digits may be a text (``"0-4"``), the data set a path."""

    dataset: str | Path
    digits: DigitSet | str
    hidden_sizes: Sequence[int]


class SweepKeywords(TrainingKeywords, total=False):
    """Keywords that the adapters of a sweep share: the fields of ``AdapterConfig`` except the rank.

    Digits, layers and protections may be texts (``"5-9"``, ``"fc1,fc3"``, ``"replay,mask"``).
    """

    digits: DigitSet | str | None
    method: str
    alpha: float
    scaling: str
    init: str
    dropout: float
    target_layers: Sequence[str] | str | None
    vary: str
    held_seed: int
    lr_power: float
    lr_ratio_b: float
    train: str
    rank_pattern: str
    protect: Sequence[str] | str
    replay_old: float
    replay_new: float
    distill_weight: float
    nullspace_energy: float


class AdapterKeywords(SweepKeywords, total=False):
    """Keywords of one adapter; the rank may be a text with a rank per layer (``"fc1=8,fc2=4"``)."""

    rank: int | str


def base_config(config: BaseConfig | None, given: BaseKeywords) -> BaseConfig:
    """Replace values of a base's config, which is the reference recipe's by default.

    Raises:
        TypeError: for an unknown keyword.
        UsageError: for a text that is no digit set, and with every value that doesn't hold.
    """
    values: dict[str, object] = dict(given)
    if "digits" in given:
        values["digits"] = DigitSet.of(given["digits"])
    if "hidden_sizes" in given:
        values["hidden_sizes"] = tuple(given["hidden_sizes"])
    return with_overrides(config or BaseConfig(), **values)


def adapter_config(config: AdapterConfig | None, given: SweepKeywords | AdapterKeywords) -> AdapterConfig:
    """Replace values of an adapter's config, which is the reference recipe's by default.

    Raises:
        TypeError: for an unknown keyword.
        UsageError: for a text that is no digit set, and with every value that doesn't hold.
    """
    values: dict[str, object] = dict(given)
    if (digits := given.get("digits")) is not None:
        values["digits"] = DigitSet.of(digits)
    if (layers := given.get("target_layers")) is not None:
        values["target_layers"] = None if _is_word(layers, "all") else _names(layers)
    if isinstance(rank := values.get("rank"), str):
        for name, value in parse_rank(rank).items():
            if values.get(name) is not None and name != "rank" and values[name] != value:
                problem = f"--rank {rank} says {name.replace('_', ' ')} too, and another one is given"
                raise UsageError(problem, hint="leave one of them out", value=rank)
            values[name] = value
    if "protect" in given:
        values["protect"] = () if _is_word(given["protect"], "none") else _names(given["protect"])
    return with_overrides(config or AdapterConfig(), **values)


def _is_word(given: Sequence[str] | str, word: str) -> bool:
    return isinstance(given, str) and given.strip().lower() == word


def _names(given: Sequence[str] | str) -> tuple[str, ...]:
    return tuple(part.strip() for part in given.split(",")) if isinstance(given, str) else tuple(given)
