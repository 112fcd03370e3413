"""Files of settings, in TOML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lora_mnist_cli.system.errors import UsageError

_MAX_FILE = 2**20


def read_toml(path: Path, what: str, example: str) -> dict[str, Any]:
    """Read a TOML file of at most a megabyte.

    Args:
        what: what messages call the file.
        example: how it could look, as the hint for a file that is no TOML.

    Raises:
        UsageError: where it can't be read, is too large or is no TOML.
    """
    import tomllib  # few commands have a file

    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"can't read the {what} '{path}': {reason}", value=path) from error
    if len(content) > _MAX_FILE:
        raise UsageError(f"the {what} '{path}' is larger than a megabyte", value=path)
    try:
        return tomllib.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the {what} '{path}' is not TOML: {error}", hint=example, value=path) from error
