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

# Runs commands in turn and prints for each its exit code and the modules that are loaded by then.
PROGRAM = """
import json, sys
from lora_mnist_cli.cli import main
for arguments in json.loads(sys.argv[1]):
    print("", json.dumps([main(arguments), sorted(sys.modules)]), sep="\\n")
"""


def _modules(code: str, *arguments: str) -> list[set[str]]:
    """The modules that a process says are loaded, in each of its lines with an exit code, which is 0."""
    command = [sys.executable, "-c", code, *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    told = [json.loads(line) for line in ended.stdout.splitlines() if line.startswith("[")]
    assert [code for code, _ in told] == [0] * len(told), ended.stderr
    return [set(modules) for _, modules in told]


@pytest.fixture(scope="session")
def within_torch() -> set[str]:
    """What ``import torch`` alone loads, which depends on its version."""
    (modules,) = _modules("import json, sys, torch; print(json.dumps([0, sorted(sys.modules)]))")
    return modules


@pytest.mark.parametrize("group", GROUPS, ids=["pictures", "tensors", "intervals"])
def test_a_command_imports_what_it_computes_with_and_no_more(group, runs, data, within_torch):
    picture = np.zeros((28, 28), np.uint8)
    picture[4:24, 12:16] = 255
    Image.fromarray(picture).save("digit.png")
    told = _modules(PROGRAM, json.dumps([arguments for arguments, _ in group]))
    for (arguments, expected), loaded in zip(group, told, strict=True):
        free = within_torch - TENSORS if "torch" in expected else set()
        assert (FELT & loaded) - free == expected - free, arguments


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
