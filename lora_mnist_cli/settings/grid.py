"""Grids of adapters: the settings that a sweep varies, their combinations, and their part of the adapters' names.

An axis with one value is a plain setting, so that a sweep over ranks and seeds alone is the same whether or not its
other settings were given as lists.
"""

from __future__ import annotations

import contextlib
import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

from lora_mnist_cli.settings import lists
from lora_mnist_cli.settings.adapter_config import AdapterConfig, without_unused
from lora_mnist_cli.settings.choices import METHODS
from lora_mnist_cli.settings.config import TrainingConfig
from lora_mnist_cli.settings.recipes import RECIPES
from lora_mnist_cli.settings.toml_file import read_toml
from lora_mnist_cli.system.errors import ConfigError, UsageError, refuse_unknown

Value = int | float | str

MAX_ADAPTERS = 10_000
"""Adapters of a sweep, at most: its manifest has a row and a digest of each."""


@dataclass(frozen=True)
class Axis:
    """A setting that a sweep may vary: a field of :class:`~lora_mnist_cli.settings.adapter_config.AdapterConfig`.

    The list of its values has the ``plural`` name in options, grid files and the settings of a sweep. The ``mark`` is
    the letters before a value in an adapter's name.
    """

    field: str
    plural: str
    kind: type
    mark: str = ""

    @property
    def option(self) -> str:
        """The option that takes one value."""
        return f"--{self.field.replace('_', '-')}"

    @property
    def list_option(self) -> str:
        """The option that takes a list."""
        return f"--{self.plural.replace('_', '-')}"

    def parse(self, text: str, where: str) -> list[Any]:
        """Parse a list of values, as the functions of :mod:`~lora_mnist_cli.settings.lists` do."""
        parsers: dict[type, Any] = {int: lists.parse_integers, float: lists.parse_floats, str: lists.parse_words}
        return list(parsers[self.kind](text, where))

    def value(self, given: object, where: str) -> Value:
        """Convert a value to the axis's type, so that 1 and 1.0 are the same. The config checks its range.

        Raises:
            UsageError: for a value of another type.
        """
        if self.kind is str and isinstance(given, str):
            return given
        if not isinstance(given, (bool, str)):
            with contextlib.suppress(TypeError, OverflowError):
                if self.kind is int:
                    return operator.index(given)  # type: ignore[arg-type]
                if self.kind is float and isinstance(given, (int, float)):
                    return float(given)
        what = {int: "a whole number", float: "a number", str: "a word"}[self.kind]
        raise UsageError(f"{given!r:.60} in {where} is not {what}", value=given)


RANK, SEED = Axis("rank", "ranks", int), Axis("seed", "seeds", int)
METHOD = Axis("method", "methods", str)
OTHERS = (
    METHOD,
    Axis("lr", "lrs", float, "lr"),
    Axis("alpha", "alphas", float, "a"),
    Axis("scaling", "scalings", str),
    Axis("init", "inits", str),
    Axis("weight_decay", "weight_decays", float, "wd"),
    Axis("dropout", "dropouts", float, "d"),
    Axis("lr_ratio_b", "lr_ratio_bs", float, "rb"),
    Axis("train", "trains", str, "train"),
    Axis("rank_pattern", "rank_patterns", str),
)
AXES = (RANK, *OTHERS, SEED)
"""All axes, from the outermost to the innermost loop."""

MARKS = {axis.field: axis.mark for axis in OTHERS if axis is not METHOD}
"""Field that appears in names → the letters before its value."""
_REST_OF_RECIPE = ("lr_power", "batch_size", "optimizer", "schedule", "val_split", "precision")
"""What else belongs to a recipe."""


@dataclass(frozen=True)
class Grid:
    """Values of some axes by field, at least one and each once, made by :func:`grid_of`."""

    values: Mapping[str, tuple[Value, ...]]

    @property
    def varying(self) -> tuple[Axis, ...]:
        """The axes with more than one value, without rank and seed."""
        return tuple(axis for axis in OTHERS if len(self.values.get(axis.field, ())) > 1)

    def lists(self) -> dict[str, list[Value]]:
        """Return the lists that a sweep's settings hold: ranks, seeds and every other axis that varies."""
        return {axis.plural: list(self.values[axis.field]) for axis in (RANK, SEED, *self.varying)}

    def members(self, template: AdapterConfig) -> list[AdapterConfig]:
        """Return a config for each combination, the seed innermost.

        Settings that a method does not use make no combinations: full fine-tuning, which has no rank, is there once
        and not once per rank. The grid leaves the other settings of ``template`` as they are.

        Raises:
            UsageError: for more than :data:`MAX_ADAPTERS` combinations.
            ConfigError: with every value that doesn't hold.
        """
        count = math.prod(len(values) for values in self.values.values())
        if count > MAX_ADAPTERS:
            axes = [a for a in AXES if len(self.values.get(a.field, ())) > 1]
            factors = " × ".join(f"{len(self.values[a.field]):,} {in_words(a.plural)}" for a in axes)
            problem = f"{factors} are {count:,} adapters, and a sweep has at most {MAX_ADAPTERS:,}"
            raise UsageError(problem, hint="several sweeps with a --name each can share a base", value=count)
        problems: list[str] = []
        methods = self.values.get(METHOD.field, (template.method,))
        for field, values in self.values.items():
            # Values are checked with a method that uses them.
            method = next((m for m in methods if m not in METHODS or field not in METHODS[str(m)].unused), None)
            if method is None:
                if field != RANK.field:
                    they = f"{' and '.join(map(str, methods))} {'has' if len(methods) == 1 else 'have'}"
                    problems.append(f"{they} no {in_words(field)}: leave it out")
                continue
            for value in values:
                try:
                    _replace(template, {METHOD.field: method, field: value})
                except ConfigError as error:
                    problems += error.problems
        if problems:
            raise ConfigError(list(dict.fromkeys(problems)), value=self.values)
        axes = [axis for axis in AXES if axis.field in self.values]
        combinations = product(*(self.values[axis.field] for axis in axes))
        configs = (_replace(template, dict(zip((a.field for a in axes), c, strict=True))) for c in combinations)
        return list(dict.fromkeys(configs))


def grid_of(given: Mapping[str, object]) -> Grid:
    """Make a grid from lists by their plural names: ``{"ranks": [1, 2], "lrs": [1e-3, 3e-3], "scalings": "constant"}``.

    A text stands for a list, as in options. ``-`` in a name may stand for ``_``.

    Raises:
        UsageError: for an unknown name, an empty list, a value of another type, or one given twice.
    """
    by_plural = {axis.plural: axis for axis in AXES}
    values: dict[str, tuple[Value, ...]] = {}
    for name, listed in given.items():
        plural = str(name).replace("-", "_")
        if plural in AdapterConfig.__dataclass_fields__ and plural not in {axis.field for axis in AXES}:
            hint = f"--{plural.replace('_', '-')} gives it to all adapters"
            raise UsageError(f"{in_words(plural)} is no axis of a grid", hint=hint, value=name)
        refuse_unknown("axis", plural, list(by_plural), "axes:")
        axis = by_plural[plural]
        if axis.field in values:
            raise UsageError(f"{plural} are given twice", value=name)
        values[axis.field] = _values(axis, listed, plural)
    return Grid({axis.field: values[axis.field] for axis in AXES if axis.field in values})


def read_grid(path: Path) -> dict[str, tuple[Value, ...]]:
    """Read lists by their plural names from a TOML file; each is a list or a text: ``lrs = [1e-3]``, ``seeds = "0-9"``.

    Raises:
        UsageError: where the file can't be read, is no TOML, or says anything else.
    """
    tables = read_toml(path, "grid file", 'write ranks = [1, 2], seeds = "0-9", lrs = [1e-3, 3e-3], a line each')
    if not tables:
        names = ", ".join(axis.plural for axis in AXES)
        raise UsageError(f"the grid file '{path}' has no axis", hint=f"axes: {names}", value=path)
    try:
        grid = grid_of(tables)
    except UsageError as error:
        raise UsageError(f"the grid file '{path}': {error.problem}", hint=error.hint, value=error.value) from error
    return {axis.plural: grid.values[axis.field] for axis in AXES if axis.field in grid.values}


def varying_axes(config: Mapping[str, Any]) -> tuple[Axis, ...]:
    """Return the axes that a sweep's settings list, without rank and seed."""
    return tuple(axis for axis in OTHERS if axis.plural in config)


def marks(config: TrainingConfig) -> list[str]:
    """Return the parts of a name that say how a config differs from the reference recipe, however it came about.

    They are the name of the recipe that it is closest to, unless that is the reference, and then each value that
    differs from that recipe's.
    """
    recipe, differing = closest_recipe(config)
    return differing if recipe == "reference" else [recipe, *differing]


def closest_recipe(config: TrainingConfig) -> tuple[str, list[str]]:
    """Return the name of the recipe that differs least from a config, and the mark and value of each difference.

    What a recipe has beside :data:`MARKS` has to be as in the recipe, or it is not the one. Epochs belong to none.
    """
    found: dict[str, list[str]] = {}
    for name in reversed(RECIPES):
        known = by_recipe(name, config.method if isinstance(config, AdapterConfig) else None)
        own = (field for field in (*MARKS, *_REST_OF_RECIPE) if hasattr(known, field))
        odd = {field for field in own if getattr(config, field) != getattr(known, field)}
        if odd.isdisjoint(_REST_OF_RECIPE) or (name == "reference" and not found):
            marked = [(mark, getattr(config, field)) for field, mark in MARKS.items() if field in odd]
            found[name] = [f"{mark}{short(value)}" for mark, value in marked]
    closest = min(reversed(found), key=lambda name: len(found[name]))  # of equal ones the reference
    return closest, found[closest]


@lru_cache
def by_recipe(name: str, method: str | None) -> TrainingConfig:
    """Return a recipe's config of a base, or of an adapter by a method; a sweep asks once per adapter."""
    recipe = RECIPES[name]
    return recipe.base if method is None else _replace(recipe.adapter, {METHOD.field: method})


def short(value: Value | None) -> str:
    """Write a value as briefly as it can be read back: 0.003, 2, 1e-05, 1e16; what was not given is the default."""
    if value is None:
        return "default"
    return repr(value).removesuffix(".0").replace("e+", "e") if isinstance(value, float) else str(value)


def in_words(name: str) -> str:
    """Write the name of a field or axis as words."""
    return name.replace("_", " ")


def parse_where(texts: Sequence[str]) -> dict[str, Value]:
    """Parse choices among a sweep's combinations, as ``lr=0.003``, to field → value; a UsageError refuses others."""
    fields = {axis.field: axis for axis in (RANK, *OTHERS)}
    chosen: dict[str, Value] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        field = name.strip().replace("-", "_")
        if not equals:
            raise UsageError(f"--where '{text}' has no value", hint="write --where lr=0.003", value=text)
        refuse_unknown("axis", field, list(fields), "axes:")
        values = fields[field].parse(value, f"--where {in_words(field)}")
        if len(values) != 1 or field in chosen:
            raise UsageError(f"--where takes one value of {in_words(field)}, not '{text}'", value=text)
        chosen[field] = values[0]
    return chosen


def parse_axes(text: str) -> tuple[Axis, Axis]:
    """Parse two axes of a sweep, as ``lr,alpha``; a UsageError refuses anything else, and the seed."""
    fields = {axis.field: axis for axis in (RANK, *OTHERS)}
    names = [name.replace("-", "_") for name in lists.parse_words(text, "--axes")]
    for name in names:
        refuse_unknown("axis", name, list(fields), "axes:")
    if len(set(names)) != 2 or len(names) != 2:
        raise UsageError(f"--axes takes two axes, not '{text}'", hint="write --axes lr,rank", value=text)
    return fields[names[0]], fields[names[1]]


def _values(axis: Axis, listed: object, where: str) -> tuple[Value, ...]:
    if isinstance(listed, str):
        listed = axis.parse(listed, where)
    elif isinstance(listed, (Mapping, bytes)) or not isinstance(listed, Iterable):
        hint = f'write {where} = "{"1,2,4" if axis.kind is int else "…,…"}" or {where} = […]'
        raise UsageError(f"{where} are a list or a text, not {listed!r:.60}", hint=hint, value=listed)
    values = tuple(axis.value(value, where) for value in listed)
    lists.distinct(in_words(where), values)
    return values


def _replace(template: AdapterConfig, values: dict[str, Value]) -> AdapterConfig:
    """Replace the values of a config that its method uses."""
    return AdapterConfig(**without_unused(vars(template) | values))
