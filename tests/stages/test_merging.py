"""Merged bases: what they hold, their certificate and lineage, and the stages that go on from them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from lora_mnist_cli.registry.verification import verify
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.choices import METHODS
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.stages import Workspace, evaluate, finetune, merge, plot
from lora_mnist_cli.system.errors import ArtifactError, UsageError


def adapter_of(small: Workspace, method: str = "lora", **more: Any) -> Any:
    return finetune(AdapterConfig(method=method, epochs=1, lr=0.01, **more), workspace=small, name=f"some-{method}")


@pytest.mark.parametrize("method", list(METHODS))
def test_a_merged_base_scores_as_its_adapter_and_any_stage_takes_it(small, method):
    adapter = adapter_of(small, method)
    made = merge(adapter.name, workspace=small)
    assert (made.name, made.kind, made.config["digits"]) == (f"merged-some-{method}", "base", adapter.config["digits"])
    (ours,), (theirs,) = (evaluate(each.name, workspace=small) for each in (made, adapter))
    for a, b in zip(ours.scores["per_digit"], theirs.scores["per_digit"], strict=True):
        assert (a["count"], a["accuracy"]) == (b["count"], b["accuracy"])
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)
    certificate = made.details["merged"]
    assert (certificate["alpha"], certificate["predictions_changed"]) == (1.0, 0)
    assert 0 < certificate["logit_residual"] < 1e-5 * max(certificate["largest_logit"], 10)
    assert certificate["weight_residual"] < 1e-6
    assert [(parent.role, parent.digest) for parent in made.parents] == [
        ("base", small.registry.parent(adapter).digest),
        ("adapter", adapter.digest),
    ]
    assert merge(adapter.name, workspace=small).digest == made.digest
    again = finetune(AdapterConfig(rank=1, epochs=1), base=made.name, workspace=small)
    assert small.registry.parent(again).digest == made.digest
    assert str(again.config["digits"]) == "0-4"
    assert [verdict.problems for verdict in verify(small.registry)] == [[]] * len(small.registry.names())


def test_a_merged_base_is_used_only_by_name(small):
    adapter = adapter_of(small)
    trained = small.registry.parent(adapter)
    made = merge(adapter.name, workspace=small)
    assert small.registry.latest("base").digest == trained.digest
    assert finetune(AdapterConfig(rank=1, epochs=0), workspace=small).parents[0].digest == trained.digest

    shutil.rmtree(small.registry.root / trained.name)
    with pytest.raises(ArtifactError, match="there is no base") as refused:
        small.registry.latest("base")
    assert "lora-mnist train-base" in str(refused.value.hint)
    assert small.registry.get(made.name, "base").digest == made.digest


def test_the_certificate_and_the_weights_are_those_of_a_sum_in_double_precision(small):
    adapter = adapter_of(small, rank=3, scaling="rslora", alpha=0.7)
    made = merge(adapter.name, alpha=-0.4, workspace=small, merged="half")
    root = small.runs_dir
    base = load_file(root / small.registry.parent(adapter).name / "model.safetensors")
    factors = load_file(root / adapter.name / "adapter_model.safetensors")
    merged = load_file(root / "half" / "model.safetensors")
    worst = 0.0
    for key, weight in base.items():
        exact = weight.astype(np.float64)
        layer = key.removesuffix(".weight")
        if key.endswith(".weight"):
            A, B = (factors[f"base_model.model.{layer}.lora_{which}.weight"].astype(np.float64) for which in "AB")
            exact += -0.4 / 3**0.5 * B @ A
        worst = max(worst, float(np.abs(merged[key] - exact).max()))
    assert made.details["merged"]["weight_residual"] == pytest.approx(worst, rel=1e-6)
    assert worst < 1e-6
    assert made.config["merged_alpha"] == -0.4
    with pytest.raises(ArtifactError, match="other settings"):
        merge(adapter.name, alpha=0.4, workspace=small, merged="half")
    assert merge(adapter.name, alpha=0.4, workspace=small).name == "merged-some-lora-a0.4"
    assert merge(adapter.name, digits=DigitSet(range(10)), workspace=small).config["digits"] == "0-9"


def test_alpha_0_is_the_base_itself(small):
    adapter = adapter_of(small)
    made = merge(adapter.name, alpha=0.0, workspace=small)
    base = small.registry.parent(adapter)
    assert made.files["model.safetensors"] == base.files["model.safetensors"]
    assert made.details["merged"]["weight_residual"] == made.details["merged"]["logit_residual"] == 0
    with pytest.raises(UsageError, match="finite"):
        merge(adapter.name, alpha=float("nan"), workspace=small)
    with pytest.raises(ArtifactError, match=r"has no file history\.csv"):
        plot("history", made.name, workspace=small)


def test_what_was_merged_is_kept_and_forged_lineage_is_found(small, forge, run):
    adapter, other = adapter_of(small), finetune(AdapterConfig(rank=1, epochs=0), workspace=small, name="other")
    made = merge(adapter.name, workspace=small)
    with pytest.raises(ArtifactError, match=f"{made.name} needs it"):
        small.registry.remove(adapter.name)
    onto = finetune(AdapterConfig(rank=1, epochs=0), base=made.name, workspace=small, name="onto")
    original = (small.runs_dir / made.name / "artifact.json").read_bytes()

    def parents(*chosen: Any) -> Callable[[Any], None]:
        def change(manifest: Any) -> None:
            manifest["parents"] = [{"role": r, "name": a.name, "digest": a.digest} for r, a in chosen]

        return change

    base = small.registry.parent(adapter)
    for change, found in {
        parents(("base", base)): "their roles are base",
        parents(("adapter", adapter), ("base", base)): "their roles are adapter, base",
        parents(): "merged",
        parents(("base", base), ("adapter", onto)): "its adapter 'onto' is not one of its base",
        parents(("base", base), ("adapter", base)): "which is of kind base",
        (lambda manifest: manifest["details"]["merged"].update(images=-1)): "merged.images",
        (lambda manifest: manifest["details"].pop("merged")): "merged",
    }.items():
        forge(small.runs_dir / made.name, change)
        problems = {verdict.name: verdict.problems for verdict in verify(small.registry)}
        assert any(found in problem for _, problem in problems[made.name]), (found, problems[made.name])
        (small.runs_dir / made.name / "artifact.json").write_bytes(original)
    assert other.name not in run("runs", "lineage", made.name, "--runs-dir", small.runs_dir).out


def test_merge_prints_the_certificate(small, run):
    adapter_of(small)
    outcome = run("merge", "--runs-dir", small.runs_dir, "--data-dir", small.data_dir)
    assert outcome.code == 0
    assert "merged at alpha 1: 0 of " in outcome.out
    document = run("merge", "--json", "--runs-dir", small.runs_dir, "--data-dir", small.data_dir).json
    assert document["artifact"] == "merged-some-lora"
    assert document["certificate"]["predictions_changed"] == 0
    outcome = run("merge", "base-fashion-mnist-0-4", "--runs-dir", small.runs_dir)
    assert outcome.code == 3
