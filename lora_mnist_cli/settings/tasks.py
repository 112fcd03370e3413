"""Chains of tasks as a user writes them: ``0-4,5-9``, ``0+3,1-2,4-9``. No torch."""

from __future__ import annotations

from collections.abc import Sequence

from lora_mnist_cli.settings.digits import ALL_DIGITS, DigitSet
from lora_mnist_cli.system.errors import UsageError

HINT = "a comma between tasks, each a range or digits joined by +: 0-4,5-9 or 0+3,1-2,4-9"


def parse_tasks(text: str) -> tuple[DigitSet, ...]:
    """The tasks of a chain, in the order in which they are learned.

    Raises:
        UsageError: where a part is no task, or :func:`check_tasks` refuses them.
    """
    tasks = []
    for part in text.split(","):
        try:
            tasks.append(DigitSet.parse(part.replace("+", ",")))
        except UsageError as error:
            raise UsageError(f"'{part.strip()}' in --tasks '{text}' is not a task", hint=HINT, value=text) from error
    return check_tasks(tasks)


def check_tasks(tasks: Sequence[DigitSet]) -> tuple[DigitSet, ...]:
    """Tasks that make a chain: at least two, with each digit in exactly one.

    Raises:
        UsageError: otherwise, naming the digits.
    """
    known: list[int] = []
    for task in tasks:
        if twice := [digit for digit in task if digit in known]:
            raise UsageError(f"{_named(twice)} in two tasks", hint="each digit is learned once", value=tasks)
        known += task
    if len(tasks) < 2:
        raise UsageError("one task is no chain", hint=HINT, value=tasks)
    if missing := [digit for digit in ALL_DIGITS if digit not in known]:
        raise UsageError(
            f"{_named(missing)} in no task", hint="scores are over all ten, so each is in one", value=tasks
        )
    return tuple(tasks)


def tasks_text(tasks: Sequence[DigitSet]) -> str:
    """The tasks as :func:`parse_tasks` takes them."""
    return ",".join(str(task).replace(",", "+") for task in tasks)


def old_digits(tasks: Sequence[DigitSet]) -> DigitSet:
    """Those of all tasks but the last."""
    return DigitSet(digit for task in tasks[:-1] for digit in task)


def _named(digits: Sequence[int]) -> str:
    return f"digit {digits[0]} is" if len(digits) == 1 else f"digits {DigitSet(digits)} are"
