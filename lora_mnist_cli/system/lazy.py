"""Exports of a package that are imported when somebody asks for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_exports(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a package that exports names of its modules without importing the modules.

    A name that was asked for once is set in the package, and later lookups cost nothing. No module directly in the
    package may have the name of an export: Python sets an imported submodule in the package, in the export's place.
    ``homes`` gives the module, below the package, that defines each exported name.
    """

    def __getattr__(name: str) -> Any:  # noqa: N807 - it is what Python looks for in the package
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(f"{package}.{homes[name]}"), name)
        setattr(import_module(package), name, value)
        return value

    return __getattr__
