"""Models out: files that other programs load, and that compute what the laboratory computes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from torch.nn import functional as F

from lora_mnist_cli.data.sources import load_split
from lora_mnist_cli.evaluation.logits import predict
from lora_mnist_cli.models.lora import set_alpha
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.choices import METHODS
from lora_mnist_cli.stages import finetune
from lora_mnist_cli.stages.exporting import export_model
from lora_mnist_cli.stages.records.loading import load_model
from lora_mnist_cli.stages.workspace import Workspace
from lora_mnist_cli.system.errors import UsageError

OTHERS = ("dora", "pissa", "ia3", "bitfit", "full", "head")
NAMES = ("base-0-4", "lora-5-9-r2", *OTHERS)
# Each as it was trained, and each adapter at another alpha.
MODELS = [(name, None) for name in NAMES] + [(name, 0.3) for name in NAMES[1:]]


@pytest.fixture(scope="module")
def with_all_methods(trained: Path, make_once: Callable[..., Path]) -> Path:
    """The trained folder and an adapter of one epoch by each other method. Not to be written to."""

    def make(folder: Path) -> None:
        workspace = Workspace(Path(shutil.copytree(trained, folder / "runs")))
        for method in OTHERS:
            rank = {"rank": 4} if METHODS[method].ranked else {}
            finetune(AdapterConfig(method=method, epochs=1, **rank), workspace=workspace, name=method)

    return make_once("all-methods", make) / "runs"


@pytest.fixture
def runs(with_all_methods: Path, tmp_path: Path) -> Path:
    """A copy of that, to do anything with."""
    return Path(shutil.copytree(with_all_methods, tmp_path / "runs"))


def expected_logits(runs: Path, name: str, alpha: float | None = None) -> np.ndarray:
    """Of all test images, by the model as it is used here, with its adapter beside it."""
    workspace = Workspace(runs)
    artifact = workspace.registry.get(name)
    loaded = load_model(workspace.registry, artifact)
    if alpha is not None:
        set_alpha(loaded.model, alpha)
    return predict(loaded.model, workspace.test_images(artifact, loaded.pixel_stats).images).numpy()


def pixels() -> np.ndarray:
    images, _ = load_split("mnist", "test", Path("data"))
    return images.reshape(-1, 28, 28).astype(np.float32) / 255


def by_hand(tensors: dict[str, torch.Tensor], described: dict[str, Any]) -> np.ndarray:
    """The network from its file and its description alone."""
    assert described["activation"] == "relu"
    h = torch.from_numpy(pixels().reshape(-1, 784))
    h = (h - described["normalisation"]["mean"]) / described["normalisation"]["std"]
    layers = list(described["layers"])
    assert set(tensors) == {f"{name}.{part}" for name in layers for part in ("weight", "bias")}
    for name in layers:
        h = F.linear(h, tensors[f"{name}.weight"], tensors[f"{name}.bias"])
        h = h.relu() if name != layers[-1] else h
    return h.numpy()


def agree(found: np.ndarray, expected: np.ndarray) -> None:
    """To rounding; where two digits are equally likely to rounding, either may come first."""
    assert found.shape == expected.shape == (10_000, 10)
    np.testing.assert_allclose(found, expected, atol=1e-5 * float(np.abs(expected).max()), rtol=0)


def given(alpha: float | None) -> list[str]:
    return [] if alpha is None else ["--alpha", str(alpha)]


@pytest.mark.parametrize(("name", "alpha"), MODELS)
def test_plain_files_load_elsewhere_and_compute_the_same(name, alpha, runs, run):
    expected = expected_logits(runs, name, alpha)
    stem = name if alpha is None else f"{name}-a0.3"
    for form, suffix in (("safetensors", ".safetensors"), ("state-dict", ".pt")):
        outcome = run("export", name, "--format", form, *given(alpha))
        assert (outcome.code, outcome.err) == (0, "")
        assert outcome.out.splitlines() == [f"{stem}{suffix}", f"{stem}{suffix}.json"]
        described = json.loads(Path(f"{stem}{suffix}.json").read_text())
        load = safetensors.torch.load_file if suffix == ".safetensors" else torch.load
        options = {} if suffix == ".safetensors" else {"weights_only": True}
        agree(by_hand(load(f"{stem}{suffix}", **options), described), expected)
        assert described["alpha"] == (None if name == "base-0-4" else 1.0 if alpha is None else alpha)
        digest = Workspace(runs).registry.get(name).digest
        assert described["artifact"] == {"name": name, "digest": digest}
        assert described["base"]["name"] == "base-0-4"
    with safetensors.safe_open(f"{stem}.safetensors", "pt") as file:
        assert file.metadata()["digest"] == digest
    if alpha is not None:
        assert float(np.abs(expected - expected_logits(runs, name)).max()) > 0.1


# Torch's exporter takes two seconds for each. The weights are those of the plain files, whatever method they came by.
IN_ONNX = [("base-0-4", None), ("lora-5-9-r2", 0.3), ("full", 0.0)] + [
    pytest.param(name, alpha, marks=pytest.mark.slow) for name, alpha in (*MODELS[1 : len(NAMES)], ("dora", 0.3))
]


@pytest.mark.parametrize(("name", "alpha"), IN_ONNX)
def test_onnx_runs_elsewhere_on_pixels_in_batches_of_any_size(name, alpha, runs, run):
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    outcome = run("export", name, "--format", "onnx", "--output", "model.onnx", "--json", *given(alpha))
    assert outcome.code == 0, outcome.err
    assert outcome.json["file"] == "model.onnx"
    assert sorted(path.name for path in Path().glob("model*")) == ["model.onnx", "model.onnx.json"]
    session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
    images = pixels()
    (all_at_once,) = session.run(None, {"images": images})
    agree(all_at_once, expected_logits(runs, name, alpha))
    if alpha == 0:
        agree(all_at_once, expected_logits(runs, "base-0-4"))
    for count in (0, 1, 3):
        (few,) = session.run(["logits"], {"images": images[:count]})
        np.testing.assert_allclose(few, all_at_once[:count], atol=1e-4)
    assert session.get_modelmeta().custom_metadata_map["artifact"] == name


def test_what_cannot_be_exported_is_one_line_and_writes_nothing(runs, refused, monkeypatch):
    import sys

    for arguments, code, shown in (
        (["base-0-4", "--format", "onyx"], 2, "there is no format 'onyx' (did you mean 'onnx'?)"),
        (["base-0-5"], 3, "did you mean 'base-0-4'?"),
        (["sweep-5-9"], 3, "sweep"),
        (
            ["base-0-4", "--output", "no/such/file"],
            5,
            "can't write no/such/file: No such file or directory (make the folder, or choose another --output)",
        ),
        (["base-0-4", "--alpha", "0.5"], 2, "'base-0-4' is a base and has no alpha"),
        (["dora", "--alpha", "inf"], 2, "alpha is a finite number, not inf"),
        (["lora-5-9-r2", "--alpha", "1e300"], 3, "merged at alpha 1e+300 has weights that are not finite"),
        (["base-0-4", "--format", "peft"], 3, "adapter"),
        (["full", "--format", "peft"], 2, "PEFT can't say what 'full' is, by full: it keeps how far whole weights"),
        (["dora", "--format", "peft", "--alpha", "0.5"], 2, "PEFT can't say what 'dora' is at alpha 0.5"),
    ):
        refused(["export", *arguments], code, shown)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    refused(
        ["export", "base-0-4", "--format", "onnx"],
        2,
        "onnxscript is not installed (pip install 'onnx>=1.17' 'onnxscript>=0.5')",
    )


def test_a_file_is_replaced_on_demand_alone(runs, run):
    Path("base-0-4.safetensors.json").write_text("mine")
    outcome = run("export", "base-0-4")
    assert outcome.code == 2
    assert outcome.err == "error: base-0-4.safetensors.json exists (--force replaces it)\n"
    assert not Path("base-0-4.safetensors").exists()
    assert run("export", "base-0-4", "--force").code == 0
    assert json.loads(Path("base-0-4.safetensors.json").read_text())["format"] == "safetensors"


def test_a_folder_is_replaced_on_demand_alone(runs, run):
    arguments = ("export", "lora-5-9-r2", "--format", "peft", "--output", "mine")
    Path("mine").mkdir()
    assert run(*arguments).err == "error: mine exists (--force replaces it)\n"
    assert run(*arguments, "--force").code == 0
    first = Path("mine/adapter_model.safetensors").read_bytes()
    assert first == (runs / "lora-5-9-r2" / "adapter_model.safetensors").read_bytes()
    assert run(*arguments, "--force", "--alpha", "0.25").code == 0
    assert json.loads(Path("mine/adapter_config.json").read_text())["lora_alpha"] == 0.5
    assert json.loads(Path("mine.json").read_text())["alpha"] == 0.25
    assert sorted(path.name for path in Path("mine").iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    Path("file").touch()
    outcome = run("export", "lora-5-9-r2", "--format", "peft", "--output", "file", "--force")
    assert (outcome.code, outcome.err.startswith("error: can't write file: ")) == (5, True)


def test_the_suffix_says_the_format_and_may_not_contradict_it(small):
    (base,) = [name for name in small.registry.names() if name.startswith("base")]
    for name, told in (("y.pt", "state-dict"), ("y.safetensors", "safetensors"), ("y.bin", "safetensors")):
        assert export_model(base, output=name, workspace=small)["format"] == told
    with pytest.raises(UsageError, match="has the suffix of onnx, and the format is safetensors"):
        export_model(base, "safetensors", output="z.onnx", workspace=small)
    assert not Path("z.onnx").exists()


def test_no_export_goes_into_what_is_no_plain_file(small):
    (base,) = [name for name in small.registry.names() if name.startswith("base")]
    for name in ("-", "/dev/null"):
        with pytest.raises(UsageError, match="is no plain file"):
            export_model(base, output=name, force=True, workspace=small)
