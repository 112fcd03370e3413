"""How options are made: their types, groups and completions, and how wrong values are refused.

An option is named for its parameter, unless it has a ``flag``; one with a ``panel`` stands there in the help. What help
shows for a value is one of :data:`KINDS`, or the choices themselves.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import MISSING, fields, is_dataclass
from inspect import Parameter, Signature
from pathlib import Path
from typing import Any, get_type_hints

import typer

from lora_mnist_cli.registry.catalog import Catalog
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.choices import DATASETS
from lora_mnist_cli.settings.config import BaseConfig
from lora_mnist_cli.settings.layer_ranks import parse_rank
from lora_mnist_cli.settings.recipes import RECIPES
from lora_mnist_cli.settings.toml_file import read_toml
from lora_mnist_cli.stages import workspace
from lora_mnist_cli.system.errors import LoraMnistError, UsageError, refuse_unknown

KINDS = {
    "INT": "a whole number",
    "NUMBER": "a number, as `0.01` or `1e-2`",
    "DIGITS": "digits, as `0-4`, `5,7-9` or `all`",
    "LIST": "values with a comma between them, as `1,2,4`; of whole numbers also a range, as `0-4`",
    "NAME": "the name of an artifact, or `@ALIAS`",
    "FILE": "the path of a file",
    "FOLDER": "the path of a folder",
    "TEXT": "any text",
}
"""What the value of an option or argument can be, where it is not one of a few choices."""
DIGIT_SETS = ("0-4", "5-9", "all")
"""What the shell offers for digits."""
_CHOICES_WIDTH = 20


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


def list_completions(known: Iterable[str]) -> Callable[[str], list[str]]:
    """Give the list that is being typed with each known word that it can go on with, for the shell's completion."""

    def complete(incomplete: str) -> list[str]:
        *before, last = incomplete.split(",")
        more = (word for word in known if word.startswith(last) and word not in before)
        return [",".join([*before, word]) for word in more]

    return complete


def choices(known: Iterable[str]) -> str:
    """Show the words that a value can be, in lines that leave room for the sentence beside them: ``[auto|cpu|gpu]``."""
    lines = [""]
    for word in known:
        if lines[-1] and len(lines[-1]) + len(word) >= _CHOICES_WIDTH:
            lines.append("")
        lines[-1] += f"{word}|"
    return f"[{chr(10).join(lines).removesuffix('|')}]"


def _whole(text: str | int) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,30}", str(text).strip(), re.ASCII):  # a default comes as the number itself
        raise typer.BadParameter(f"'{text}' is not a whole number")
    return int(text)


def _real(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"'{text}' is not a number") from None


def folder(text: str) -> Path:
    """Read a folder; an empty word, as an unset variable of a shell gives, is none."""
    if not str(text).strip():
        raise typer.BadParameter("it is empty")
    return Path(text)


def _option(flag: str | None, about: str, panel: str | None, **more: Any) -> Any:
    return typer.Option(*([flag] if flag else []), help=about, rich_help_panel=panel, **more)


def integer(about: str, panel: str | None = None) -> Any:
    """Make an option that takes a whole number."""
    return _option(None, about, panel, parser=_whole, metavar="INT")


def _rank(text: str | int) -> str:
    try:
        parse_rank(str(text))
    except UsageError as error:
        raise typer.BadParameter(f"{error.problem} ({error.hint})") from None
    return str(text)


def rank(about: str) -> Any:
    """Make the option that takes a rank, or a rank per layer."""
    return _option(None, about, None, parser=_rank, metavar="TEXT")


def number(about: str, panel: str | None = None) -> Any:
    """Make an option that takes a number."""
    return _option(None, about, panel, parser=_real, metavar="NUMBER")


def word(
    about: str, panel: str | None = None, known: Iterable[str] = (), *, flag: str | None = None, metavar: str = "TEXT"
) -> Any:
    """Make an option that takes a word; known words are shown as choices, and completed."""
    shown = choices(known) if known else metavar
    return _option(flag, about, panel, metavar=shown, autocompletion=completions(known))


def dataset(about: str) -> Any:
    """Make an option that takes the name of a data set, or the path of a user's own."""
    about = f"{about} PATH is your own: a folder of pictures by class, or an .npz file."
    known = choices((*DATASETS, "PATH"))
    return _option(None, about, None, metavar=known, autocompletion=completions(DATASETS))


def words(about: str, panel: str | None = None, known: Iterable[str] = (), *, hidden: bool = False) -> Any:
    """Make an option that takes a list of words or numbers; known words are completed after each comma."""
    return _option(None, about, panel, metavar="LIST", autocompletion=list_completions(known), hidden=hidden)


def digits(about: str, panel: str | None = None) -> Any:
    """Make an option that takes digits."""
    return _option(None, about, panel, metavar="DIGITS", autocompletion=completions(DIGIT_SETS))


def file(about: str, panel: str | None = None, *, flag: str | None = None) -> Any:
    """Make an option that takes the path of a file."""
    return _option(flag, about, panel, metavar="FILE")


def folder_option(variable: str, about: str, panel: str) -> Any:
    """Make an option that takes a folder, which a variable of the environment may name too."""
    return _option(None, about, panel, envvar=variable, metavar="FOLDER", parser=folder)


def settings_file(about: str, panel: str) -> Any:
    """Make the option that takes a file with values for the other options, which override it."""
    return _option("--settings", about, panel, metavar="FILE", callback=_take_settings)


def _take_settings(context: typer.Context, path: Path | None) -> Path | None:
    """Give a command the values in a TOML file, as the defaults of its options.

    What the user gave is taken in the order in which it was given, and only then what was not.
    """
    if path is None or context.resilient_parsing:
        return path
    options = {word[2:].replace("-", "_"): p for p in context.command.params for word in p.opts if word[:2] == "--"}
    known = [name for name in options if name not in ("settings", "version", "help")]
    values: dict[str, object] = {}
    for name, value in read_toml(path, "settings file", 'write rank = 8, digits = "5-9", a line each').items():
        option = name.replace("-", "_")
        refuse_unknown(f"setting of {context.info_name}", option, known, "settings:")
        values[str(options[option].name)] = _as_given(value, options[option].multiple)
    context.default_map = {**(context.default_map or {}), **values}
    return path


def _as_given(value: object, several: bool) -> object:
    """Return a value of a file as an option takes it: a text, with commas in a list; or each by itself."""
    if isinstance(value, list):
        return [str(each) for each in value] if several else ",".join(map(str, value))
    return value if isinstance(value, bool) else str(value)


def new_folder(about: str, *, flag: str) -> Any:
    """Make an option that takes the path of a folder, which need not exist."""
    return _option(flag, about, None, metavar="FOLDER", parser=folder)


def file_argument(about: str) -> Any:
    """Make an argument that is the path of a file."""
    return typer.Argument(help=about, metavar="FILE")


def switch(flag: str, about: str, panel: str | None = None) -> Any:
    """Make an option that takes no value."""
    return _option(flag, about, panel, metavar="")


def artifact_option(about: str, *, flag: str | None = None) -> Any:
    """Make an option that takes the name of an artifact, which is completed."""
    return _option(flag, about, None, metavar="NAME", autocompletion=complete_artifact)


def artifact_argument(about: str, metavar: str = "NAME") -> Any:
    """Make an argument that is the name of an artifact, which is completed."""
    return typer.Argument(help=about, metavar=metavar, autocompletion=complete_artifact)


def setting(name: str, panel: str | None = "Training", known: Iterable[str] = ()) -> Any:
    """Make the option of a config's field. Its value is None if it is not given; then the recipe's value is used."""
    field = (BaseConfig.__dataclass_fields__ | AdapterConfig.__dataclass_fields__)[name]
    about = field.metadata["help"]
    shown = {recipe: value for recipe in RECIPES if (value := _of_recipe(recipe, name))}
    if list(shown.values()) == [shown.get("reference")] * len(RECIPES):
        about += f" (default: {shown['reference']})"
    elif shown:
        about += f" ({'; '.join(f'recipe {recipe}: {value}' for recipe, value in shown.items())})"
    kind = str(field.type)
    for start, make in (("int", integer), ("float", number), ("DigitSet", digits)):
        if kind.startswith(start):
            return make(about, panel)
    return (words if kind.startswith("tuple") else word)(about, panel, known)


def _of_recipe(recipe: str, name: str) -> str:
    """Return the value of a recipe's setting in words; empty where it is left open."""
    configs = (RECIPES[recipe].base, RECIPES[recipe].adapter)
    values = [getattr(config, name) for config in configs if hasattr(config, name)]
    if None in values or () in values:
        return ""
    return f"{values[0]} for a base, {values[1]} for an adapter" if len(set(values)) > 1 else str(values[0])


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command take dataclasses of options: Typer, which wants each option in the signature, sees their fields.

    A field is an option as a parameter is: its type is an ``Annotated`` one, and its default is the option's. Options
    keep the order in which parameters and fields are written.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if is_dataclass(hint)}
    parameters: list[Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        if name in groups:
            parameters += _parameters(groups[name])
        else:
            parameters.append(parameter.replace(kind=Parameter.KEYWORD_ONLY, annotation=hints[name]))

    @functools.wraps(command)
    def flat(**values: Any) -> None:
        made = {
            name: group(**{field.name: values.pop(field.name) for field in fields(group)})
            for name, group in groups.items()
        }
        command(**made, **values)

    flat.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    # Typer keeps a docstring's line breaks, which fit no other width.
    paragraphs = inspect.cleandoc(command.__doc__ or "").split("\n\n")
    flat.__doc__ = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    flat.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return flat


def _parameters(group: Any) -> list[Parameter]:
    hints = get_type_hints(group, include_extras=True)
    defaults = {field.name: Parameter.empty if field.default is MISSING else field.default for field in fields(group)}
    return [Parameter(n, Parameter.KEYWORD_ONLY, annotation=hints[n], default=d) for n, d in defaults.items()]


def given(*groups: object, **options: object) -> Any:
    """Collect what a user gave: the fields of groups and the single options that are not None, by name."""
    values = {name: value for group in groups for name, value in vars(group).items()} | options
    return {name: value for name, value in values.items() if value is not None}
