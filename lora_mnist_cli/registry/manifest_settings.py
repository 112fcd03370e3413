"""The settings in a manifest as declared types, made from the fields of the configs.

A new setting is a field of its config alone. :mod:`~lora_mnist_cli.registry.settings_check` checks what values mean.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import UNSET, Struct, UnsetType

from lora_mnist_cli.registry.manifest_types import Count, Counts, Digest, Digits, Layers, Text, Whole
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.config import BaseConfig, TrainingConfig
from lora_mnist_cli.settings.grid import AXES


class Settings(Struct, kw_only=True, gc=False):
    """Settings of any artifact; :mod:`~lora_mnist_cli.registry.settings_check` checks the values."""

    digits: Digits | UnsetType = UNSET
    rank: Count | UnsetType = UNSET
    seed: Count | UnsetType = UNSET
    if TYPE_CHECKING:  # fields of configs, which :func:`_settings_of` adds

        def __getattr__(self, name: str) -> Any: ...


def _settings_of(config: type[TrainingConfig], optional: Collection[str] = (), **declared: Any) -> Any:
    """Make a struct of the fields of a config, each of its type; those added later need not be there.

    Args:
        optional: other fields that need not be there.
        declared: field → type, of fields that are not in the config or stricter there.
    """
    hints = {name: _bounded(hint) for name, hint in get_type_hints(config).items()} | declared
    optional = {*optional, *(f.name for f in fields(config) if f.metadata["added_later"])}
    names = [*declared, *sorted({f.name for f in fields(config)} - {*Settings.__struct_fields__, *declared})]
    needed = [(name, hints[name]) for name in names if name not in optional]
    others = [(name, hints[name] | UnsetType, UNSET) for name in names if name in optional]
    return msgspec.defstruct(f"{config.__name__}Settings", [*needed, *others], bases=(Settings,), kw_only=True)


def _bounded(hint: Any) -> Any:
    """Return a type with limits on its integers and texts."""
    parts = get_args(hint)
    if not parts:
        return {int: Whole, str: Text}.get(hint, hint)
    inner: Any = tuple(part if part is ... else _bounded(part) for part in parts)
    return tuple.__class_getitem__(inner) if get_origin(hint) is tuple else Union[inner]  # noqa: UP007 - known only now


BaseSettings = _settings_of(BaseConfig, digits=Digits)
AdapterSettings = _settings_of(
    AdapterConfig, digits=Digits, rank=Count, seed=Count, imported=Digest, target_layers=Layers
)
SweepSettings = _settings_of(AdapterConfig, [axis.field for axis in AXES], digits=Digits, ranks=Counts, seeds=Counts)
