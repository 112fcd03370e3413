"""Whether the settings in a manifest are possible: their values, and that all are there and none is unknown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from functools import lru_cache
from typing import Any

import msgspec

from lora_mnist_cli.settings.adapter_config import AdapterConfig, without_unused
from lora_mnist_cli.settings.config import BaseConfig, TrainingConfig
from lora_mnist_cli.settings.grid import AXES
from lora_mnist_cli.system.errors import ArtifactError

_LONGEST = 250
"""Characters of a problem; a forged setting may be a long text."""
_REMEMBERED = 5000
"""Bytes of settings whose check is remembered."""
_CONFIGS: dict[str, type[TrainingConfig]] = {"base": BaseConfig, "adapter": AdapterConfig, "sweep": AdapterConfig}
_AXES = {axis.plural for axis in AXES}


def unknown_settings(kind: str, config: Mapping[str, Any]) -> list[str]:
    """Return the names of settings that this version does not know; a report has any."""
    if kind not in _CONFIGS or _known(kind).issuperset(config):
        return []
    return sorted(config.keys() - _known(kind))


def check_settings(kind: str, config: Mapping[str, Any]) -> None:
    """Refuse settings of which one is missing or impossible; unknown ones are left aside.

    Raises:
        ValueError: with all that is wrong.
    """
    if kind not in _CONFIGS:
        return
    known = dict(config)
    for name in unknown_settings(kind, config):
        del known[name]
    if type(known.get("seed")) is int and known["seed"] >= 0:
        known["seed"] = 0  # thousands of adapters differ in it alone
    content = msgspec.json.encode(known)
    remembering = _problem if len(content) <= _REMEMBERED else _problem.__wrapped__
    if problem := remembering(kind, content):
        raise ValueError(f"config: {problem}")


@lru_cache
def _known(kind: str) -> set[str]:
    return {f.name for f in fields(_CONFIGS[kind])} | (_AXES if kind == "sweep" else set())


@lru_cache(maxsize=1000)
def _problem(kind: str, config: bytes) -> str:
    """Return what is wrong with settings, written as JSON; empty where nothing is."""
    known = msgspec.json.decode(config)
    try:
        for each in _members_settings(known) if kind == "sweep" else [known]:
            _CONFIGS[kind].from_json(each)
    except ArtifactError as error:
        return f"{error.problem:.{_LONGEST}}"
    return ""


def _members_settings(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Return settings of members, which together have every value of every axis of a sweep."""
    axes = [axis for axis in AXES if isinstance(config.get(axis.plural), list)]
    listed = {axis.plural for axis in axes}
    shared = {key: value for key, value in config.items() if key not in listed}
    first = shared | {axis.field: config[axis.plural][0] for axis in axes if config[axis.plural]}
    for axis in axes:
        for value in config[axis.plural]:
            yield without_unused(first | {axis.field: value})
