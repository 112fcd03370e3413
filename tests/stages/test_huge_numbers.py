"""Weights and alphas that 32-bit arithmetic can't hold: refused with the layer's name, or told beside the figures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

ADAPTER, FILE = "lora-fashion-mnist-5-9-r2-a0.5", "adapter_model.safetensors"
BASE = "base-fashion-mnist-0-4"
CHOSEN = f"the experts are {BASE} and {ADAPTER}"
COMMANDS = {
    "predict": ["predict", "digit.png", "--artifact", ADAPTER, "--json"],
    "forgetting": ["forgetting", ADAPTER, "--json"],
    "combine": ["combine", ADAPTER, "--method", "ties", "--json"],
    "merge": ["merge", ADAPTER],
    "export": ["export", ADAPTER, "--format", "safetensors"],
    "route": ["evaluate", ADAPTER, "--route", "--json"],
    "plot spectrum": ["plot", "spectrum", ADAPTER],
    "plot alpha": ["plot", "alpha", ADAPTER],
    "plot tradeoff": ["plot", "tradeoff", ADAPTER],
    "plot confusion": ["plot", "confusion", ADAPTER],
}


@pytest.fixture
def alpha_beyond(small: Any, forge: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The small artifacts, an adapter of them with an alpha of 1e308; the picture ``digit.png``."""
    folder = small.runs_dir / ADAPTER
    forge(folder, lambda manifest: manifest["config"].update(alpha=1e308))
    monkeypatch.setenv("LORA_MNIST_DATA", str(small.data_dir))
    Image.fromarray(np.eye(28, dtype=np.uint8) * 255).save("digit.png")
    return Path(folder)


def check_refused(outcome: Any) -> None:
    assert (outcome.code, outcome.out) == (3, "")
    (line,) = (line for line in outcome.err.splitlines() if line != CHOSEN)
    assert line.startswith("error: ")
    assert "fc1" in line


@pytest.mark.parametrize("command", COMMANDS)
def test_an_alpha_beyond_32_bits_is_refused_with_the_layers_name(alpha_beyond, run, command):
    """In one line, and without a library's warning."""
    check_refused(run(*COMMANDS[command]))


def test_evaluation_tells_why_there_is_no_loss(alpha_beyond, run):
    outcome = run("evaluate", ADAPTER, "--json")
    assert outcome.code == 0
    document = json.loads(outcome.out)
    assert document["subsets"][-1]["loss"] is None
    assert document["reason"] == "logits are not finite: the numbers in fc1 are too large"
    assert outcome.err == f"warning: '{ADAPTER}' at alpha 1e+308: {document['reason']}\n"
    assert "reason" not in json.loads(run("evaluate", ADAPTER, "--alpha", "0", "--json").out)


@pytest.mark.parametrize("command", ["predict", "forgetting", "combine", "merge", "export", "plot alpha"])
def test_weights_whose_products_overflow_are_refused_with_the_layers_name(alpha_beyond, forge, run, command):
    """The values themselves are finite, so that ``verify`` has nothing to say of them."""
    tensors = safetensors.numpy.load_file(alpha_beyond / FILE)
    changed = {key: np.full_like(tensor, 1e38) for key, tensor in tensors.items()}
    forge(alpha_beyond, lambda manifest: manifest["config"].update(alpha=1.0), {FILE: safetensors.numpy.save(changed)})
    check_refused(run(*COMMANDS[command]))


@pytest.mark.parametrize("method", [(), ("--init", "olora"), ("--method", "pissa"), ("--method", "dora")])
@pytest.mark.parametrize("alpha", ["1e39", "-1e308"])
def test_an_alpha_that_32_bits_do_not_hold_is_not_trained(small, refused, method, alpha):
    folders = ("--base", BASE, "--runs-dir", small.runs_dir, "--data-dir", small.data_dir)
    refused(["finetune", *method, "--alpha", alpha, "--epochs", 1, *folders], 2, "alpha is from", "--precision 64-true")
    refused(["sweep", *method, "--ranks", "1", "--alphas", f"1,{alpha}", *folders], 2, "alpha is from")


def test_an_alpha_that_32_bits_do_not_hold_is_one_of_64(small, run):
    options = ("--alpha", "1e39", "--epochs", 0, "--runs-dir", small.runs_dir, "--data-dir", small.data_dir)
    assert run("finetune", "--precision", "64-true", *options).code == 0


@pytest.mark.parametrize("method", ["lora", "dora", "lokr"])
def test_an_alpha_that_training_takes_for_zero_is_refused_as_zero_is(small, refused, method):
    folders = ("--base", BASE, "--runs-dir", small.runs_dir, "--data-dir", small.data_dir)
    for alpha in ("0", "1e-320"):
        refused(
            ["finetune", "--method", method, "--alpha", alpha, "--epochs", 1, *folders], 2,
            "alpha is another number than 0 where there are epochs",
        )  # fmt: skip


def test_a_ratio_of_samples_next_to_zero_gives_one(small, run):
    folders = ("--base", BASE, "--runs-dir", small.runs_dir, "--data-dir", small.data_dir)
    assert run("finetune", "--protect", "replay", "--replay-old", "5e-324", "--epochs", 1, *folders).code == 0
