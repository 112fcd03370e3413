"""The anatomy of an adapter: that its figures are those of the models on disk, and of every state of a chain."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from lora_mnist_cli.data.dataset import MNISTDataset
from lora_mnist_cli.evaluation.logits import predict
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.stages import Workspace, evaluate, finetune, forgetting, merge
from lora_mnist_cli.stages.intruding import find_by_layer
from lora_mnist_cli.stages.records.loading import load_model
from lora_mnist_cli.system.errors import ArtifactError

OLD, NEW = DigitSet(range(5)), DigitSet(range(5, 10))


def logits_of(small: Workspace, name: str) -> tuple[Any, Any]:
    loaded = load_model(small.registry, small.registry.get(name))
    images = MNISTDataset.load("test", dataset="fashion-mnist", data_dir=small.data_dir, pixel_stats=loaded.pixel_stats)
    return predict(loaded.model, images.images).numpy(), images.labels.numpy()


def known(logits: Any, labels: Any, task: DigitSet) -> float:
    rows = np.isin(labels, task.members)
    chosen = np.array(task.members)[logits[rows][:, list(task.members)].argmax(1)]
    return float((chosen == labels[rows]).mean())


def test_accuracies_are_those_of_evaluation_and_of_the_logits_of_a_half_alone(small):
    document = forgetting(workspace=small)
    names = {"base": document["base"], "adapter": document["artifact"]}
    assert (document["old"], document["new"]) == ("0-4", "5-9")
    assert [(row["model"], row["half"]) for row in document["halves"]] == [
        ("base", "old"), ("base", "new"), ("adapter", "old"), ("adapter", "new"),
    ]  # fmt: skip
    for row in document["halves"]:
        (scored,) = evaluate(names[row["model"]], digit_sets=[DigitSet.parse(row["digits"])], workspace=small)
        (subset,) = scored.scores["subsets"]
        assert (row["count"], row["accuracy"]) == (subset["count"], subset["accuracy"])
        logits, labels = logits_of(small, names[row["model"]])
        assert row["accuracy_known"] == pytest.approx(known(logits, labels, DigitSet.parse(row["digits"])))
        assert row["accuracy_known"] >= row["accuracy"]
        for key in ("calibration", "calibration_known"):
            assert sum(each["count"] for each in row[key]["bins"]) == row["count"]
            assert 0 <= row[key]["error"] <= 1


def test_probes_see_every_hidden_layer_of_three_networks(small):
    document = forgetting(workspace=small)
    assert [(row["layer"], row["model"]) for row in document["probes"]] == [
        (layer, model) for layer in ("fc1", "fc2") for model in ("untrained", "base", "adapter")
    ]
    assert document["probe_images"] == 500
    for row in document["probes"]:
        counts = [half["count"] for half in document["halves"][:2]]
        mean = (row["old"] * counts[0] + row["new"] * counts[1]) / sum(counts)
        assert row["all"] == pytest.approx(mean)
        assert row["all"] > 0.5


def test_the_matrix_of_a_chain_has_every_merged_adapter_and_the_measures_follow_from_it(small):
    base = small.registry.latest("base").name
    finetune(AdapterConfig(epochs=1, lr=0.01, digits=DigitSet([5, 6])), workspace=small, name="first")
    merge("first", workspace=small, merged="middle")
    finetune(AdapterConfig(epochs=1, lr=0.01, digits=DigitSet([7, 8, 9])), base="middle", workspace=small, name="last")
    document = forgetting("last", workspace=small)
    tasks = [OLD, DigitSet([5, 6]), DigitSet([7, 8, 9])]
    assert (document["chain"], document["tasks"]) == ([base, "middle", "last"], ["0-4", "5-6", "7-9"])
    assert (document["base"], document["old"], document["new"]) == ("middle", "0-6", "7-9")
    states = [logits_of(small, name) for name in document["chain"]]
    for key, expected in {
        "all": [[float((x.argmax(1) == y)[np.isin(y, t.members)].mean()) for t in tasks] for x, y in states],
        "known": [[known(x, y, task) for task in tasks] for x, y in states],
    }.items():
        found = document["transfer"][key]
        assert np.array(found["R"]) == pytest.approx(np.array(expected))
        R, start = found["R"], found["untrained"]
        assert found["accuracy"] == pytest.approx(sum(R[2]) / 3)
        assert found["backward"] == pytest.approx((R[2][0] - R[0][0] + R[2][1] - R[1][1]) / 2)
        assert found["forward"] == pytest.approx((R[0][1] - start[1] + R[1][2] - start[2]) / 2)


def test_the_untrained_network_is_the_one_that_the_base_began_as(small):
    from lora_mnist_cli.settings.config import BaseConfig
    from lora_mnist_cli.stages import train_base

    began = train_base(
        BaseConfig(dataset="fashion-mnist", hidden_sizes=(16, 12), epochs=0), workspace=small, name="began"
    )
    logits, labels = logits_of(small, began.name)
    found = forgetting(workspace=small)["transfer"]["known"]["untrained"]
    assert found == pytest.approx([known(logits, labels, task) for task in (OLD, NEW)])


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_intruders_of_weights_that_are_not_finite_are_refused_with_the_layer(wrong):
    weights = {"fc1.weight": torch.ones(3, 4), "fc2.weight": torch.ones(2, 3)}
    with pytest.raises(ArtifactError, match="'odd' adds to fc2 has values that are no finite numbers"):
        find_by_layer(weights, weights | {"fc2.weight": torch.full((2, 3), wrong)}, "'odd'", 0.5)


def test_intruders_are_counted_by_layer_and_scaling_them_leads_from_the_adapter_away(small, run):
    document = forgetting(workspace=small, threshold=0.6)
    found = document["intruders"]
    states = [load_model(small.registry, small.registry.get(document[key])).model for key in ("base", "artifact")]
    for row in found["layers"]:
        before, after = (
            layer.base.weight.detach() + layer.delta().detach() if hasattr(layer, "delta") else layer.weight.detach()
            for layer in (state.get_submodule(row["layer"]) for state in states)
        )
        U, V = (np.linalg.svd(matrix.double().numpy(), full_matrices=False)[0] for matrix in (before, after))
        cosines = np.abs(V[:, :10].T @ U).max(1)
        assert row["cosines"] == pytest.approx(cosines.tolist(), abs=1e-5)
        assert row["count"] == (cosines < 0.6).sum()
    first = found["path"][0]
    halves = {row["half"]: row for row in document["halves"] if row["model"] == "adapter"}
    assert (first["factor"], first["old"], first["new"]) == (1, halves["old"]["accuracy"], halves["new"]["accuracy"])
    assert first["old_known"] == halves["old"]["accuracy_known"]
    assert [row["factor"] for row in found["path"]] == [1, 0.75, 0.5, 0.25, 0]
    where = ("--runs-dir", small.runs_dir, "--data-dir", small.data_dir)
    assert "cosine below 0.6" in run("forgetting", "--threshold", "0.6", *where).out
    for wrong in ("0", "1.5", "nan"):
        assert run("forgetting", "--threshold", wrong, *where).code == 2
        assert run("plot", "spectrum", "--threshold", wrong, *where).code == 2
    plain, counted = (small.runs_dir.parent / name for name in ("plain.svg", "counted.svg"))
    assert run("plot", "spectrum", "--output", plain, *where).code == 0
    assert run("plot", "spectrum", "--threshold", "0.6", "--output", counted, *where).code == 0
    assert "ntruders" not in plain.read_text()
    assert run("plot", "alpha", "--threshold", "0.6", *where).code == 2


def test_an_adapter_on_old_digits_alone_has_no_new_half(small, run):
    finetune(AdapterConfig(epochs=1, digits=DigitSet([1, 2])), workspace=small, name="again")
    document = forgetting("again", workspace=small)
    assert document["new"] is None
    assert {row["half"] for row in document["halves"]} == {"old"}
    assert {row["new"] for row in document["probes"]} == {None}
    where = ("--runs-dir", small.runs_dir, "--data-dir", small.data_dir)
    assert "old, 0-4" in run("forgetting", "again", *where).out
    assert run("plot", "forgetting", "again", "--output", "again.png", *where).code == 0


def test_the_tables_fit_a_terminal_and_a_base_is_refused(small, run):
    where = ("--runs-dir", small.runs_dir, "--data-dir", small.data_dir)
    outcome = run("forgetting", *where)
    assert outcome.code == 0
    assert max(map(len, outcome.out.splitlines()[1:])) <= 80
    for word in ("task known %", "ECE %", "untrained", "backward", "0-4 then 5-9"):
        assert word in outcome.out
    outcome = run("forgetting", small.registry.latest("base").name, *where)
    assert (outcome.code, outcome.out) == (3, "")
    assert "is of kind base, not adapter" in outcome.err
