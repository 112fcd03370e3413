"""What can go wrong for a reason that a user can act on, and the exit code of each kind.

One base class keeps the offending value and the advice, so that whoever prints the error (the command line, a
notebook) can print a single line. Anything that is not one of these is a defect of the program.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

EXIT_DONE = 0
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143


class LoraMnistError(Exception):
    """Base of all errors that a user can cause or cure.

    Args:
        problem: what was wrong, with the value, in one sentence.
        hint: the command or option that helps; empty where there is none.
        value: the offending value, as it was given.
    """

    exit_code = 5

    def __init__(self, problem: str, *, hint: str = "", value: object = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.hint = hint
        self.value = value

    def __str__(self) -> str:
        return f"{self.problem} ({self.hint})" if self.hint else self.problem


class GateError(LoraMnistError):
    """A threshold that the user set was not met."""

    exit_code = 1


class UsageError(LoraMnistError):
    """An option or a value that can't be meant as it stands."""

    exit_code = 2


class ConfigError(UsageError):
    """A config whose fields don't hold; it reports every problem at once.

    Args:
        problems: one sentence a problem, at least one.
    """

    def __init__(self, problems: Sequence[str], *, hint: str = "", value: object = None) -> None:
        super().__init__("; ".join(problems), hint=hint, value=value)
        self.problems = tuple(problems)


class DivergedError(UsageError):
    """Training left the finite numbers: the settings, not the machine, are at fault."""


class ArtifactError(LoraMnistError):
    """An artifact is missing, exists with other settings, is damaged or does not fit."""

    exit_code = 3


class OtherSettingsError(ArtifactError):
    """The name is taken by an artifact that was made with other settings."""


class DataError(LoraMnistError):
    """A data set can't be had, or is damaged."""

    exit_code = 4


class MachineError(LoraMnistError):
    """The machine failed: the disk is full, or a folder may not be written."""

    exit_code = 5


def make_again(name: str) -> str:
    """The advice for an artifact that is damaged."""
    return f"lora-mnist runs remove {name}, then make it again"


def refuse_unknown(what: str, value: str, known: Sequence[str], listed: str) -> None:
    """Refuse a word that is none of the known ones.

    Args:
        what: what kind of word it is, in the singular.
        listed: what to say before the known ones, where none of them is near.

    Raises:
        UsageError: with the nearest known word, or all of them.
    """
    if value not in known:
        hint = nearest(value, known) or f"{listed} {', '.join(known)}"
        raise UsageError(f"there is no {what} '{value}'", hint=hint, value=value)


def nearest(value: str, known: Sequence[str]) -> str:
    """The question "did you mean …?" for the known word nearest to a misspelt one, or an empty string."""
    close = get_close_matches(value, known, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else ""
