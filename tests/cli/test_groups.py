"""Groups of options: a command with dataclasses is, to Typer, one with all their fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer
import typer.testing

from lora_mnist_cli.cli.options import given, grouped

seen: list[object] = []


@dataclass(frozen=True)
class Pair:
    """Two options."""

    count: Annotated[int, typer.Option("--count", help="How many.")] = 2
    word: Annotated[str | None, typer.Option("--word", help="Which.")] = None


@dataclass(frozen=True)
class Required:
    """An option without a default."""

    name: Annotated[str, typer.Option("--name", help="Whose.")]


@grouped
def command(
    *,
    first: Annotated[str, typer.Argument(help="The first.")] = "a",
    pair: Pair,
    last: Annotated[bool, typer.Option("--last", help="The last.")] = False,
    required: Required,
) -> None:
    """Show what arrived."""
    seen.append((first, pair, last, required))


APP = typer.Typer()
APP.command()(command)


def _run(*arguments: str) -> int:
    return typer.testing.CliRunner().invoke(APP, list(arguments)).exit_code


def test_fields_arrive_as_their_group():
    assert _run("b", "--word", "x", "--name", "n") == 0
    assert seen.pop() == ("b", Pair(2, "x"), False, Required("n"))
    assert _run("--count", "3", "--last", "--name", "n") == 0
    assert seen.pop() == ("a", Pair(3), True, Required("n"))


def test_a_field_without_a_default_is_required():
    assert _run("b") == 2
    assert seen == []


def test_options_keep_the_order_in_which_they_are_written():
    names = [parameter.name for parameter in typer.main.get_command(APP).params]
    assert names[:5] == ["first", "count", "word", "last", "name"]


def test_only_what_was_given_is_collected():
    assert given(Pair(), rank=None, seed=0) == {"count": 2, "seed": 0}
