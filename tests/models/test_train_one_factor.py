"""LoRA with one factor frozen: what is drawn, what moves, PEFT beside it, and the stages."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
import torch
from method_training import adapted, loop, plain, settings

from lora_mnist_cli.models import lora
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.choices import DRAWN
from lora_mnist_cli.stages import finetune, sweep
from lora_mnist_cli.system.errors import ConfigError
from lora_mnist_cli.training.bank.trainer import fit_bank
from lora_mnist_cli.training.objective import Objective

pytestmark = pytest.mark.usefixtures("one_thread")


def one_factor(train: str, **more: Any) -> AdapterConfig:
    return settings("lora", train=train, **{"rank": 3, **more})


@pytest.mark.parametrize("init", DRAWN)
def test_the_frozen_factor_is_random_and_the_other_starts_at_zero(init):
    for train, frozen, zero in (("A", "lora_B", "lora_A"), ("B", "lora_A", "lora_B")):
        for layer in lora.adapted_layers(adapted(one_factor(train, init=init))).values():
            assert not getattr(layer, frozen).requires_grad
            assert getattr(layer, frozen).abs().min() > 0
            assert getattr(layer, zero).requires_grad
            assert not getattr(layer, zero).any()
    drawn = lora.init_B(4000, 5, init)
    if init == "orthogonal":
        torch.testing.assert_close(drawn.T @ drawn, torch.eye(5), atol=1e-5, rtol=0)
    elif init == "gaussian":
        assert float(drawn.std()) == pytest.approx(1 / 5, rel=0.05)
    else:
        assert 0.99 * 5**-0.5 < float(drawn.abs().max()) <= 5**-0.5


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("train", ["A", "B"])
def test_the_frozen_factor_never_moves_in_a_bank_with_others(train, precision, images):
    configs = [one_factor(train, precision=precision), one_factor("both", precision=precision, rank=2)]
    models = [adapted(config) for config in configs]
    frozen, moving = ("lora_B", "lora_A") if train == "A" else ("lora_A", "lora_B")
    before = copy.deepcopy(lora.adapted_layers(models[0]))
    fit_bank(models, images, configs)
    for name, layer in lora.adapted_layers(models[0]).items():
        assert torch.equal(getattr(layer, frozen), getattr(before[name], frozen))
        assert getattr(layer, moving).any()
    for layer in lora.adapted_layers(models[1]).values():
        assert layer.lora_B.any()  # type: ignore[operator]


def test_a_frozen_factor_is_kept_out_once_and_never_moves_again(images):
    """A second projection would move it, by rounding."""
    config = one_factor("B", protect=("nullspace",))
    rounds = []
    for epochs in (1, 3):
        model = adapted(config)
        draw = torch.Generator().manual_seed(5)
        avoided = [
            torch.linalg.qr(torch.randn(layer.base.in_features, 4, generator=draw))[0]
            for layer in lora.adapted_layers(model).values()
        ]
        objective = dataclasses.replace(Objective.of(images), avoided=tuple(avoided))
        fit_bank([model], objective, [dataclasses.replace(config, epochs=epochs)])
        rounds.append([layer.lora_A.detach().clone() for layer in lora.adapted_layers(model).values()])
        for layer, U in zip(lora.adapted_layers(model).values(), avoided, strict=True):
            assert float((layer.lora_A @ U).abs().max()) < 1e-5  # type: ignore[operator]
    for one, other in zip(*rounds, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("train", ["A", "B"])
def test_a_training_is_peft_s_with_the_other_factor_frozen(train, optimizer, images):
    peft = pytest.importorskip("peft")
    config = one_factor(train, optimizer=optimizer, lr=0.3 if optimizer == "sgd" else 0.01)
    ours = adapted(config)
    theirs = peft.get_peft_model(
        plain(), peft.LoraConfig(r=3, lora_alpha=3, target_modules=["fc1", "fc2", "fc3"], init_lora_weights=False)
    )
    for name, layer in lora.adapted_layers(ours).items():
        module = theirs.get_submodule(f"base_model.model.{name}")
        for factor in ("lora_A", "lora_B"):
            weight = getattr(module, factor)["default"].weight
            weight.data.copy_(getattr(layer, factor).data)
            weight.requires_grad_(factor[-1] == train)
    fit_bank([ours], images, [config])
    loop(theirs, config, images, [{"params": [p for p in theirs.parameters() if p.requires_grad]}])
    with torch.no_grad():
        torch.testing.assert_close(ours(images.images), theirs(images.images), rtol=1e-3, atol=2e-4)
        assert float((ours(images.images) - plain()(images.images)).abs().max()) > 0.05


def test_names_grids_and_manifests_say_which_factor(small):
    made = sweep([2], grid={"trains": "both,A,B"}, config=AdapterConfig(epochs=1), workspace=small, name="factors")
    rows = {row["train"]: row for row in made.details["results"]}
    assert rows["both"]["artifact"] == "lora-fashion-mnist-5-9-r2"
    assert rows["B"]["artifact"] == "lora-fashion-mnist-5-9-r2-trainB"
    assert rows["A"]["trainable_parameters"] + rows["B"]["trainable_parameters"] == rows["both"]["trainable_parameters"]
    assert "train" not in small.registry.get(rows["both"]["artifact"]).config
    assert small.registry.get(rows["A"]["artifact"]).config["train"] == "A"
    alone = finetune(AdapterConfig(rank=2, epochs=1, train="A"), workspace=small)
    assert alone.digest == small.registry.get(rows["A"]["artifact"]).digest


def test_what_means_nothing_with_one_factor_is_refused():
    with pytest.raises(ConfigError, match="needs both factors trained, not B alone"):
        AdapterConfig(train="B", lr_ratio_b=4.0)
    with pytest.raises(ConfigError, match="train is one of both, A, B, not 'C'"):
        AdapterConfig(train="C")
    with pytest.raises(ConfigError, match="dora has no train, so it cannot be A"):
        AdapterConfig(method="dora", train="A")
