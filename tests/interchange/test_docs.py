"""The page on interchange: its code runs as it stands, in its order, and computes what the program computes."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lora_mnist_cli.data.sources import load_split
from lora_mnist_cli.evaluation.logits import predict
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.stages import Workspace, finetune
from lora_mnist_cli.stages.records.loading import load_model

peft = pytest.importorskip("peft")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
pytestmark = pytest.mark.usefixtures("one_thread")

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "interchange.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(sh|python)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def ours(name: str) -> Tensor:
    """The logits of all test images."""
    workspace = Workspace()
    artifact = workspace.registry.get(name)
    loaded = load_model(workspace.registry, artifact)
    return predict(loaded.model, workspace.test_images(artifact, loaded.pixel_stats).images)


def agree(found: Tensor, expected: Tensor) -> None:
    assert found.shape == expected.shape == (10_000, 10)
    assert float((found - expected).abs().max()) <= 1e-5 * float(expected.abs().max())


def test_the_page_imports_and_names_only_what_there_is(run):
    """Fast, and without running the page: its imports succeed and its commands have its options."""
    for language, code in BLOCKS:
        if language == "python":
            imports = [node for node in ast.parse(code).body if isinstance(node, (ast.Import, ast.ImportFrom))]
            exec(compile(ast.Module(imports, []), "interchange.md", "exec"), {})
            continue
        for line in code.splitlines():
            assert run(*shlex.split(line)[1:], "--help").code == 0, line


@pytest.mark.slow
def test_the_code_of_the_page_does_what_it_says(runs, run):
    shutil.move(runs / "lora-5-9-r2", runs / "lora-5-9-r8")  # an artifact's name is its folder's
    assert len(BLOCKS) == 6
    names: dict[str, Any] = {}
    for language, code in BLOCKS:
        if language == "python":
            exec(compile(code, "interchange.md", "exec"), names)
            continue
        for line in code.splitlines():
            program, *arguments = shlex.split(line)
            outcome = run(*arguments)
            assert (program, outcome.code) == ("lora-mnist", 0), outcome.err
    images, _ = load_split("mnist", "test", Path("data"))
    pixels = torch.from_numpy(images.reshape(-1, 784).astype(np.float32) / 255)
    with torch.no_grad():
        agree(names["base"]()(pixels), ours("base-0-4"))
        agree(names["adapted"](pixels), ours("lora-5-9-r8"))
        agree(names["theirs"](pixels), ours("from-peft"))
        (all_at_once,) = names["session"].run(None, {"images": pixels.reshape(-1, 28, 28).numpy()})
        agree(torch.from_numpy(all_at_once), ours("lora-5-9-r8"))
    assert names["logits_of_onnx"].shape == (3, 10)
    (score,) = (row for row in Workspace().registry.get("from-peft").scores["subsets"] if row["digits"] == "5-9")
    assert score["accuracy"] > 0.8


@pytest.mark.slow
@pytest.mark.parametrize("method", ["dora", "pissa"])
def test_the_bound_of_the_page_holds_on_the_study_s_network(method, runs):
    finetune(AdapterConfig(method=method, epochs=1), name="some")
    workspace = Workspace()
    base = load_model(workspace.registry, workspace.registry.get("base-0-4"))
    images = workspace.test_images(base.base, base.pixel_stats).images
    theirs = peft.PeftModel.from_pretrained(base.model, runs / "some").eval()
    with torch.no_grad():
        agree(theirs(images), ours("some"))


def test_the_page_names_every_option_that_has_a_reason_of_its_own():
    from lora_mnist_cli.registry.peft_folder import _WHY, _kinds

    table = PAGE.partition("### What is refused")[2].partition("## How equal")[0]
    told = set(re.findall(r"`([a-z_]+)`", table))
    read = {option for _, kind in _kinds().values() for option in kind.read - kind.silent}
    assert set(_WHY) | (read - {"use_rslora", "r"}) <= told
