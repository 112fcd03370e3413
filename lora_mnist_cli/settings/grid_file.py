"""A grid of adapters in a TOML file, which says the same as the options of a sweep."""

from __future__ import annotations

from pathlib import Path

from lora_mnist_cli.settings.grid import AXES, Value, grid_of
from lora_mnist_cli.system.errors import UsageError

MAX_FILE = 2**20


def read_grid(path: Path) -> dict[str, tuple[Value, ...]]:
    """Read lists by their plural names from a TOML file; each is a list or a text: ``lrs = [1e-3]``, ``seeds = "0-9"``.

    Raises:
        UsageError: where the file can't be read, is no TOML, or says anything else.
    """
    import tomllib  # few sweeps have a file

    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"can't read the grid file '{path}': {reason}", value=path) from error
    if len(content) > MAX_FILE:
        raise UsageError(f"the grid file '{path}' is larger than a megabyte", value=path)
    try:
        tables = tomllib.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        hint = 'write ranks = [1, 2], seeds = "0-9", lrs = [1e-3, 3e-3], a line each'
        raise UsageError(f"the grid file '{path}' is not TOML: {error}", hint=hint, value=path) from error
    if not tables:
        names = ", ".join(axis.plural for axis in AXES)
        raise UsageError(f"the grid file '{path}' has no axis", hint=f"axes: {names}", value=path)
    try:
        grid = grid_of(tables)
    except UsageError as error:
        raise UsageError(f"the grid file '{path}': {error.problem}", hint=error.hint, value=error.value) from error
    return {axis.plural: grid.values[axis.field] for axis in AXES if axis.field in grid.values}
