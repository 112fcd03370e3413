"""Data sets of a user's own: how they are named, which classes they can have, and which digits these are.

A class is a digit: the first is 0. The name of a user's data set begins with ``own-``, so that it can't be mistaken
for one of :data:`~lora_mnist_cli.settings.choices.DATASETS` or a misspelt one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from lora_mnist_cli.settings.digits import ALL_DIGITS, DigitSet
from lora_mnist_cli.settings.lists import counted, some
from lora_mnist_cli.system.errors import UsageError

PREFIX = "own-"
MAX_CLASS_NAME = 40
_LONGEST = 40
_OWN = re.compile(rf"{PREFIX}[A-Za-z0-9][A-Za-z0-9._-]{{0,{_LONGEST - 1}}}", re.ASCII)


def is_own(dataset: object) -> bool:
    """Tell whether this can be the name of a user's own data set."""
    return isinstance(dataset, str) and _OWN.fullmatch(dataset) is not None


def own_name(stem: str) -> str:
    """Return the name of the data set in a folder or file of that name; empty where nothing of it can be kept."""
    kept = re.sub(r"[^A-Za-z0-9._-]+", "-", stem, flags=re.ASCII).strip("-._")[:_LONGEST].rstrip("-._")
    return PREFIX + kept if kept else ""


def problem_of_classes(classes: Sequence[object]) -> str:
    """Say what is wrong with the names of classes; empty where nothing is."""
    if not 2 <= len(classes) <= len(ALL_DIGITS):
        which = some([f"{name!r:.{MAX_CLASS_NAME}}" for name in classes])
        return f"it has {counted(len(classes), 'class', 'classes')}, not 2 to {len(ALL_DIGITS)}: {which}"
    for name in classes:
        if not isinstance(name, str) or not 0 < len(name) <= MAX_CLASS_NAME or not name.isprintable():
            return f"{name!r:.60} can't be the name of a class: 1 to {MAX_CLASS_NAME} printable characters"
    return "" if len(set(classes)) == len(classes) else "it has two classes of one name"


def known_digits(dataset: Mapping[str, Any]) -> DigitSet:
    """Return the digits that a data set has, which is described as manifests do: all ten, or one per class."""
    classes = dataset.get("classes")
    return ALL_DIGITS if classes is None else DigitSet(range(len(classes)))


def halves(known: DigitSet) -> tuple[DigitSet, DigitSet]:
    """Return the digits that a base learns and those that adapters do: 0-4 and 5-9, or as even as it goes."""
    middle = (len(known) + 1) // 2
    return DigitSet(known.members[:middle]), DigitSet(known.members[middle:])


def digits_in(dataset: Mapping[str, Any], digits: DigitSet) -> DigitSet:
    """Return digits of a data set that is described as manifests do; all ten stand for all that it has.

    Raises:
        UsageError: where it has no class for others; it names them, and digits that could be meant.
    """
    known = known_digits(dataset)
    if digits == ALL_DIGITS:
        return known
    if missing := [digit for digit in digits if digit not in known]:
        names = ", ".join(f"{digit} {name}" for digit, name in enumerate(dataset["classes"]))
        problem = f"{dataset['name']} has no class {DigitSet(missing)}: its classes are {names}"
        raise UsageError(problem, hint=f"for example --digits {halves(known)[0]}", value=str(digits))
    return digits
