"""Commands that are refused: one clear line on stderr, the right exit code, and nothing left behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def state(folder: Path) -> dict[str, tuple[int, int]]:
    """Everything under a folder, hidden things too, and what a write to a file would change."""
    return {
        str(path.relative_to(folder)): (0, 0) if path.is_dir() else (path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture
def refused(run: Callable[..., Any], tmp_path: Path) -> Callable[..., str]:
    """Runs a command that has to be refused, ``refused(arguments, code, *shown)``; returns its line on stderr."""

    def call(arguments: list[object], code: int, *shown: str) -> str:
        before = state(tmp_path)
        outcome = run(*arguments)
        assert outcome.out == ""
        lines = outcome.err.splitlines()
        assert len(lines) == 1, outcome.err
        assert lines[0].startswith("error: ")
        assert lines[0].isprintable()
        assert "Traceback" not in outcome.err
        assert "a defect of lora-mnist" not in outcome.err
        for text in shown:
            assert text in lines[0]
        assert outcome.code == code, outcome.err
        assert state(tmp_path) == before
        return str(lines[0])

    return call
