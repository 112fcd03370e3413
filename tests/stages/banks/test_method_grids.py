"""Methods through the stages: names, files, grids, what is refused, and comparisons with full fine-tuning."""

from __future__ import annotations

import json

import pytest

from lora_mnist_cli.registry.diff import diff
from lora_mnist_cli.registry.verification import verify
from lora_mnist_cli.settings.adapter_config import AdapterConfig, with_overrides
from lora_mnist_cli.stages import evaluate, finetune, sweep
from lora_mnist_cli.stages.comparing import compare
from lora_mnist_cli.system.errors import ConfigError, UsageError


def test_a_sweep_over_methods_has_full_fine_tuning_once_and_all_of_it_is_sound(small):
    grid = {"methods": "lora,dora,pissa,full,head", "scalings": "constant,rslora"}
    made = sweep([2, 3], grid=grid, config=AdapterConfig(epochs=1), workspace=small, name="all")
    rows = made.details["results"]
    counts = {method: sum(row["method"] == method for row in rows) for method in grid["methods"].split(",")}
    assert counts == {"lora": 4, "dora": 4, "pissa": 4, "full": 1, "head": 1}
    names = {row["artifact"] for row in rows}
    assert {"full-fashion-mnist-5-9", "head-fashion-mnist-5-9", "pissa-fashion-mnist-5-9-r3-rslora"} <= names
    assert [verdict.problems for verdict in verify(small.registry)] == [[]] * len(small.registry.names())
    for row in rows:
        member = small.registry.get(row["artifact"])
        assert evaluate(member.name, workspace=small)[0].scores == member.scores
    again = sweep([2, 3], grid=grid, config=AdapterConfig(epochs=1), workspace=small, name="all")
    assert again.digest == made.digest


def test_full_fine_tuning_is_compared_with_each_rank(small, run):
    ranks = sweep([1, 3], config=AdapterConfig(epochs=1), workspace=small, name="ranks")
    full = sweep(config=AdapterConfig(method="full", epochs=1), workspace=small)
    assert full.name == "sweep-full-fashion-mnist-5-9"
    assert [row["rank"] for row in full.details["results"]] == [0]
    rows = compare(ranks.name, full.name, workspace=small)["rows"]
    assert [(row["setting_a"], row["setting_b"]) for row in rows] == [
        ({"rank": 1}, {"rank": 0}),
        ({"rank": 3}, {"rank": 0}),
    ]
    printed = run("compare", ranks.name, full.name, "--runs-dir", small.runs_dir).out
    assert [line.split(":")[0] for line in printed.splitlines() if "can't tell" in line] == ["rank 1", "rank 3"]


def test_what_a_method_has_no_use_for_is_refused(small, refused):
    refused(["finetune", "--method", "full", "--rank", "8"], 2, "full has no rank")
    refused(["sweep", "--method", "full", "--ranks", "8"], 2, "full has no rank")
    refused(["sweep", "--method", "head", "--scalings", "constant,rslora"], 2, "head has no scaling")
    refused(["sweep", "--methods", "head,vera", "--scalings", "constant,rslora"], 2, "head and vera have no scaling")
    refused(["finetune", "--method", "dra"], 2, "did you mean 'dora'?")
    with pytest.raises(UsageError, match="head trains the last layer, fc3, not fc1"):
        finetune(AdapterConfig(method="head", target_layers=("fc1",)), workspace=small)
    for odd in ({"rank": 4}, {"scaling": "rslora"}, {"dropout": 0.1}, {"lr_ratio_b": 2.0}, {"vary": "init"}):
        with pytest.raises(ConfigError, match="full"):
            AdapterConfig(method="full", **odd)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="full has no rank"):
        with_overrides(AdapterConfig(), method="full", rank=8)
    assert with_overrides(AdapterConfig(rank=4, scaling="rslora"), method="full") == AdapterConfig(method="full")


def test_settings_that_are_as_they_always_were_are_not_written_down():
    plain = AdapterConfig().to_json()
    assert "method" not in plain
    assert "lr_ratio_b" not in plain
    for changed in (AdapterConfig(method="full"), AdapterConfig(lr_ratio_b=4), AdapterConfig(method="dora", rank=2)):
        assert AdapterConfig.from_json(json.loads(json.dumps(changed.to_json()))) == changed
        assert changed.to_json() != plain
    assert AdapterConfig(vary="init").to_json()["held_seed"] == 0


def test_products_and_differences_are_compared(small):
    full = finetune(AdapterConfig(method="full", epochs=1), workspace=small)
    pissa = finetune(AdapterConfig(method="pissa", rank=2, epochs=1), workspace=small)
    rows = {row["tensor"]: row for row in diff(small.registry, full.name, pissa.name)["weights"]}
    assert list(rows) == ["fc1", "fc1 bias", "fc2", "fc2 bias", "fc3", "fc3 bias"]
    from lora_mnist_cli.models.lora import adapted_layers
    from lora_mnist_cli.stages.records.loading import load_model

    for name, artifact in (("norm_a", full), ("norm_b", pissa)):
        layers = adapted_layers(load_model(small.registry, artifact).model)
        for key, layer in layers.items():
            assert rows[key][name] == pytest.approx(float(layer.change()[0].norm()), rel=1e-4)


def test_what_diverges_keeps_the_figures_that_it_had(small):
    made = sweep(config=AdapterConfig(method="full", lr=1e30, optimizer="sgd", epochs=2), workspace=small, name="wild")
    (row,) = made.details["results"]
    assert "in epoch 1" in row["failed"]
    history = (small.registry.get(row["artifact"]).path / "history.csv").read_text().splitlines()
    assert len(history) == 2
    assert history[1].startswith("0,")
