"""Digit sets: the digits that a model learns, or is scored on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lora_mnist_cli.settings.lists import as_ranges
from lora_mnist_cli.system.caller import plain
from lora_mnist_cli.system.errors import UsageError

_PART = re.compile(r"([0-9])(?:-([0-9]))?", re.ASCII)
_HINT = "write digits as 0-4, 5,7-9 or all"


@dataclass(frozen=True)
class DigitSet:
    """A non-empty set of digits, kept sorted and without repeats.

    ``str()`` gives the canonical form: sorted, with runs of two and more folded (``0-4``, ``5,7-9``, ``0-9``).

    Raises:
        UsageError: for an empty set, and for numbers that are not digits.
    """

    members: tuple[int, ...]

    def __init__(self, members: Iterable[int]) -> None:
        given = plain(list(members))
        if not given:
            raise UsageError("a digit set can't be empty", hint=_HINT, value="")
        if not all(type(digit) is int for digit in given):
            raise UsageError(f"digits are whole numbers, not {list(given)}", hint=_HINT, value=given)
        digits = tuple(sorted(set(given)))
        if digits[0] < 0 or digits[-1] > 9:
            raise UsageError(f"digits go from 0 to 9, not {list(digits)}", hint=_HINT, value=digits)
        object.__setattr__(self, "members", digits)

    @classmethod
    def parse(cls, text: str) -> DigitSet:
        """Parse a digit set: ``0-4``, ``5,7-9`` or ``all``.

        Raises:
            UsageError: for any other text; it names the part that is wrong.
        """
        if text.strip().lower() == "all":
            return ALL_DIGITS
        digits: list[int] = []
        for part in text.split(","):
            match = _PART.fullmatch(part.strip())
            if match is None:
                what = f"'{part.strip()}' in '{text}'" if part.strip() != text else f"'{text}'"
                raise UsageError(f"{what} is not a digit set", hint=_HINT, value=text)
            first, last = int(match[1]), int(match[2] or match[1])
            if last < first:
                hint = f"did you mean {last}-{first}?"
                raise UsageError(f"the range '{part.strip()}' runs backwards", hint=hint, value=text)
            digits.extend(range(first, last + 1))
        return cls(digits)

    @classmethod
    def of(cls, digits: object) -> DigitSet:
        """Make a digit set of whatever says which: a set, a text (``"0-4"``), numbers or a single number.

        Raises:
            UsageError: for anything else.
        """
        digits = plain(digits)
        if isinstance(digits, cls):
            return digits
        if isinstance(digits, str):
            return cls.parse(digits)
        return cls(digits if isinstance(digits, Iterable) else [digits])  # type: ignore[list-item]

    def without(self, others: DigitSet) -> DigitSet | None:
        """Return the digits of this set that are not in the other one; None where there are none."""
        rest = [digit for digit in self.members if digit not in others.members]
        return DigitSet(rest) if rest else None

    def __contains__(self, digit: object) -> bool:
        return digit in self.members

    def __iter__(self) -> Iterator[int]:
        return iter(self.members)

    def __len__(self) -> int:
        return len(self.members)

    def __str__(self) -> str:
        return as_ranges(self.members)


ALL_DIGITS = DigitSet(range(10))


def reporting_sets(
    base: DigitSet, learned: DigitSet | None = None, known: DigitSet = ALL_DIGITS
) -> list[DigitSet]:  # fmt: skip
    """Return the digit sets of a score table: the base's, the others if there are any, all, and the ``learned`` ones.

    Args:
        known: the digits that the data set has.
    """
    rest = known.without(base)
    sets = [base, rest, known] if rest else [known]
    return sets if learned is None or learned in sets else [*sets, learned]
