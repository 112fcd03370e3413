"""Writes docs/reference, a page per command and a man page, from the program's commands and options.

``python docs/reference.py`` writes all pages anew; with ``--check`` it only tells which ones are not what the program
says now, and ends with exit code 1 if there are any. Pages come from the options themselves, not from help as it is
printed, so they are the same with every terminal and every version of Python and Typer.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import typer.main

from lora_mnist_cli.cli.app import program
from lora_mnist_cli.cli.examples import EXAMPLES
from lora_mnist_cli.cli.groups import GROUPS
from lora_mnist_cli.cli.options import KINDS
from lora_mnist_cli.system import errors

FOLDER = Path(__file__).resolve().with_name("reference")
MAN_PAGE = "lora-mnist.1"
EXIT_CODES = {
    errors.EXIT_DONE: "The work is done.",
    errors.GateError.exit_code: "A gate, a law or a verdict is not met.",
    errors.UsageError.exit_code: "The command line is wrong.",
    errors.ArtifactError.exit_code: "An artifact is missing, damaged or does not fit.",
    errors.DataError.exit_code: "A data set or a picture is missing, unreadable or damaged.",
    errors.MachineError.exit_code: "The machine failed, or the program has a defect.",
    errors.EXIT_INTERRUPTED: "Interrupted by Ctrl-C.",
    errors.EXIT_TERMINATED: "Ended by SIGTERM.",
}
RECIPE_NOTE = (
    "Where an option says *recipe reference*, it gives the value of the recipe `reference`, the settings of the "
    "original study, beside that of every other recipe. Where it says *default*, the recipes agree."
)


def pages() -> dict[str, str]:
    """Return every page of the reference as text, by the name of its file."""
    commands = dict(walk(typer.main.get_command(program())))
    made = {f"{name.replace(' ', '-')}.md": _page(name, command) for name, command in commands.items() if name}
    return {"README.md": _index(commands), **made, MAN_PAGE: _man_page(commands)}


def walk(command: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every command and group of commands by its words, the program itself first."""
    yield name, command
    for word, child in getattr(command, "commands", {}).items():
        yield from walk(child, f"{name} {word}".strip())


def _paragraphs(command: Any) -> list[str]:
    return [" ".join(each.split()) for each in (command.help or "").split("\n\n")]


def _shown(command: Any) -> list[Any]:
    return [each for each in command.params if not getattr(each, "hidden", False) and "completion" not in each.name]


def _panels(command: Any) -> dict[str, list[Any]]:
    """Return arguments and options under the headings that help has, in its order."""
    made: dict[str, list[Any]] = {"Arguments": [], "Options": []}
    for parameter in _shown(command):
        usual = "Arguments" if parameter.param_type_name == "argument" else "Options"
        made.setdefault(parameter.rich_help_panel or usual, []).append(parameter)
    return {heading: parameters for heading, parameters in made.items() if parameters}


def _value(parameter: Any) -> str:
    """Say what the value is: a kind, or choices with ``|`` between them; nothing for a switch."""
    return "".join((parameter.metavar or "").split()).strip("[]").removesuffix("...").removesuffix("]")


def _names(parameter: Any) -> list[str]:
    if parameter.param_type_name == "argument":
        return [_value(parameter)]
    return [*parameter.opts, *parameter.secondary_opts]


def _about(parameter: Any) -> str:
    """Return an option's sentence, with its default and the variable that it may come from."""
    facts = []
    if parameter.required and parameter.param_type_name == "option":
        facts.append("required")
    if not isinstance(parameter.default, bool) and isinstance(parameter.default, (int, float, str, Path)):
        facts += [f"default: {parameter.default}"] if str(parameter.default) else []
    if parameter.envvar:
        facts.append(f"variable: {parameter.envvar}")
    return " ".join([" ".join(parameter.help.split()), *(f"({fact})" for fact in facts)])


def _usage(name: str, command: Any) -> str:
    words = ["lora-mnist", *name.split(), "[OPTIONS]"]
    for parameter in _shown(command):
        if parameter.param_type_name == "argument":
            value = _value(parameter) + ("..." if parameter.nargs != 1 else "")
            words.append(value if parameter.required else f"[{value}]")
    return " ".join([*words, "COMMAND"] if hasattr(command, "commands") else words)


def _page(name: str, command: Any) -> str:
    lines = [f"# lora-mnist {name}", "", *(line for text in _paragraphs(command) for line in (text, ""))]
    lines += ["```text", _usage(name, command), "```", "", "## Examples", "", "```sh"]
    lines += [*(f"lora-mnist {line}" for line in EXAMPLES[name]), "```", ""]
    children = getattr(command, "commands", {})
    if children:
        lines += ["## Commands", "", *(_row(f"{name} {word}", child) for word, child in children.items()), ""]
    for heading, parameters in _panels(command).items():
        heads = ("argument", "what it is") if heading == "Arguments" else ("option", "value", "what it does")
        lines += [f"## {heading}", "", _cells(heads), _cells(["---"] * len(heads))]
        for parameter in parameters:
            value = [] if heading == "Arguments" else [_code(each for each in _value(parameter).split("|") if each)]
            lines.append(_cells([_code(_names(parameter)), *value, _about(parameter).replace("|", "\\|")]))
        lines.append("")
    return "\n".join([*lines, "[All commands](README.md)", ""])


def _cells(texts: Iterable[str]) -> str:
    return f"| {' | '.join(texts)} |"


def _code(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _row(name: str, command: Any) -> str:
    return f"- [`lora-mnist {name}`]({name.replace(' ', '-')}.md): {_paragraphs(command)[0]}"


def _index(commands: dict[str, Any]) -> str:
    lines = ["# Commands", "", *(line for text in _paragraphs(commands[""]) for line in (text, ""))]
    for group, names in GROUPS.items():
        lines += [f"## {group}", "", *(_row(name, commands[name]) for name in names), ""]
    lines += ["## Values", "", "| value | what it is |", "|---|---|"]
    lines += [f"| `{kind}` | {about} |" for kind, about in KINDS.items()]
    lines += ["", RECIPE_NOTE, "", "## Exit codes", "", "| code | meaning |", "|---|---|"]
    lines += [f"| {code} | {meaning} |" for code, meaning in EXIT_CODES.items()]
    lines += ["", "`python docs/reference.py` writes these pages from the program.", ""]
    return "\n".join(lines)


def _man_page(commands: dict[str, Any]) -> str:
    about = _paragraphs(commands[""])[0]
    lines = ['.TH LORA-MNIST 1 "" "lora-mnist" "User Commands"', ".SH NAME", _roff(f"lora-mnist - {about}")]
    lines += [".SH SYNOPSIS", _roff(_usage("", commands[""])), ".SH VALUES"]
    for kind, meaning in KINDS.items():
        lines += [".TP", f".B {kind}", _roff(meaning.replace("`", ""))]
    lines += [".PP", _roff(RECIPE_NOTE.replace("*", "").replace("`", ""))]
    for group, names in GROUPS.items():
        lines.append(f".SH {group.upper()}")
        for name, command in commands.items():
            if name.partition(" ")[0] in names:
                lines += _man_section(name, command)
    lines.append(".SH EXIT STATUS")
    for code, meaning in EXIT_CODES.items():
        lines += [".TP", f".B {code}", _roff(meaning)]
    return "\n".join([*lines, ""])


def _man_section(name: str, command: Any) -> Iterator[str]:
    yield from (f".SS {_roff(_usage(name, command))}", *(f".PP\n{_roff(text)}" for text in _paragraphs(command)))
    for parameter in (each for parameters in _panels(command).values() for each in parameters):
        argument = parameter.param_type_name == "argument"
        value = "" if argument else _value(parameter)
        yield from (".TP", _roff(f"\\fB{', '.join(_names(parameter))}\\fR {value}".strip()), _roff(_about(parameter)))
    yield from (".PP", "Examples:", ".nf", *(_roff(f"lora-mnist {line}") for line in EXAMPLES[name]), ".fi")


def _roff(text: str) -> str:
    """Return a line that roff prints as it is: a hyphen is one that can be copied."""
    escaped = text.replace("-", "\\-")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


def stale(folder: Path = FOLDER) -> list[str]:
    """Return the names of files in a folder that differ from the program's pages, are missing, or are none of them."""
    wanted = pages()
    there = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*")} if folder.is_dir() else {}
    return sorted(name for name in {**wanted, **there} if wanted.get(name) != there.get(name))


def write(folder: Path = FOLDER) -> None:
    """Write all pages, and remove what is none of them."""
    folder.mkdir(exist_ok=True)
    for name in stale(folder):
        (folder / name).unlink(missing_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    if sys.argv[1:] != ["--check"]:
        write()
    elif names := stale():
        sys.exit(f"not what the program says, run python docs/reference.py: {', '.join(names)}")
