"""Comparisons: sweeps paired by seed, models image by image, on artifacts whose figures are known."""

from __future__ import annotations

import shutil
from statistics import mean, stdev
from typing import Any

import pytest
import scipy.stats

from lora_mnist_cli.registry.artifact import Parent
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.stages import Workspace, compare, evaluate, finetune, sweep
from lora_mnist_cli.system.errors import ArtifactError, UsageError

A = {0: 0.95, 1: 0.96, 2: 0.94, 3: 0.955, 4: 0.945, 5: 0.95, 6: 0.96}
BETTER = {seed: accuracy + 0.01 + seed / 1000 for seed, accuracy in A.items()}


def test_sweeps_are_paired_by_seed_in_whatever_order_they_come(workspace, sweeper):
    sweeper("a", {8: A})
    sweeper("b", {8: dict(reversed(BETTER.items()))})
    document = compare("a", "b", workspace=workspace)
    assert (document["a"], document["b"], document["of"], document["digits"]) == ("a", "b", "sweeps", "5-9")
    (row,) = document["rows"]
    differences = [0.01 + seed / 1000 for seed in A]
    theirs = scipy.stats.ttest_1samp(differences, 0).confidence_interval()
    assert row["seeds"] == list(range(7))
    assert row["left_out"] == []
    assert row["difference"] == {
        "n": 7, "mean": pytest.approx(mean(differences)), "sd": pytest.approx(stdev(differences)),
        "low": pytest.approx(theirs.low), "high": pytest.approx(theirs.high), "worst": pytest.approx(0.01),
        "worst_seed": 0,
    }  # fmt: skip
    assert row["accuracy_a"]["mean"] == pytest.approx(mean(A.values()))
    assert (row["accuracy_a"]["worst"], row["accuracy_a"]["worst_seed"]) == (0.94, 2)
    assert (row["p_value"], row["exact"], row["p_holm"]) == (2 / 2**7, True, 2 / 2**7)
    assert row["better"] == "b"
    assert row["verdict"].startswith("b is better: b − a is +1.30 points (95 % interval +1.10 to +1.50), p = 0.016")
    (back,) = compare("b", "a", workspace=workspace)["rows"]
    assert (back["difference"]["mean"], back["better"]) == (pytest.approx(-mean(differences)), "b")


def test_what_a_seed_does_to_both_cancels_out(workspace, sweeper):
    """The seeds differ by ten points, the recipes by a tenth of one, in each seed: only pairs can tell."""
    a = {seed: 0.80 + seed / 50 for seed in range(8)}
    sweeper("a", {8: a})
    sweeper("b", {8: {seed: accuracy + 0.001 + seed * 1e-4 for seed, accuracy in a.items()}})
    (row,) = compare("a", "b", workspace=workspace)["rows"]
    assert row["better"] == "b"
    unpaired = scipy.stats.ttest_ind(list(a.values()), [x + 0.001 for x in a.values()])
    assert unpaired.pvalue > 0.9


def test_where_the_data_can_not_tell_it_says_so_and_how_many_seeds_would(workspace, sweeper):
    changes = (0.004, -0.003, 0.002, 0.001, -0.002, 0.003, 0.0)
    sweeper("a", {8: A})
    sweeper("b", {8: {seed: A[seed] + change for seed, change in enumerate(changes)}})
    (row,) = compare("a", "b", workspace=workspace)["rows"]
    assert row["better"] is None
    size = mean(changes) / stdev(changes)
    needed = row["seeds_needed"]
    # The noncentral t distribution, as SciPy has it.
    power = [
        1 - scipy.stats.nct.cdf(scipy.stats.t.ppf(0.975, n - 1), n - 1, size * n**0.5) for n in (needed - 1, needed)
    ]
    assert power[0] < 0.8 <= power[1]
    assert "The data can't tell" in row["verdict"]
    assert f"{needed} seeds would show it with 80 % power" in row["verdict"]


@pytest.mark.parametrize("seeds", [1, 2, 5])
def test_too_few_seeds_never_decide(workspace, sweeper, seeds):
    sweeper("a", {8: {seed: 0.1 + seed / 1000 for seed in range(seeds)}})
    sweeper("b", {8: dict.fromkeys(range(seeds), 0.9)})
    (row,) = compare("a", "b", workspace=workspace)["rows"]
    assert row["better"] is None
    assert row["p_value"] == 2 / 2**seeds
    assert "The data can't tell" in row["verdict"]
    assert "use at least 6" in row["verdict"]


def test_each_rank_has_a_row_and_their_p_values_are_adjusted(workspace, sweeper):
    better = {seed: A[seed] + 0.01 for seed in range(6)}
    six = {seed: A[seed] for seed in range(6)}
    sweeper("a", {4: six, 8: six, 16: six})
    sweeper("b", {2: six, 8: better, 16: better})
    rows = compare("a", "b", workspace=workspace)["rows"]
    assert [row["setting_a"] for row in rows] == [{"rank": 8}, {"rank": 16}]
    assert [row["p_value"] for row in rows] == [2 / 64, 2 / 64]
    # Alone each would be below 0.05; two chances of a false alarm make it 0.0625.
    assert [row["p_holm"] for row in rows] == [4 / 64, 4 / 64]
    assert [row["better"] for row in rows] == [None, None]
    assert all("Holm" in row["verdict"] and "use at least 7" in row["verdict"] for row in rows)


def test_one_rank_each_is_compared_whatever_the_ranks_are(workspace, sweeper):
    sweeper("a", {4: A})
    sweeper("b", {8: BETTER})
    (row,) = compare("a", "b", workspace=workspace)["rows"]
    assert (row["setting_a"], row["setting_b"], row["better"]) == ({"rank": 4}, {"rank": 8}, "b")
    sweeper("c", {1: A, 2: A})
    with pytest.raises(UsageError, match="no rank in common: rank 4 against rank 1, rank 2"):
        compare("a", "c", workspace=workspace)


def test_sweeps_that_vary_different_things_are_told_apart(small):
    config = AdapterConfig(epochs=0)
    sweep([2], seeds=[0, 1], config=config, workspace=small, name="plain")
    sweep([2], seeds=[0, 1], grid={"scalings": "constant,rslora", "lrs": "1e-3,1e-2"}, config=config, workspace=small,
          name="grid")  # fmt: skip
    for pair in (("plain", "grid"), ("grid", "plain")):
        with pytest.raises(UsageError, match="'grid' varies lr and scaling too, and 'plain' does not") as caught:
            compare(*pair, workspace=small)
        assert caught.value.hint == "lora-mnist compare grid compares its own with each other"


def test_runs_without_a_pair_are_left_out_and_told_of(workspace, sweeper):
    sweeper("a", {8: A | {7: None, 8: 0.99}})
    sweeper("b", {8: BETTER | {7: 0.99, 9: 0.99}})
    (row,) = compare("a", "b", workspace=workspace)["rows"]
    assert (row["seeds"], row["left_out"]) == (list(range(7)), [7, 8, 9])
    sweeper("c", {8: dict.fromkeys(range(20, 30), 0.9)})
    (row,) = compare("a", "c", workspace=workspace)["rows"]
    assert (row["p_value"], row["better"]) == (None, None)
    assert "no seed has a figure in both" in row["verdict"]


def test_a_sweep_is_no_better_than_itself(workspace, sweeper):
    sweeper("a", {8: A})
    (row,) = compare("a", "a", workspace=workspace)["rows"]
    assert (row["p_value"], row["better"], row["seeds_needed"]) == (1.0, None, None)
    assert "no difference in any seed" in row["verdict"]


def test_what_has_nothing_in_common_is_refused(workspace, sweeper, publish):
    sweeper("a", {8: A})
    sweeper("other", {8: A}, dataset="kmnist")
    sweeper("old", {8: A}, digits="0-4")
    publish(workspace.registry, "base-0-4")
    with pytest.raises(ArtifactError, match="no test images in common: mnist and kmnist"):
        compare("a", "other", workspace=workspace)
    with pytest.raises(UsageError, match=r"'a' learned 5-9 and 'old' 0-4, which have no digit in common .*--digits"):
        compare("a", "old", workspace=workspace)
    with pytest.raises(UsageError, match="'a' is a sweep and 'base-0-4' a single base"):
        compare("base-0-4", "a", workspace=workspace)
    with pytest.raises(UsageError, match=r"from 0\.5 to below 1, not 95"):
        compare("a", "a", confidence=95, workspace=workspace)


def test_digits_that_a_sweep_has_no_scores_on_are_its_adapters_own(workspace, sweeper, publish):
    members = []
    base = publish(workspace.registry, "base-0-4")
    for seed in range(6):
        per_digit = [{"digit": d, "count": 10 * (d + 1), "accuracy": 0.5 + seed / 10, "loss": 0.1} for d in range(10)]
        made = publish(
            workspace.registry, f"a-r8-s{seed}", kind="adapter", config={"seed": seed},
            scores={"subsets": [], "per_digit": per_digit}, files={"weights": bytes([seed])},
            parents=[Parent("base", base.name, base.digest)],
        )  # fmt: skip
        members.append(Parent("member", made.name, made.digest))
    sweeper("a", {8: dict.fromkeys(range(6), 0.9)}, parents=members)
    (row,) = compare("a", "a", digits=DigitSet([7, 8]), workspace=workspace)["rows"]
    assert row["accuracy_a"]["mean"] == pytest.approx(0.75)
    assert row["images"] == 80 + 90
    shutil.rmtree(workspace.runs_dir / "a-r8-s3")
    with pytest.raises(ArtifactError, match="'a' has no scores on digits 7-8, and its adapter 'a-r8-s3' is gone"):
        compare("a", "a", digits=DigitSet([7, 8]), workspace=workspace)
    assert compare("a", "a", workspace=workspace)["digits"] == "5-9"


def test_a_difference_that_may_be_that_of_the_bases_is_said_to_be(workspace, sweeper, publish, recorder):
    bases = [publish(workspace.registry, name, files={"weights": name.encode()}) for name in ("one", "two")]
    for name, base in (("a", bases[0]), ("b", bases[1]), ("c", bases[1])):
        sweeper(name, {8: A}, parents=[Parent("base", base.name, base.digest)])
    heard = Workspace(workspace.runs_dir, reporter=recorder)
    compare("b", "c", workspace=heard)
    assert recorder.all("notice") == []
    compare("a", "b", workspace=heard)
    assert recorder.all("notice") == ["'a' is on base 'one' and 'b' on 'two': the difference is theirs too"]


# The command


def test_the_command_prints_a_row_a_rank_and_a_verdict_in_words(workspace, sweeper, run):
    sweeper("a", {4: A, 8: A | {7: None}})
    sweeper("b", {4: {seed: A[6 - seed] for seed in A}, 8: BETTER | {7: 0.9}})
    arguments = ("compare", "a", "b", "--confidence", "0.9", "--runs-dir", workspace.runs_dir)
    outcome = run(*arguments)
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert lines[:3] == ["A: a", "B: b", "test accuracy on digits 5-9 of mnist, paired by seed"]
    rows = [line.split() for line in lines if line.startswith("  ") and line.strip()]
    assert " ".join(rows[0]) == "rank n A % B % B − A 90 % interval worst (seed) p Holm p"
    assert rows[2][:5] == ["8", "7", "95.14", "96.44", "+1.30"]
    assert rows[2][-2:] == ["0.016", "0.031"]
    assert "Left out, without a figure in both: seeds 7." in lines
    assert any(line.startswith("rank 4: The data can't tell: ") for line in lines)
    assert any(line.startswith("rank 8: b is better: ") for line in lines)
    document = run(*arguments, "--json").json
    assert document == {"schema_version": 1, "command": "compare"} | compare(
        "a", "b", confidence=0.9, workspace=workspace
    )  # fmt: skip


def test_two_models_are_told_of_in_one_table(small, run):
    outcome = run("compare", ADAPTER, ADAPTER, "--runs-dir", small.runs_dir, "--data-dir", small.data_dir)
    assert outcome.code == 0
    assert "test accuracy on digits 5-9 of fashion-mnist, the same 100 images" in outcome.out
    assert "p = 1" in outcome.out
    assert "The data can't tell: +0.00 points" in outcome.out
    refused = run("compare", BASE, ADAPTER, "--runs-dir", small.runs_dir, "--data-dir", small.data_dir)
    assert (refused.code, refused.out) == (2, "")
    assert "no digit in common" in refused.err


# Models, on the small data


BASE, ADAPTER = "base-fashion-mnist-0-4", "lora-fashion-mnist-5-9-r2-a0.5"


def test_models_are_compared_on_the_same_images(small):
    finetune(AdapterConfig(rank=8, epochs=15, lr=0.01), workspace=small, name="strong")
    document = compare(ADAPTER, "strong", workspace=small)
    (row,) = document["rows"]
    assert (document["of"], document["digits"], row["images"]) == ("models", "5-9", 100)
    scores = {name: evaluate(name, workspace=small)[0].scores["subsets"][1]["accuracy"] for name in (ADAPTER, "strong")}
    assert row["accuracy_a"]["mean"] == pytest.approx(scores[ADAPTER])
    assert row["accuracy_b"]["mean"] == pytest.approx(scores["strong"])
    assert row["both"] + row["only_a"] + row["only_b"] + row["neither"] == 100
    assert row["both"] + row["only_b"] == round(100 * scores["strong"])
    assert row["p_value"] == pytest.approx(scipy.stats.binomtest(row["only_a"], row["only_a"] + row["only_b"]).pvalue)
    assert row["only_b"] > 20
    assert row["better"] == "strong"
    assert "compare two sweeps" in row["verdict"]
    (back,) = compare("strong", ADAPTER, workspace=small)["rows"]
    assert (back["only_a"], back["only_b"], back["better"]) == (row["only_b"], row["only_a"], row["better"])


def test_a_model_is_no_better_than_itself(small):
    (row,) = compare(ADAPTER, ADAPTER, workspace=small)["rows"]
    assert (row["only_a"], row["only_b"], row["p_value"], row["better"]) == (0, 0, 1.0, None)
    assert "right and wrong on the same images" in row["verdict"]


def test_a_base_and_an_adapter_are_compared_where_digits_are_given(small):
    with pytest.raises(UsageError, match="no digit in common"):
        compare(BASE, ADAPTER, workspace=small)
    (row,) = compare(BASE, ADAPTER, digits=DigitSet([7]), workspace=small)["rows"]
    assert (row["images"], row["accuracy_a"]["mean"]) == (20, 0.0)


def test_digits_that_only_one_has_learned_are_no_common_ground(small, recorder):
    finetune(AdapterConfig(rank=1, epochs=0, digits=DigitSet([4, 5, 6])), workspace=small, name="some")
    heard = Workspace(small.runs_dir, small.data_dir, reporter=recorder)
    assert compare("some", ADAPTER, workspace=heard)["digits"] == "5-6"
    assert "compared on 5-6, which both learned" in recorder.all("notice")[0]


@pytest.fixture
def rates(small: Workspace) -> Workspace:
    """A sweep over two methods, two ranks, three rates and two seeds, one rate of which is far too high."""
    grid = {"methods": "lora,full", "lrs": "1e-3,1e-2,1e30", "seeds": "0,1"}
    sweep([2, 3], grid=grid, config=AdapterConfig(epochs=2), workspace=small, name="rates")
    return small


def best_on_validation(workspace: Workspace, settings: dict[str, Any]) -> float:
    """The rate with the highest last validation accuracy, as a mean of both seeds, read from the files themselves."""
    reached: dict[float, list[float]] = {}
    rows = workspace.registry.get("rates").details["results"]
    for row in rows:
        if row["failed"] is None and all(row[key] == value for key, value in settings.items()):
            lines = (workspace.runs_dir / row["artifact"] / "history.csv").read_text().splitlines()
            last = dict(zip(lines[0].split(","), lines[-1].split(","), strict=True))
            reached.setdefault(row["lr"], []).append(float(last["val_accuracy"]))
    return max((rate for rate, found in reached.items() if len(found) == 2), key=lambda rate: mean(reached[rate]))


def test_each_setting_gets_the_rate_that_is_best_on_validation_images(rates, forge, run):
    document = compare("rates", tune=True, workspace=rates)
    found = {(row["setting"]["method"], row["setting"]["rank"]): row["lr"] for row in document["tuned"]}
    assert set(found) == {("lora", 2), ("lora", 3), ("full", 0)}
    for (method, rank), rate in found.items():
        assert rate == best_on_validation(rates, {"method": method, "rank": rank})
    assert [(row["a"], row["setting_a"]["rank"], row["b"]) for row in document["rows"]] == [
        ("lora", 2, "full"),
        ("lora", 3, "full"),
    ]
    for row in document["tuned"]:
        assert row["edge"] == ("lowest" if row["lr"] == 1e-3 else None)

    def other_test_figures(manifest: Any) -> None:
        for row in manifest["details"]["results"]:
            for subset in row["subsets"]:
                if subset["accuracy"] is not None:
                    subset["accuracy"] = 1 - subset["accuracy"]

    forge(rates.runs_dir / "rates", other_test_figures)
    again = compare("rates", tune=True, workspace=rates)
    assert [row["lr"] for row in again["tuned"]] == [row["lr"] for row in document["tuned"]]
    for now, before in zip(again["tuned"], document["tuned"], strict=True):
        assert now["accuracy"]["mean"] == pytest.approx(1 - before["accuracy"]["mean"])
    printed = run("compare", "rates", "--tune", "--runs-dir", rates.runs_dir).out
    assert "each at the learning rate that did best on its validation images" in printed
    assert "lora of rank 2 and full: The data can't tell" in printed


def test_rates_that_can_not_be_chosen_are_refused(rates, sweeper, workspace):
    grid = {"lrs": "1e29,1e30", "seeds": "0"}
    sweep([2], grid=grid, config=AdapterConfig(epochs=1), workspace=rates, name="wild")
    with pytest.raises(ArtifactError, match="at no learning rate did all runs of rank 2 end well"):
        compare("wild", "rates", tune=True, workspace=rates)
    adapter = rates.registry.get("rates").details["results"][0]["artifact"]
    with pytest.raises(UsageError, match="single adapter, and there is nothing to compare it with"):
        compare(adapter, workspace=rates)
    sweeper("a", {8: A})
    sweeper("b", {8: BETTER})
    with pytest.raises(UsageError, match="a and b: one learning rate alone"):
        compare("a", "b", tune=True, workspace=workspace)
    with pytest.raises(UsageError, match="'a' varies nothing beside rank and seed"):
        compare("a", workspace=workspace)
