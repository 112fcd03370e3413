"""The methods beside each other: against PEFT, against plain loops of autograd, and the laws that hold for all."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from method_training import LAYERS, adapted, compare_with_peft, compare_with_peft_training, loop, plain, settings, train
from torch import Tensor, nn
from torch.nn import functional as F

from lora_mnist_cli.data.dataset import MNISTDataset
from lora_mnist_cli.models import adapted_linear, lora
from lora_mnist_cli.models.methods import method_named, tensor_shapes, trainable_parameters
from lora_mnist_cli.registry.checkpoint import save_adapter
from lora_mnist_cli.settings.choices import METHODS
from lora_mnist_cli.system.progress import Silent
from lora_mnist_cli.training.bank.trainer import fit_bank
from lora_mnist_cli.training.trainer import ModelTraining

pytestmark = pytest.mark.usefixtures("one_thread")

OTHERS = [name for name in METHODS if name != "lora"]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("scaling", ["constant", "rslora"])
@pytest.mark.parametrize(("method", "rank"), [("dora", 3), ("pissa", 3), ("pissa", 11)])
def test_a_training_is_what_peft_makes_of_it(method, rank, scaling, optimizer, images):
    peft = pytest.importorskip("peft")
    config = settings(method, rank=rank, scaling=scaling, optimizer=optimizer, alpha=0.5)
    config = dataclasses.replace(config, lr=0.3 if optimizer == "sgd" else 0.01)
    described = peft.LoraConfig(
        r=rank, lora_alpha=0.5 if scaling == "rslora" else 0.5 * rank, use_rslora=scaling == "rslora",
        target_modules=list(LAYERS), use_dora=method == "dora",
        init_lora_weights="pissa" if method == "pissa" else True,
    )  # fmt: skip
    theirs = peft.get_peft_model(plain(), described)
    if method == "dora":
        for name, layer in lora.adapted_layers(adapted(config)).items():
            theirs.get_submodule(f"base_model.model.{name}").lora_A["default"].weight.data.copy_(
                layer.trained["lora_A_weight"].data  # type: ignore[index]
            )
    compare_with_peft_training(theirs, config, images, atol=2e-4, least=0.05)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("method", ["full", "head"])
def test_full_and_head_are_plain_fine_tuning(method, optimizer, images):
    """Weight decay included: it pulls weights towards zero, and not what they have moved."""
    config = settings(method, optimizer=optimizer)
    ours, theirs = train(config, images), plain()
    theirs.requires_grad_(False)
    for name in config.target_layers or ():
        theirs.get_submodule(name).requires_grad_(True)
    loop(theirs, config, images, [{"params": [p for p in theirs.parameters() if p.requires_grad]}])
    lora.merge(ours)
    found = lora.detach(ours).state_dict()
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-5)
    moved = {name for name, value in plain().state_dict().items() if not torch.equal(value, found[name])}
    assert moved == {f"{name}.{part}" for name in config.target_layers or () for part in ("weight", "bias")}


@pytest.mark.parametrize("layers", [("fc1", "fc2", "fc3"), ("fc1", "fc3")])
@pytest.mark.parametrize("alpha", [1.0, 0.5, 2.0])
def test_full_fine_tuning_sees_alpha_times_what_it_changed(alpha, layers, images):
    config = settings("full", alpha=alpha, target_layers=layers, optimizer="sgd", lr=0.1)
    ours, theirs, base = train(config, images), plain(), plain()

    def forward(x: Tensor) -> Tensor:
        for name, layer in theirs.named_children():
            start = base.get_submodule(name)
            weight, bias = (
                before + (alpha if name in layers else 0) * (now - before)
                for now, before in ((layer.weight, start.weight), (layer.bias, start.bias))
            )
            x = F.linear(x if name == "fc1" else F.relu(x), weight, bias)
        return x

    loop(theirs, config, images, [{"params": list(theirs.parameters())}], forward)
    with torch.no_grad():
        torch.testing.assert_close(ours(images.images), forward(images.images), rtol=1e-3, atol=1e-4)
        assert float((ours(images.images) - base(images.images)).abs().max()) > 0.05


def test_only_what_is_plain_is_trained_by_the_plain_networks_step(images):
    def is_plain(model: nn.Module, **more: Any) -> bool:
        config = settings("full", **more)
        training = ModelTraining(model, images, config, Silent())
        training.prepare()
        return training.mlp_step is not None

    def but(change: Callable[[Any], object]) -> nn.Module:
        model = adapted(settings("full"))
        change(model.fc2)
        return model

    assert is_plain(plain())
    assert is_plain(adapted(settings("full")))
    assert not is_plain(plain(), precision="bf16-mixed")
    assert not is_plain(adapted(settings("full", alpha=0.5)))
    assert not is_plain(adapted(settings("full", target_layers=("fc1", "fc2"))))
    assert not is_plain(adapted(settings("dora")))
    assert not is_plain(adapted(settings("lora")))
    assert not is_plain(but(lambda layer: setattr(layer, "alpha", 2.0)))
    assert not is_plain(but(lambda layer: setattr(layer, "enabled", False)))
    assert not is_plain(but(lambda layer: layer.trained["weight"].requires_grad_(False)))
    assert not is_plain(but(lambda layer: layer.merge()))
    assert not is_plain(but(lambda layer: layer.settle()))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("ratio", [4.0, 1.0, 0.25])
def test_lora_plus_in_a_bank_is_a_loop_with_two_rates(ratio, optimizer, images):
    """Members with other ratios, ranks and seeds are in the same bank, and none disturbs another."""
    configs = [
        settings("lora", rank=rank, seed=seed, lr_ratio_b=own, optimizer=optimizer, precision="64-true")
        for rank, seed, own in ((2, 0, ratio), (3, 0, 1.0), (2, 1, ratio), (3, 1, 1.0), (2, 0, 2 * ratio))
    ]
    models = [adapted(config) for config in configs]
    fit_bank(models, images, configs)
    double = MNISTDataset(images.images.double(), images.labels)
    for config, ours in zip(configs, models, strict=True):
        theirs = adapted(config).double()
        named = {name: p for name, p in theirs.named_parameters() if p.requires_grad}
        loop(theirs, config, double, [
            {"params": [p for name, p in named.items() if name.endswith("lora_A")]},
            {"params": [p for name, p in named.items() if name.endswith("lora_B")], "lr": config.lr_ratio_b * 0.01},
        ])  # fmt: skip
        for name, value in adapted_linear.adapter_tensors(theirs).items():
            torch.testing.assert_close(adapted_linear.adapter_tensors(ours)[name].double(), value, rtol=1e-6, atol=1e-7)


def test_a_schedule_keeps_the_ratio():
    from lora_mnist_cli.training.bank.optimizer import MemberOptimizer
    from lora_mnist_cli.training.optimizers import PLATEAU_PATIENCE

    flat = torch.zeros(10)
    config = settings("lora", lr_ratio_b=8.0)
    optimizer = MemberOptimizer(flat, torch.zeros(10), [[slice(0, 10)]], [config], [[slice(2, 4), slice(6, 9)]])

    def rates() -> list[tuple[float, int]]:
        groups = optimizer.step.param_groups
        return [(group["lr"], sum(p.numel() for p in group["params"])) for group in groups]

    assert rates() == [(0.01, 5), (0.08, 5)]
    for _ in range(PLATEAU_PATIENCE + 2):
        optimizer.watch([1.0])
    assert rates() == [(pytest.approx(0.001), 5), (pytest.approx(0.008), 5)]


@pytest.mark.parametrize("method", ["dora", "pissa"])
def test_the_ratio_holds_for_every_method_that_has_a_b(method, images):
    config = settings(method, rank=2, lr_ratio_b=4.0)
    ours, theirs = train(config, images), adapted(config)
    named = {name: p for name, p in theirs.named_parameters() if p.requires_grad}
    b = [p for name, p in named.items() if "lora_B" in name]
    assert len(b) == 3
    others = [p for name, p in named.items() if "lora_B" not in name]
    loop(theirs, config, images, [{"params": others}, {"params": b, "lr": 4 * config.lr}])
    with torch.no_grad():
        torch.testing.assert_close(ours(images.images), theirs(images.images), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("method", OTHERS)
def test_a_new_adapter_changes_nothing(method, images):
    for scaling in ("constant",) if "scaling" in METHODS[method].unused else ("constant", "rslora"):
        model = adapted(settings(method, scaling=scaling))
        torch.testing.assert_close(model(images.images), plain()(images.images), rtol=0, atol=1e-5)
        adapted_linear.settle(model)
        assert lora.has_no_effect(model)
        assert torch.equal(model(images.images), plain()(images.images))


@pytest.mark.parametrize(("method", "random"), [("vera", "held_vera_A"), ("randlora", "held_randlora_B")])
def test_a_random_pair_varies_with_the_stream_of_starts_alone(method, random):
    def first(**more: Any) -> Tensor:
        return getattr(lora.adapted_layers(adapted(settings(method, rank=2, **more)))["fc1"], random).clone()

    assert torch.equal(first(seed=3), first(seed=3))
    assert not torch.equal(first(seed=3), first(seed=4))
    assert torch.equal(first(seed=4, held_seed=3, vary="order"), first(seed=3))


@pytest.mark.parametrize("method", OTHERS)
@pytest.mark.parametrize("merged", [False, True])
def test_alpha_0_is_the_base_bit_for_bit_and_alpha_is_a_multiplier(method, merged, images):
    trained = 1.0 if "alpha" in METHODS[method].unused else 0.5
    model = train(settings(method, alpha=trained), images)
    assert not lora.has_no_effect(model)
    base = plain()
    full = {name: layer.change()[0].clone() for name, layer in lora.adapted_layers(model).items()}
    lora.set_alpha(model, 2 * trained)
    for name, layer in lora.adapted_layers(model).items():
        torch.testing.assert_close(layer.change()[0], 2 * full[name])
    lora.set_alpha(model, 0.0)
    if merged:
        lora.merge(model)
    assert torch.equal(model(images.images), base(images.images))


@pytest.mark.parametrize("method", OTHERS)
def test_the_base_never_moves_and_merged_is_unmerged(method, images):
    model, base = train(settings(method), images), plain()
    with torch.no_grad():
        before = model(images.images)
        lora.merge(model)
        torch.testing.assert_close(model(images.images), before, rtol=1e-4, atol=1e-5)
        lora.unmerge(model)
        assert torch.equal(model(images.images), before)
        with lora.switched_off(model):
            assert torch.equal(model(images.images), base(images.images))
    for name, value in lora.detach(model).state_dict().items():
        assert torch.equal(value, base.state_dict()[name])


@pytest.mark.parametrize("method", METHODS)
def test_what_is_kept_has_the_shapes_that_settings_promise_and_comes_back(method, images, tmp_path):
    config = settings(method)
    start = adapted(config)
    trainable = sum(p.numel() for p in start.parameters() if p.requires_grad)
    layers = {name: LAYERS[name] for name in config.target_layers or ()}
    assert trainable_parameters(config, layers) == trainable
    model = train(config, images)
    kept = adapted_linear.adapter_tensors(model)
    assert {key: tuple(tensor.shape) for key, tensor in kept.items()} == tensor_shapes(config, layers)
    save_adapter(model, config, tmp_path)
    assert (tmp_path / "adapter_config.json").exists() is not bool(method_named(method).not_in_peft)
    other = adapted_linear.attach(plain(), config, start=False)
    adapted_linear.load_adapter_tensors(other, kept)
    assert torch.equal(other(images.images), model(images.images))


@pytest.mark.parametrize("scaling", ["constant", "standard", "rslora"])
@pytest.mark.parametrize(("method", "rank"), [("dora", 3), ("pissa", 3), ("pissa", 14)])
def test_peft_loads_the_folder(method, rank, scaling, images, tmp_path):
    config = settings(method, rank=rank, scaling=scaling, alpha=0.5)
    compare_with_peft(train(config, images), config, images, tmp_path)


@pytest.mark.parametrize("method", ["dora", "pissa"])
def test_dropout_acts_in_training_only(method):
    config = settings(method, rank=2, dropout=0.5)
    model = adapted(config).train()
    with torch.no_grad():
        for layer in lora.adapted_layers(model).values():
            layer.trained["lora_B_weight"] += 0.1  # type: ignore[index]
    x = torch.rand(5, 784)
    torch.manual_seed(3)
    first = model(x)
    torch.manual_seed(4)
    assert not torch.equal(first, model(x))
    model.eval()
    assert torch.equal(model(x), model(x))


@pytest.mark.parametrize("method", list(METHODS))
def test_mixed_precision_learns_what_single_precision_does(method, images):
    """bfloat16 has three digits: the losses are near each other, and far from the start's."""
    found = {}
    for precision in ("32-true", "bf16-mixed"):
        rate = 0.03 if method == "vera" else 0.003
        model = train(settings(method, precision=precision, epochs=4, lr=rate), images)
        assert {tensor.dtype for tensor in adapted_linear.adapter_tensors(model).values()} == {torch.float32}
        with torch.no_grad():
            found[precision] = F.cross_entropy(model(images.images), images.labels).item()
    with torch.no_grad():
        start = F.cross_entropy(plain()(images.images), images.labels).item()
    assert found["32-true"] < start - 0.005, f"{method} hardly learns at {rate}: give it a higher rate here"
    assert found["bf16-mixed"] == pytest.approx(found["32-true"], abs=0.1 * (start - found["32-true"]))
