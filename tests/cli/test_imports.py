"""The table of what each command imports of what can be felt: what it computes with, and no more."""

from __future__ import annotations

import json
import os
import subprocess
import sys

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
CHAIN = ["--dataset", "fashion-mnist", "--epochs", "1", "--strategies", "plain", "--runs-dir", "chained"]

# Command → what it imports; the data are small, and in one place.
TABLE: list[tuple[list[str], set[str]]] = [
    ([*TRAIN_BASE, "--epochs", "1", "--name", "new"], TENSORS),
    (["finetune", "--rank", "3", "--epochs", "1"], TENSORS),
    (["finetune", "--rank", "3", "--epochs", "1", "--method", "dora"], TENSORS),
    (["sweep", "--ranks", "3,4", "--epochs", "1", "--name", "new"], TENSORS),
    (["sweep", "--ranks", "3", "--seeds", "1-2", "--epochs", "1", "--name", "new"], TENSORS | INTERVALS),
    (["evaluate", "--alpha", "0"], TENSORS),
    (["evaluate", "--route", "--expert", BASE, "--expert", R1], TENSORS),
    (["predict", "digit.png"], TENSORS | {"PIL"}),
    # It ends with a picture, and several workers have the tensors.
    (["chain", *CHAIN, "--workers", "1"], TENSORS | PICTURES),
    (["chain", *CHAIN, "--workers", "2"], PICTURES),
    (["merge"], TENSORS),
    (["combine", R1, R2, "--name", "new"], TENSORS),
    (["export", R1, "--output", "new.safetensors"], TENSORS),
    (["import-adapter", f"runs/{R1}", "--base", BASE, "--name", "new"], TENSORS),
    (["plot", "ranks"], PICTURES),
    (["plot", "history"], PICTURES),
    (["plot", "confusion"], TENSORS | PICTURES),
    (["gate", SWEEP, "--require", "5-9=0", "--allow-inconclusive"], set()),
]

PROGRAM = """
import json, sys
from lora_mnist_cli.cli import main
code = main(sys.argv[1:])
print(json.dumps([code, sorted(sys.modules)]))
"""


def _modules(code: str, *arguments: str) -> list[str]:
    """The modules that are loaded at the end of a process whose last line tells them, after its exit code 0."""
    command = [sys.executable, "-c", code, *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    ended_with, modules = json.loads(ended.stdout.splitlines()[-1])
    assert ended_with == 0, ended.stderr
    return list(modules)


@pytest.fixture(scope="session")
def within_torch() -> set[str]:
    """What ``import torch`` alone loads, which depends on its version."""
    return set(_modules("import json, sys, torch; print(json.dumps([0, sorted(sys.modules)]))"))


@pytest.mark.parametrize(("arguments", "expected"), TABLE, ids=[" ".join(arguments) for arguments, _ in TABLE])
def test_a_command_imports_what_it_computes_with_and_no_more(arguments, expected, runs, within_torch):
    picture = np.zeros((28, 28), np.uint8)
    picture[4:24, 12:16] = 255
    Image.fromarray(picture).save("digit.png")
    free = within_torch - TENSORS if "torch" in expected else set()
    assert (FELT & set(_modules(PROGRAM, *arguments))) - free == expected - free


# Python runs this before the program: at the import of PyTorch it says which files are being unpacked.
WATCH = """
import sys
class Watch:
    def find_spec(self, name, *_):
        if name == "torch":
            from lora_mnist_cli.data import unpacking
            print(*sorted(path.name for path in unpacking._begun), file=sys.stderr)
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
    assert ended.code == 0
    assert files in ended.err.splitlines()
