"""What ``pyproject.toml`` says of this program, installed or in a checkout that is not installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

NAME = "lora-mnist"
_PROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"


def version() -> str:
    """Return the version of this program; ``unknown`` where nothing tells."""
    from importlib import metadata  # a tenth of the program's start, and most commands need no version

    try:
        return metadata.version(NAME)
    except metadata.PackageNotFoundError:
        return str(project().get("version", "unknown"))


def project() -> dict[str, Any]:
    """Return the table ``project`` of the checkout's ``pyproject.toml``; empty where there is none."""
    if not _PROJECT.is_file():
        return {}
    import tomllib

    found: dict[str, Any] = tomllib.loads(_PROJECT.read_text(encoding="utf-8"))["project"]
    return found
