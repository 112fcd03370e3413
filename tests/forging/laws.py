"""What holds of every command, whatever it reads: no defect, traceback, warning, NaN or control character; it ends."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from lora_mnist_cli.cli import main

resource = pytest.importorskip("resource")
PATIENCE = 60
"""Seconds, for a busy machine; alone, no command here takes one."""
MEMORY = 10**9


class Endless(BaseException):
    """A command that does not end."""


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Interrupt what takes longer than :data:`PATIENCE`."""

    def interrupt(*_: object) -> None:
        raise Endless

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def peak_memory() -> int:
    """The most memory that this process had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def call(capfd: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, list[str]]:
    """Run a command; returns its exit code, what it printed, and the laws that it broke."""
    capfd.readouterr()
    before, broken = peak_memory(), []
    code: int = -1
    try:
        with watched():
            code = main([str(argument) for argument in arguments])
    except Endless:
        broken.append("it does not end")
    except BaseException as error:  # noqa: BLE001 - this is what is looked for
        broken.append(f"{type(error).__name__}: {error}")
    out, err = capfd.readouterr()
    if code == 5:
        broken.append("a defect")
    if code != 0 and out and "verify" not in arguments and "gate" not in arguments:
        broken.append("a result beside an error")
    if peak_memory() - before > MEMORY:
        broken.append(f"it takes {peak_memory() - before:,} bytes")
    for line in err.splitlines():
        if not line.startswith(("error: ", "warning: ")) and ("Warning" in line or "Traceback" in line or "**" in line):
            broken.append(f"a library says: {line}")
    if any(not character.isprintable() for character in (out + err).replace("\n", "")):
        broken.append("a control character")
    if code == 0 and "--json" in arguments:
        broken += problems_of_json(out)
    return code, out + err, broken


def problems_of_json(text: str) -> list[str]:
    """What is wrong with a document on stdout."""

    def refuse(constant: str) -> Any:
        raise ValueError(constant)

    try:
        json.loads(text, parse_constant=refuse)
    except ValueError as error:
        return [f"no JSON: {error}"]
    return []
