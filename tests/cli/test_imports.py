"""What a command imports: nothing heavy to print, list or refuse, and else what it computes with and no more."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_artifacts import BASE, R1, R2, SWEEP, TRAIN_BASE

FELT = {
    "torch", "torch._dynamo", "torch._inductor", "sympy", "numpy", "safetensors", "torchvision", "torchmetrics",
    "pytorch_lightning", "lightning_fabric", "scipy", "scipy.stats", "pandas", "matplotlib", "PIL", "peft", "onnx",
}  # fmt: skip
TENSORS = {"torch", "numpy", "safetensors"}
PICTURES = {"numpy", "matplotlib", "PIL"}
INTERVALS = {"scipy"}
CHAIN = ["--dataset", "fashion-mnist", "--epochs", "1", "--strategies", "plain"]

# Command → what it imports; the data are small, and in one place. A process runs a group in turn and keeps what was
# imported, so no command may import more than the last before it but what its line adds.
GROUPS: list[list[tuple[list[str], set[str]]]] = [
    [
        (["gate", SWEEP, "--require", "5-9=0", "--allow-inconclusive"], set()),
        (["plot", "ranks"], PICTURES),
        (["plot", "history"], PICTURES),
        (["chain", *CHAIN, "--workers", "2", "--runs-dir", "one"], PICTURES),  # several workers have the tensors
        (["plot", "confusion"], TENSORS | PICTURES),
        (["chain", *CHAIN, "--workers", "1", "--runs-dir", "two"], TENSORS | PICTURES),  # it ends with a picture
    ],
    [
        (["evaluate", "--alpha", "0"], TENSORS),
        (["merge"], TENSORS),
        (["combine", R1, R2, "--name", "combined"], TENSORS),
        (["export", R1, "--output", "new.safetensors"], TENSORS),
        (["evaluate", "--route", "--expert", BASE, "--expert", R1], TENSORS),
        ([*TRAIN_BASE, "--epochs", "1", "--name", "new"], TENSORS),
        (["finetune", "--rank", "3", "--epochs", "1", "--base", BASE], TENSORS),
        (["finetune", "--rank", "3", "--epochs", "1", "--base", BASE, "--method", "dora"], TENSORS),
        (["sweep", "--ranks", "3,4", "--epochs", "1", "--base", BASE, "--name", "wide"], TENSORS),
        (["import-adapter", f"runs/{R1}", "--base", BASE, "--name", "imported"], TENSORS),
        (["predict", "digit.png"], TENSORS | {"PIL"}),
    ],
    [
        (["sweep", "--ranks", "3", "--seeds", "1-2", "--epochs", "1", "--name", "new"], TENSORS | INTERVALS),
    ],
]

# Runs commands one after the other, then tells for each its exit code, what is loaded by then, and its stderr.
PROGRAM = """
import contextlib, io, json, sys
from lora_mnist_cli.cli import main
told = []
for arguments in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as err:
        code = main(arguments)
    told.append([code, sorted(sys.modules), err.getvalue()])
print(json.dumps(told))
"""


def _printed(code: str, *arguments: str) -> Any:
    """The JSON that a Python program prints."""
    ended = subprocess.run([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(ended.stdout)


def _loaded(*commands: tuple[list[str], int]) -> list[set[str]]:
    """The modules that are loaded after each of some commands, which one process runs in turn."""
    told = _printed(PROGRAM, json.dumps([arguments for arguments, _ in commands]))
    for (arguments, code), (was, _, err) in zip(commands, told, strict=True):
        assert was == code, (arguments, err)
    return [set(modules) for _, modules, _ in told]


@pytest.fixture(scope="session")
def within_torch() -> set[str]:
    """What ``import torch`` alone loads, which depends on its version."""
    return set(_printed("import json, sys, torch; print(json.dumps(sorted(sys.modules)))"))


@pytest.mark.parametrize("group", GROUPS, ids=["pictures", "tensors", "intervals"])
def test_a_command_imports_what_it_computes_with_and_no_more(group, runs, data, within_torch):
    picture = np.zeros((28, 28), np.uint8)
    picture[4:24, 12:16] = 255
    Image.fromarray(picture).save("digit.png")
    told = _loaded(*((arguments, 0) for arguments, _ in group))
    for (arguments, expected), loaded in zip(group, told, strict=True):
        free = within_torch - TENSORS if "torch" in expected else set()
        assert (FELT & loaded) - free == expected - free, arguments


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
        assert loaded & FELT == set(), arguments


def test_weights_are_looked_at_and_a_sweep_is_planned_without_torch(runs):
    commands = [
        ["runs", "verify"], ["runs", "diff", R1, R2], ["runs", "export", SWEEP, "a.zip"],
        ["sweep", "--ranks", "1,3", "--lrs", "1e-3,3e-3", "--epochs", "1", "--name", "new", "--dry-run"],
    ]  # fmt: skip
    for command, loaded in zip(commands, _loaded(*((each, 0) for each in commands)), strict=True):
        assert loaded & (FELT - {"numpy", "safetensors"}) == set(), command


def test_json_needs_no_rich_table(runs):
    (listed, shown) = _loaded((["runs", "list", "--json"], 0), (["runs", "list"], 0))
    assert "rich" not in listed | shown


# Python runs this before the program: at the import of PyTorch it says which files are being unpacked, and that is all.
WATCH = """
import sys
class Watch:
    def find_spec(self, name, *_):
        if name == "torch":
            from lora_mnist_cli.data import unpacking
            print(*sorted(path.name for path in unpacking._begun), file=sys.stderr)
            raise KeyboardInterrupt
sys.meta_path.insert(0, Watch())
"""
TRAIN, TEST = (f"{part}-images-idx3-ubyte {part}-labels-idx1-ubyte" for part in ("train", "t10k"))


@pytest.mark.parametrize(
    ("arguments", "files"),
    [
        ([*TRAIN_BASE, "--epochs", "0", "--name", "new"], f"{TEST} {TRAIN}"),
        (["finetune", "--rank", "3", "--epochs", "0"], f"{TEST} {TRAIN}"),
        (["evaluate", R1], TEST),
    ],
)
def test_images_are_unpacked_while_pytorch_is_imported(arguments, files, runs, tmp_path, program):
    (tmp_path / "sitecustomize.py").write_text(WATCH)
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    ended = program(*arguments, env={"PYTHONPATH": path})
    assert ended.code == 130
    assert files in ended.err.splitlines()
