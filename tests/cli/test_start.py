"""What a command imports: printing, listing and refusing are instant because nothing heavy is loaded for them."""

from __future__ import annotations

import json
import re
import subprocess
import sys

from small_artifacts import BASE, R1, R2, SWEEP, TRAIN_BASE

from lora_mnist_cli import __version__

HEAVY = {"torch", "numpy", "pytorch_lightning", "lightning_fabric", "matplotlib", "torchvision", "safetensors", "scipy"}

# Runs commands one after the other, then tells for each its exit code and what is loaded by then.
SPY = """
import contextlib, io, json, sys
from lora_mnist_cli.cli import main
told = []
for arguments in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as err:
        code = main(arguments)
    told.append([code, sorted(name for name in sys.modules if "." not in name), err.getvalue()])
print(json.dumps(told))
"""


def _loaded(*commands: tuple[list[str], int]) -> list[set[str]]:
    """The top-level modules that are loaded after each of some commands, which one process runs in turn."""
    asked = json.dumps([arguments for arguments, _ in commands])
    ended = subprocess.run([sys.executable, "-c", SPY, asked], capture_output=True, text=True, check=True)
    told = json.loads(ended.stdout)
    for (arguments, code), (was, _, err) in zip(commands, told, strict=True):
        assert was == code, (arguments, err)
    return [set(modules) for _, modules, _ in told]


LIGHT = [
    (["--help"], 0),
    (["--version"], 0),
    (["sweep", "--help"], 0),
    (["plot", "--help"], 0),
    (["runs", "list"], 0),
    (["runs", "list", "--json"], 0),
    (["runs", "show", R1], 0),
    (["runs", "latest"], 0),
    (["runs", "lineage", SWEEP], 0),
    (["runs", "tag", BASE, "best"], 0),
    (["runs", "clean"], 0),
    ([*TRAIN_BASE, "--epochs", "1"], 0),
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
    (["gate", SWEEP, "--require", "5-9=0", "--allow-inconclusive"], 0),
    (["compare", SWEEP, R1], 2),
    (["compare", BASE, R1], 2),
    (["reproduce", "--seeds", "1-"], 2),
    (["conformance", "--help"], 0),
    (["combine", "--help"], 0),
    (["combine", R1, R2, "--rank", "1"], 2),
    (["predict", "--help"], 0),
    (["export", BASE, "--format", "onyx"], 2),
    (["export", R1, "--alpha", "nan"], 2),
    (["import-adapter", "--help"], 0),
    (["import-adapter", "nothing", "--base", "nothing"], 3),
    (["predict", "none.png"], 4),
    (["conformance", "theirs"], 2),
    (["runs", "remove", SWEEP], 0),
]


def test_printing_listing_refusing_and_being_up_to_date_load_nothing_heavy(runs):
    for (arguments, _), loaded in zip(LIGHT, _loaded(*LIGHT), strict=True):
        assert "typer" in loaded
        assert loaded & HEAVY == set(), arguments


def test_weights_are_looked_at_and_a_sweep_is_planned_without_torch(runs):
    commands = [
        ["runs", "verify"], ["runs", "diff", R1, R2], ["runs", "export", SWEEP, "a.zip"],
        ["sweep", "--ranks", "1,3", "--lrs", "1e-3,3e-3", "--epochs", "1", "--name", "new", "--dry-run"],
    ]  # fmt: skip
    for command, loaded in zip(commands, _loaded(*((each, 0) for each in commands)), strict=True):
        assert loaded & (HEAVY - {"numpy", "safetensors"}) == set(), command


def test_json_needs_no_rich_table(runs):
    (listed, shown) = _loaded((["runs", "list", "--json"], 0), (["runs", "list"], 0))
    assert "rich" not in listed | shown


def test_an_evaluation_loads_what_it_computes_with_and_no_more(runs):
    (loaded,) = _loaded((["evaluate", R1], 0))
    assert {"torch", "safetensors"} <= loaded
    assert loaded & {"pytorch_lightning", "lightning_fabric", "torchvision", "matplotlib"} == set()


def test_a_picture_of_a_history_needs_no_torch(runs):
    (loaded,) = _loaded((["plot", "history", BASE], 0))
    assert "matplotlib" in loaded
    assert loaded & {"torch", "pytorch_lightning", "torchvision"} == set()


def test_the_modules_own_name_is_the_program(program):
    ended = program("--version")
    assert (ended.code, ended.out, ended.err) == (0, f"lora-mnist {__version__}\n", "")


def test_no_arguments_are_help(program):
    ended = program()
    assert (ended.code, ended.err) == (0, "")
    assert re.search(r"train-base +Train the base", ended.out)
