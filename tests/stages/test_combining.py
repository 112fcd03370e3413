"""Combined adapters: what they hold, their record and lineage, and the commands that go on with them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from lora_mnist_cli.registry.archive import export_artifact, import_artifacts
from lora_mnist_cli.registry.deltas import adapter_changes
from lora_mnist_cli.registry.diff import diff
from lora_mnist_cli.registry.registry import Registry
from lora_mnist_cli.registry.verification import verify
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.config import BaseConfig
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.stages import (
    Workspace,
    combine,
    compare,
    evaluate,
    evaluate_routed,
    finetune,
    forgetting,
    merge,
    train_base,
)
from lora_mnist_cli.stages.records.histories import read_history
from lora_mnist_cli.system.errors import ArtifactError, UsageError


def adapter_of(small: Workspace, name: str, digits: tuple[int, ...], **more: Any) -> Any:
    config = AdapterConfig(**{"epochs": 1, "lr": 0.01, "rank": 2, "digits": DigitSet(digits)} | more)
    return finetune(config, workspace=small, name=name)


@pytest.fixture
def pair(small: Workspace) -> Workspace:
    """The small workspace with ``one`` on 5-7, of rank 3 and scaled, and ``two`` on 8-9, of rank 2 on two layers."""
    adapter_of(small, "one", (5, 6, 7), rank=3, scaling="rslora", alpha=0.7)
    adapter_of(small, "two", (8, 9), target_layers=("fc1", "fc3"))
    return small


def changes_on_disk(small: Workspace, name: str) -> dict[str, Any]:
    """Layer → ``alpha · scale · B A``, read without the code under test."""
    artifact = small.registry.get(name)
    config, state = artifact.config, load_file(artifact.path / "adapter_model.safetensors")
    scale = {"constant": 1.0, "rslora": config["rank"] ** -0.5}[config["scaling"]]
    found = {}
    for layer in config["target_layers"]:
        A, B = (state[f"base_model.model.{layer}.lora_{which}.weight"].astype(np.float64) for which in "AB")
        found[layer] = config["alpha"] * scale * B @ A
    return found


def test_linear_is_the_weighted_sum_to_rounding_with_ranks_added(pair):
    made = combine(["one", "two"], weights=[0.5, -2], workspace=pair)
    assert (made.name, made.kind, made.config["rank"]) == ("combined-linear-fashion-mnist-5-9-r5", "adapter", 5)
    one, two, both = (changes_on_disk(pair, name) for name in ("one", "two", made.name))
    for layer, change in both.items():
        expected = 0.5 * one[layer] - 2 * two.get(layer, 0 * change)
        np.testing.assert_allclose(change, expected, atol=1e-6 * np.abs(expected).max())
    record = made.details["combined"]
    assert record["parents"] == [
        {"name": "one", "digits": "5-7", "weight": 0.5}, {"name": "two", "digits": "8-9", "weight": -2.0},
    ]  # fmt: skip
    assert 0 < record["residual"] < 1e-6
    assert sorted(made.files) == ["adapter_config.json", "adapter_model.safetensors"]
    assert [row["digits"] for row in made.scores["subsets"]] == ["0-4", "5-9", "0-9", "5-7", "8-9"]


def test_svd_leaves_out_the_tail_of_the_singular_values(pair):
    made = combine(["one", "two"], method="svd", rank=2, workspace=pair)
    one, two, both = (changes_on_disk(pair, name) for name in ("one", "two", made.name))
    squares = 0.0
    for layer, row in made.details["combined"]["layers"].items():
        exact = one[layer] + two.get(layer, 0 * one[layer])
        singular = np.linalg.svd(exact, compute_uv=False)
        tail = float(np.sqrt((singular[2:] ** 2).sum()))
        assert row["norm"] == pytest.approx(float(np.linalg.norm(exact)))
        assert row["residual"] == pytest.approx(tail / row["norm"], rel=1e-4, abs=1e-6)
        assert float(np.linalg.norm(exact - both[layer])) == pytest.approx(tail, rel=1e-4, abs=1e-6)
        squares += tail**2
    norm = np.sqrt(sum(row["norm"] ** 2 for row in made.details["combined"]["layers"].values()))
    assert made.details["combined"]["residual"] == pytest.approx(float(np.sqrt(squares)) / norm, rel=1e-4)
    assert combine(["one", "two"], method="svd", workspace=pair).config["rank"] == 3


@pytest.mark.parametrize("method", ["linear", "svd", "ties", "dare"])
def test_every_command_goes_on_with_it(pair, method, tmp_path):
    made = combine(["one", "two"], method=method, workspace=pair)
    assert combine(["one", "two"], method=method, workspace=pair).created == made.created
    (evaluation,) = evaluate(made.name, workspace=pair)
    ours = {row["digits"]: row for row in made.scores["subsets"]}
    for row in evaluation.scores["subsets"]:
        assert row == pytest.approx(ours[row["digits"]])
    (bare,) = evaluate(made.name, alphas=[0.0], workspace=pair)
    assert bare.scores["per_digit"] == pair.registry.parent(made).scores["per_digit"]
    assert [verdict.problems for verdict in verify(pair.registry)] == [[]] * len(pair.registry.names())
    found = diff(pair.registry, made.name, "one")
    assert {"combined", "combined_weights", "adapter 1"} <= {row["setting"] for row in found["settings"]}
    assert [row["tensor"] for row in found["weights"]] == ["fc1", "fc2", "fc3"]
    assert compare(made.name, "one", workspace=pair)["digits"] == "5-7"
    assert forgetting(made.name, workspace=pair)["tasks"] == ["0-4", "5-9"]
    export_artifact(pair.registry, made.name, tmp_path / "a.zip")
    elsewhere = Registry(tmp_path / "elsewhere")
    every, _ = import_artifacts(elsewhere, tmp_path / "a.zip")
    assert {artifact.name for artifact in every} == {pair.registry.parent(made).name, "one", "two", made.name}
    assert not any(verdict.problems for verdict in verify(elsewhere))
    merged = merge(made.name, workspace=pair)
    assert merged.config["digits"] == "5-9"
    assert not any(verdict.problems for verdict in verify(pair.registry, merged.name))


def test_the_fingerprint_has_weights_rank_density_seed_and_parents(pair):
    made = combine(["one", "two"], method="dare", name="made", workspace=pair)
    assert made.config["combined_density"] == 0.5
    changed: list[dict[str, Any]] = [
        {"weights": [1, 0.5]}, {"rank": 2}, {"density": 0.4}, {"seed": 1}, {"names": ["two", "one"]},
        {"names": ["one"]}, {"method": "ties"},
    ]  # fmt: skip
    for change in changed:
        asked: dict[str, Any] = {"names": ["one", "two"], "method": "dare", "name": "made"} | change
        with pytest.raises(ArtifactError, match="other settings"):
            combine(workspace=pair, **asked)
    same = combine(["one", "two"], method="dare", name="twin", workspace=pair)
    assert same.digest == made.digest
    other = combine(["one", "two"], method="dare", seed=1, workspace=pair)
    assert other.name == "combined-dare-fashion-mnist-5-9-r3-s1"
    assert other.files["adapter_model.safetensors"] != made.files["adapter_model.safetensors"]
    combine(["two", "one"], method="dare", name="turned", workspace=pair)
    one, two = (changes_on_disk(pair, name) for name in ("made", "turned"))
    for layer, change in one.items():
        np.testing.assert_allclose(two[layer], change, atol=1e-5)


def test_trained_adapters_have_the_fingerprints_that_they_had(small):
    adapter = small.registry.latest("adapter")
    assert not {"combined", "combined_weights", "combined_density"} & set(adapter.config)


def test_what_was_not_trained_has_neither_history_nor_statistics(pair):
    made = combine(["one", "two"], workspace=pair)
    with pytest.raises(ArtifactError, match="it was combined from others, and not trained"):
        read_history(made)
    with pytest.raises(ArtifactError, match="no statistics of its digits: it was combined from others") as refused:
        evaluate_routed([made.name], workspace=pair)
    assert refused.value.hint == "name one that was trained here"


@pytest.mark.parametrize("method", ["pissa", "dora"])
def test_what_other_methods_add_is_combined_as_well(small, method):
    adapter_of(small, "one", (5, 6, 7), method=method)
    adapter_of(small, "two", (8, 9))
    made = combine(["one", "two"], workspace=small)
    ours = adapter_changes(small.registry, small.registry.get("one"))
    theirs = changes_on_disk(small, "two")
    for layer, change in changes_on_disk(small, made.name).items():
        np.testing.assert_allclose(change, ours[layer] + theirs[layer], atol=1e-5)
    # PiSSA keeps twice its rank; DoRA's change has the rank of a weight, 16 × 784 at most here.
    assert made.config["rank"] == {"pissa": 2 * 2, "dora": 16}[method] + 2


def test_it_is_used_only_by_name(pair):
    combine(["one", "two"], workspace=pair)
    assert pair.registry.latest("adapter").name == "two"


def test_what_can_not_be_combined_is_refused(pair):
    def refused(error: type[Exception], match: str, names: list[str], **more: Any) -> None:
        with pytest.raises(error, match=match):
            combine(names, workspace=pair, **more)

    train_base(BaseConfig(dataset="fashion-mnist", hidden_sizes=(16, 12), epochs=0, seed=3), workspace=pair, name="b")
    finetune(AdapterConfig(epochs=0), base="b", workspace=pair, name="elsewhere")
    finetune(AdapterConfig(epochs=0, method="full"), base="base-fashion-mnist-0-4", workspace=pair, name="full")
    refused(ArtifactError, "'b' is not 'base-fashion-mnist-0-4'", ["one", "elsewhere"])
    refused(ArtifactError, "biases", ["one", "full"])
    refused(ArtifactError, "is of kind base", ["one", "b"])
    refused(UsageError, "named twice", ["one", "one"])
    refused(UsageError, "nothing to combine", [])
    refused(UsageError, "2 adapters have 2 weights, not 1", ["one", "two"], weights=[1])
    refused(UsageError, "no use for --rank", ["one", "two"], rank=3)
    refused(UsageError, "no use for --density", ["one", "two"], method="svd", density=0.5)
    refused(UsageError, "no use for --seed", ["one", "two"], method="ties", seed=1)
    refused(UsageError, "above 0 and at most 1", ["one", "two"], method="ties", density=0.0)
    refused(UsageError, "finite number", ["one", "two"], weights=[1.0, float("inf")])
    refused(ArtifactError, "made by linear has logits .* that are not finite", ["one", "two"], weights=[1e38, 1e38])
    refused(UsageError, "rank is at least 1", ["one", "two"], method="svd", rank=0)
    refused(UsageError, "no way to combine 'tie'", ["one", "two"], method="tie")


def test_a_config_can_not_claim_what_was_not_combined():
    for odd in (
        {"combined": "svd"},
        {"combined": "svd", "combined_weights": (1.0,)},  # and trained for ten epochs
        {"combined_weights": (1.0,)},
        {"combined": "ties", "combined_weights": (1.0,), "epochs": 0},
        {"combined": "svd", "combined_weights": (1.0,), "epochs": 0, "combined_density": 0.5},
        {"combined": "svd", "combined_weights": (), "epochs": 0},
        {"combined": "mix", "combined_weights": (1.0,), "epochs": 0},
    ):
        with pytest.raises(UsageError):
            AdapterConfig(**odd)  # type: ignore[arg-type]
    config = AdapterConfig(combined="ties", combined_weights=(1.0, 2.0), combined_density=0.2, epochs=0)
    assert AdapterConfig.from_json(config.to_json()) == config


def test_what_was_combined_is_kept_and_forged_lineage_is_found(pair, forge):
    made = combine(["one", "two"], workspace=pair)
    base = pair.registry.parent(made)
    train_base(BaseConfig(dataset="fashion-mnist", hidden_sizes=(16, 12), epochs=0, seed=3), workspace=pair, name="b")
    stranger = finetune(AdapterConfig(epochs=0), base="b", workspace=pair, name="elsewhere")
    with pytest.raises(ArtifactError, match=f"{made.name} needs it"):
        pair.registry.remove("one")
    one, two = (pair.registry.get(name) for name in ("one", "two"))
    original = (made.path / "artifact.json").read_bytes()

    def parents(*chosen: Any) -> Callable[[Any], None]:
        def change(manifest: Any) -> None:
            manifest["parents"] = [{"role": r, "name": a.name, "digest": a.digest} for r, a in chosen]

        return change

    def record(**changed: Any) -> Callable[[Any], None]:
        return lambda manifest: manifest["details"]["combined"].update(changed)

    edits: list[tuple[Callable[[Any], Any], str]] = [
        (parents(("base", base)), "combined"),
        (parents(("base", base), ("adapter", one)), "combined"),
        (parents(("adapter", one), ("base", base), ("adapter", two)), "parents"),
        (parents(("base", base), ("adapter", one), ("adapter", stranger)), "'elsewhere' is not one of its base"),
        (parents(("base", base), ("adapter", one), ("adapter", base)), "which is of kind base"),
        (record(residual=-1.0), "combined.residual"),
        (record(residual="x"), "combined.residual"),
        (record(layers={"fc1": {"norm": 1.0}}), "combined.layers"),
        (record(layers={"../x": {"norm": 1.0, "residual": 0.0}}), "combined.layers"),
        (record(parents=[]), "combined.parents"),
        (record(parents=[{"name": "../x", "digits": "0", "weight": 1.0}] * 2), "combined.parents"),
        (record(more=1), "combined"),
        (lambda manifest: manifest["details"].pop("combined"), "combined"),
        (lambda manifest: manifest["config"].pop("combined"), "combined"),
        (lambda manifest: manifest["config"].update(combined_weights=[1.0]), "combined"),
        (lambda manifest: manifest["config"].update(combined="magic"), "way to combine"),
    ]
    for change, found in edits:
        forge(made.path, change)
        problems = {verdict.name: verdict.problems for verdict in verify(pair.registry)}
        assert any(found in problem for _, problem in problems[made.name]), (found, problems[made.name])
        (made.path / "artifact.json").write_bytes(original)
    shutil.rmtree(one.path)
    (verdict,) = [each for each in verify(pair.registry) if each.name == made.name]
    assert any("its adapter 'one'" in problem for _, problem in verdict.problems)


def test_combine_prints_the_residuals(pair, run):
    where = ("--runs-dir", pair.runs_dir, "--data-dir", pair.data_dir)
    outcome = run("combine", "one", "two", "--method", "ties", "--weights", "1,0.5", "--density", "0.3", *where)
    assert outcome.code == 0
    assert "1 · one + 0.5 · two, by ties to rank 3: residual " in outcome.out
    again = run("combine", "one", "two", "--method", "ties", "--weights", "1,0.5", "--density", "0.3", "--json", *where)
    assert "is up to date" in again.err
    assert (again.json["rank"], again.json["density"]) == (3, 0.3)
    assert again.json["combined"]["layers"].keys() == {"fc1", "fc2", "fc3"}
    outcome = run("combine", "one", "two", "--rank", "4", *where)
    assert (outcome.code, outcome.out) == (2, "")
