"""``runs diff``: settings, scores and weights of two artifacts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.registry.diff import diff
from lora_mnist_cli.registry.registry import Registry
from lora_mnist_cli.system.errors import ArtifactError

Forge = Callable[..., None]
BASE, ADAPTER, SWEEP = "base-0-4", "lora-5-9-r1", "sweep-5-9"
WEIGHTS = "adapter_model.safetensors"


@pytest.fixture
def twin(example: Path, forge: Forge) -> Callable[..., Artifact]:
    """A copy of the adapter with other factors and settings: ``twin(factors, alpha=2.0)``."""

    def make(change: Callable[[Any], Any] = lambda _: None, **config: Any) -> Artifact:
        folder = Path(shutil.copytree(example / ADAPTER, example / "twin"))
        state = safetensors.numpy.load_file(folder / WEIGHTS)
        change(state)
        forge(
            folder,
            lambda manifest: manifest["config"].update(config),
            files={WEIGHTS: safetensors.numpy.save(state, metadata={"format": "pt"})},
        )
        return Registry(example).get("twin")

    return make


def products(folder: Path, factor: float = 1.0) -> dict[str, Any]:
    """``factor · B A`` by layer, computed here."""
    state = safetensors.numpy.load_file(folder / WEIGHTS)
    layers = sorted({key.split(".")[2] for key in state})
    key = "base_model.model.{}.lora_{}.weight"
    return {
        layer: factor * state[key.format(layer, "B")].astype(float) @ state[key.format(layer, "A")].astype(float)
        for layer in layers
    }


def test_an_artifact_and_its_copy_differ_in_nothing(example, run):
    shutil.copytree(example / BASE, example / "copy")
    document = run("runs", "diff", BASE, "copy", "--json").json
    assert document["same_content"] is True
    assert document["settings"] == []
    assert document["same_weights"] is True
    printed = run("runs", "diff", BASE, "copy").out
    for words in ("have the same content", "No setting differs", "Their weights are equal"):
        assert words in printed


def test_products_are_compared_and_not_factors(example, twin, run):
    """Twice A with half of B, or half of both with four times alpha, are the same adapter."""

    def rescale(state: Any) -> None:
        for key in state:
            state[key] = state[key] * np.float32(2 if "lora_A" in key else 0.5)

    twin(rescale)
    found = diff(Registry(example), ADAPTER, "twin")
    assert found["same_content"] is False
    assert found["settings"] == []
    assert found["same_weights"] is True


def test_alpha_is_a_part_of_the_product(example, twin, run):
    twin(alpha=3.0)
    found = diff(Registry(example), ADAPTER, "twin")
    assert found["settings"] == [{"setting": "alpha", "a": 1.0, "b": 3.0}]
    assert found["same_weights"] is False
    for row in found["weights"]:
        norm = np.linalg.norm(products(example / ADAPTER)[row["tensor"]])
        assert row["norm_a"] == pytest.approx(norm)
        assert row["norm_b"] == pytest.approx(3 * norm)
        assert row["difference"] == pytest.approx(2 * norm)
        assert row["cosine"] == pytest.approx(1.0)
    printed = run("runs", "diff", ADAPTER, "twin").out
    for words in ("alpha", "3", "products alpha", "1.0000"):
        assert words in printed


def test_opposite_and_zero_products(example, twin):
    def change(state: Any) -> None:
        key = "base_model.model.{}.lora_B.weight".format
        state[key("fc1")] = -state[key("fc1")]
        state[key("fc2")] = 0 * state[key("fc2")]

    twin(change)
    rows = {row["tensor"]: row for row in diff(Registry(example), ADAPTER, "twin")["weights"]}
    assert rows["fc1"]["cosine"] == pytest.approx(-1.0)
    assert rows["fc2"]["cosine"] is None
    assert rows["fc2"]["norm_b"] == 0


def test_a_layer_that_is_not_adapted_has_a_product_of_zero(example, twin):
    def change(state: Any) -> None:
        for which in "AB":
            del state[f"base_model.model.fc2.lora_{which}.weight"]

    twin(change, target_layers=["fc1"])
    for names, side in (((ADAPTER, "twin"), "norm_b"), (("twin", ADAPTER), "norm_a")):
        rows = {row["tensor"]: row for row in diff(Registry(example), *names)["weights"]}
        assert rows["fc1"]["difference"] == 0
        assert rows["fc2"][side] == 0
        assert rows["fc2"]["difference"] == pytest.approx(np.linalg.norm(products(example / ADAPTER)["fc2"]))


def test_bases_are_compared_tensor_by_tensor(example, forge):
    shutil.copytree(example / BASE, example / "other")
    state = safetensors.numpy.load_file(example / "other" / "model.safetensors")
    state["fc2.bias"] = state["fc2.bias"] + np.float32(1)
    forge(example / "other", files={"model.safetensors": safetensors.numpy.save(state)})
    rows = {row["tensor"]: row for row in diff(Registry(example), BASE, "other")["weights"]}
    assert set(rows) == {"fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"}
    assert rows["fc2.bias"]["difference"] == pytest.approx(10**0.5, rel=1e-6)
    assert {name: row["difference"] for name, row in rows.items() if name != "fc2.bias"} == {
        "fc1.weight": 0, "fc1.bias": 0, "fc2.weight": 0,
    }  # fmt: skip


def test_what_is_of_two_kinds_is_compared_without_weights(example, run):
    document = run("runs", "diff", BASE, SWEEP, "--json").json
    assert (document["weights"], document["same_weights"]) == (None, None)
    assert {"setting": "kind", "a": "base", "b": "sweep"} in document["settings"]
    assert "can't be compared" in run("runs", "diff", BASE, SWEEP).out


def test_scores_are_set_side_by_side(example, run):
    registry = Registry(example)
    document = run("runs", "diff", BASE, ADAPTER, "--json").json
    ours, theirs = ({row["digits"]: row for row in registry.get(name).scores["subsets"]} for name in (BASE, ADAPTER))
    assert [row["digits"] for row in document["scores"]] == list(ours)
    for row in document["scores"]:
        assert row["accuracy_a"] == ours[row["digits"]]["accuracy"]
        assert row["loss_b"] == theirs[row["digits"]]["loss"]


def test_notes_are_compared(example, forge):
    shutil.copytree(example / BASE, example / "other")
    forge(example / "other", lambda manifest: manifest.update(note="another"))
    found = diff(Registry(example), BASE, "other")
    assert found["settings"] == [{"setting": "note", "a": "made for the tests", "b": "another"}]
    assert found["same_content"] is True


def test_damaged_weights_are_not_compared(example, twin, run):
    twin()
    (example / "twin" / WEIGHTS).write_bytes(b"x" * (example / "twin" / WEIGHTS).stat().st_size)
    with pytest.raises(ArtifactError, match="'twin' is damaged"):
        diff(Registry(example), ADAPTER, "twin")
    assert run("runs", "diff", ADAPTER, "twin").code == 3
    assert run("runs", "diff", ADAPTER, "nothing").code == 3


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
@pytest.mark.parametrize("alpha", [1.0, 1e308])
def test_norms_that_are_no_numbers_are_told_as_none(example, twin, run, value, alpha):
    def change(state: Any) -> None:
        key = "base_model.model.fc1.lora_A.weight"
        state[key] = np.full_like(state[key], value)

    twin(change, alpha=alpha)
    document = run("runs", "diff", ADAPTER, "twin", "--json")
    assert (document.code, document.err) == (0, "")
    assert document.json["same_weights"] is False
    (row,) = (row for row in document.json["weights"] if row["tensor"] == "fc1")
    assert row["norm_a"] > 0
    is_number = value == 3e38 and alpha == 1
    assert [row[key] is not None for key in ("norm_b", "difference", "cosine")] == [is_number] * 3
    printed = run("runs", "diff", ADAPTER, "twin")
    assert (printed.code, printed.err) == (0, "")
    shutil.copytree(example / "twin", example / "copy")
    assert run("runs", "diff", "twin", "copy", "--json").json["same_weights"] is True


def test_a_norm_is_told_though_its_square_is_too_large(example, twin):
    twin(alpha=1e200)
    for row in diff(Registry(example), ADAPTER, "twin")["weights"]:
        assert row["norm_b"] == pytest.approx(1e200 * np.linalg.norm(products(example / ADAPTER)[row["tensor"]]))
        assert row["cosine"] == pytest.approx(1.0)


@pytest.mark.parametrize("kind", ["BF16", "F16", "F64", "F8_E4M3", "F8_E5M2", "F8_E8M0", "I32", "F4", "BOOL"])
def test_weights_of_another_type_are_refused(example, forge, run, kind):
    """The header says another type; the bytes are as many as before, or as many as that takes."""
    weights = (example / BASE / "model.safetensors").read_bytes()
    end = 8 + int.from_bytes(weights[:8], "little")
    header = json.loads(weights[8:end])
    bits = {"F64": 64, "F32": 32, "I32": 32, "BF16": 16, "F16": 16, "F4": 4}.get(kind, 8)
    at = 0
    for tensor in header.values():
        if "shape" in tensor:
            size = -(-int(np.prod(tensor["shape"])) * bits // 8)
            tensor.update(dtype=kind, data_offsets=[at, at + size])
            at += size
    more = max(0, len(weights) - end - at)
    if more:
        header["more"] = {"dtype": "U8", "shape": [more], "data_offsets": [at, at + more]}
    text = json.dumps(header).encode()
    shutil.copytree(example / BASE, example / "odd")
    forge(example / "odd", files={"model.safetensors": len(text).to_bytes(8, "little") + text + bytes(at + more)})
    for call in (["runs", "diff", BASE, "odd"], ["evaluate", "odd"], ["runs", "verify", "odd"]):
        outcome = run(*call)
        assert outcome.code == 3
        assert len(outcome.err.splitlines()) == 1
        assert "defect" not in outcome.err
