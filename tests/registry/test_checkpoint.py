"""Weights on disk: exact keys, shapes and dtypes, and the format of PEFT."""

from __future__ import annotations

import copy
import json
import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from published import BASE_SETTINGS, SCORES
from torch import Tensor, nn

from lora_mnist_cli.models import lora
from lora_mnist_cli.models.adapted_linear import adapter_tensors
from lora_mnist_cli.models.mlp import MNISTModel
from lora_mnist_cli.registry.artifact import Artifact, Settings
from lora_mnist_cli.registry.checkpoint import load_adapter, load_base, save_adapter, save_base
from lora_mnist_cli.registry.registry import Registry
from lora_mnist_cli.registry.verification import verify
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.stages.records.loading import load_model
from lora_mnist_cli.system.errors import ArtifactError, MachineError

SIZES = (12, 9)
PREFIX = "base_model.model."


@torch.no_grad()
def filled(model: MNISTModel) -> MNISTModel:
    """The model with deterministic values in all its tensors, adapters included."""
    for i, parameter in enumerate(model.parameters()):
        values = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i))
        parameter.copy_(values / parameter.shape[-1] ** 0.5)
    return model


def adapted(config: AdapterConfig) -> MNISTModel:
    model = MNISTModel(SIZES)
    lora.attach(
        model, config.rank, alpha=config.alpha, scaling=config.scaling, init=config.init,
        target_layers=config.target_layers,
    )  # fmt: skip
    return filled(model)


def plain_twin(model: nn.Module) -> MNISTModel:
    """The bare base under an adapted model."""
    twin = MNISTModel(SIZES)
    state = {name.replace(".base.", "."): value for name, value in model.state_dict().items() if "lora" not in name}
    twin.load_state_dict(state)
    return twin


@pytest.fixture
def published(tmp_path: Path) -> Callable[..., Artifact]:
    """An artifact of whatever a function writes into its folder."""

    def make(write: Callable[[Path], object]) -> Artifact:
        registry = Registry(tmp_path / "runs")
        with registry.staging("some") as folder:
            write(folder)
            details = {"layers": {"fc1": [784, 10]}, "pixel_stats": [0.1, 0.3]}
            rest: dict[str, Any] = {"scores": SCORES, "details": details, "environment": {}, "wall_seconds": 0.0}
            settings = Settings("base", BASE_SETTINGS, {"name": "mnist", "digest": "sha256:" + 64 * "0"})
            return registry.publish(folder, settings, **rest)

    return make


def unchanged(model: nn.Module, before: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_bases_file_has_exactly_its_tensors(tmp_path):
    save_base(filled(MNISTModel(SIZES)), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    state = safetensors.torch.load_file(tmp_path / "model.safetensors")
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == {
        "fc1.weight": (12, 784), "fc1.bias": (12,), "fc2.weight": (9, 12), "fc2.bias": (9,), "fc3.weight": (10, 9),
        "fc3.bias": (10,),
    }  # fmt: skip
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}


def test_the_bytes_depend_on_the_tensors_alone(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        save_base(filled(MNISTModel(SIZES)), tmp_path / name)
        save_adapter(adapted(AdapterConfig(rank=3)), AdapterConfig(rank=3), tmp_path / name)
    for file in ("model.safetensors", "adapter_model.safetensors", "adapter_config.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_a_base_round_trips(published):
    model, other = filled(MNISTModel(SIZES)), MNISTModel(SIZES)
    load_base(other, published(lambda folder: save_base(model, folder)))
    assert unchanged(other, model.state_dict())


def test_a_double_model_is_saved_as_float32(tmp_path):
    model = filled(MNISTModel(SIZES))
    save_base(copy.deepcopy(model).double(), tmp_path)
    state = safetensors.torch.load_file(tmp_path / "model.safetensors")
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_an_adapters_files_are_exactly_pefts(tmp_path):
    config = AdapterConfig(rank=3, alpha=0.5, scaling="standard", dropout=0.1, target_layers=("fc1", "fc3"))
    save_adapter(adapted(config), config, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    state = safetensors.torch.load_file(tmp_path / "adapter_model.safetensors")
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == {
        f"{PREFIX}fc1.lora_A.weight": (3, 784), f"{PREFIX}fc1.lora_B.weight": (12, 3),
        f"{PREFIX}fc3.lora_A.weight": (3, 9), f"{PREFIX}fc3.lora_B.weight": (10, 3),
    }  # fmt: skip
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}
    described = json.loads((tmp_path / "adapter_config.json").read_text())
    assert described["peft_type"] == "LORA"
    assert described["r"] == 3
    assert described["lora_alpha"] / described["r"] == pytest.approx(0.5 / 3)
    assert described["lora_dropout"] == 0.1
    assert described["target_modules"] == ["fc1", "fc3"]


def test_an_adapter_round_trips(published):
    config = AdapterConfig(rank=3)
    model = adapted(config)
    other = lora.attach(plain_twin(model), 3)
    load_adapter(other, published(lambda folder: save_adapter(model, config, folder)))  # type: ignore[arg-type]
    assert unchanged(other, model.state_dict())


@pytest.mark.parametrize(("rank", "layers"), [(64, None), (5, ("fc1", "fc3"))], ids=str)
@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("scaling", ["constant", "standard", "rslora"])
def test_peft_computes_the_same(tmp_path, scaling, alpha, rank, layers):
    import peft

    config = AdapterConfig(rank=rank, alpha=alpha, scaling=scaling, target_layers=layers)
    model = adapted(config)
    with torch.no_grad():  # a product of the size that a trained one has, whatever the rank
        for layer in lora.adapted_layers(model).values():
            layer.lora_B.div_(alpha * layer.scale)
    save_adapter(model, config, tmp_path)
    x = torch.linspace(-1, 3, 6 * 784).reshape(6, 784).sin()
    with torch.no_grad():
        expected, bare = model(x), plain_twin(model)(x)
        loaded = peft.PeftModel.from_pretrained(plain_twin(model), tmp_path)
        torch.testing.assert_close(loaded(x), expected, atol=1e-5, rtol=0)
    assert float((expected - bare).abs().max()) > 0.01


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda state: state.pop("fc2.bias"), "it lacks fc2.bias"),
        (lambda state: state.update({"fc4.bias": torch.ones(1)}), "it has the unknown fc4.bias"),
        (lambda state: state.update({"fc1.bias": torch.ones(13)}), r"has fc1.bias of shape \(13,\), not \(12,\)"),
        (lambda state: state.update({"fc1.bias": torch.ones(12, 1)}), r"has fc1.bias of shape \(12, 1\)"),
        (lambda state: state.update({"fc1.bias": torch.ones(12).half()}), "has fc1.bias as torch.float16"),
        (lambda state: state.update({"fc1.bias": torch.ones(12).double()}), "has fc1.bias as torch.float64"),
    ],
)
def test_a_base_that_does_not_fit_is_refused(published, change, complaint):
    state = {name: value + 1 for name, value in MNISTModel(SIZES).state_dict().items()}
    change(state)
    artifact = published(lambda folder: safetensors.torch.save_file(state, folder / "model.safetensors"))
    model = filled(MNISTModel(SIZES))
    with pytest.raises(ArtifactError, match=complaint) as caught:
        load_base(model, artifact)
    assert "base 'some' does not fit" in str(caught.value)
    assert unchanged(model, filled(MNISTModel(SIZES)).state_dict())


def test_everything_that_does_not_fit_is_told_at_once(published):
    artifact = published(lambda folder: save_base(MNISTModel((13, 9, 4)), folder))
    with pytest.raises(ArtifactError) as caught:
        load_base(MNISTModel(SIZES), artifact)
    assert len(caught.value.value) == 7


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda state: state.pop(f"{PREFIX}fc2.lora_A.weight"), "it lacks base_model.model.fc2.lora_A.weight"),
        (lambda state: state.update({"fc2.lora_A.weight": torch.ones(1)}), "unknown fc2.lora_A.weight"),
        (lambda state: state.update({f"{PREFIX}fc2.lora_B.weight": torch.ones(3, 9)}), r"\(3, 9\), not \(9, 3\)"),
        (lambda state: state.update({f"{PREFIX}fc2.lora_B.weight": torch.ones(9, 3).bfloat16()}), "torch.bfloat16"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused(published, change, complaint):
    state = {key: value + 1 for key, value in adapter_tensors(adapted(AdapterConfig(rank=3))).items()}
    change(state)
    artifact = published(lambda folder: safetensors.torch.save_file(state, folder / "adapter_model.safetensors"))
    model = adapted(AdapterConfig(rank=3))
    with pytest.raises(ArtifactError, match=complaint):
        load_adapter(model, artifact)
    assert unchanged(model, adapted(AdapterConfig(rank=3)).state_dict())


def test_an_adapter_of_another_rank_is_refused(published):
    config = AdapterConfig(rank=3)
    artifact = published(lambda folder: save_adapter(adapted(config), config, folder))
    with pytest.raises(ArtifactError, match=r"of shape \(3, 784\), not \(4, 784\)"):
        load_adapter(adapted(AdapterConfig(rank=4)), artifact)


@pytest.mark.parametrize("position", [0, 20, -1])
def test_a_flipped_byte_is_found(published, position):
    artifact = published(lambda folder: save_base(filled(MNISTModel(SIZES)), folder))
    path = artifact.path / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    model = filled(MNISTModel(SIZES))
    with pytest.raises(ArtifactError, match=r"'some' is damaged: model\.safetensors"):
        load_base(model, artifact)
    assert unchanged(model, filled(MNISTModel(SIZES)).state_dict())


@pytest.mark.parametrize("content", [b"", b"x", b"\xff" * 100, b"\x80\x04K\x01."])
def test_what_is_no_safetensors_is_refused(published, content):
    artifact = published(lambda folder: (folder / "model.safetensors").write_bytes(content))
    with pytest.raises(ArtifactError, match=r"'some' is damaged: model\.safetensors"):
        load_base(MNISTModel(SIZES), artifact)


def test_an_artifact_of_another_kind_is_refused(published):
    artifact = published(lambda folder: save_base(MNISTModel(SIZES), folder))
    with pytest.raises(ArtifactError, match=r"has no file adapter_model\.safetensors"):
        load_adapter(adapted(AdapterConfig(rank=3)), artifact)


def test_where_it_can_not_be_written_the_machine_is_at_fault(tmp_path):
    with pytest.raises(MachineError, match=r"can't write model\.safetensors"):
        save_base(MNISTModel(SIZES), tmp_path / "missing")
    with pytest.raises(MachineError, match=r"can't write adapter_model\.safetensors"):
        save_adapter(adapted(AdapterConfig(rank=3)), AdapterConfig(rank=3), tmp_path / "missing")


def header(content: bytes) -> bytes:
    """A file of safetensors with that for a header, and as many bytes as the base needs."""
    return len(content).to_bytes(8, "little") + content + bytes(4 * (784 * 12 + 12 + 12 * 9 + 9 + 9 * 10 + 10))


ABSURD = {
    "a header of exabytes": (2**63 - 1).to_bytes(8, "little") + bytes(40_000),
    "a header of all": (2**64 - 1).to_bytes(8, "little") + bytes(40_000),
    "a header longer than the file": (2**20).to_bytes(8, "little") + bytes(40_000),
    "no JSON": header(b"{"),
    "nesting without end": header(b"[" * 5000),
    "offsets beyond the file": header(
        b'{"fc1.bias": {"dtype": "F32", "shape": [12], "data_offsets": [0, 4000000000]}}'
    ),
    "offsets that run backwards": header(b'{"fc1.bias": {"dtype": "F32", "shape": [12], "data_offsets": [48, 0]}}'),
    "a shape without measure": header(
        b'{"fc1.bias": {"dtype": "F32", "shape": [9223372036854775807, 4], "data_offsets": [0, 38548]}}'
    ),
    "a shape of less than nothing": header(b'{"fc1.bias": {"dtype": "F32", "shape": [-12], "data_offsets": [0, 48]}}'),
    "a type of its own": header(b'{"fc1.bias": {"dtype": "PICKLE", "shape": [12], "data_offsets": [0, 48]}}'),
    "a pickle": b"\x80\x04cos\nsystem\n(S'touch owned'\ntR." + bytes(40_000),
}


@pytest.mark.parametrize("what", ABSURD)
def test_an_absurd_header_is_refused_before_memory_is_taken(published, what):
    artifact = published(lambda folder: (folder / "model.safetensors").write_bytes(ABSURD[what]))
    tracemalloc.start()
    try:
        with pytest.raises(ArtifactError, match=r"'some' is damaged: model\.safetensors") as caught:
            load_base(MNISTModel(SIZES), artifact)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
    assert str(caught.value).isprintable()
    assert not Path("owned").exists()


def test_a_file_larger_than_its_tensors_is_not_even_read(published):
    artifact = published(lambda folder: (folder / "model.safetensors").write_bytes(bytes(3 * 2**20)))
    (artifact.path / "model.safetensors").unlink()
    with pytest.raises(ArtifactError, match=r"has 3,145,728 bytes, and its tensors need 38,548"):
        load_base(MNISTModel(SIZES), artifact)


@pytest.mark.parametrize("small", [True, False], ids=["a small tensor", "a large tensor"])
def test_a_missing_tensor_is_told_with_who_lacks_it(example, forge, small):
    """Whether the base lacks it or the adapter: that decides what has to be made again."""
    for name, file, keys in (
        ("base-0-4", "model.safetensors", ("fc2.bias", "fc1.weight")),
        ("lora-5-9-r1", "adapter_model.safetensors", (f"{PREFIX}fc2.lora_B.weight", f"{PREFIX}fc1.lora_A.weight")),
    ):
        whole = (example / name / file).read_bytes()
        state = safetensors.torch.load(whole)
        del state[keys[0] if small else keys[1]]
        forge(example / name, files={file: safetensors.torch.save(state)})
        registry = Registry(example)
        kind = "base" if name.startswith("base") else "adapter"
        complaint = f"{kind} '{name}' does not fit: it lacks {keys[0] if small else keys[1]}"
        with pytest.raises(ArtifactError, match=re.escape(complaint)):
            load_model(registry, registry.get(name))
        assert [complaint in problem for v in verify(registry, name) for _, problem in v.problems] == [True]
        forge(example / name, files={file: whole})


def test_half_precision_is_not_taken_for_single(example, forge, run):
    state = safetensors.torch.load_file(example / "lora-5-9-r1" / "adapter_model.safetensors")
    halves = {key: tensor.half() for key, tensor in state.items()}
    forge(example / "lora-5-9-r1", files={"adapter_model.safetensors": safetensors.torch.save(halves)})
    outcome = run("evaluate", "lora-5-9-r1")
    assert outcome.code == 3
    assert (
        "adapter 'lora-5-9-r1' does not fit: it has base_model.model.fc1.lora_A.weight as F16, not F32" in outcome.err
    )
