"""An adapter by any method as PEFT's LoRA of a rank: what PEFT computes with it, and the residual that is told."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lora_mnist_cli.models.lora import adapted_layers, set_alpha
from lora_mnist_cli.models.methods import method_named
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.choices import METHODS
from lora_mnist_cli.stages import finetune
from lora_mnist_cli.stages.exporting import export_model
from lora_mnist_cli.stages.records.loading import load_model
from lora_mnist_cli.system.errors import UsageError

peft = pytest.importorskip("peft")
pytestmark = pytest.mark.usefixtures("one_thread")

WITHOUT_BIASES = [name for name in METHODS if not method_named(name).changes_biases]


@pytest.mark.parametrize("alpha", [None, -0.5])
@pytest.mark.parametrize("method", WITHOUT_BIASES)
def test_peft_computes_the_nearest_product_and_the_residual_is_told(method, alpha, small, exported, images):
    ranked: dict[str, Any] = {"rank": 3} if METHODS[method].ranked else {}
    config = AdapterConfig(method=method, epochs=1, lr=0.02, target_layers=("fc1", "fc3"), **ranked)
    adapter = finetune(config, workspace=small, name="some")
    described = export_model("some", "peft", alpha=alpha, as_lora=2, workspace=small)
    merged = peft.PeftModel.from_pretrained(exported(), described["file"]).merge_and_unload()
    model = load_model(small.registry, adapter).model
    set_alpha(model, 1.0 if alpha is None else alpha)
    lost = []
    for name, layer in adapted_layers(model).items():
        change = layer.change()[0].detach().double()
        U, S, V = torch.linalg.svd(change, full_matrices=False)
        nearest = U[:, :2] * S[:2] @ V[:2]
        held = (merged.get_submodule(name).weight - exported().get_submodule(name).weight).double()
        torch.testing.assert_close(held, nearest, atol=1e-6, rtol=0)
        told = described["as_lora"]["layers"][name]
        assert told["norm"] == pytest.approx(float(change.norm()), rel=1e-5)
        assert told["residual"] == pytest.approx(float(S[2:].norm() / S.norm()), abs=1e-5)
        lost.append(S[2:].norm())
    total = torch.stack([layer.change()[0].detach().norm() for layer in adapted_layers(model).values()]).norm()
    assert described["as_lora"]["residual"] == pytest.approx(float(torch.stack(lost).norm() / total), abs=1e-5)
    with torch.no_grad():
        assert torch.isfinite(merged(images)).all()


@pytest.mark.parametrize("method", ["full", "bitfit"])
def test_what_changes_biases_is_no_product(method, small):
    finetune(AdapterConfig(method=method, epochs=0), workspace=small, name="some")
    with pytest.raises(UsageError, match="changes biases as well, which no low-rank product holds"):
        export_model("some", "peft", as_lora=2, workspace=small)


def test_it_is_for_peft_and_for_a_rank(small, refused):
    finetune(AdapterConfig(rank=2, epochs=0), workspace=small, name="some")
    refused(["export", "some", "--as-lora", "2"], 2, "add --format peft")
    refused(["export", "some", "--format", "peft", "--as-lora", "0"], 2, "rank is at least 1, not 0")


def test_the_residual_is_printed(small, run):
    finetune(AdapterConfig(method="hra", rank=3, epochs=1, lr=0.02), workspace=small, name="some")
    printed = run("export", "some", "--format", "peft", "--as-lora", "1", "--runs-dir", small.runs_dir).out
    assert printed.splitlines()[0] == "some-lora-r1-peft"
    assert "rank 1 leaves out" in printed.splitlines()[2]
