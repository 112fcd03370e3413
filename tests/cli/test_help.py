"""Help: choices and kinds of values, groups, examples that parse, and the reference that is made from the same."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main
from scripts import script

from lora_mnist_cli import __version__
from lora_mnist_cli.cli import app, options
from lora_mnist_cli.cli.examples import EXAMPLES
from lora_mnist_cli.cli.groups import GROUPS
from lora_mnist_cli.settings import choices
from lora_mnist_cli.settings.recipes import RECIPES

SCRIPT = Path(__file__).resolve().parents[2] / "docs" / "reference.py"


REFERENCE = script("reference")
ALL: dict[str, Any] = dict(REFERENCE.walk(typer.main.get_command(app.program())))
COMMANDS = {name: command for name, command in ALL.items() if not hasattr(command, "commands")}
# What an argument is called that has a meaning of its own.
ARGUMENTS = {"A", "ALIAS", "B", "IMPLEMENTATION", "KIND"}


@pytest.mark.parametrize("name", COMMANDS)
def test_values_are_choices_or_of_a_known_kind(name):
    for parameter in COMMANDS[name].params:
        shown = "".join((parameter.metavar or "").split())
        if getattr(parameter, "is_flag", False):
            assert shown == ""
        elif "|" in shown:
            assert re.fullmatch(r"\[[A-Za-z0-9-]+(\|[A-Za-z0-9-]+)+(\|PATH)?\]", shown)
        elif parameter.param_type_name == "argument":
            assert shown.strip("[].") in ARGUMENTS | set(options.KINDS)
        else:
            assert shown in options.KINDS


@pytest.mark.parametrize(
    ("name", "option", "known"),
    [("finetune", "accelerator", choices.ACCELERATORS), ("finetune", "method", choices.METHODS),
     ("train-base", "dataset", (*choices.DATASETS, "PATH")), ("sweep", "backend", choices.BACKENDS),
     ("combine", "method", choices.COMBINERS), ("evaluate", "route_by", choices.ROUTES)],
)  # fmt: skip
def test_choices_are_those_of_their_table(name, option, known):
    parameter = next(each for each in COMMANDS[name].params if each.name == option)
    assert "".join(parameter.metavar.split()) == f"[{'|'.join(known)}]"


def test_long_choices_are_broken_between_words_and_into_lines():
    assert options.choices(["auto", "cpu"]) == "[auto|cpu]"
    shown = options.choices(["a" * 12, "b" * 12, "c"])
    assert shown == f"[{'a' * 12}|\n{'b' * 12}|c]"


@pytest.mark.parametrize(("name", "columns"), [("sweep", 80), ("chain", 80), ("runs list", 80), ("sweep", 120)])
def test_no_choice_is_broken_and_no_line_is_too_long(name, columns, terminal):
    out = re.sub(r"\x1b\[[0-9;]*m", "", terminal(*name.split(), "--help", columns=columns, env={"NO_COLOR": "1"}).out)
    assert max(len(line.rstrip()) for line in out.splitlines()) <= columns
    for parameter in COMMANDS[name].params:
        for line in (parameter.metavar or "").splitlines():
            assert re.search(rf"{re.escape(line)}(\s|$)", out), line


def test_a_sweep_begins_with_what_everyone_needs():
    params = [each for each in COMMANDS["sweep"].params if each.rich_help_panel is None]
    assert [each.opts[0] for each in params[:4]] == ["--ranks", "--seeds", "--base", "--name"]
    assert len(params) <= 12


@pytest.mark.parametrize("name", ["finetune", "sweep", "train-base"])
def test_help_gives_the_value_of_each_recipe_and_says_what_they_are(name):
    about = {each.opts[0]: each.help for each in COMMANDS[name].params}
    assert "(recipe reference: 0.001; recipe tuned: " in about["--lr"]
    assert "reference: the original study's" in about["--recipe"]


@pytest.mark.parametrize("name", ["finetune", "sweep", "train-base", "chain"])
def test_a_value_that_all_recipes_share_is_a_default_whatever_the_commands_own_recipe(name):
    epochs = {each.adapter.epochs for each in RECIPES.values()} | {each.base.epochs for each in RECIPES.values()}
    (about,) = [each.help for each in COMMANDS[name].params if each.opts[0] == "--epochs"]
    assert about.endswith(f"(default: {' '.join(map(str, epochs))})")


def test_the_program_lists_its_commands_in_groups_the_study_first(run):
    out = run("--help").out
    places = [out.index(f" {group} ") for group in GROUPS]
    assert places == sorted(places)
    assert next(iter(GROUPS)) == "The study"
    assert {name for group in GROUPS.values() for name in group} == {name for name in ALL if name and " " not in name}


def test_a_description_has_no_line_breaks_of_its_own():
    assert [name for name, each in COMMANDS.items() if "\n" in each.help.replace("\n\n", "")] == []


def test_every_command_has_two_examples_and_the_program_has_some():
    assert set(EXAMPLES) == set(ALL)
    assert {len(set(lines)) for lines in EXAMPLES.values()} == {2}


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_parse_and_stand_in_the_help(name):
    for line in EXAMPLES[name]:
        assert f"lora-mnist {line}" in ALL[name].epilog
        assert line.startswith(name)
        assert len(f"lora-mnist {line}") < 79  # at 80 columns it stays one line
        words, command = shlex.split(line), ALL[""]
        while hasattr(command, "commands"):
            command = command.commands[words.pop(0)]
        command.make_context("lora-mnist", words)  # raises where a word is not understood


def test_examples_are_printed_a_line_each(run):
    lines = [line.strip() for line in run("sweep", "--help").out.splitlines()]
    assert {f"lora-mnist {line}" for line in EXAMPLES["sweep"]} <= set(lines)


def test_an_example_that_is_wrong_would_be_seen():
    for words in (["--bogus"], ["one", "two"], ["--rank", "many"]):
        with pytest.raises(Exception, match=r"bogus|two|many"):
            ALL["finetune"].make_context("lora-mnist", words)


def test_lists_are_completed_after_each_comma():
    complete = options.list_completions(["lora", "dora", "full"])
    assert complete("") == ["lora", "dora", "full"]
    assert complete("lora,d") == ["lora,dora"]
    assert complete("lora,") == ["lora,dora", "lora,full"]


def test_the_committed_reference_is_what_the_program_says_now():
    assert REFERENCE.stale() == [], "run: python docs/reference.py"


def test_a_page_that_is_missing_changed_or_left_over_is_stale_until_written(tmp_path):
    REFERENCE.write(tmp_path)
    assert REFERENCE.stale(tmp_path) == []
    (tmp_path / "gate.md").unlink()
    (tmp_path / "old.md").write_text("of a command that is gone")
    (tmp_path / "plot.md").write_text("other")
    assert REFERENCE.stale(tmp_path) == ["gate.md", "old.md", "plot.md"]
    REFERENCE.write(tmp_path)
    assert REFERENCE.stale(tmp_path) == []


def test_the_reference_is_the_same_whatever_the_environment_says(tmp_path):
    code = f"import sys; sys.path.insert(0, {str(SCRIPT.parent)!r}); import reference; print(reference.stale())"
    steering = {"COLUMNS": "40", "TERMINAL_WIDTH": "40", "GITHUB_ACTIONS": "true", "NO_COLOR": "1", "LC_ALL": "C",
                "LORA_MNIST_RUNS": "elsewhere", "LORA_MNIST_DATA": "elsewhere"}  # fmt: skip
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path,
                           env=os.environ | steering)  # fmt: skip
    assert ended.stdout == "[]\n"


def test_the_modules_own_name_is_the_program(program):
    ended = program("--version")
    assert (ended.code, ended.out, ended.err) == (0, f"lora-mnist {__version__}\n", "")


def test_no_arguments_are_help(program):
    ended = program()
    assert (ended.code, ended.err) == (0, "")
    assert re.search(r"train-base +Train the base", ended.out)
