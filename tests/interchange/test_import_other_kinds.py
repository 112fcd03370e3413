"""Adapters that PEFT trained by other methods than LoRA: here they have the same logits, and in PEFT again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch.nn import functional as F

from lora_mnist_cli.registry.verification import verify
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.stages import evaluate, import_adapter, merge
from lora_mnist_cli.stages.exporting import export_model
from lora_mnist_cli.system.errors import ArtifactError

peft = pytest.importorskip("peft")
pytestmark = pytest.mark.usefixtures("one_thread")

BASE = "base-fashion-mnist-0-4"
LAYERS = ["fc1", "fc2", "fc3"]


def trained_by_peft(described: Any, model: torch.nn.Module, images: torch.Tensor, folder: Path) -> torch.Tensor:
    """Save what PEFT makes of a model in a few steps, and return the logits that it has then."""
    torch.manual_seed(3)
    theirs = peft.get_peft_model(model, described)
    optimizer = torch.optim.AdamW([p for p in theirs.parameters() if p.requires_grad], lr=0.004)
    labels = torch.arange(len(images)) % 5 + 5
    for _ in range(8):
        optimizer.zero_grad()
        F.cross_entropy(theirs(images), labels).backward()
        optimizer.step()
    theirs.eval().save_pretrained(folder)
    with torch.no_grad():
        return theirs(images)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("described", "settings"),
    [
        (lambda: peft.LoKrConfig(r=3, alpha=5, target_modules=LAYERS),
         {"method": "lokr", "rank": 3, "alpha": 5.0, "scaling": "standard"}),
        (lambda: peft.LoKrConfig(r=9, alpha=4, target_modules=["fc1", "fc3"], init_weights="lycoris",
                                 rank_dropout=0.3, module_dropout=0.2, rank_pattern={"fc3": 1}),
         {"method": "lokr", "rank": 9, "alpha": 4.0, "scaling": "standard", "rank_pattern": "fc3r1"}),
        (lambda: peft.LoKrConfig(r=4, alpha=4, target_modules=LAYERS, rank_pattern={"fc2": 2},
                                 alpha_pattern={"fc2": 2}),
         {"method": "lokr", "rank": 4, "alpha": 1.0, "scaling": "constant", "rank_pattern": "fc2r2"}),
        (lambda: peft.MissConfig(r=5, miss_dropout=0.25, target_modules=LAYERS),
         {"method": "miss", "rank": 5, "dropout": 0.25}),
        (lambda: peft.MissConfig(r=4, mini_r=2, init_weights=False, target_modules="fc2"),
         {"method": "miss", "rank": 4, "target_layers": ("fc2",)}),
        (lambda: peft.DeloraConfig(r=3, delora_lambda=2, module_dropout=0.25, target_modules=LAYERS,
                                   rank_pattern={"fc1": 5}, lambda_pattern={"fc2": 1.5}),
         {"method": "delora", "rank": 5, "rank_pattern": "fc2r3-fc3r3", "dropout": 0.25}),
    ],
)  # fmt: skip
def test_what_peft_trained_on_the_exported_base_is_the_same_here(
    described, settings, small, images, tmp_path, exported, our_logits
):
    theirs = trained_by_peft(described(), exported(), images, tmp_path / "theirs")
    adapter = import_adapter(tmp_path / "theirs", base=BASE, workspace=small)
    with torch.no_grad():
        bare = exported()(images)
    torch.testing.assert_close(our_logits(small, adapter), theirs, atol=1e-5, rtol=0)
    assert float((theirs - bare).abs().max()) > 0.01
    config = AdapterConfig.from_json(adapter.config)
    assert {name: getattr(config, name) for name in settings} == settings
    off, on = evaluate(adapter.name, alphas=[0, config.alpha], workspace=small)
    assert off.scores["per_digit"] == small.registry.get(BASE).scores["per_digit"]
    assert on.scores == adapter.scores
    assert merge(adapter.name, workspace=small).details["merged"]["alpha"] == config.alpha
    assert not [verdict.problems for verdict in verify(small.registry) if verdict.problems]
    # And back again, as it lies and as it is exported; the tensors are the same.
    file = small.runs_dir / adapter.name / "adapter_model.safetensors"
    assert file.read_bytes() == (tmp_path / "theirs" / file.name).read_bytes()
    for folder in (file.parent, export_model(adapter.name, "peft", workspace=small)["file"]):
        with torch.no_grad():
            again = peft.PeftModel.from_pretrained(exported(), folder)(images)
        torch.testing.assert_close(again, theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("described", "changed", "found"),
    [
        (lambda: peft.LoKrConfig(r=2, target_modules=LAYERS, decompose_both=True), {}, "decompose_both is true: it"),
        (lambda: peft.LoKrConfig(r=2, target_modules=LAYERS, decompose_factor=4), {}, "decompose_factor is 4: it has"),
        (lambda: peft.LoKrConfig(r=2, target_modules=LAYERS), {"alpha": None}, "alpha is null: it has to be a finite"),
        (lambda: peft.LoKrConfig(r=2, target_modules=LAYERS), {"use_rslora": True}, "use_rslora is true: nothing here"),
        (lambda: peft.LoKrConfig(r=2, target_modules=LAYERS), {"use_dora": True}, "use_dora is true: nothing here"),
        (lambda: peft.MissConfig(r=2, target_modules=LAYERS, init_weights="bat"), {}, "\"bat\": it has to be true"),
        (lambda: peft.MissConfig(r=2, target_modules=LAYERS, init_weights="mini"), {}, "\"mini\": it has to be true"),
        (lambda: peft.MissConfig(r=2, target_modules=LAYERS), {"rank_pattern": {"fc1": 1}}, "rank_pattern is"),
        (lambda: peft.MissConfig(r=2, target_modules=LAYERS), {"bias": "all"}, "bias is \"all\": it has to be 'none'"),
        (lambda: peft.MissConfig(r=2, target_modules=LAYERS), {"r": 3}, "miss_block of shape (2, 16), not (3, 16)"),
        (lambda: peft.DeloraConfig(r=2, target_modules=LAYERS), {"alpha_pattern": {"fc1": 1}}, "alpha_pattern is"),
        (lambda: peft.DeloraConfig(r=2, target_modules=LAYERS), {"module_dropout": 1}, "module_dropout is 1: it has"),
        (lambda: peft.DeloraConfig(r=2, target_modules=LAYERS), {"peft_type": "LORA"}, "lora_alpha is missing"),
        (lambda: peft.DeloraConfig(r=2, target_modules=LAYERS), {"peft_type": "MISS"}, "delora_lambda is 15: nothing"),
        (lambda: peft.RandLoraConfig(r=2, target_modules=LAYERS), {}, "only LORA, DELORA, LOKR, MISS can"),
    ],
)  # fmt: skip
def test_what_means_something_else_here_is_refused(described, changed, found, small, tmp_path, exported):
    peft.get_peft_model(exported(), described()).save_pretrained(tmp_path / "theirs")
    path = tmp_path / "theirs" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    with pytest.raises(ArtifactError) as caught:
        import_adapter(tmp_path / "theirs", base=BASE, workspace=small)
    assert found in caught.value.problem


@pytest.mark.parametrize("tensor", [torch.zeros(2, 784), torch.full((2, 784), float("nan"))])
def test_zeros_and_what_is_no_number(tensor, small, tmp_path, exported):
    """Vectors of length zero have no direction: the bound on lengths makes them no change."""
    peft.get_peft_model(exported(), peft.DeloraConfig(r=2, target_modules=["fc1"])).save_pretrained(tmp_path / "theirs")
    path = tmp_path / "theirs" / "adapter_model.safetensors"
    safetensors.torch.save_file(safetensors.torch.load_file(path) | {"base_model.model.fc1.delora_A": tensor}, path)
    if tensor.isnan().any():
        with pytest.raises(ArtifactError, match="no finite numbers"):
            import_adapter(tmp_path / "theirs", base=BASE, workspace=small)
        return
    adapter = import_adapter(tmp_path / "theirs", base=BASE, workspace=small)
    assert adapter.scores["per_digit"] == small.registry.get(BASE).scores["per_digit"]
