"""Errors that a user can act on, and the exit code of each kind::

    LoraMnistError           5
    ├── GateError            1   a threshold was not met, or a picture is doubtful
    ├── UsageError           2   an option or a value is wrong
    │   ├── ConfigError      2   a config has problems; it lists all of them
    │   └── DivergedError    2   training diverged
    ├── ArtifactError        3   an artifact is missing, different, damaged or does not fit
    │   └── OtherSettingsError 3   its name is taken by one with other settings
    ├── DataError            4   a data set or a picture is missing, unreadable or damaged
    └── MachineError         5   the disk is full, or a folder can't be read or written

0 is success, 130 an interrupt and 143 a termination. The base class keeps the offending value and the advice, so that
the command line or a notebook can print the error in a single line. Any other exception is a defect of the program.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

EXIT_DONE = 0
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143


class LoraMnistError(Exception):
    """Base of all errors that a user can cause or fix.

    It gives the problem in a sentence, the command or option that helps as a hint, and the offending value.
    """

    exit_code = 5

    def __init__(self, problem: str, *, hint: str = "", value: object = None) -> None:
        super().__init__(problem)
        self.problem, self.hint, self.value = problem, hint, value

    def __str__(self) -> str:
        return f"{self.problem} ({self.hint})" if self.hint else self.problem


class GateError(LoraMnistError):
    """A threshold that the user set was not met, or a doubt was to be an error."""

    exit_code = 1


class UsageError(LoraMnistError):
    """An option or a value is wrong."""

    exit_code = 2


class ConfigError(UsageError):
    """A config has fields that are not allowed; the error reports every problem at once, a sentence each."""

    def __init__(self, problems: Sequence[str], *, hint: str = "", value: object = None) -> None:
        super().__init__("; ".join(problems), hint=hint, value=value)
        self.problems = tuple(problems)


class DivergedError(UsageError):
    """Training diverged to infinite numbers; the settings are the cause, not the machine."""


class ArtifactError(LoraMnistError):
    """An artifact is missing, exists with other settings, is damaged or does not fit."""

    exit_code = 3


class OtherSettingsError(ArtifactError):
    """The name is taken by an artifact that was made with other settings."""


class DataError(LoraMnistError):
    """A data set or a picture is missing, unreadable or damaged."""

    exit_code = 4


class MachineError(LoraMnistError):
    """The machine failed: the disk is full, or a folder can't be read or written."""


def make_again(name: str) -> str:
    """Return the advice for an artifact that is damaged."""
    return f"lora-mnist runs remove {name}, then make it again"


def refuse_unknown(what: str, value: str, known: Sequence[str], listed: str) -> None:
    """Refuse a word of the kind ``what`` that is not among the known ones.

    Raises:
        UsageError: with the nearest known word, or all of them after the words ``listed``.
    """
    if value not in known:
        hint = nearest(value, known) or f"{listed} {', '.join(known)}"
        raise UsageError(f"there is no {what} '{value}'", hint=hint, value=value)


def nearest(value: str, known: Sequence[str]) -> str:
    """Return "did you mean …?" with the known word nearest to a misspelt one, or an empty string."""
    close = get_close_matches(value, known, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else ""
