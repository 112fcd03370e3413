"""Parse lists from the command line or a file: ``1,2,4``, ``0-9``, ``0,0.5,1``, ``fc1,fc3``."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from lora_mnist_cli.system.errors import UsageError

MAX_LIST = 10_000
_RANGE = re.compile(r"(-?[0-9]{1,18})(?:-([0-9]{1,18}))?", re.ASCII)


def parse_integers(text: str, where: str, *, ranges: bool = True) -> list[int]:
    """Parse whole numbers such as ``1,2,4`` or, with ranges, ``0-4,7``; messages say ``where`` the list stands.

    Raises:
        UsageError: for any other text, naming the part that is wrong, and for more than :data:`MAX_LIST` numbers.
    """
    numbers: list[int] = []
    for part in text.split(","):
        match = _RANGE.fullmatch(part.strip())
        if match is None or (match[2] and not ranges):
            hint = "write 1,2,4 or 0-4" if ranges else "write 64 or 128,32"
            raise UsageError(f"'{part}' in {where} '{text}' is not a whole number", hint=hint, value=text)
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise UsageError(f"the range '{part}' in {where} runs backwards", hint=f"{last}-{first}", value=text)
        if len(numbers) + last - first >= MAX_LIST:
            raise UsageError(f"{where} '{text}' has more than {MAX_LIST:,} values", value=text)
        numbers.extend(range(first, last + 1))
    return numbers


def parse_floats(text: str, where: str) -> list[float]:
    """Parse numbers such as ``0,0.5,1``.

    Raises:
        UsageError: for any other text, naming the part that is wrong.
    """
    numbers = []
    for part in text.split(","):
        try:
            numbers.append(float(part))
        except ValueError:
            problem = f"'{part}' in {where} '{text}' is not a number"
            raise UsageError(problem, hint="write 0,0.5,1", value=text) from None
    return numbers


def parse_words(text: str, where: str) -> list[str]:
    """Parse words such as ``constant,rslora``.

    Raises:
        UsageError: for an empty word.
    """
    words = [part.strip() for part in text.split(",")]
    if not all(words):
        raise UsageError(f"{where} '{text}' has an empty part", hint="write constant,rslora", value=text)
    return words


def distinct(what: str, values: Sequence[object]) -> None:
    """Refuse a list of ``what``, a plural, that is empty or has a value twice, by a UsageError."""
    if not values or len(set(values)) != len(values):
        shown = ", ".join(map(str, values))[:200] or "none"
        raise UsageError(f"{what} are given once each, and at least one: {shown}", value=list(values))


def as_ranges(numbers: Sequence[int]) -> str:
    """Write whole numbers as in an artifact's name: ``0-9``, ``0-3,7``; a long list as its length and digest."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1] = [runs[-1][0], number]
        else:
            runs.append([number])
    text = ",".join("-".join(map(str, part)) for part in runs)
    return text if len(text) <= 60 else f"{len(numbers)}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def some(names: Sequence[str], most: int = 5) -> str:
    """Write the first few of some names and how many more there are, so that a message fits a screen."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most:,} more"


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun, for example ``1 seed``, ``1,200 seeds`` or ``2 processes``."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"
