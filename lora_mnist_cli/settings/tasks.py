"""Parse chains of tasks: ``0-4,5-9``, ``0+3,1-2,4-9``."""

from __future__ import annotations

from collections.abc import Sequence

from lora_mnist_cli.settings.digits import ALL_DIGITS, DigitSet
from lora_mnist_cli.system.errors import UsageError

HINT = "a comma between tasks, each a range or digits joined by +: 0-4,5-9 or 0+3,1-2,4-9"


def parse_tasks(text: str) -> tuple[DigitSet, ...]:
    """Parse the tasks of a chain, in the order in which they are learned.

    Raises:
        UsageError: for a part that is no digit set, and as :func:`check_tasks`.
    """
    tasks = []
    for part in text.split(","):
        try:
            tasks.append(DigitSet.parse(part.replace("+", ",")))
        except UsageError as error:
            raise UsageError(f"'{part.strip()}' in --tasks '{text}' is not a task", hint=HINT, value=text) from error
    return check_tasks(tasks)


def check_tasks(tasks: Sequence[DigitSet]) -> tuple[DigitSet, ...]:
    """Check that tasks make a chain: at least two, with each digit in exactly one; a UsageError names the digits."""
    seen: list[int] = []
    for task in tasks:
        if twice := [digit for digit in task if digit in seen]:
            raise UsageError(f"{_named(twice)} in two tasks", hint="each digit is learned once", value=tasks)
        seen += task
    if len(tasks) < 2:
        raise UsageError("one task is no chain", hint=HINT, value=tasks)
    if missing := [digit for digit in ALL_DIGITS if digit not in seen]:
        hint = "scores are over all ten, so each is in one"
        raise UsageError(f"{_named(missing)} in no task", hint=hint, value=tasks)
    return tuple(tasks)


def tasks_text(tasks: Sequence[DigitSet]) -> str:
    """Write tasks in the form that :func:`parse_tasks` takes."""
    return ",".join(str(task).replace(",", "+") for task in tasks)


def old_digits(tasks: Sequence[DigitSet]) -> DigitSet:
    """Return the digits of all tasks except the last."""
    return DigitSet(digit for task in tasks[:-1] for digit in task)


def _named(digits: Sequence[int]) -> str:
    return f"digit {digits[0]} is" if len(digits) == 1 else f"digits {DigitSet(digits)} are"
