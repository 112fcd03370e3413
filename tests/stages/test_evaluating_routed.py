"""Statistics in artifacts, and experts behind a router: evaluated, used on pictures and exported."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image as Pillow

from lora_mnist_cli.data.dataset import MNISTDataset, split_rows
from lora_mnist_cli.data.sources import load_split
from lora_mnist_cli.models.densities import ClassStatistics
from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.registry.checkpoint import load_features, load_statistics
from lora_mnist_cli.registry.weights import check_header
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.config import BaseConfig
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.stages import Workspace, evaluate, evaluate_routed, finetune, merge, sweep, train_base
from lora_mnist_cli.stages.evaluating_routed import load_experts
from lora_mnist_cli.system.errors import ArtifactError

FILE, FEATURES = "statistics.safetensors", "features.safetensors"
BASE, ADAPTER = "base-0-4", "lora-5-9-r2"
SMALL_BASE, SMALL_ADAPTER = "base-fashion-mnist-0-4", "lora-fashion-mnist-5-9-r2-a0.5"


def accuracy(scores: Any, digits: str) -> float:
    return next(row["accuracy"] for row in scores["subsets"] if row["digits"] == digits)


def without_statistics(artifact: Artifact, forge: Callable[..., None], file: str = FILE) -> None:
    """As older versions published it."""
    (artifact.path / file).unlink()
    forge(artifact.path, files={file: None})


class TestWhatIsStored:
    @pytest.mark.parametrize(("name", "digits"), [(SMALL_BASE, "0-4"), (SMALL_ADAPTER, "5-9")])
    def test_it_is_of_the_training_part_of_the_digits_learned(self, small, name, digits):
        artifact = small.registry.get(name)
        data = MNISTDataset.load("train", DigitSet.parse(digits), dataset="fashion-mnist", data_dir=small.data_dir)
        config = (BaseConfig if artifact.kind == "base" else AdapterConfig).from_json(artifact.config)
        rows, _ = split_rows(len(data), config.val_split, config.seed_of("split"))
        found, expected = load_statistics(artifact).to_tensors(), ClassStatistics.fit(*data[rows]).to_tensors()
        assert all(torch.equal(found[key], expected[key]) for key in expected)
        assert int(found["counts"].sum()) == 200
        assert artifact.files[FILE]["bytes"] < 10**6

    def test_adapters_of_one_split_share_one_calculation(self, small, monkeypatch):
        fits = []
        fit = ClassStatistics.fit
        monkeypatch.setattr(ClassStatistics, "fit", lambda *given, **more: fits.append(1) or fit(*given, **more))
        sweep([1, 3], seeds=[1, 2], config=AdapterConfig(epochs=1), workspace=small, name="four")
        assert len(fits) == 2
        contents = [
            small.registry.get(f"lora-fashion-mnist-5-9-r{rank}-s{seed}").read(FILE) for seed in (1, 2)
            for rank in (1, 3)
        ]  # fmt: skip
        assert contents[0] == contents[1] != contents[2] == contents[3]

    def test_a_merged_adapter_keeps_them_where_it_passes_for_its_own_digits(self, small):
        merged = merge(SMALL_ADAPTER, workspace=small)
        assert merged.read(FILE) == small.registry.get(SMALL_ADAPTER).read(FILE)
        other = merge(SMALL_ADAPTER, digits=DigitSet.parse("0-9"), merged="other", workspace=small)
        assert FILE not in other.files

    @pytest.mark.parametrize("file", [FILE, FEATURES])
    def test_verify_reads_them(self, small, run, forge, file):
        folder = small.registry.get(SMALL_BASE).path
        tensors = safetensors.torch.load_file(folder / file)
        forge(folder, files={file: safetensors.torch.save(tensors | {"noise": tensors["noise"].double()})})
        outcome = run("runs", "verify", SMALL_BASE, "--runs-dir", small.runs_dir)
        assert outcome.code == 3
        assert f"{file}: noise is F64, not F32" in outcome.err
        other = (folder / (FILE if file == FEATURES else FEATURES)).read_bytes()
        forge(folder, files={file: other})
        assert "mean has the shape" in run("runs", "verify", SMALL_BASE, "--runs-dir", small.runs_dir).err
        forge(folder, files={file: bytes(2_000_000)})
        assert "2,000,000 bytes" in run("runs", "verify", SMALL_BASE, "--runs-dir", small.runs_dir).err

    def test_what_makes_no_sense_is_refused(self, small, forge):
        folder = small.registry.get(SMALL_BASE).path
        tensors = safetensors.torch.load_file(folder / FILE)
        forge(folder, files={FILE: safetensors.torch.save(tensors | {"noise": -tensors["noise"]})})
        with pytest.raises(ArtifactError, match="positive definite"):
            load_statistics(small.registry.get(SMALL_BASE))
        with pytest.raises(ArtifactError, match="positive definite"):
            check_header(small.registry.get(SMALL_BASE), small.registry.get(SMALL_BASE))
        forge(folder, files={FILE: b"12345678 is no header"})
        with pytest.raises(ArtifactError, match="is damaged"):
            load_statistics(small.registry.get(SMALL_BASE))


class TestOlderArtifacts:
    def test_they_are_whole_and_up_to_date_and_say_how_to_make_statistics(self, small, run, recorder, forge):
        adapter = small.registry.get(SMALL_ADAPTER)
        without_statistics(adapter, forge)
        assert run("runs", "verify", SMALL_ADAPTER, "--runs-dir", small.runs_dir).code == 0
        config = AdapterConfig(epochs=2, alpha=0.5, rank=2)
        found = finetune(config, workspace=dataclasses.replace(small, reporter=recorder))
        assert recorder.all("notice")[-1] == f"{found.name} is up to date"
        evaluate(SMALL_ADAPTER, workspace=small)
        with pytest.raises(ArtifactError, match=f"'{SMALL_ADAPTER}' has no statistics") as refused:
            evaluate_routed([SMALL_BASE, SMALL_ADAPTER], by="mixture", workspace=small)
        assert refused.value.hint == f"lora-mnist runs remove {SMALL_ADAPTER}, then make it again"
        assert FILE in finetune(config, workspace=small, force=True).files

    def test_without_statistics_of_features_they_are_routed_as_before(self, small, recorder, forge):
        both = [SMALL_BASE, SMALL_ADAPTER]
        workspace = dataclasses.replace(small, reporter=recorder)
        expected = evaluate_routed(both, by="mixture", workspace=workspace)
        assert evaluate_routed(both, workspace=workspace).by == "fused"
        without_statistics(small.registry.get(SMALL_ADAPTER), forge, FEATURES)
        assert small.registry.get(SMALL_ADAPTER).files.keys() >= {FILE}
        found = evaluate_routed(both, workspace=workspace)
        assert (found.by, found.scores) == ("mixture", expected.scores)
        said = f"routed by mixture: {SMALL_ADAPTER} has no statistics of its digits' features"
        assert recorder.all("notice") == [said]
        for by in ("fused", "densities"):
            with pytest.raises(ArtifactError, match="has no statistics of its digits' features"):
                evaluate_routed(both, by=by, workspace=workspace)

    def test_of_a_base_the_adapters_go_with_it(self, small, forge):
        without_statistics(small.registry.get(SMALL_BASE), forge)
        with pytest.raises(ArtifactError, match="--cascade"):
            load_statistics(small.registry.get(SMALL_BASE))


class TestEvaluation:
    def test_both_halves_are_known_without_a_label(self, runs):
        workspace = Workspace(runs)
        base, adapter = workspace.registry.get(BASE), workspace.registry.get(ADAPTER)
        for by in ("mixture", "choose", "fused"):
            routed = evaluate_routed([BASE, ADAPTER], by=by, workspace=workspace)
            old, new = accuracy(base.scores, "0-4"), accuracy(adapter.scores, "5-9")
            assert accuracy(routed.scores, "0-4") > old - 0.02
            assert accuracy(routed.scores, "5-9") > new - 0.04
            if by != "fused":  # its experts are helped by densities
                assert accuracy(routed.scores, "0-4") <= old + 0.002
                assert accuracy(routed.scores, "5-9") <= new + 0.03
            assert sum(row["answered"] for row in routed.experts) == 10_000
            assert [row["artifact"] for row in routed.experts] == [BASE, ADAPTER]
            assert all(row["right_expert"] > 0.97 for row in routed.experts)

    def test_a_base_alone_has_densities(self, small):
        alone = evaluate_routed([SMALL_BASE], by="densities", workspace=small)
        statistics = load_features(small.registry.get(SMALL_BASE))
        test = small.test_images(alone.base, tuple(alone.base.details["pixel_stats"]))
        known = test.labels < 5
        right = (statistics.log_density(test.images[known]) + statistics.log_prior).argmax(1) == test.labels[known]
        assert accuracy(alone.scores, "0-4") == pytest.approx(float(right.double().mean()))
        assert accuracy(alone.scores, "5-9") == 0

    def test_the_order_of_experts_makes_no_difference(self, small):
        one = evaluate_routed([SMALL_BASE, SMALL_ADAPTER], workspace=small)
        two = evaluate_routed([SMALL_ADAPTER, SMALL_BASE], workspace=small)
        assert (one.scores, one.experts) == (two.scores, two.experts[::-1])

    def test_the_command_says_who_answered(self, small, run):
        places = ("--runs-dir", small.runs_dir, "--data-dir", small.data_dir)
        both = ("--route", "--expert", SMALL_BASE, "--expert", SMALL_ADAPTER)
        outcome = run("evaluate", *both, *places, "--json")
        assert (outcome.code, outcome.err) == (0, "")
        document = outcome.json
        assert (document["route_by"], document["base"]) == ("fused", SMALL_BASE)
        assert sum(row["share"] for row in document["experts"]) == pytest.approx(1)
        assert [row["digits"] for row in document["subsets"]] == ["0-4", "5-9", "0-9"]
        printed = run("evaluate", *both, "--route-by", "choose", *places).out
        assert "routed by choose" in printed
        assert SMALL_ADAPTER in printed
        formerly = run("evaluate", SMALL_BASE, SMALL_ADAPTER, "--route", *places, "--json")
        assert (formerly.code, formerly.out) == (0, outcome.out)
        assert formerly.err == (
            f"several experts as arguments are deprecated; write --expert {SMALL_BASE} --expert {SMALL_ADAPTER}\n"
        )
        gated = run("evaluate", SMALL_ADAPTER, "--route", "--route-by", "mixture", "--min-accuracy", "0-9=1.0", *places)
        assert gated.code == 1
        assert f"the experts are {SMALL_BASE} and {SMALL_ADAPTER}" in gated.err
        newest = run("evaluate", "--route", *places)
        assert f"taking the newest adapter: {SMALL_ADAPTER}" in newest.err

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ([SMALL_BASE, SMALL_ADAPTER], f"(--route --expert {SMALL_BASE} --expert {SMALL_ADAPTER} lets"),
            (["--expert", SMALL_BASE], "--expert needs --route"),
            ([SMALL_BASE, "--expert", SMALL_ADAPTER, "--route"], "experts are named by --expert alone (--expert"),
            ([SMALL_BASE, "--route-by", "choose"], "--route-by needs --route"),
            ([SMALL_BASE, "--route"], "nothing to choose between"),
            (["--route", "--expert", SMALL_BASE, "--expert", SMALL_BASE], "is named twice"),
            ([SMALL_ADAPTER, "--route", "--alpha", "0"], "--alpha is not for --route"),
            ([SMALL_ADAPTER, "--route", "--route-by", "chose"], "did you mean 'choose'?"),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, small, refused, arguments, said):
        refused(["evaluate", *arguments, "--runs-dir", small.runs_dir, "--data-dir", small.data_dir], 2, said)

    def test_adapters_of_another_base_are_refused(self, small):
        config = BaseConfig(dataset="fashion-mnist", hidden_sizes=(16, 12), epochs=1, seed=1)
        other = train_base(config, workspace=small)
        with pytest.raises(ArtifactError, match=f"'{SMALL_ADAPTER}' is not on the base of '{other.name}'"):
            evaluate_routed([other.name, SMALL_ADAPTER], workspace=small)

    def test_what_diverged_is_no_expert(self, small):
        sweep([1], config=AdapterConfig(epochs=1, lr=1e20, optimizer="sgd"), workspace=small, name="bad")
        (row,) = small.registry.get("bad").details["results"]
        assert row["failed"]
        with pytest.raises(ArtifactError, match="diverged"):
            load_experts([row["artifact"]], workspace=small)


def test_pictures_are_answered_by_the_expert_that_knows_them(runs, run):
    images, labels = load_split("mnist", "test", Path("data"))
    for digit in (1, 7):
        Pillow.fromarray(images[int(np.flatnonzero(labels == digit)[3])].reshape(28, 28)).save(f"{digit}.png")
    document = run("predict", "1.png", "7.png", "--route", "--artifact", ADAPTER, "--json").json
    assert document["experts"] == [BASE, ADAPTER]
    assert [row["digit"] for row in document["results"]] == [1, 7]
    assert [row["expert"]["artifact"] for row in document["results"]] == [BASE, ADAPTER]
    assert sum(document["results"][0]["expert"]["probabilities"].values()) == pytest.approx(1)
    printed = run("predict", "7.png", "--route", "--expert", BASE, "--expert", "lora-5-9-r1")
    assert (printed.code, printed.err) == (0, "")
    assert "lora-5-9-r1" in next(line for line in printed.out.splitlines() if "7.png" in line)
    assert run("predict", "7.png", "--route", "--alpha", "0").code == 2
    assert run("predict", "7.png", "--expert", BASE).code == 2


@pytest.mark.parametrize(
    "by", ["fused", "choose", *(pytest.param(by, marks=pytest.mark.slow) for by in ("mixture", "densities"))]
)
def test_an_onnx_graph_has_the_router_inside(runs, run, by):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    both = ("--route", "--expert", BASE, "--expert", ADAPTER)
    outcome = run("export", *both, "--route-by", by, "--output", "routed.onnx")
    assert (outcome.code, outcome.err) == (0, "")
    described = json.loads(Path("routed.onnx.json").read_text())
    assert [expert["name"] for expert in described["experts"]] == [BASE, ADAPTER]
    workspace = Workspace(runs)
    experts = load_experts([BASE, ADAPTER], by=by, workspace=workspace)
    test = workspace.test_images(experts.base, experts.pixel_stats)
    with torch.no_grad():
        expected = experts.model(test.images).numpy()
    images, _ = load_split("mnist", "test", Path("data"))
    session = onnxruntime.InferenceSession("routed.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"images": images.reshape(-1, 28, 28).astype(np.float32) / 255})
    assert found.shape == (10_000, 10)
    assert (found.argmax(1) == expected.argmax(1)).all()
    # Where two experts fit an image to the last place, rounding may choose the other; there is no such test image.
    np.testing.assert_allclose(found, expected, atol=5e-3, rtol=1e-3)


def test_a_router_is_no_plain_network(runs, run):
    outcome = run("export", BASE, ADAPTER, "--route", "--format", "safetensors")
    assert outcome.code == 2
    assert "--format onnx" in outcome.err
    assert run("export", BASE, ADAPTER).code == 2
    assert "no artifact is named" in run("export").err


@pytest.mark.parametrize("command", ["evaluate", "export", "predict"])
def test_every_command_names_experts_in_the_same_way(command, run):
    """With names that there are none of, before any image or model is loaded."""
    image = ["none.png"] if command == "predict" else []
    outcome = run(command, *image, "--expert", "some")
    assert (outcome.code, outcome.err) == (2, "error: --expert needs --route (name 'some' alone, or add --route)\n")
