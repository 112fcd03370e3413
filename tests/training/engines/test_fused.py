"""``--engine fused`` as a stage and a command know it: artifacts, and refusals that say what helps."""

from __future__ import annotations

import dataclasses
import shutil

import pytest
import torch

from lora_mnist_cli.cli.again import line_of
from lora_mnist_cli.models.adapted_linear import adapter_tensors
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.runtime import Runtime
from lora_mnist_cli.stages import sweep
from lora_mnist_cli.stages.records.loading import load_model
from lora_mnist_cli.training.fused import tuning

WHOLE_IMAGES = tuning.Tuning(tile=1024, way="ieee")  # what the interpreter is quickest with


def test_a_sweep_has_the_artifacts_of_another_engine(small, recorder, monkeypatch, tmp_path):
    pytest.importorskip("triton")
    if not torch.cuda.is_available():
        monkeypatch.setitem(tuning.TRAINING, 16, WHOLE_IMAGES)
        monkeypatch.setattr(tuning, "SCORING", WHOLE_IMAGES)
    config, made = AdapterConfig(epochs=1, batch_size=100, rank=2), []
    for engine in ("plain", "fused"):
        runtime = Runtime(engine=engine, accelerator="cpu" if engine == "plain" else "auto")
        folder = shutil.copytree(small.runs_dir, tmp_path / engine)
        workspace = dataclasses.replace(small, runs_dir=folder, runtime=runtime, reporter=recorder)
        record = sweep([1, 3], config=config, name="bank", workspace=workspace, force=True)
        adapters = [workspace.registry.get(row["artifact"]) for row in record.details["results"]]
        assert {adapter.environment["engine"] for adapter in adapters} == {engine}
        made.append([(adapter, load_model(workspace.registry, adapter).model) for adapter in adapters])
        for each in (record, *adapters):
            assert line_of(workspace.registry, each).options.get("engine", "plain") == engine
    for (plain, model), (fused, twin) in zip(*made, strict=True):
        assert plain.fingerprint == fused.fingerprint
        for name, tensor in adapter_tensors(model).items():
            torch.testing.assert_close(adapter_tensors(twin)[name], tensor, rtol=1e-5, atol=1e-5)
        for one, other in zip(plain.scores["per_digit"], fused.scores["per_digit"], strict=True):
            assert other == {key: pytest.approx(value, rel=1e-5) for key, value in one.items()}
    steps = [steps for steps, epoch, _ in recorder.all("advance")]
    assert [total for _, _, total in recorder.all("begin")] == [2, 2]
    assert sum(steps) == 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("train-base", "--name", "b"), "does not train a base"),
        (("finetune", "--method", "dora"), "does not train dora"),
        (("finetune", "--dropout", "0.5"), "does not train dropout"),
        (("finetune", "--train", "A"), "does not train A alone"),
        (("finetune", "--rank", "fc1=4,fc2=2"), "does not train layers of several ranks, fc2r2"),
        (("finetune", "--protect", "mask"), "does not train the protection mask"),
        (("sweep", "--ranks", "1,65", "--name", "new"), "does not train rank 65, above 64"),
        (("sweep", "--ranks", "1,65", "--name", "new", "--dry-run"), "does not train rank 65, above 64"),
        (("sweep", "--methods", "lora,full", "--name", "new"), "does not train full"),
        (("finetune", "--accelerator", "cpu"), "needs a GPU, which the accelerator cpu rules out"),
    ],
)
def test_what_it_can_not_train_is_a_usage_error(arguments, words, runs, run):
    outcome = run(*arguments, "--engine", "fused")
    assert outcome.code == 2
    assert words in " ".join(outcome.err.split())
    assert outcome.out == ""


def test_without_a_gpu_nothing_is_left_behind(runs, run, monkeypatch):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    monkeypatch.delenv("TRITON_INTERPRET")
    before = sorted(path.name for path in runs.iterdir())
    outcome = run("finetune", "--rank", "3", "--engine", "fused")
    assert outcome.code == 2
    assert "the engine fused needs a GPU: PyTorch finds no CUDA device" in " ".join(outcome.err.split())
    assert sorted(path.name for path in runs.iterdir()) == before
