"""Evaluation and gates."""

from __future__ import annotations

import dataclasses
import math
import shutil
from pathlib import Path

import pytest
import safetensors.numpy

from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.stages import Evaluation, check_gates, evaluate, finetune, parse_gates
from lora_mnist_cli.system.errors import ArtifactError, DataError, UsageError

BASE, ADAPTER, SWEEP = "base-fashion-mnist-0-4", "lora-fashion-mnist-5-9-r2-a0.5", "sweep-fashion-mnist-5-9-a0.5"


def test_the_trained_alpha_gives_the_published_scores(small, recorder):
    before = sorted(small.runs_dir.rglob("*"))
    (evaluation,) = evaluate(workspace=dataclasses.replace(small, reporter=recorder))
    assert (evaluation.artifact.name, evaluation.base.name) == (ADAPTER, BASE)
    assert (evaluation.alpha, evaluation.scores) == (0.5, evaluation.artifact.scores)
    (plain,) = evaluate(BASE, workspace=small)
    assert (plain.alpha, plain.base, plain.scores) == (None, plain.artifact, small.registry.get(BASE).scores)
    assert recorder.all("notice") == [f"taking the newest adapter: {ADAPTER}"]
    assert sorted(small.runs_dir.rglob("*")) == before


def test_where_there_is_no_adapter_the_newest_base_is_taken(small):
    for name in (SWEEP, ADAPTER):
        small.registry.remove(name)
    assert evaluate(workspace=small)[0].artifact.name == BASE
    with pytest.raises(ArtifactError, match="first: lora-mnist finetune"):
        evaluate(alphas=[0.5], workspace=small)


def test_alphas_in_their_order_and_alpha_0_is_the_base(small):
    alphas = [1.0, 0.0, 0.5, 0.0]
    evaluations = evaluate(ADAPTER, alphas=alphas, workspace=small)
    assert [evaluation.alpha for evaluation in evaluations] == alphas
    base = small.registry.get(BASE).scores
    assert evaluations[1].scores == evaluations[3].scores == base
    assert evaluations[2].scores == small.registry.get(ADAPTER).scores
    assert evaluations[0].scores != evaluations[2].scores


def test_digit_sets_of_ones_own(small):
    sets = [DigitSet.parse("0"), DigitSet.parse("2,8-9")]
    (evaluation,) = evaluate(ADAPTER, digit_sets=sets, workspace=small)
    assert [(row["digits"], row["count"]) for row in evaluation.scores["subsets"]] == [("0", 20), ("2,8-9", 60)]
    per_digit = evaluation.scores["per_digit"]
    expected = sum(per_digit[digit]["accuracy"] for digit in (2, 8, 9)) / 3
    assert evaluation.scores["subsets"][1]["accuracy"] == pytest.approx(expected)


def test_what_has_no_alpha_or_no_model_is_refused(small):
    for alpha in (math.nan, -math.inf, "0.5", 1j, 10**400, [0.5], None):
        with pytest.raises(UsageError, match="finite"):
            evaluate(ADAPTER, alphas=[0.0, alpha], workspace=small)
    with pytest.raises(UsageError, match="name is a text, not 5"):
        evaluate(5, workspace=small)
    with pytest.raises(UsageError, match="is a base and has no alpha"):
        evaluate(BASE, alphas=[0.0], workspace=small)
    with pytest.raises(ArtifactError, match=f"of kind sweep, not adapter or base .*{ADAPTER}"):
        evaluate(SWEEP, workspace=small)
    with pytest.raises(ArtifactError, match=f"did you mean '{ADAPTER}'"):
        evaluate(ADAPTER.replace("r2", "r3"), workspace=small)


def test_other_images_than_the_artifacts_are_refused(small, tmp_path, idx, small_images):
    data = Path(shutil.copytree(small.data_dir, tmp_path / "data"))
    images, _ = small_images(200, 77)
    (data / "FashionMNIST/raw/t10k-images-idx3-ubyte").write_bytes(idx(images))
    with pytest.raises(DataError, match=f"not the files that '{ADAPTER}' was made with"):
        evaluate(ADAPTER, workspace=dataclasses.replace(small, data_dir=data))


@pytest.mark.parametrize("alphas", ["0.5", [[0.5]], [1j], [10**400], [None], [float("nan")]])
def test_an_alpha_that_is_no_finite_number_is_refused(small, alphas):
    with pytest.raises(UsageError, match="alpha is a finite number, not"):
        evaluate("lora-5-9-r8", alphas=alphas, workspace=small)


@pytest.mark.parametrize("file", [f"{BASE}/model.safetensors", f"{ADAPTER}/adapter_model.safetensors"])
def test_a_flipped_bit_in_the_weights_is_found(small, file):
    path = small.runs_dir / file
    content = bytearray(path.read_bytes())
    content[-7] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=f"'{path.parent.name}' is damaged"):
        evaluate(ADAPTER, workspace=small)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0-4=0.98", [("0-4", 0.98)]),
        ("0-4=0.98,5-9=0.95", [("0-4", 0.98), ("5-9", 0.95)]),
        ("0-4=0.98,5,7-9=0.95", [("0-4", 0.98), ("5,7-9", 0.95)]),
        ("5,7-9=1,all=0", [("5,7-9", 1.0), ("0-9", 0.0)]),
        ("0-4=95.7%,5-9= 95 %,3=0%,4=100%", [("0-4", 0.957), ("5-9", 0.95), ("3", 0.0), ("4", 1.0)]),
    ],
)
def test_gates_as_they_are_written(text, expected):
    assert [(str(gate.digits), gate.minimum) for gate in parse_gates(text)] == expected


@pytest.mark.parametrize(
    "text",
    ["", "0-4", "0-4=", "0-4=x", "=0.9", "0-4=1.01", "0-4=-0.1", "0-4=nan", "0-4=inf", "4-0=0.5", "0-4=0.9,5", "a=0.5",
     "0-12=0.5", "0-4=101%", "0-4=-1%", "0-4=%", "0-4=nan%", "0-4=95%%", "0-4=9e1%", "0-4=0.9=0.9",
     "0-4=0.9,", ",0-4=0.9", "0-4=0.9,,5=0.9"],
)  # fmt: skip
def test_gates_that_can_not_be_meant(text):
    with pytest.raises(UsageError):
        parse_gates(text)


@pytest.mark.parametrize(
    ("word", "meant"), [("95", "95%, or 0.95"), ("1.01", "1.01%, or 0.0101"), ("100", "100%, or 1")]
)
def test_a_number_that_may_be_a_per_cent_is_asked_about(word, meant):
    with pytest.raises(UsageError, match="no per cent sign") as caught:
        parse_gates(f"5-9={word}")
    assert caught.value.hint == f"write {meant}"


def evaluation_of(rows: dict[int, tuple[int, float | None, float | None]], artifact: Artifact) -> Evaluation:
    per_digit = [
        dict(zip(("digit", "count", "accuracy", "loss"), (digit, *rows.get(digit, (0, None, None))), strict=True))
        for digit in range(10)
    ]
    return Evaluation(artifact, artifact, 1.0, {"subsets": [], "per_digit": per_digit})


def test_gates_pass_from_their_minimum_on(small):
    artifact = small.registry.get(BASE)
    evaluation = evaluation_of({0: (10, 1.0, 0.1), 1: (30, 0.8, 0.5), 2: (5, 0.0, 9.0)}, artifact)
    rows = check_gates(parse_gates("0-1=0.85,0-1=0.8500001,2=0"), evaluation)
    assert [row["passed"] for row in rows] == [True, False, True]
    assert rows[0] == {
        "digits": "0-1", "count": 40, "accuracy": 0.85, "loss": pytest.approx(0.4), "minimum": 0.85, "alpha": 1.0,
        "passed": True,
    }  # fmt: skip


def test_without_images_or_a_finite_loss_no_gate_passes(small):
    artifact = small.registry.get(BASE)
    evaluation = evaluation_of({0: (10, 1.0, None), 1: (10, 1.0, 0.1)}, artifact)
    rows = check_gates(parse_gates("0=0,1=0,5-9=0,0-1=0,1,5=0"), evaluation)
    assert [row["passed"] for row in rows] == [False, True, False, False, True]


def test_weights_that_are_not_finite_pass_no_gate(small):
    finetune(AdapterConfig(rank=1, epochs=1), workspace=small, name="wild")
    (evaluation,) = evaluate("wild", alphas=[1e38], workspace=small)
    assert evaluation.scores["subsets"][-1]["loss"] is None
    assert not any(row["passed"] for row in check_gates(parse_gates("0-4=0,5-9=0,all=0"), evaluation))


def test_an_adapter_whose_product_is_zero_is_told_of(example, forge, run):
    """It is a sound artifact, but whoever evaluates it sees the base's figures and should know why."""
    folder = example / "lora-5-9-r1"
    state = safetensors.numpy.load_file(folder / "adapter_model.safetensors")
    warning = "warning: 'lora-5-9-r1' changes nothing: its product B A is zero on all its layers"
    assert warning not in run("evaluate", "lora-5-9-r1").err
    for layers in (("fc1",), ("fc1", "fc2")):
        changed = {key: 0 * value if "lora_B" in key and any(x in key for x in layers) else value
                   for key, value in state.items()}  # fmt: skip
        forge(folder, files={"adapter_model.safetensors": safetensors.numpy.save(changed)})
        outcome = run("evaluate", "lora-5-9-r1", "--json", "--quiet")
        assert outcome.code == 0
        assert (warning in outcome.err) is (len(layers) == 2)
    base = run("evaluate", "base-0-4", "--json").json
    assert base["subsets"] == outcome.json["subsets"]
    assert warning not in run("evaluate", "base-0-4").err
    assert run("runs", "verify").code == 3  # the sweep lists the adapter that was there before


def test_factors_that_cancel_are_a_product_of_zero(example, forge, run):
    folder = example / "lora-5-9-r1"
    state = safetensors.numpy.load_file(folder / "adapter_model.safetensors")
    changed = {key: 0 * value if ("lora_A" in key) == ("fc1" in key) else value for key, value in state.items()}
    forge(folder, files={"adapter_model.safetensors": safetensors.numpy.save(changed)})
    assert "changes nothing" in run("evaluate", "lora-5-9-r1").err
