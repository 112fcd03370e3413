"""Folders from elsewhere: what is taken over, what an import leaves, and each thing that is refused, by its name."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor

from lora_mnist_cli.registry.verification import verify
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.stages import Workspace, evaluate, finetune, import_adapter, merge, plot, sweep
from lora_mnist_cli.system.errors import ArtifactError, ConfigError, UsageError

BASE = "base-fashion-mnist-0-4"
KEY = "base_model.model.fc2.lora_A.weight"
Save = Callable[..., Path]


def where(small: Workspace) -> tuple[Any, ...]:
    return ("--runs-dir", small.runs_dir, "--data-dir", small.data_dir)


def test_an_import_leaves_an_adapter_like_any_other(small, save_peft, run):
    folder = save_peft()
    outcome = run("import-adapter", folder, "--base", BASE, "--digits", "5-9", "--note", "from afar", *where(small))
    assert (outcome.code, outcome.err) == (0, "")
    assert "rank 2 (1,700 parameters) on digits 5-9" in outcome.out
    adapter = small.registry.get("imported-lora-fashion-mnist-5-9-r2-a4-standard", "adapter")
    assert sorted(path.name for path in adapter.path.iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors", "artifact.json",
    ]  # fmt: skip
    config = adapter.config
    digest = hashlib.sha256((folder / "adapter_model.safetensors").read_bytes()).hexdigest()
    assert config["imported"] == f"sha256:{digest}"
    assert (config["rank"], config["alpha"], config["scaling"], config["epochs"]) == (2, 4.0, "standard", 0)
    assert (config["digits"], config["target_layers"]) == ("5-9", ["fc1", "fc2", "fc3"])
    assert [(parent.role, parent.name) for parent in adapter.parents] == [("base", BASE)]
    assert adapter.details == {"trainable_parameters": 1700, "base_digits": "0-4"}
    assert adapter.note == "from afar"
    assert [row["digits"] for row in adapter.scores["subsets"]] == ["0-4", "5-9", "0-9"]
    (again,) = evaluate(adapter.name, workspace=small)
    assert again.scores == adapter.scores
    theirs = safetensors.torch.load_file(folder / "adapter_model.safetensors")
    ours = safetensors.torch.load_file(adapter.path / "adapter_model.safetensors")
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[key], ours[key]) for key in theirs)
    described = json.loads((adapter.path / "adapter_config.json").read_text())
    assert (described["r"], described["lora_alpha"], described["use_rslora"]) == (2, 4, False)


def test_its_identity_is_its_content(small, save_peft, run):
    call = ("import-adapter", "--base", BASE, *where(small))
    first = run(*call, save_peft(), "--json").json
    again = run(*call, save_peft("copied"), "--json")
    assert (again.json, again.err) == (first, f"{first['artifact']} is up to date\n")
    moved = save_peft("moved", tensors={KEY: torch.ones(2, 16)})
    outcome = run(*call, moved)
    assert outcome.code == 3
    assert "exists with other settings: imported" in outcome.err
    other = import_adapter(moved, base=BASE, name="moved", workspace=small)
    fingerprints = {small.registry.get(first["artifact"]).fingerprint, other.fingerprint}
    for options in ({"lora_alpha": 2}, {"use_rslora": True}, {"lora_dropout": 0.1}):
        folder = save_peft(f"with {options}", **options)
        fingerprints.add(import_adapter(folder, base=BASE, name=f"n{len(fingerprints)}", workspace=small).fingerprint)
    for digits in (DigitSet.parse("0-9"), DigitSet.parse("5")):
        made = import_adapter(save_peft(f"on {digits}"), base=BASE, digits=digits, name=f"on-{digits}", workspace=small)
        fingerprints.add(made.fingerprint)
    assert len(fingerprints) == 7
    replaced = run(*call, moved, "--force", "--json").json
    assert (replaced["artifact"], replaced["digest"] != first["digest"]) == (first["artifact"], True)
    assert [verdict.problems for verdict in verify(small.registry)] == [[]] * len(small.registry.names())


def test_settings_of_before_there_were_imports_are_as_they_were(small):
    assert "imported" not in AdapterConfig().to_json()
    with pytest.raises(
        ConfigError, match="imported is the SHA-256 of a file of weights, not 'x'; what was trained els"
    ):
        AdapterConfig(imported="x")
    config = AdapterConfig(imported="sha256:" + 64 * "0", epochs=0)
    for train in (
        lambda: finetune(config, workspace=small),
        lambda: sweep([1], config=config, workspace=small, name="x"),
    ):
        with pytest.raises(UsageError, match="what was imported is not trained here"):
            train()


def test_whatever_asks_for_its_training_is_told_that_there_was_none(small, save_peft, run):
    name = import_adapter(save_peft(), base=BASE, workspace=small, name="theirs").name
    outcome = run("plot", "history", name, *where(small))
    assert (outcome.code, outcome.out) == (3, "")
    assert outcome.err == (
        "error: 'theirs' has no file history.csv: it was trained elsewhere, and imported (name one that was trained "
        "here)\n"
    )
    shown = run("runs", "show", name, *where(small)[:2]).out
    assert {"imported", "alpha", "scaling"} <= set(shown.split())
    assert not {"epochs", "lr", "optimizer", "seed", "init"} & set(shown.split())
    assert run("runs", "diff", name, "lora-fashion-mnist-5-9-r2-a0.5", *where(small)[:2]).code == 0


def test_every_stage_goes_on_from_it(small, save_peft, tmp_path):
    adapter = import_adapter(save_peft(), base=BASE, workspace=small, name="theirs")
    alone, own = evaluate("theirs", alphas=[0, 4], workspace=small)
    assert alone.scores["per_digit"] == small.registry.get(BASE).scores["per_digit"]
    assert own.scores == adapter.scores
    merged = merge("theirs", workspace=small)
    assert merged.details["merged"]["alpha"] == 4.0
    for kind in ("alpha", "confusion", "spectrum", "predictions"):
        plot(kind, "theirs", output=tmp_path / f"{kind}.svg", workspace=small)


def test_a_forged_digest_is_found(small, save_peft, forge):
    import_adapter(save_peft(), base=BASE, workspace=small, name="theirs")
    manifest = (small.runs_dir / "theirs" / "artifact.json").read_bytes()
    for change, found in (
        ({"imported": "x"}, "imported"),
        ({"imported": None}, "imported"),
        ({"epochs": 3}, "what was trained elsewhere has no epochs here"),
        ({"method": "dora"}, "lacks base_model.model.fc1.lora_magnitude_vector"),
    ):
        forge(small.runs_dir / "theirs", lambda manifest, change=change: manifest["config"].update(change))
        (verdict,) = (verdict for verdict in verify(small.registry, "theirs") if verdict.name == "theirs")
        assert any(found in problem for _, problem in verdict.problems), verdict.problems
        (small.runs_dir / "theirs" / "artifact.json").write_bytes(manifest)


OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "no kind": ({"peft_type": ...}, "peft_type is missing"),
    "another kind": ({"peft_type": "LOHA"}, 'peft_type is "LOHA": only LORA, DELORA, LOKR, MISS can be taken over'),
    "a kind that is none": ({"peft_type": ["LORA"]}, 'peft_type is ["LORA"]: only LORA, DELORA'),
    "no rank": ({"r": ...}, "r is missing"),
    "rank 0": ({"r": 0}, "r is 0: it has to be a whole number of at least 1"),
    "a rank that is none": ({"r": True}, "r is true: it has to be a whole number"),
    "a rank beyond measure": ({"r": 5000}, "rank is at most 4096, not 5000"),
    "no alpha": ({"lora_alpha": ...}, "lora_alpha is missing"),
    "an alpha that is none": ({"lora_alpha": "16"}, 'lora_alpha is "16": it has to be a finite number'),
    "an alpha beyond measure": ({"lora_alpha": 10**400}, "lora_alpha is 1000"),
    "an infinite alpha": ({"lora_alpha": float("inf")}, "lora_alpha is Infinity: it has to be a finite number"),
    "dora at 0": ({"lora_alpha": 0, "use_dora": True}, "lora_alpha is 0: with use_dora the magnitudes act"),
    "no layers": ({"target_modules": ...}, "target_modules is missing"),
    "an empty list of layers": ({"target_modules": []}, "target_modules is []: it has to be a list of layers"),
    "a pattern for layers": ({"target_modules": "fc.*"}, 'target_modules is "fc.*": it has to be a list of layers'),
    "a layer of others": (
        {"target_modules": ["fc1", "q_proj"]}, "the base has no q_proj, but fc1, fc2, fc3",
    ),
    "a layer that is none": ({"target_modules": ["fc1", ["fc2"]]}, "the base has no ['fc2']"),
    "biases": ({"bias": "all"}, "bias is \"all\": it has to be 'none'"),
    "biases of adapted layers": ({"bias": "lora_only"}, 'bias is "lora_only"'),
    "biases of B": ({"lora_bias": True}, "lora_bias is true: B has no bias here"),
    "whole layers": ({"modules_to_save": ["fc3"]}, 'modules_to_save is ["fc3"]: an adapter here holds no whole'),
    "transposed weights": ({"fan_in_fan_out": True}, "fan_in_fan_out is true: it has to be false"),
    "ranks that are none": ({"rank_pattern": {"fc1": 0}}, 'rank_pattern is {"fc1": 0}: they have to be whole numbers'),
    "odd ranks": ({"rank_pattern": {"fc1": "x"}}, 'rank_pattern is {"fc1": "x"}: they have to be whole numbers'),
    "ranks by pattern": ({"rank_pattern": {"fc.*": 4}}, "it has to name layers of target_modules"),
    "ranks of other layers": (
        {"rank_pattern": {"fc1": 2}, "target_modules": ["fc2"]}, "it has to name layers of target_modules",
    ),
    "ranks in a list": ({"rank_pattern": [4]}, "rank_pattern is [4]"),
    "alphas by layer": ({"alpha_pattern": {"fc1": 8}}, 'alpha_pattern is {"fc1": 8}: an adapter here has one alpha'),
    "alphas that are none": (
        {"alpha_pattern": {"fc1": "x", "fc2": "x", "fc3": "x"}}, "they have to be finite numbers",
    ),
    "alphas that are null": ({"alpha_pattern": {"fc1": None}}, 'alpha_pattern is {"fc1": null}'),
    "chosen blocks": ({"layers_to_transform": [0]}, "layers_to_transform is [0]: target_modules has to name"),
    "a pattern for blocks": ({"layers_pattern": "h"}, 'layers_pattern is "h": target_modules has to name'),
    "excluded layers": ({"exclude_modules": ["fc2"]}, 'exclude_modules is ["fc2"]: target_modules has to name'),
    "parameters": ({"target_parameters": ["fc1.weight"]}, "target_parameters is"),
    "layers again": ({"layer_replication": [[0, 1]]}, "layer_replication is [[0, 1]]: the base has each"),
    "tokens": ({"trainable_token_indices": [1]}, "trainable_token_indices is [1]: the base has no tokens"),
    "a start that moves the base": ({"init_lora_weights": "pissa"}, "path_initial_model_for_weight_conversion"),
    "another such start": ({"init_lora_weights": "olora"}, 'init_lora_weights is "olora"'),
    "quantised": ({"init_lora_weights": "loftq"}, 'init_lora_weights is "loftq"'),
    "a start of 1": ({"init_lora_weights": 1}, "init_lora_weights is 1: it has to be true, false"),
    "all is dropped": ({"lora_dropout": 1.0}, "lora_dropout is 1.0: it has to be at least 0 and below 1"),
    "a switch between": ({"use_rslora": "yes"}, 'use_rslora is "yes": it has to be true or false'),
    "another switch between": ({"use_dora": 1}, "use_dora is 1: it has to be true or false"),
    "activated": ({"alora_invocation_tokens": [5]}, "alora_invocation_tokens is [5]: nothing here does that"),
    "quantised groups": ({"use_qalora": True}, "use_qalora is true: nothing here does that"),
    "an option of tomorrow": ({"warp": {"speed": 9}}, 'warp is {"speed": 9}: nothing here does that'),
}  # fmt: skip


@pytest.mark.parametrize("what", OPTIONS)
def test_an_option_that_cannot_be_taken_over_is_refused_by_name(what, small, save_peft):
    options, found = OPTIONS[what]
    with pytest.raises(ArtifactError) as caught:
        import_adapter(save_peft(**options), base=BASE, workspace=small)
    assert found in caught.value.problem
    assert "adapter_config.json can't be taken over" in caught.value.problem
    assert len(caught.value.value) == 1 or what == "a layer that is none"  # type: ignore[arg-type]
    assert not [name for name in small.registry.names() if name.startswith("imported")]


def test_what_is_off_or_says_nothing_of_the_model_is_passed_over(small, save_peft):
    folder = save_peft(
        modules_to_save=None, lora_bias=False, layers_to_transform=None, warp=None, speed=False, more={},
        rank_pattern={}, alpha_pattern={}, task_type="SEQ_CLS", base_model_name_or_path="/elsewhere", revision="1",
        peft_version="99", auto_mapping={"base_model_class": "Net"}, inference_mode=False,
        megatron_core="megatron.core", loftq_config={}, qalora_group_size=16, runtime_config={"x": False},
    )  # fmt: skip
    assert import_adapter(folder, base=BASE, workspace=small).config["rank"] == 2


def test_all_that_is_wrong_is_told_at_once_and_in_a_line_of_bounded_length(small, save_peft, run):
    both = save_peft("both", bias="all", modules_to_save=["fc3"])
    outcome = run("import-adapter", both, "--base", BASE, *where(small))
    assert outcome.code == 3
    assert 'bias is "all"' in outcome.err
    assert 'modules_to_save is ["fc3"]' in outcome.err
    hostile = save_peft("hostile", **{f"\x1b[2J\n{i}" + 500 * "x": 500 * "y" for i in range(500)})
    outcome = run("import-adapter", hostile, "--base", BASE, *where(small))
    (line,) = outcome.err.splitlines()
    assert "; and 488 more" in line
    assert line.isprintable()
    assert len(line) < 4000


def nan(shape: tuple[int, ...], value: float) -> Tensor:
    tensor = torch.zeros(shape)
    tensor[-1, -1] = value
    return tensor


TENSORS: dict[str, tuple[dict[str, Any], str]] = {
    "a shape": ({KEY: torch.ones(3, 16)}, f"it has {KEY} of shape (3, 16), not (2, 16)"),
    "a transposed factor": ({KEY: torch.ones(16, 2)}, f"it has {KEY} of shape (16, 2), not (2, 16)"),
    "more dimensions": ({KEY: torch.ones(2, 16, 1)}, f"it has {KEY} of shape (2, 16, 1), not (2, 16)"),
    "a large tensor": ({KEY: torch.ones(400, 784)}, f"it has {KEY} of shape (400, 784), not (2, 16)"),
    "a missing key": ({KEY: None}, f"it lacks {KEY}"),
    "a renamed key": ({KEY: None, KEY.replace("fc2", "net.2"): torch.ones(2, 16)}, "unknown base_model.model.net.2"),
    "an unknown key": ({"base_model.model.fc3.bias": torch.ones(10)}, "it has the unknown base_model.model.fc3.bias"),
    "an adapter's own name": ({KEY.replace("weight", "default.weight"): torch.ones(2, 16)}, "lora_A.default.weight"),
    "double precision": ({KEY: torch.ones(2, 16).double()}, f"it has {KEY} as F64, not F32"),
    "whole numbers": ({KEY: torch.ones(2, 16).int()}, f"it has {KEY} as I32, not F32"),
    "no number": ({KEY: nan((2, 16), float("nan"))}, f"has values that are no finite numbers in {KEY}"),
    "no finite number": ({KEY: nan((2, 16), float("-inf"))}, f"has values that are no finite numbers in {KEY}"),
    "logits beyond measure": (
        {KEY: nan((2, 16), 1e38), KEY.replace("lora_A", "lora_B"): torch.full((12, 2), 1e38)}, "that are not finite",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", TENSORS)
def test_a_tensor_that_does_not_fit_is_refused_by_name(what, small, save_peft):
    tensors, found = TENSORS[what]
    with pytest.raises(ArtifactError) as caught:
        import_adapter(save_peft(tensors=tensors), base=BASE, workspace=small)
    assert found in caught.value.problem
    assert not [name for name in small.registry.names() if name.startswith("imported")]


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened_exactly_and_told(kind, small, save_peft, recorder):
    file = save_peft() / "adapter_model.safetensors"
    narrow = {key: tensor.to(kind) for key, tensor in safetensors.torch.load_file(file).items()}
    workspace = dataclasses.replace(small, reporter=recorder)
    adapter = import_adapter(save_peft("narrow", tensors=narrow), base=BASE, workspace=workspace)
    ours = safetensors.torch.load_file(adapter.path / file.name)
    assert {tensor.dtype for tensor in ours.values()} == {torch.float32}
    assert all(torch.equal(ours[key], tensor.float()) for key, tensor in narrow.items())
    assert any("half precision" in notice for notice in recorder.all("notice"))
    assert all(not verdict.problems for verdict in verify(small.registry))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_hides_no_value_that_is_none(kind, small, save_peft):
    tensors = {KEY: nan((2, 16), float("nan")).to(kind)}
    with pytest.raises(ArtifactError, match="no finite numbers"):
        import_adapter(save_peft(tensors=tensors), base=BASE, workspace=small)


def test_an_adapter_of_another_base_does_not_fit(small, save_peft, trained):
    with pytest.raises(ArtifactError, match=r"fc1\.lora_B\.weight of shape \(16, 2\), not \(64, 2\)"):
        import_adapter(save_peft(), base="base-0-4", workspace=Workspace(trained))
    for base, found in (("lora-fashion-mnist-5-9-r2-a0.5", "adapter"), ("base-0-4", "there is no artifact 'base-0-4'")):
        with pytest.raises(ArtifactError, match=found):
            import_adapter(save_peft(base), base=base, workspace=small)


def whole(save_peft: Save) -> bytes:
    return (save_peft("whole") / "adapter_model.safetensors").read_bytes()


FILES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "truncated": (lambda content: content[:-4], "is damaged"),
    "truncated in its header": (lambda content: content[:40], "is damaged"),
    "empty": (lambda content: b"", "is damaged"),
    "longer than its tensors": (lambda content: content + bytes(4), "is damaged"),
    "a header of exabytes": (lambda content: b"\xff" * 7 + b"\x7f" + content[8:], "is damaged"),
    "a pickle": (lambda content: b"\x80\x04cos\nsystem\n(S'touch owned'\ntR." + content, "is damaged"),
    "a type of its own": (lambda content: content.replace(b'"F32"', b'"F33"'), "is damaged"),
}


@pytest.mark.parametrize("what", FILES)
def test_a_file_of_weights_that_is_none_is_refused(what, small, save_peft):
    change, found = FILES[what]
    folder = save_peft(file=change(whole(save_peft)))
    with pytest.raises(ArtifactError, match=found) as caught:
        import_adapter(folder, base=BASE, workspace=small)
    assert str(folder / "adapter_model.safetensors") in caught.value.problem
    assert not Path("owned").exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"3", b"\xff\xfe", b'{"r": ' + b"[" * 100_000])
def test_a_description_that_is_none_is_refused(content, small, save_peft):
    folder = save_peft()
    (folder / "adapter_config.json").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"adapter_config\.json (is not JSON|holds no options)"):
        import_adapter(folder, base=BASE, workspace=small)


@pytest.mark.parametrize("file", ["adapter_config.json", "adapter_model.safetensors"])
def test_only_regular_files_of_a_sensible_size_are_read(file, small, save_peft):
    folder = save_peft()
    path, aside = folder / file, folder / "aside"

    def refused() -> ArtifactError:
        with pytest.raises(ArtifactError) as caught:
            import_adapter(folder, base=BASE, workspace=small)
        assert str(path) in caught.value.problem
        return caught.value

    path.rename(aside)
    assert "there is no file" in refused().problem
    path.symlink_to(aside)
    assert "it is a symbolic link" in refused().problem
    path.unlink()
    path.mkdir()
    assert "it is not a regular file" in refused().problem
    path.rmdir()
    os.mkfifo(path)
    assert "it is not a regular file" in refused().problem
    path.unlink()
    path.touch()
    os.truncate(path, 2**40)  # sparse: it costs its sender nothing
    assert "it has 1,099,511,627,776 bytes" in refused().problem
    path.unlink()
    aside.rename(path)
    assert import_adapter(folder, base=BASE, workspace=small).kind == "adapter"


def test_a_folder_that_is_none_and_a_pickle_get_the_advice_that_helps(small, save_peft):
    folder = save_peft("theirs")
    for wrong in (folder / "adapter_config.json", folder / "missing"):
        with pytest.raises(ArtifactError, match="there is no folder"):
            import_adapter(wrong, base=BASE, workspace=small)
    with pytest.raises(ArtifactError) as caught:
        import_adapter(folder.parent, base=BASE, workspace=small)
    assert f"name {folder}" in caught.value.hint
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(ArtifactError) as caught:
        import_adapter(folder, base=BASE, workspace=small)
    assert "adapter_model.bin is a pickle, which is never read" in caught.value.hint


def test_digits_are_those_that_the_base_did_not_learn_or_those_given(small, save_peft, run):
    call = ("import-adapter", save_peft(), "--base", BASE, *where(small))
    assert run(*call, "--digits", "9-5").code == 2
    assert run("import-adapter", save_peft("other"), *where(small)).code == 2
    assert run(*call, "--json").json["artifact"] == "imported-lora-fashion-mnist-5-9-r2-a4-standard"
    found = run(*call, "--digits", "all", "--json").json
    assert found["artifact"] == "imported-lora-fashion-mnist-0-9-r2-a4-standard"
    assert [row["digits"] for row in found["subsets"]] == ["0-4", "5-9", "0-9"]


def test_a_zero_row_has_no_direction(small, save_peft):
    """By DoRA a weight is divided by its rows' norms."""
    magnitudes = {
        f"base_model.model.fc{i}.lora_magnitude_vector": torch.ones(n) for i, n in ((1, 16), (2, 12), (3, 10))
    }
    folder = save_peft(use_dora=True, tensors=magnitudes)
    adapter = import_adapter(folder, base=BASE, workspace=small)
    assert adapter.config["method"] == "dora"
    assert np.isfinite([row["loss"] for row in adapter.scores["subsets"]]).all()
    with pytest.raises(ArtifactError, match=r"it lacks base_model\.model\.fc1\.lora_magnitude_vector"):
        import_adapter(save_peft("without", use_dora=True), base=BASE, workspace=small)
    with pytest.raises(ArtifactError, match=r"it has the unknown base_model\.model\.fc1\.lora_magnitude_vector"):
        import_adapter(save_peft("with", tensors=magnitudes), base=BASE, workspace=small)
