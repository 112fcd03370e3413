"""Which picture files a user names. No NumPy, so that a wrong name is refused at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from lora_mnist_cli.settings.lists import some
from lora_mnist_cli.system.errors import DataError, UsageError

SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp")
STDIN = "-"
"""The name that stands for standard input."""


def find_images(names: Iterable[str], notice: Callable[[str], None] = lambda _: None) -> list[str]:
    """List the files that are named, and of a folder its pictures, sorted by name.

    Args:
        notice: is told what a folder has beside its pictures; hidden files are not worth a word.

    Raises:
        UsageError: where stdin is named twice.
        DataError: where a file does not exist, or a folder has no pictures.
    """
    sources: list[str] = []
    for name in names:
        path = Path(name)
        if name != STDIN and path.is_dir():
            files = sorted(path.iterdir())
            inside = [file for file in files if file.suffix.lower() in SUFFIXES and file.is_file()]
            if not inside:
                folders = [str(file) for file in files if file.is_dir()]
                hint = f"name the folders in it: {some(folders, 3)}" if folders else ""
                raise DataError(f"the folder {name} has no {', '.join(SUFFIXES)}", hint=hint, value=name)
            if others := [file.name for file in files if file not in inside and not file.name.startswith(".")]:
                notice(f"skipped in {name}: {some(others, 3)} (no {', '.join(SUFFIXES)})")
            sources += map(str, inside)
        elif name == STDIN or path.exists():
            sources.append(name)
        else:
            raise DataError(f"there is no image {name}", value=name)
    if sources.count(STDIN) > 1:
        raise UsageError("stdin can be read once only", hint="name - once", value=STDIN)
    return sources
