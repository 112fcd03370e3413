"""What a command imports: printing, listing and refusing are instant because nothing heavy is loaded for them."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lora_mnist_cli import __version__

HEAVY = {"torch", "numpy", "pytorch_lightning", "lightning_fabric", "matplotlib", "torchvision", "safetensors", "scipy"}

# Runs the program, then tells on stderr what it has loaded; the exit code is the program's.
SPY = """
import sys
from lora_mnist_cli.cli import main
code = main(sys.argv[1:])
sys.stderr.write("loaded:" + ",".join(sorted(name for name in sys.modules if "." not in name)))
sys.exit(code)
"""


def _loaded(*arguments: str, code: int = 0) -> set[str]:
    """The top-level modules that a command leaves loaded."""
    ended = subprocess.run([sys.executable, "-c", SPY, *arguments], capture_output=True, text=True, check=False)
    assert ended.returncode == code, ended.stderr
    return set(ended.stderr.partition("loaded:")[2].split(","))


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        (["--version"], 0),
        (["sweep", "--help"], 0),
        (["plot", "--help"], 0),
        (["runs", "list"], 0),
        (["runs", "list", "--json"], 0),
        (["runs", "show", "lora-5-9-r1"], 0),
        (["runs", "latest"], 0),
        (["runs", "lineage", "sweep-5-9"], 0),
        (["runs", "tag", "base-0-4", "best"], 0),
        (["runs", "clean"], 0),
        (["runs", "remove", "sweep-5-9"], 0),
        (["train-base", "--epochs", "1"], 0),
        (["finetune", "--rank", "1", "--epochs", "1"], 0),
        (["sweep", "--ranks", "1,2", "--epochs", "1"], 0),
        (["train-base", "--epochs", "-1"], 2),
        (["sweep", "--ranks", "1,2", "--epochs", "1", "--dry-run"], 0),
        (["sweep", "--ranks", "3", "--lrs", "0.1,x"], 2),
        (["sweep", "--grid", "none.toml"], 2),
        (["train-base", "--digits", "5-2"], 2),
        (["train-base", "--bogus"], 2),
        (["evaluate", "--alpha", "nan"], 2),
        (["evaluate", "nothing"], 3),
        (["plot", "history", "nothing"], 3),
        (["plot"], 0),
        (["plot", "bogus"], 2),
        (["gate", "--help"], 0),
        (["gate", "--require", "5-9=95"], 2),
        (["gate", "sweep-5-9", "--require", "5-9=0", "--allow-inconclusive"], 0),
        (["compare", "sweep-5-9", "lora-5-9-r1"], 2),
        (["compare", "base-0-4", "lora-5-9-r1"], 2),
        (["reproduce", "--seeds", "1-"], 2),
        (["conformance", "--help"], 0),
        (["combine", "--help"], 0),
        (["combine", "lora-5-9-r1", "lora-5-9-r2", "--rank", "1"], 2),
        (["predict", "--help"], 0),
        (["export", "base-0-4", "--format", "onyx"], 2),
        (["export", "lora-5-9-r1", "--alpha", "nan"], 2),
        (["import-adapter", "--help"], 0),
        (["import-adapter", "nothing", "--base", "nothing"], 3),
        (["predict", "none.png"], 4),
        (["conformance", "theirs"], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_printing_listing_refusing_and_being_up_to_date_load_nothing_heavy(
    arguments: list[str], code: int, runs: Path
) -> None:
    loaded = _loaded(*arguments, code=code)
    assert "typer" in loaded
    assert loaded & HEAVY == set()


def test_a_plan_needs_no_torch(runs: Path) -> None:
    loaded = _loaded("sweep", "--ranks", "1,3", "--lrs", "1e-3,3e-3", "--epochs", "1", "--name", "new", "--dry-run")
    assert loaded & (HEAVY - {"numpy"}) == set()


@pytest.mark.parametrize(
    "arguments",
    [["verify"], ["diff", "lora-5-9-r1", "lora-5-9-r2"], ["export", "sweep-5-9", "a.zip"]],
    ids=lambda arguments: arguments[0],
)
def test_weights_are_looked_at_without_torch(arguments: list[str], runs: Path) -> None:
    loaded = _loaded("runs", *arguments)
    assert loaded & (HEAVY - {"numpy", "safetensors"}) == set()


def test_json_needs_no_rich_table(runs: Path) -> None:
    assert "rich" not in _loaded("runs", "list", "--json")


def test_an_evaluation_loads_what_it_computes_with_and_no_more(runs: Path) -> None:
    loaded = _loaded("evaluate", "lora-5-9-r1")
    assert {"torch", "safetensors"} <= loaded
    assert loaded & {"pytorch_lightning", "lightning_fabric", "torchvision", "matplotlib"} == set()


def test_a_picture_of_a_history_needs_no_torch(runs: Path) -> None:
    loaded = _loaded("plot", "history", "base-0-4")
    assert "matplotlib" in loaded
    assert loaded & {"torch", "pytorch_lightning", "torchvision"} == set()


def test_the_modules_own_name_is_the_program(program: Callable[..., Any]) -> None:
    ended = program("--version")
    assert (ended.code, ended.out, ended.err) == (0, f"lora-mnist {__version__}\n", "")


def test_no_arguments_are_help(program: Callable[..., Any]) -> None:
    ended = program()
    assert (ended.code, ended.err) == (0, "")
    assert re.search(r"train-base +Train the base", ended.out)


def test_the_stages_are_loaded_when_they_are_asked_for() -> None:
    code = (
        "import sys; import lora_mnist_cli.cli.commands.runs.find, lora_mnist_cli.stages as s;"
        "loaded = set(sys.modules);"
        "assert 'lora_mnist_cli.stages.adapting' not in loaded, loaded;"
        "assert all(callable(getattr(s, name)) for name in s.__all__);"
        "assert 'lora_mnist_cli.stages.adapting' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=600)
