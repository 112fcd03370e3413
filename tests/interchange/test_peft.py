"""Our adapters in PEFT, and PEFT's here: for each scaling, method and choice of layers that PEFT has, the same logits.

Against the real package, through the files alone.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lora_mnist_cli.models.architecture import scale
from lora_mnist_cli.models.methods import method_named
from lora_mnist_cli.settings.adapter_config import AdapterConfig, without_unused
from lora_mnist_cli.settings.choices import METHODS, SCALINGS, STARTS
from lora_mnist_cli.stages import Workspace, finetune, import_adapter, sweep
from lora_mnist_cli.stages.exporting import export_model
from lora_mnist_cli.system.errors import UsageError

peft = pytest.importorskip("peft")
pytestmark = pytest.mark.usefixtures("one_thread")

BASE = "base-fashion-mnist-0-4"
LAYERS = ("fc1", "fc2", "fc3")
CHOICES = [chosen for count in (1, 2, 3) for chosen in itertools.combinations(LAYERS, count)]
IN_PEFT = [name for name in METHODS if not method_named(name).not_in_peft]
AS_LORA = ("lora", "dora", "pissa")
"""Methods that PEFT's LoRA can train."""
SCALED = [
    (name, scaling)
    for name in IN_PEFT
    for scaling in (("constant",) if "scaling" in METHODS[name].unused else SCALINGS)
]
NOT_IN_PEFT = [name for name in METHODS if name not in IN_PEFT]
RANDOM = ["vera", "randlora"]
"""Methods whose random numbers are in a folder for PEFT, and not in the artifact's."""


def agree(found: Tensor, expected: Tensor, bare: Tensor) -> None:
    """To 1e-5, and far from the base's own logits."""
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert float((expected - bare).abs().max()) > 0.01


@torch.no_grad()
def loaded(folder: Path, base: torch.nn.Module, images: Tensor) -> Tensor:
    return peft.PeftModel.from_pretrained(base, folder)(images)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def grids(small_trained: Path, small_data: Path, make_once: Callable[..., Path]) -> Callable[..., Workspace]:
    """A workspace with an adapter of one epoch for each method and scaling, on some layers; made when asked for."""

    def grid(layers: tuple[str, ...]) -> Workspace:
        def make(folder: Path) -> None:
            workspace = Workspace(Path(shutil.copytree(small_trained, folder / "runs")), small_data)
            sweep(
                [3], grid={"methods": IN_PEFT, "scalings": SCALINGS}, workspace=workspace, name="grid",
                config=AdapterConfig(target_layers=layers, epochs=1, lr=0.02, alpha=0.5),
            )  # fmt: skip

        return Workspace(make_once("-".join(("grid", *layers)), make) / "runs", small_data)

    return grid


def test_the_matrix_has_what_there_is():
    assert {"lora", "dora", "pissa", "delora", "lokr", "miss", "hra", "ia3"} <= set(IN_PEFT)
    assert {"vera", "randlora", "bitfit", "full", "head"} <= set(NOT_IN_PEFT)
    assert len(CHOICES) == 7


@pytest.mark.parametrize("layers", CHOICES, ids="+".join)
@pytest.mark.parametrize(("method", "scaling"), SCALED)
def test_our_folder_as_it_lies_is_peft_s(method, scaling, layers, grids, images, exported, our_logits):
    workspace = grids(layers)
    (name,) = (
        row["artifact"]
        for row in workspace.registry.get("grid").details["results"]
        if (row["method"], row["scaling"]) == (method, scaling)
    )
    adapter = workspace.registry.get(name)
    assert adapter.config["target_layers"] == list(layers)
    folder = workspace.runs_dir / name
    assert {"artifact.json", "history.csv"} < {path.name for path in folder.iterdir()}
    with torch.no_grad():
        agree(loaded(folder, exported(), images), our_logits(workspace, adapter), exported()(images))


def trained_by_peft(
    model: torch.nn.Module, images: Tensor, folder: Path, *, init: Any = True, steps: int = 8, **options: Any
) -> tuple[Path, Tensor]:
    """What PEFT makes of a model in a few steps: the folder that it saves, and the logits that it has then."""
    torch.manual_seed(3)
    pissa = init == "pissa"
    described = peft.LoraConfig(**options, init_lora_weights=init)
    theirs = peft.get_peft_model(model, described)
    if pissa:
        # As PEFT's documentation has it: the start beside the result, so that it can be converted to plain LoRA.
        theirs.peft_config["default"].init_lora_weights = True
        theirs.save_pretrained(folder / "start")
    optimizer = torch.optim.AdamW([p for p in theirs.parameters() if p.requires_grad], lr=0.004)
    labels = torch.arange(len(images)) % 5 + 5
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(theirs(images), labels).backward()
        optimizer.step()
    theirs.eval()
    with torch.no_grad():
        logits = theirs(images)
    if pissa:
        theirs.peft_config["default"].init_lora_weights = "pissa"
        with warnings.catch_warnings():  # its own advice to do what is done here
            warnings.simplefilter("ignore")
            theirs.save_pretrained(folder / "done", path_initial_model_for_weight_conversion=str(folder / "start"))
    else:
        theirs.save_pretrained(folder / "done")
    return folder / "done", logits


@pytest.mark.parametrize("layers", CHOICES, ids="+".join)
@pytest.mark.parametrize("rslora", [False, True], ids=["standard", "rslora"])
@pytest.mark.parametrize("method", AS_LORA)
def test_what_peft_trained_on_the_exported_base_is_the_same_here(
    method, rslora, layers, small, images, tmp_path, exported, our_logits
):
    folder, theirs = trained_by_peft(
        exported(), images, tmp_path, r=3, lora_alpha=5, use_rslora=rslora, target_modules=list(layers),
        use_dora=method == "dora", init="pissa" if method == "pissa" else True,
    )  # fmt: skip
    adapter = import_adapter(folder, base=BASE, workspace=small)
    agree(our_logits(small, adapter), theirs, exported()(images).detach())
    config = AdapterConfig.from_json(adapter.config)
    assert config.target_layers == layers
    assert (config.method, config.rank) == {"lora": ("lora", 3), "dora": ("dora", 3), "pissa": ("lora", 6)}[method]
    factor = 5 / (math.sqrt(3) if rslora else 3)
    assert config.alpha * scale(config.scaling, config.rank) == pytest.approx(factor, rel=1e-15)
    # And back again, as it lies.
    torch.testing.assert_close(loaded(small.runs_dir / adapter.name, exported(), images), theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "options",
    [
        {"init": "gaussian"},
        {"init": "orthogonal", "r": 4},
        {"init": "mica"},
        {"init": False},
        {"target_modules": "all-linear"},
        {"target_modules": "fc2"},
        {"lora_dropout": 0.5},
        {"lora_alpha": -3},
        {"rank_pattern": {"fc1": 5}, "target_modules": ["fc1"]},
        {"rank_pattern": {"fc1": 5, "fc3": 2}},
        {"rank_pattern": {"fc2": 5}, "use_rslora": True, "use_dora": True},
        {"rank_pattern": {"fc2": 6}, "alpha_pattern": {"fc2": 8}},
        {"alpha_pattern": {"fc1": 2, "fc3": 2}, "target_modules": ["fc1", "fc3"]},
        {"alpha_pattern": {"fc1": 4}},
        {"r": 60, "use_rslora": True, "use_dora": True},
    ],
    ids=str,
)
def test_options_that_say_the_same_in_other_words_are_taken(options, small, images, tmp_path, exported, our_logits):
    given = {"r": 3, "lora_alpha": 4, "target_modules": list(LAYERS)} | options
    folder, theirs = trained_by_peft(exported(), images, tmp_path, **given)
    adapter = import_adapter(folder, base=BASE, workspace=small)
    agree(our_logits(small, adapter), theirs, exported()(images).detach())
    assert adapter.config["dropout"] == options.get("lora_dropout", 0)


@pytest.mark.parametrize(
    ("method", "form"),
    [
        *((method, "folder") for method in NOT_IN_PEFT),
        *((each, "export") for each in NOT_IN_PEFT if each not in RANDOM),
    ],
)
def test_what_peft_has_not_is_refused_with_the_reason(method, form, small, exported):
    adapter = finetune(AdapterConfig(method=method, epochs=1), workspace=small, name="other")
    if form == "folder":
        with pytest.raises(ValueError, match=r"adapter_config\.json"):
            peft.PeftModel.from_pretrained(exported(), str(small.runs_dir / adapter.name))
        return
    reason = f"PEFT can't say what 'other' is, by {method}: {method_named(method).not_in_peft}"
    with pytest.raises(UsageError, match=re.escape(reason)) as caught:
        export_model("other", "peft", workspace=small)
    assert "--format safetensors" in caught.value.hint
    assert not list(Path().glob("other*"))


@pytest.mark.parametrize("alpha", [None, 0.0, -0.7])
@pytest.mark.parametrize("method", [*IN_PEFT, *RANDOM, "corda"])
def test_an_exported_folder_is_peft_s_at_the_alpha_asked_for(method, alpha, small, images, exported, our_logits):
    own = {"epochs": 1, "lr": 0.02, "alpha": 0.5, "target_layers": ("fc1", "fc3"), "rank": 3}
    chosen = {"init": method} if method in STARTS else {"method": method}
    config = AdapterConfig(**without_unused(own | chosen))
    adapter = finetune(config, workspace=small, name="some")
    if method not in ("lora", "pissa", "lokr", "randlora", "corda") and alpha is not None:
        why = "the product inside the norm alone" if method == "dora" else "PEFT's .* has none"
        with pytest.raises(UsageError, match=f"PEFT can't say what 'some' is at alpha .*, and .*{why}"):
            export_model("some", "peft", alpha=alpha, workspace=small)
        return
    described = export_model("some", "peft", alpha=alpha, workspace=small)
    folder = Path("some-peft" if alpha is None else f"some-a{alpha:g}-peft")
    assert described["file"] == str(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    beside = json.loads(Path(f"{folder}.json").read_text())
    assert beside["alpha"] == (config.alpha if alpha is None else alpha)
    assert set(beside["normalisation"]) == {"mean", "std"}
    bare = exported()(images).detach()
    found = loaded(folder, exported(), images)
    if alpha is None:
        agree(found, our_logits(small, adapter), bare)
        return
    # Alpha multiplies the change of each layer.
    plain = exported()
    with torch.no_grad():
        for name, layer in plain.named_children():
            export_model("some", "peft", output="trained", workspace=small, force=True)
            full = peft.PeftModel.from_pretrained(exported(), "trained").merge_and_unload()
            layer.weight += alpha / config.alpha * (full.get_submodule(name).weight - layer.weight)
        torch.testing.assert_close(found, plain(images), atol=1e-5, rtol=0)
    assert torch.equal(found, bare) == (alpha == 0)
