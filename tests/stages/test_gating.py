"""Gates over seeds: verdicts on known figures, and how often they are wrong."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest
import scipy.stats

from lora_mnist_cli.cli.junit import Case, junit_xml
from lora_mnist_cli.stages import gate, parse_gates, plan_gate
from lora_mnist_cli.stages.evaluating import Gate
from lora_mnist_cli.stages.gating import _judge
from lora_mnist_cli.stages.records.samples import Sample
from lora_mnist_cli.system.errors import ArtifactError, UsageError

FIVE = {0: 0.95, 1: 0.96, 2: 0.955, 3: 0.965, 4: 0.95}
# Mean 0.956; t(4) = 2.7764, s = 0.0065192, so the interval is 0.956 ± 0.0080946.
LOW, HIGH = 0.9479054, 0.9640946


@pytest.mark.parametrize(
    ("minimum", "verdict"),
    [(0.9479, "PASS"), (0.948, "INCONCLUSIVE"), (0.956, "INCONCLUSIVE"), (0.964, "INCONCLUSIVE"), (0.9641, "FAIL")],
)
def test_the_interval_of_the_mean_decides(workspace, sweeper, minimum, verdict):
    sweeper("a", {8: FIVE})
    document = gate(parse_gates(f"5-9={minimum}"), "a", workspace=workspace)
    (row,) = document["gates"]
    assert (document["verdict"], row["verdict"]) == (verdict, verdict)
    assert (row["n"], row["images"], row["minimum"]) == (5, 1000, minimum)
    assert row["interval"] == {"of": "seeds", "low": pytest.approx(LOW), "high": pytest.approx(HIGH)}
    assert (row["accuracy"]["worst"], row["accuracy"]["worst_seed"]) == (0.95, 0)
    theirs = scipy.stats.binomtest(956, 1000).proportion_ci(0.95, "wilson")
    assert row["test_set"] == {"low": pytest.approx(theirs.low), "high": pytest.approx(theirs.high)}


def test_a_higher_confidence_asks_for_more(workspace, sweeper):
    sweeper("a", {8: FIVE})
    verdicts = [
        gate(parse_gates("5-9=0.947"), "a", confidence=confidence, workspace=workspace)["verdict"]
        for confidence in (0.8, 0.95, 0.99)
    ]
    assert verdicts == ["PASS", "PASS", "INCONCLUSIVE"]
    with pytest.raises(UsageError, match="confidence"):
        gate(parse_gates("5-9=0.947"), "a", confidence=1.0, workspace=workspace)


def test_each_rank_has_to_pass_unless_one_is_chosen(workspace, sweeper):
    sweeper("a", {1: {seed: x - 0.1 for seed, x in FIVE.items()}, 4: {0: 0.9, 1: 0.99}, 8: FIVE})
    document = gate(parse_gates("5-9=0.94"), "a", workspace=workspace)
    verdicts = [(row["setting"]["rank"], row["verdict"]) for row in document["gates"]]
    assert verdicts == [(1, "FAIL"), (4, "INCONCLUSIVE"), (8, "PASS")]
    assert document["verdict"] == "FAIL"
    for rank, verdict in verdicts:
        assert gate(parse_gates("5-9=0.94"), "a", rank=rank, workspace=workspace)["verdict"] == verdict
    with pytest.raises(UsageError, match=r"'a' has no rank 2 \(ranks: 1, 4, 8\)"):
        gate(parse_gates("5-9=0.94"), "a", rank=2, workspace=workspace)


def test_a_run_that_failed_is_never_a_pass(workspace, sweeper):
    sweeper("a", {8: FIVE | {5: None, 6: None}})
    (row,) = gate(parse_gates("5-9=0"), "a", workspace=workspace)["gates"]
    assert row["verdict"] == "FAIL"
    assert row["reason"].startswith("no finite figure in 2 of 7 runs (seed 5, 6)")
    assert (row["n"], row["accuracy"]["n"]) == (7, 5)


@pytest.mark.parametrize(
    "score",
    [
        {"count": 1000, "accuracy": None, "loss": None},
        {"count": 1000, "accuracy": 1.0, "loss": None},
        {"count": 1000, "accuracy": 1.0, "loss": float("nan")},
        {"count": 1000, "accuracy": float("nan"), "loss": 0.1},
        {"count": 0, "accuracy": None, "loss": None},
        {"count": 1000, "accuracy": 1.5, "loss": 0.1},
        {"count": -5, "accuracy": 1.0, "loss": 0.1},
    ],
)
def test_what_is_no_figure_is_never_a_pass(score):
    good = {"count": max(score["count"], 0), "accuracy": 1.0, "loss": 0.1}
    for scores in ([score], [score, score], [good, good, good, score]):
        row = _judge(Sample({"rank": 8}, dict(enumerate(scores))), Gate(parse_gates("5-9=0")[0].digits, 0.0), 0.95)
        assert row["verdict"] == "FAIL"


def test_digits_without_images_are_a_fail(workspace, sweeper):
    sweeper("a", {8: dict.fromkeys(range(5))}, images=0)
    (row,) = gate(parse_gates("5-9=0"), "a", workspace=workspace)["gates"]
    assert (row["verdict"], row["reason"]) == ("FAIL", "there are no test images of digits 5-9")


def test_one_seed_is_never_a_pass(workspace, sweeper):
    sweeper("a", {8: {0: 0.99}})
    for minimum, verdict in ((0.0, "INCONCLUSIVE"), (0.9, "INCONCLUSIVE"), (0.999, "FAIL")):
        (row,) = gate(parse_gates(f"5-9={minimum}"), "a", workspace=workspace)["gates"]
        assert row["verdict"] == verdict
        assert row["interval"] == {"of": "test images", **row["test_set"]}


def test_one_model_is_one_seed(small):
    name = "base-fashion-mnist-0-4"
    accuracy = small.registry.get(name).scores["subsets"][0]["accuracy"]
    (row,) = gate(parse_gates("0-4=0"), name, workspace=small)["gates"]
    assert (row["verdict"], row["n"], row["accuracy"]["mean"]) == ("INCONCLUSIVE", 1, accuracy)
    (row,) = gate(parse_gates("5-9=0.9"), name, workspace=small)["gates"]
    assert row["verdict"] == "FAIL"


def test_seeds_that_agree_to_the_image_are_no_proof_of_no_spread(workspace, sweeper):
    sweeper("a", {8: {0: 0.95, 1: 0.95}}, images=20)
    assert gate(parse_gates("5-9=0.94"), "a", workspace=workspace)["verdict"] == "INCONCLUSIVE"
    # Ten that agree on a thousand images know the mean to a tenth of a thousandth or two.
    sweeper("b", {8: dict.fromkeys(range(10), 1.0)})
    assert gate(parse_gates("5-9=0.999"), "b", workspace=workspace)["verdict"] == "PASS"


@pytest.mark.parametrize(
    ("n", "images", "deviation"), [(2, 4861, 0.003), (3, 4861, 0.02), (5, 100, 0.005), (10, 20, 0.03)]
)
def test_a_recipe_at_its_threshold_passes_and_fails_rarely(n, images, deviation):
    """Sweeps whose true mean is just below the threshold: a PASS is false. Just above it, a FAIL is."""
    generator = np.random.default_rng(n)
    digits, mean, tries = parse_gates("5-9=0")[0].digits, 0.9, 2000
    draws = np.clip(generator.normal(mean, deviation, (tries, n)), 0, 1)
    counts = generator.binomial(1, draws * images % 1) + np.floor(draws * images)  # rounded so that means stay
    wrong = dict.fromkeys(("PASS", "FAIL"), 0)
    for row in counts / images:
        scores = {seed: {"count": images, "accuracy": accuracy, "loss": 0.1} for seed, accuracy in enumerate(row)}
        verdict = _judge(Sample({"rank": 8}, scores), Gate(digits, mean), 0.95)["verdict"]
        if verdict in wrong:
            wrong[verdict] += 1
    assert wrong["PASS"] / tries <= 0.04
    assert wrong["FAIL"] / tries <= 0.04


def test_a_plan_has_seeds_for_the_sweeps_own_margin_and_for_others(workspace, sweeper):
    sweeper("a", {4: FIVE, 8: {0: 0.9}})
    document = plan_gate(parse_gates("5-9=0.953"), "a", workspace=workspace)
    assert (document["artifact"], document["confidence"], document["power"]) == ("a", 0.95, 0.8)
    row, alone = document["plans"]
    assert (row["n"], row["mean"], row["margin"]) == (5, pytest.approx(0.956), pytest.approx(0.003))
    for margin, seeds in [(row["margin"], row["seeds_needed"]), *row["seeds_by_margin"]]:
        powers = []
        for n in (seeds - 1, seeds):
            shift = margin / row["sd"] * n**0.5
            powers.append(1 - scipy.stats.nct.cdf(scipy.stats.t.ppf(0.975, n - 1), n - 1, shift))
        assert powers[0] < 0.8 <= powers[1]
    assert (alone["n"], alone["margin"], alone["seeds_needed"]) == (1, None, None)
    assert {seeds for _, seeds in alone["seeds_by_margin"]} == {None}


def test_the_newest_sweep_by_default(workspace, sweeper):
    with pytest.raises(ArtifactError):
        gate(parse_gates("5-9=0.9"), workspace=workspace)
    sweeper("a", {8: FIVE})
    sweeper("b", {8: FIVE})
    assert gate(parse_gates("5-9=0.9"), workspace=workspace)["artifact"] == "b"


# The command


@pytest.mark.parametrize(
    ("minimum", "more", "code"),
    [
        ("0.94", [], 0), ("0.955", [], 1), ("0.99", [], 1), ("0.955", ["--allow-inconclusive"], 0),
        ("0.99", ["--allow-inconclusive"], 1), ("0.94", ["--allow-inconclusive"], 0), ("0.99", ["--plan"], 0),
    ],
)  # fmt: skip
def test_exit_codes(sweeper, run, tmp_path, minimum, more, code):
    sweeper("a", {8: FIVE})
    outcome = run("gate", "a", "--require", f"5-9={minimum}", *more, "--runs-dir", tmp_path / "runs")
    assert outcome.code == code
    assert (outcome.err == "") is (code == 0)
    for shown in ("5", "95.60", f"{100 * float(minimum):.2f}"):  # n, mean and threshold, whatever the verdict is
        assert shown in outcome.out.split()
    if "--plan" not in more:
        assert "94.79 to 96.41" in outcome.out
    as_json = run("gate", "a", "--require", f"5-9={minimum}", *more, "--json", "--runs-dir", tmp_path / "runs")
    assert (as_json.code, as_json.json["artifact"]) == (code, "a")


def test_a_gate_that_is_not_passed_says_where(sweeper, run, tmp_path):
    sweeper("a", {1: {0: 0.5, 1: 0.5}, 8: FIVE})
    outcome = run("gate", "a", "--require", "5-9=0.955", "--runs-dir", tmp_path / "runs")
    assert outcome.err == "error: FAIL: 2 of 2 do not pass\n"
    for row in ("rank 1, digits 5-9: FAIL", "rank 8, digits 5-9: INCONCLUSIVE"):
        assert outcome.out.count(row) == 1
    for bad, problem in (("5-9", "has no minimum (write --require"), ("5-9=95", "(write 95%, or 0.95)")):
        refused = run("gate", "a", "--require", bad, "--runs-dir", tmp_path / "runs")
        assert refused.code == 2
        assert problem in refused.err
    assert run("gate", "a", "--runs-dir", tmp_path / "runs").code == 2


def test_what_passes_gets_its_alias_and_nothing_else_does(sweeper, run, tmp_path):
    sweeper("good", {8: FIVE})
    sweeper("bad", {8: dict.fromkeys(range(5), 0.5)})
    options = ["--require", "5-9=0.9", "--tag", "champion", "--runs-dir", tmp_path / "runs"]
    assert run("gate", "good", *options).err == "@champion stands for good\n"
    assert run("gate", "bad", *options).code == 1
    assert run("runs", "path", "@champion", "--runs-dir", tmp_path / "runs").out.strip().endswith("good")
    assert run("gate", "good", *options, "--tag", "no/alias").code == 2
    assert run("gate", "good", *options, "--plan").code == 2


def test_a_plan_has_no_verdict_to_write(sweeper, run, tmp_path):
    sweeper("a", {8: FIVE})
    file = tmp_path / "gate.xml"
    outcome = run("gate", "a", "--require", "5-9=0.9", "--plan", "--junit", file, "--runs-dir", tmp_path / "runs")
    assert (outcome.code, outcome.out, file.exists()) == (2, "", False)
    assert "--plan gives no verdict" in outcome.err


@pytest.mark.parametrize("allow", [[], ["--allow-inconclusive"]])
def test_junit_has_a_case_a_gate(sweeper, run, tmp_path, allow):
    sweeper(
        "a", {1: {0: 0.5, 1: 0.51}, 4: {seed: x - 0.001 for seed, x in FIVE.items()}, 8: dict.fromkeys(range(5), 0.99)}
    )
    file = tmp_path / "gate.xml"
    outcome = run("gate", "a", "--require", "5-9=0.955", "--junit", file, *allow, "--runs-dir", tmp_path / "runs")
    assert outcome.code == 1
    root = ElementTree.parse(file).getroot()
    (suite,) = root
    assert (root.tag, suite.tag) == ("testsuites", "testsuite")
    counts = {key: suite.attrib[key] for key in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": "3", "failures": "1" if allow else "2", "errors": "0", "skipped": "1" if allow else "0"}
    cases = suite.findall("testcase")
    assert [case.attrib["name"].split(",")[0] for case in cases] == ["rank 1", "rank 4", "rank 8"]
    assert [[child.tag for child in case] for case in cases] == [["failure"], ["skipped" if allow else "failure"], []]
    assert cases[0][0].attrib["type"] == "FAIL"
    for text in ("required 95.50 %", "n = 2", "mean 50.50 %", "interval"):
        assert text in cases[0][0].attrib["message"]
    unwritable = run(
        "gate", "a", "--require", "5-9=0.9", "--junit", tmp_path / "no" / "x.xml", "--runs-dir", tmp_path / "runs"
    )
    assert unwritable.code == 5


def test_junit_is_what_the_usual_schemas_ask_for():
    """Order of elements and names of attributes, as Ant's and Jenkins's schema of JUnit's format both have them."""
    content = junit_xml("gate a&b", [Case("x < y", "told", "failed", "FAIL"), Case("z", "", "passed")], seconds=0.5)
    assert content.startswith(b'<?xml version="1.0" encoding="UTF-8"?>\n<testsuites>')
    (suite,) = ElementTree.fromstring(content)
    assert set(suite.attrib) == {
        "name", "package", "id", "timestamp", "hostname", "tests", "failures", "errors", "skipped", "time",
    }  # fmt: skip
    assert [child.tag for child in suite] == ["properties", "testcase", "testcase", "system-out", "system-err"]
    assert suite[1].attrib == {"name": "x < y", "classname": "gate a&b", "time": "0.250"}
    assert suite[1][0].attrib == {"message": "told", "type": "FAIL"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", suite.attrib["timestamp"])
