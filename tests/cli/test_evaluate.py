"""``lora-mnist evaluate``: its options arrive, its document has its keys, its gates are an exit code."""

from __future__ import annotations

from typing import Any

import pytest
import scipy.stats
from small_artifacts import BASE, R2


def test_the_options_arrive_and_the_newest_adapter_is_taken(runs, run):
    outcome = run("evaluate", "--alpha", "1,0,-0.5", "--digits", "0", "--digits", "9,1-2", "--json")
    assert outcome.err == f"taking the newest adapter: {R2}\n"
    assert set(outcome.json) == {"schema_version", "command", "artifact", "classes", "results"}
    assert [row["alpha"] for row in outcome.json["results"]] == [1.0, 0.0, -0.5]
    for row in outcome.json["results"]:
        assert [(subset["digits"], subset["count"]) for subset in row["subsets"]] == [("0", 20), ("1-2,9", 60)]
    named = run("evaluate", R2, "--alpha", "1,0,-0.5", "--digits", "0", "--digits", "9,1-2", "--json")
    assert (named.out, named.err) == (outcome.out, "")


def test_each_accuracy_of_one_model_has_the_wilson_interval_of_its_images(runs, run):
    document = run("evaluate", R2, "--json").json
    for row in document["subsets"] + document["per_digit"]:
        score = scipy.stats.binomtest(round(row["accuracy"] * row["count"]), row["count"])
        theirs = score.proportion_ci(0.95, "wilson")
        assert (row["accuracy_low"], row["accuracy_high"]) == pytest.approx((theirs.low, theirs.high), abs=1e-9)
    for command in (("evaluate", R2), ("runs", "show", R2)):
        printed = run(*command).out
        for row in document["subsets"]:
            assert f"{100 * row['accuracy_low']:.2f} to {100 * row['accuracy_high']:.2f}" in printed


def test_what_a_strangers_manifest_calls_an_accuracy_has_no_interval(example, forge, run):
    def odd(manifest: Any) -> None:
        manifest["scores"]["subsets"][0]["accuracy"] = 1.5
        manifest["scores"]["per_digit"][0]["count"] = -3

    forge(example / "base-0-4", odd)
    outcome = run("runs", "show", "base-0-4", "--runs-dir", example)
    assert outcome.code in (0, 3)
    assert "defect" not in outcome.err


def test_gates_that_are_met_are_in_the_document(runs, run):
    outcome = run("evaluate", BASE, "--min-accuracy", "0-4=0,5-9=0", "--json")
    assert (outcome.code, outcome.err) == (0, "")
    gates = outcome.json["gates"]
    assert [(gate["digits"], gate["passed"], gate["alpha"]) for gate in gates] == [
        ("0-4", True, None), ("5-9", True, None),
    ]  # fmt: skip
    assert set(gates[0]) == {"digits", "count", "accuracy", "loss", "minimum", "alpha", "passed"}


def test_a_gate_that_is_not_met_is_exit_code_1_and_says_what_fell_short(runs, run):
    accuracy = run("evaluate", BASE, "--json").json["subsets"][0]["accuracy"]
    outcome = run("evaluate", BASE, "--min-accuracy", "0-4=1,5-9=0.5,0-9=0")
    assert outcome.code == 1
    (line,) = outcome.err.splitlines()
    assert line.startswith("error: ")
    assert f"digits 0-4: accuracy {100 * accuracy:.2f} % is below 100.00 % (100 images)" in line
    assert "digits 5-9: accuracy 0.00 % is below 50.00 %" in line
    assert "0-9" not in line
    # The result is printed all the same, with each gate's verdict.
    verdicts = [line.split() for line in outcome.out.splitlines() if line.rstrip().endswith(("met", "MET"))]
    assert [cells[0] for cells in verdicts] == ["0-4", "5-9", "0-9"]
    assert [" ".join(cells[5:]) for cells in verdicts] == ["NOT MET", "NOT MET", "met"]
    document = run("evaluate", R2, "--alpha", "0,1", "--min-accuracy", "0-9=1", "--json")
    assert document.code == 1
    assert [(gate["alpha"], gate["passed"]) for gate in document.json["gates"]] == [(0.0, False), (1.0, False)]
    assert "digits 0-9 at alpha 1: accuracy" in document.err
