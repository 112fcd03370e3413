"""How options are made: their types, the words that a shell completes, and how wrong values are refused."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import typer

from lora_mnist_cli.registry.catalog import Catalog
from lora_mnist_cli.settings import config, recipes
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.stages import workspace
from lora_mnist_cli.system.errors import LoraMnistError


def complete_artifact(ctx: typer.Context, incomplete: str) -> list[str]:
    """Give the names of artifacts that begin as typed, for the shell's completion."""
    root = ctx.params.get("runs_dir") or os.environ.get(workspace.RUNS_VARIABLE) or workspace.DEFAULT_RUNS
    with contextlib.suppress(LoraMnistError):  # a complaint would end up in the line that is being typed
        catalog = Catalog(Path(root))
        known = [f"@{alias}" for alias in catalog.tags()] if incomplete.startswith("@") else catalog.names()
        return [name for name in known if name.startswith(incomplete)]
    return []


def completions(known: Iterable[str]) -> Callable[[str], list[str]]:
    """Give the known words that begin as typed, for the shell's completion."""
    return lambda incomplete: [word for word in known if word.startswith(incomplete)]


def whole(text: str | int) -> int:
    """Read a whole number; the line that refuses anything else shows it. A default comes as the number itself."""
    if not re.fullmatch(r"[+-]?[0-9]{1,30}", str(text).strip(), re.ASCII):
        raise typer.BadParameter(f"'{text}' is not a whole number")
    return int(text)


def real(text: str) -> float:
    """Read a number; the line that refuses anything else shows it."""
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"'{text}' is not a number") from None


def folder(text: str) -> Path:
    """Read a folder; an empty word, as an unset variable of a shell gives, is none."""
    if not str(text).strip():
        raise typer.BadParameter("it is empty")
    return Path(text)


def integer_option(flag: str, about: str, panel: str | None = None) -> Any:
    """Make an option that takes a whole number."""
    return typer.Option(flag, help=about, parser=whole, metavar="INT", rich_help_panel=panel)


def number_option(flag: str, about: str, panel: str | None = None) -> Any:
    """Make an option that takes a number."""
    return typer.Option(flag, help=about, parser=real, metavar="FLOAT", rich_help_panel=panel)


def word_option(
    flag: str, about: str, panel: str | None = None, known: Iterable[str] = (), *, metavar: str = "TEXT",
    hidden: bool = False,
) -> Any:  # fmt: skip
    """Make an option that takes a word or a list of them; the known words are completed."""
    return typer.Option(
        flag, help=about, metavar=metavar, autocompletion=completions(known), rich_help_panel=panel, hidden=hidden
    )


def choice_option(flag: str, known: Iterable[str], panel: str | None = None) -> Any:
    """Make an option that takes one of some words."""
    return word_option(flag, f"One of {', '.join(known)}.", panel, known)


def file_option(flag: str, about: str, panel: str | None = None) -> Any:
    """Make an option that takes the path of a file."""
    return typer.Option(flag, help=about, metavar="FILE", rich_help_panel=panel)


def folder_option(flag: str, variable: str, about: str, panel: str) -> Any:
    """Make an option that takes a folder, which a variable of the environment may name too."""
    return typer.Option(flag, envvar=variable, help=about, metavar="FOLDER", parser=folder, rich_help_panel=panel)


def switch(flag: str, about: str, panel: str | None = None) -> Any:
    """Make an option that takes no value."""
    return typer.Option(flag, help=about, rich_help_panel=panel)


def artifact_option(flag: str, about: str) -> Any:
    """Make an option that takes the name of an artifact, which is completed."""
    return typer.Option(flag, help=about, metavar="TEXT", autocompletion=complete_artifact)


def artifact_argument(about: str, metavar: str | None = None) -> Any:
    """Make an argument that is the name of an artifact, which is completed."""
    return typer.Argument(help=about, metavar=metavar, autocompletion=complete_artifact)


def setting_option(make: Callable[..., Any], name: str, panel: str | None = "Training", **more: Any) -> Any:
    """Make the option of a config's field. Its value is None if it is not given; then the recipe's value is used."""
    cls = AdapterConfig if name in AdapterConfig.__dataclass_fields__ else config.BaseConfig
    reference = recipes.RECIPES["reference"]
    values = [getattr(each, name) for each in (reference.base, reference.adapter) if hasattr(each, name)]
    about = (
        cls.__dataclass_fields__[name].metadata.get("help")
        or (config.TrainingConfig.__dataclass_fields__[name].metadata["help"])
    )
    if None not in values and () not in values:
        shown = f"{values[0]} for a base, {values[1]} for an adapter" if len(set(values)) > 1 else str(values[0])
        about = f"{about} (reference: {shown})"
    return make(f"--{name.replace('_', '-')}", about, panel, **more)
