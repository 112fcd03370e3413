"""Parse chains of tasks: ``0-4,5-9``, ``0+3,1-2,4-9``."""

from __future__ import annotations

from collections.abc import Sequence

from lora_mnist_cli.settings.digits import ALL_DIGITS, DigitSet
from lora_mnist_cli.system.errors import UsageError

HINT = "a comma between tasks, each a range or digits joined by +: 0-4,5-9 or 0+3,1-2,4-9"


def parse_tasks(text: str, known: DigitSet = ALL_DIGITS) -> tuple[DigitSet, ...]:
    """Parse the tasks of a chain, in the order in which they are learned.

    Args:
        known: the digits that the data set has.

    Raises:
        UsageError: for a part that is no digit set, and as :func:`check_tasks`.
    """
    tasks = []
    for part in text.split(","):
        try:
            tasks.append(DigitSet.parse(part.replace("+", ",")))
        except UsageError as error:
            raise UsageError(f"'{part.strip()}' in --tasks '{text}' is not a task", hint=HINT, value=text) from error
    return check_tasks(tasks, known)


def check_tasks(tasks: Sequence[DigitSet], known: DigitSet = ALL_DIGITS) -> tuple[DigitSet, ...]:
    """Check that tasks make a chain: at least two, with each digit in exactly one; a UsageError names the digits."""
    seen: list[int] = []
    for task in tasks:
        if twice := [digit for digit in task if digit in seen]:
            raise UsageError(f"{_named(twice)} in two tasks", hint="each digit is learned once", value=tasks)
        seen += task
    if len(tasks) < 2:
        raise UsageError("one task is no chain", hint=HINT, value=tasks)
    if missing := [digit for digit in known if digit not in seen]:
        hint = f"scores are over all {'ten' if known == ALL_DIGITS else len(known)}, so each is in one"
        raise UsageError(f"{_named(missing)} in no task", hint=hint, value=tasks)
    if extra := [digit for digit in seen if digit not in known]:
        hint = f"its classes are the digits {known}"
        raise UsageError(f"{_named(extra)} not in the data set", hint=hint, value=tasks)
    return tuple(tasks)


def tasks_text(tasks: Sequence[DigitSet]) -> str:
    """Write tasks in the form that :func:`parse_tasks` takes."""
    return ",".join(str(task).replace(",", "+") for task in tasks)


def old_digits(tasks: Sequence[DigitSet]) -> DigitSet:
    """Return the digits of all tasks except the last."""
    return DigitSet(digit for task in tasks[:-1] for digit in task)


def _named(digits: Sequence[int]) -> str:
    return f"digit {digits[0]} is" if len(digits) == 1 else f"digits {DigitSet(digits)} are"
