"""Settings that check themselves: a field has its default, its help and its rule in one line, :func:`setting`.

A rule is a function of a setting's name in words and its value. It gives a sentence for each thing that is wrong, so
that all problems of a config are reported at once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import Any

from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.system.caller import plain
from lora_mnist_cli.system.errors import ConfigError, UsageError, nearest

Rule = Callable[[str, Any], Iterable[str]]

LARGEST = (2 - 2**-23) * 2.0**127
"""The largest number of 32 bits."""
DIGEST = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)


def is_digest(value: object) -> bool:
    """Tell whether a value is a SHA-256 as manifests write it: ``sha256:`` and 64 hexadecimal digits."""
    return isinstance(value, str) and DIGEST.fullmatch(value) is not None


def setting(default: Any, about: str, rule: Rule, *, words: str | None = None, added_later: bool = False) -> Any:
    """Declare a field of a :class:`SelfChecking` dataclass, with the sentence of its option's help and its rule.

    A default of None needs no rule. ``words`` is the field's name in messages, by default with spaces. A field that was
    ``added_later`` is left out of a manifest at its default, so that older fingerprints stay valid.
    """
    return field(default=default, metadata={"help": about, "rule": rule, "words": words, "added_later": added_later})


@lru_cache
def _rules(kind: type[Any]) -> list[tuple[str, str, Rule, bool, bool]]:
    """Return field, words, rule, whether None needs no rule, and whether the value is a float, of each setting."""
    return [
        (
            f.name, f.metadata["words"] or f.name.replace("_", " "), f.metadata["rule"], f.default is None,
            str(f.type).startswith("float"),
        )
        for f in fields(kind)
    ]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SelfChecking:
    """A dataclass of :func:`setting` fields that checks itself at construction.

    Raises:
        ConfigError: with every problem of every field.
    """

    def __post_init__(self) -> None:
        problems: list[str] = []
        unused = self._unused()
        # mypy takes the hash of an instance for that of its class.
        for name, words, rule, may_be_none, is_float in _rules(type(self)):  # type: ignore[arg-type]
            value = getattr(self, name)
            if (as_python := plain(value, float if is_float else object)) is not value:
                value = as_python
                object.__setattr__(self, name, value)
            if rule is digit_set and value is not None:
                with suppress(UsageError):
                    value = DigitSet.of(value)
                    object.__setattr__(self, name, value)
            if name not in unused and not (may_be_none and value is None):
                problems += rule(words, value)
        problems += self._conflicts()
        if problems:
            raise ConfigError(list(dict.fromkeys(problems)), value=self)

    def _unused(self) -> Collection[str]:
        """Name the fields whose rules don't apply, because of another field."""
        return ()

    def _conflicts(self) -> Iterator[str]:
        """Give the problems that concern more than one field, a sentence each."""
        return iter(())


def one_of(known: Collection[str]) -> Rule:
    """Make the rule that a value is one of some words."""
    words = tuple(known)

    def rule(name: str, value: object) -> Iterator[str]:
        if value not in words:
            guess = nearest(str(value), words)
            yield f"{name} is one of {', '.join(words)}, not '{value}'" + (f", {guess}" if guess else "")

    return rule


def whole(low: int, high: int | None = None) -> Rule:
    """Make the rule that a value is a whole number of a range, its ends included."""

    def rule(name: str, value: object) -> Iterator[str]:
        if not isinstance(value, int) or isinstance(value, bool):
            yield f"{name} is a whole number, not {value!r}"
        elif value < low:
            yield f"{name} is at least {low}, not {value}"
        elif high is not None and value > high:
            yield f"{name} is at most {high}, not {value}"

    return rule


_BOUNDS: Mapping[str, Callable[[float, float], bool]] = {
    "above": lambda value, bound: value > bound,
    "at least": lambda value, bound: value >= bound,
    "below": lambda value, bound: value < bound,
    "at most": lambda value, bound: value <= bound,
}


def number(range_in_words: str = "") -> Rule:
    """Make the rule that a value is a finite float in a range, such as ``above 0`` or ``at least 0 and below 1``."""
    bounds = [part.rsplit(" ", 1) for part in range_in_words.split(" and ") if part]
    tests = [(_BOUNDS[comparison], float(bound)) for comparison, bound in bounds]
    demand = range_in_words
    if len(bounds) < 2:  # a range with two ends says that a value is finite
        demand = f"a finite number {'of ' if range_in_words.startswith('at') else ''}{range_in_words}".strip()

    def rule(name: str, value: object) -> Iterator[str]:
        if not isinstance(value, float) or not math.isfinite(value) or not all(t(value, bound) for t, bound in tests):
            yield f"{name} is {demand}, not {value}"

    return rule


def digit_set(_: str, value: object) -> Iterator[str]:
    """Hold where a value is a digit set."""
    if not isinstance(value, DigitSet):
        yield f"digits are a digit set, such as '5-9' or [5, 6], not {value!r}"
