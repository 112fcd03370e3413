"""Grids of adapters: which settings a sweep varies, read from options or a file, and what its adapters are called.

No torch. An axis with one value is a plain setting, so that a sweep over ranks and seeds alone is the same whether or
not its other settings were given as lists.
"""

from __future__ import annotations

import dataclasses
import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from lora_mnist_cli.settings import lists
from lora_mnist_cli.settings.adapter_config import AdapterConfig, without_unused
from lora_mnist_cli.settings.choices import METHODS
from lora_mnist_cli.settings.recipes import RECIPES
from lora_mnist_cli.system.errors import ConfigError, UsageError, refuse_unknown

Value = int | float | str

MAX_ADAPTERS = 10_000
"""Adapters of a sweep, at most: its manifest has a row and a digest of each."""
MAX_FILE = 2**20


@dataclass(frozen=True)
class Axis:
    """A setting that a sweep may vary.

    Args:
        field: of :class:`~lora_mnist_cli.settings.adapter_config.AdapterConfig`.
        plural: what the list of its values is called in options, grid files and a sweep's own settings.
        kind: of its values.
        mark: what stands before a value in an adapter's name.
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
        """The values in a text.

        Raises:
            UsageError: where one of them is none.
        """
        parsers: dict[type, Any] = {int: lists.parse_integers, float: lists.parse_floats, str: lists.parse_words}
        found: list[Any] = parsers[self.kind](text, where)
        return found

    def value(self, given: object, where: str) -> Value:
        """A value in its own type, so that 1 and 1.0 are the same; what it may be is the config's business.

        Raises:
            UsageError: where it is of another type.
        """
        if self.kind is str and isinstance(given, str):
            return given
        if not isinstance(given, (bool, str)):
            try:
                if self.kind is int:
                    return operator.index(given)  # type: ignore[arg-type]
                if self.kind is float and isinstance(given, (int, float)):
                    return float(given)
            except (TypeError, OverflowError):
                pass
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
)
AXES = (RANK, *OTHERS, SEED)
"""From the outermost to the innermost: adapters of one seed share their data, and each combination its seeds."""


@dataclass(frozen=True)
class Grid:
    """Values of some axes; what is not among them is a plain setting. Made by :func:`grid_of`.

    Args:
        values: field → values, at least one, each once.
    """

    values: Mapping[str, tuple[Value, ...]]

    @property
    def varying(self) -> tuple[Axis, ...]:
        """The axes beside rank and seed that have more than one value."""
        return tuple(axis for axis in OTHERS if len(self.values.get(axis.field, ())) > 1)

    def lists(self) -> dict[str, list[Value]]:
        """What a sweep's settings say of it: ranks, seeds and what else varies."""
        return {axis.plural: list(self.values[axis.field]) for axis in (RANK, SEED, *self.varying)}

    def members(self, template: AdapterConfig) -> list[AdapterConfig]:
        """A config for each combination, the seed innermost.

        What means nothing to a method is no combination of its: full fine-tuning, which has no rank, is there once and
        not once a rank.

        Args:
            template: everything else.

        Raises:
            UsageError: where they are more than :data:`MAX_ADAPTERS`.
            ConfigError: with every value that doesn't hold.
        """
        count = math.prod(len(values) for values in self.values.values())
        if count > MAX_ADAPTERS:
            axes = [a for a in AXES if len(self.values.get(a.field, ())) > 1]
            factors = " × ".join(f"{len(self.values[a.field]):,} {in_words(a.plural)}" for a in axes)
            raise UsageError(
                f"{factors} are {count:,} adapters, and a sweep has at most {MAX_ADAPTERS:,}",
                hint="several sweeps with a --name each can share a base",
                value=count,
            )
        problems: list[str] = []
        methods = self.values.get(METHOD.field, (template.method,))
        for field, values in self.values.items():
            # By a method that has a use for it.
            method = next((m for m in methods if m not in METHODS or field not in METHODS[str(m)].unused), None)
            if method is None and field != RANK.field:
                problems.append(f"{' and '.join(map(str, methods))} have no {in_words(field)}: leave it out")
            if method is None:
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
        found = (_replace(template, dict(zip((a.field for a in axes), c, strict=True))) for c in combinations)
        return list(dict.fromkeys(found))


def grid_of(given: Mapping[str, object]) -> Grid:
    """A grid from lists by their plural names: ``{"ranks": [1, 2], "lrs": [1e-3, 3e-3], "scalings": "constant"}``.

    A text stands for a list, as in options. ``-`` in a name may stand for ``_``.

    Raises:
        UsageError: for an unknown name, an empty list, or a value that is of another type or there twice.
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
    """The lists in a TOML file, by their plural names; each is a list or a text: ``seeds = "0-9"``, ``lrs = [1e-3]``.

    Raises:
        UsageError: where the file can't be read, is no TOML, or says anything else.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"can't read the grid file '{path}': {reason}", value=path) from error
    if len(content) > MAX_FILE:
        raise UsageError(f"the grid file '{path}' is larger than a megabyte", value=path)
    try:
        tables = _loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        hint = 'write ranks = [1, 2], seeds = "0-9", lrs = [1e-3, 3e-3], a line each'
        raise UsageError(f"the grid file '{path}' is not TOML: {error}", hint=hint, value=path) from error
    if not tables:
        names = ", ".join(axis.plural for axis in AXES)
        raise UsageError(f"the grid file '{path}' has no axis", hint=f"axes: {names}", value=path)
    try:
        grid = grid_of(tables)
    except UsageError as error:
        raise UsageError(f"the grid file '{path}': {error.problem}", hint=error.hint, value=error.value) from error
    return {axis.plural: grid.values[axis.field] for axis in AXES if axis.field in grid.values}


def varying_axes(config: Mapping[str, Any]) -> tuple[Axis, ...]:
    """The axes beside rank and seed that a sweep's settings have a list of."""
    return tuple(axis for axis in OTHERS if axis.plural in config)


def marks(config: AdapterConfig, axes: Iterable[Axis]) -> list[str]:
    """What an adapter's name says of its values on some axes; nothing of those that are the reference recipe's, or of
    its method, which the name begins with.
    """
    reference = RECIPES["reference"].adapter
    own = [(axis, getattr(config, axis.field)) for axis in axes if axis is not METHOD]
    return [f"{axis.mark}{short(value)}" for axis, value in own if value != getattr(reference, axis.field)]


def short(value: Value) -> str:
    """A value as briefly as it can be without being another: 0.003, 2, 1e-05, 1e16."""
    return repr(value).removesuffix(".0").replace("e+", "e") if isinstance(value, float) else str(value)


def in_words(name: str) -> str:
    """A field or plural in a sentence."""
    return name.replace("_", " ")


def parse_where(texts: Sequence[str]) -> dict[str, Value]:
    """Field → value of choices among a sweep's combinations, as ``lr=0.003``.

    Raises:
        UsageError: for anything else.
    """
    fields = {axis.field: axis for axis in OTHERS}
    chosen: dict[str, Value] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        field = name.strip().replace("-", "_")
        if not equals:
            raise UsageError(f"--where '{text}' has no value", hint="write --where lr=0.003", value=text)
        refuse_unknown("axis", field, list(fields), "axes:")
        found = fields[field].parse(value, f"--where {in_words(field)}")
        if len(found) != 1 or field in chosen:
            raise UsageError(f"--where takes one value of {in_words(field)}, not '{text}'", value=text)
        chosen[field] = found[0]
    return chosen


def _values(axis: Axis, listed: object, where: str) -> tuple[Value, ...]:
    if isinstance(listed, str):
        listed = axis.parse(listed, where)
    elif isinstance(listed, (Mapping, bytes)) or not isinstance(listed, Iterable):
        raise UsageError(
            f"{where} are a list or a text, not {listed!r:.60}",
            hint=f'write {where} = "{"1,2,4" if axis.kind is int else "…,…"}" or {where} = […]',
            value=listed,
        )
    values = tuple(axis.value(each, where) for each in listed)
    lists.distinct(in_words(where), values)
    return values


def _replace(template: AdapterConfig, values: Mapping[str, Value]) -> AdapterConfig:
    """The config with other values, as far as its method has a use for them."""
    given = {f.name: getattr(template, f.name) for f in dataclasses.fields(template)} | dict(values)
    return AdapterConfig(**without_unused(given))


def _loads(text: str) -> dict[str, Any]:
    import tomllib

    return tomllib.loads(text)
