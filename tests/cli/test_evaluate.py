"""``lora-mnist evaluate``: what is taken by default, alphas, subsets and gates."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import scipy.stats

from lora_mnist_cli.registry.artifact import read_artifact
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.stages import Evaluation, check_gates, parse_gates

Run = Callable[..., Any]


def _accuracy(document: dict[str, Any], digits: str) -> float:
    return float(next(row["accuracy"] for row in document["subsets"] if row["digits"] == digits))


def test_the_newest_adapter_by_default(runs: Path, run: Run) -> None:
    outcome = run("evaluate", "--json")
    assert outcome.json["artifact"] == "lora-5-9-r2"
    assert outcome.err == "taking the newest adapter: lora-5-9-r2\n"
    named = run("evaluate", "lora-5-9-r2", "--json")
    assert named.err == ""
    assert named.out == outcome.out


def test_the_newest_base_where_there_is_no_adapter(runs: Path, run: Run) -> None:
    for name in ("sweep-5-9", "lora-5-9-r1", "lora-5-9-r2"):
        shutil.rmtree(runs / name)
    outcome = run("evaluate", "--json")
    assert outcome.json["artifact"] == "base-0-4"
    assert "base-0-4" in outcome.err


def test_an_evaluation_gives_the_scores_that_were_published(runs: Path, run: Run) -> None:
    for name in ("base-0-4", "lora-5-9-r1"):
        document = run("evaluate", name, "--json").json
        for kind, published in read_artifact(runs / name).scores.items():
            for row, score in zip(document[kind], published, strict=True):
                assert score.items() <= row.items()


def test_each_accuracy_of_one_model_has_the_wilson_interval_of_its_images(runs: Path, run: Run) -> None:
    document = run("evaluate", "lora-5-9-r1", "--json").json
    for row in document["subsets"] + document["per_digit"]:
        score = scipy.stats.binomtest(round(row["accuracy"] * row["count"]), row["count"])
        theirs = score.proportion_ci(0.95, "wilson")
        assert (row["accuracy_low"], row["accuracy_high"]) == pytest.approx((theirs.low, theirs.high), abs=1e-9)
    for command in (("evaluate", "lora-5-9-r1"), ("runs", "show", "lora-5-9-r1")):
        printed = run(*command).out
        for row in document["subsets"]:
            assert f"{100 * row['accuracy_low']:.2f} to {100 * row['accuracy_high']:.2f}" in printed


def test_what_a_strangers_manifest_calls_an_accuracy_has_no_interval(
    example: Path, forge: Callable[..., None], run: Run
) -> None:
    def odd(manifest: Any) -> None:
        manifest["scores"]["subsets"][0]["accuracy"] = 1.5
        manifest["scores"]["per_digit"][0]["count"] = -3

    forge(example / "base-0-4", odd)
    outcome = run("runs", "show", "base-0-4", "--runs-dir", example)
    assert outcome.code in (0, 3)
    assert "defect" not in outcome.err


def test_alpha_0_is_the_base_and_alpha_1_the_adapter(runs: Path, run: Run) -> None:
    at_0, at_half, at_1 = run("evaluate", "lora-5-9-r2", "--alpha", "0,0.5,1", "--json").json["results"]
    base = run("evaluate", "base-0-4", "--json").json
    assert at_0["subsets"] == base["subsets"]
    assert at_0["per_digit"] == base["per_digit"]
    assert at_1["subsets"] == run("evaluate", "lora-5-9-r2", "--json").json["subsets"]
    assert at_0["subsets"] != at_half["subsets"] != at_1["subsets"]
    assert run("evaluate", "lora-5-9-r2", "--alpha", "0", "--json").json["subsets"] == base["subsets"]


def test_alphas_keep_their_order(runs: Path, run: Run) -> None:
    results = run("evaluate", "--alpha", "1,0,-0.5,1", "--json").json["results"]
    assert [row["alpha"] for row in results] == [1.0, 0.0, -0.5, 1.0]
    assert results[0]["subsets"] == results[3]["subsets"]


def test_a_base_has_no_alpha(runs: Path, run: Run) -> None:
    outcome = run("evaluate", "base-0-4", "--alpha", "0")
    assert (outcome.code, outcome.out) == (2, "")
    assert "'base-0-4'" in outcome.err


def test_other_subsets(runs: Path, run: Run) -> None:
    document = run("evaluate", "--digits", "0", "--digits", "9,1-2", "--json").json
    assert [(row["digits"], row["count"]) for row in document["subsets"]] == [("0", 980), ("1-2,9", 3176)]
    assert document["subsets"][0]["accuracy"] == document["per_digit"][0]["accuracy"]


# Gates


def test_a_gate_that_is_met_exactly(runs: Path, run: Run) -> None:
    accuracy = _accuracy(run("evaluate", "base-0-4", "--json").json, "0-4")
    outcome = run("evaluate", "base-0-4", "--min-accuracy", f"0-4={accuracy!r},5-9=0", "--json")
    assert (outcome.code, outcome.err) == (0, "")
    gates = outcome.json["gates"]
    assert [(gate["digits"], gate["passed"], gate["alpha"]) for gate in gates] == [
        ("0-4", True, None), ("5-9", True, None),
    ]  # fmt: skip
    assert set(gates[0]) == {"digits", "count", "accuracy", "loss", "minimum", "alpha", "passed"}
    assert gates[0]["accuracy"] == gates[0]["minimum"] == accuracy


def test_a_gate_that_is_not_met_says_what_fell_short_and_by_how_much(runs: Path, run: Run) -> None:
    accuracy = _accuracy(run("evaluate", "base-0-4", "--json").json, "0-4")
    outcome = run("evaluate", "base-0-4", "--min-accuracy", f"0-4={accuracy + 1e-6!r},5-9=0.5,0-9=0.1")
    assert outcome.code == 1
    (line,) = outcome.err.splitlines()
    assert line.startswith("error: ")
    assert f"digits 0-4: accuracy {accuracy:.4f} is below {accuracy + 1e-6:g}" in line
    assert "digits 5-9: accuracy 0.0000 is below 0.5" in line
    assert "0-9" not in line
    # The result is printed all the same, with each gate's verdict.
    assert "5,139" in outcome.out
    verdicts = [line.split() for line in outcome.out.splitlines() if line.rstrip().endswith(("met", "MET"))]
    assert [cells[0] for cells in verdicts] == ["0-4", "5-9", "0-9"]
    assert [" ".join(cells[5:]) for cells in verdicts] == ["NOT MET", "NOT MET", "met"]


def test_a_failing_gate_leaves_the_json_whole(runs: Path, run: Run) -> None:
    outcome = run("evaluate", "lora-5-9-r2", "--alpha", "0,1", "--min-accuracy", "0-4=0.9", "--json")
    assert outcome.code == 1
    assert len(outcome.json["results"]) == 2
    assert [(gate["alpha"], gate["passed"]) for gate in outcome.json["gates"]] == [(0.0, True), (1.0, False)]
    assert "digits 0-4 at alpha 1: accuracy" in outcome.err
    assert "alpha 0:" not in outcome.err


def test_a_gate_is_on_its_own_digits_whatever_is_scored(runs: Path, run: Run) -> None:
    outcome = run("evaluate", "base-0-4", "--digits", "9", "--min-accuracy", "0,2-4=0.9", "--json")
    assert outcome.code == 0
    assert [(gate["digits"], gate["count"]) for gate in outcome.json["gates"]] == [("0,2-4", 4004)]


@pytest.mark.parametrize(("loss", "count", "accuracy"), [(None, 100, 1.0), (0.1, 0, None), (None, 0, None)])
def test_no_figure_never_passes_a_gate(loss: float | None, count: int, accuracy: float | None, trained: Path) -> None:
    """A loss that is not finite is recorded as none; so is any figure of a subset without images."""
    artifact = read_artifact(trained / "base-0-4")
    per_digit = [{"digit": d, "count": count, "accuracy": accuracy, "loss": loss} for d in range(10)]
    evaluation = Evaluation(artifact, artifact, None, {"subsets": [], "per_digit": per_digit})
    (row,) = check_gates(parse_gates("0-4=0"), evaluation)
    assert row["passed"] is False


@pytest.mark.parametrize(
    "text",
    [
        *("x", "0-4", "0-4=", "0-4=x", "0-4=nan", "0-4=inf", "0-4=1.01", "0-4=-0.1", "=0.5", "", "5-2=0.5", "0-4=1,5"),
        "0-4=0.9,",
        "0-4=0,,5-9=0",
        ",0-4=0",
    ],
)
def test_odd_gates(text: str, runs: Path, run: Run) -> None:
    outcome = run("evaluate", "--min-accuracy", text)
    assert (outcome.code, outcome.out) == (2, "")
    (line,) = outcome.err.splitlines()
    assert line.startswith("error: ")


def test_a_comma_in_front_of_the_equals_sign_belongs_to_the_digits() -> None:
    gates = parse_gates("0-4=0.98,5,7-9=0.95")
    assert [(gate.digits, gate.minimum) for gate in gates] == [
        (DigitSet.parse("0-4"), 0.98), (DigitSet.parse("5,7-9"), 0.95),
    ]  # fmt: skip
