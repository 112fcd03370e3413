"""Starts that are computed: against PEFT, against small references written here, and the law of each."""

from __future__ import annotations

import copy
import dataclasses
import warnings
from typing import Any

import pytest
import torch
from method_training import LAYERS, compare_with_peft, loop, plain
from old_and_new import context_of
from torch import Tensor, nn
from torch.nn import functional as F

from lora_mnist_cli.data.dataset import MNISTDataset, split_rows
from lora_mnist_cli.models import adapted_linear, lora
from lora_mnist_cli.models.methods import trainable_parameters
from lora_mnist_cli.models.methods.moved import START_A, START_B
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.choices import STARTS, implementation
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.training import starts
from lora_mnist_cli.training.bank.trainer import fit_bank
from lora_mnist_cli.training.fused.support import obstacle
from lora_mnist_cli.training.objective import ProtectionContext
from lora_mnist_cli.training.starts.old_inputs import old_inputs

pytestmark = pytest.mark.usefixtures("one_thread")

MOVED = [name for name in STARTS if STARTS[name].moves_weight]
Pairs = dict[str, tuple[Tensor, Tensor]]


@pytest.fixture(scope="module")
def context() -> ProtectionContext:
    return context_of(plain(), AdapterConfig(digits=DigitSet.parse("5-9")))


@pytest.fixture(autouse=True)
def few_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Enough for layers of this size."""
    for module in ("eva", "lora_ga", "old_inputs"):
        monkeypatch.setattr(f"lora_mnist_cli.training.starts.{module}.SAMPLES", 900)


def settings(init: str, **more: Any) -> AdapterConfig:
    own = {"digits": DigitSet.parse("5-9"), "target_layers": tuple(LAYERS), "epochs": 2, "batch_size": 16, "rank": 3}
    return AdapterConfig(init=init, **{**own, "lr": 0.01, "weight_decay": 0.1} | more)


def begun(context: ProtectionContext, *configs: AdapterConfig) -> list[nn.Module]:
    """Models with the starts of their configs."""
    models = [adapted_linear.attach(copy.deepcopy(context.base), config) for config in configs]
    starts.begin(models, configs, context)
    return models


def start(context: ProtectionContext, init: str, **more: Any) -> Pairs:
    """A and B of each layer at the start."""
    return factors_of(*begun(context, settings(init, **more)))


def factors_of(model: nn.Module) -> Pairs:
    """A and B of each layer of a model that was begun."""
    found = {}
    for name, layer in lora.adapted_layers(model).items():
        if isinstance(layer, adapted_linear.MethodLinear):
            tensors = layer.tensors()
            assert torch.equal(tensors["lora_A.weight"], tensors[START_A])
            assert torch.equal(tensors["lora_B.weight"], tensors[START_B])
            found[name] = tensors["lora_A.weight"].detach().clone(), tensors["lora_B.weight"].detach().clone()
        else:
            assert isinstance(layer, lora.LoRALinear)
            found[name] = layer.lora_A.detach().clone(), layer.lora_B.detach().clone()
    return found


def peft_start(context: ProtectionContext, init: str, prepare: Any, **options: Any) -> Pairs:
    """What PEFT makes of a start of rank 3 with the factor 0.5; ``prepare`` gets its model and the description."""
    peft = pytest.importorskip("peft")
    model = copy.deepcopy(context.base).requires_grad_(True)
    own = {"r": 3, "lora_alpha": 1.5, "target_modules": list(LAYERS)}
    described = peft.LoraConfig(**own, init_lora_weights=init, **options)
    with warnings.catch_warnings():  # PEFT's advice, and PyTorch's to its hooks
        warnings.simplefilter("ignore")
        if init != "eva":
            prepare(model, described)
        wrapped = peft.get_peft_model(model, described)
        if init == "eva":
            prepare(wrapped, described)
    theirs = wrapped.base_model.model
    layers = {name: theirs.get_submodule(name) for name in LAYERS}
    return {
        name: (layer.lora_A["default"].weight.detach(), layer.lora_B["default"].weight.detach())
        for name, layer in layers.items()
    }


def same_but_for_signs(found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor], tolerance: float) -> None:
    """Each row of A, with its column of B, may be turned round."""
    signs = (found[0] * expected[0]).sum(1).sign()
    torch.testing.assert_close(found[0], signs[:, None] * expected[0], rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(found[1], signs * expected[1], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("init", STARTS)
def test_a_start_changes_nothing_until_it_is_trained_and_alpha_0_is_the_base(init, context, tmp_path):
    config = settings(init, alpha=0.5, scaling="rslora")
    (model,) = begun(context, config)
    bare, images = context.base, context.images.images
    assert torch.equal(model(images), bare(images))
    assert all(A.any() and bool(B.any()) == (init in MOVED) for A, B in factors_of(model).values())
    fit_bank([model], context.images, [config])
    compare_with_peft(model, config, context.images, tmp_path)
    loaded = adapted_linear.attach(copy.deepcopy(bare), config, start=False)
    adapted_linear.load_adapter_tensors(loaded, adapted_linear.adapter_tensors(model))
    with torch.no_grad():
        torch.testing.assert_close(loaded(images), model(images), rtol=1e-5, atol=1e-5)
        lora.set_alpha(model, 0.0)
        assert torch.equal(model(images), bare(images))
    expected = sum(3 * (fan_in + fan_out) for fan_in, fan_out in LAYERS.values())
    assert trainable_parameters(config, LAYERS) == expected


@pytest.mark.parametrize("train", ["both", "B"])
@pytest.mark.parametrize("init", STARTS)
def test_training_is_a_plain_loop_on_what_is_left_of_the_weight(init, train, context):
    config = settings(init, alpha=0.5, train=train, weight_decay=0.0, optimizer="sgd", lr=0.1)
    (ours,) = begun(context, config)
    images, pairs = context.images, factors_of(ours)
    fit_bank([ours], images, [config])
    theirs = copy.deepcopy(context.base).requires_grad_(False)
    free = {
        name: [factor.clone().requires_grad_(train == "both" or n == 1) for n, factor in enumerate(pair)]
        for name, pair in pairs.items()
    }

    def forward(x: Tensor) -> Tensor:
        for name, layer in theirs.named_children():
            (A0, B0), (A, B) = pairs[name], free[name]
            x = F.linear(x if name == "fc1" else F.relu(x), layer.weight - 0.5 * B0 @ A0 + 0.5 * B @ A, layer.bias)
        return x

    trained = [factor for pair in free.values() for factor in pair if factor.requires_grad]
    loop(theirs, config, images, [{"params": trained}], forward)
    with torch.no_grad():
        torch.testing.assert_close(ours(images.images), forward(images.images), rtol=1e-3, atol=1e-4)
    found = adapted_linear.adapter_tensors(ours)
    for name, factors in free.items():
        for key, factor, begun_as in zip(("lora_A", "lora_B"), factors, pairs[name], strict=True):
            kept = found[f"base_model.model.{name}.{key}.weight"]
            own = kept[:3] if key == "lora_A" else kept[:, :3]
            torch.testing.assert_close(own, factor.detach(), rtol=1e-3, atol=1e-5)
            assert torch.equal(own, begun_as) == (key == "lora_A" and train == "B")


def test_olora_starts_as_peft_s(context):
    expected = peft_start(context, "olora", lambda model, described: None)
    for name, found in start(context, "olora", alpha=0.5).items():
        same_but_for_signs(found, expected[name], 1e-5)
        torch.testing.assert_close(found[1].mT @ found[1], torch.eye(3))


def new_inputs(context: ProtectionContext, config: AdapterConfig) -> dict[str, Tensor]:
    rows, _ = split_rows(len(context.images), config.val_split, config.seed)
    return dict(zip(LAYERS, context.layer_inputs(context.images.images[rows]), strict=True))


def test_eva_s_rows_are_the_right_singular_vectors_of_new_inputs(context):
    for seed in (0, 1):
        inputs = new_inputs(context, settings("eva", seed=seed))
        for name, (A, B) in start(context, "eva", seed=seed).items():
            _, _, V = torch.linalg.svd((inputs[name] - inputs[name].mean(0)).double(), full_matrices=False)
            same_but_for_signs((A, B), (V[:3].float(), B), 1e-4)
            assert not B.any()


def test_eva_starts_as_peft_s(context):
    peft = pytest.importorskip("peft")
    images = context.images.images[split_rows(300, 0.2, 0)[0]]

    def prepare(model: nn.Module, described: Any) -> None:
        peft.initialize_lora_eva_weights(
            model, dataloader=[images] * 3, forward_fn=lambda model, images: model(images), show_progress_bar=False,
            prepare_model_inputs_fn=None, prepare_layer_inputs_fn=None,
        )  # fmt: skip

    expected = peft_start(context, "eva", prepare, eva_config=peft.EvaConfig(rho=1.0))
    for name, found in start(context, "eva").items():
        same_but_for_signs(found, expected[name], 0.02)


def test_corda_starts_as_peft_s(context):
    pytest.importorskip("peft")
    from peft.tuners.lora.config import CordaConfig
    from peft.tuners.lora.corda import preprocess_corda

    images = old_inputs(context)[0]

    def prepare(model: nn.Module, described: Any) -> None:
        preprocess_corda(model, described, run_model=lambda: model(images))

    expected = peft_start(context, "corda", prepare, corda_config=CordaConfig(corda_method="kpm"))
    for name, found in start(context, "corda", alpha=0.5).items():
        product = found[1] @ found[0]
        torch.testing.assert_close(product, expected[name][1] @ expected[name][0], rtol=0.02, atol=1e-3)
        same_but_for_signs(found, expected[name], 0.02)


def test_corda_s_components_make_up_the_weight_and_the_last_do_least_on_old_inputs(context):
    corda = implementation("lora_mnist_cli.training.starts", "corda")
    inputs, measured = old_inputs(context), corda.measure(context)
    for (name, layer), X, known in zip(context.base.named_children(), inputs, measured, strict=True):
        weight = layer.weight.detach().double()
        A, B = corda.factors(weight, known, min(LAYERS[name]), 2.0)
        torch.testing.assert_close(2.0 * B @ A, weight, rtol=1e-9, atol=1e-9)
        done = [(X.double() @ part.mT).norm() for part in (2.0 * B[:, :3] @ A[:3], 2.0 * B[:, -3:] @ A[-3:])]
        assert done[1] < 0.6 * done[0]
        last = corda.factors(weight, known, 3, 2.0)
        torch.testing.assert_close(last[1] @ last[0], B[:, -3:] @ A[-3:], rtol=1e-9, atol=1e-9)


def test_lora_null_starts_in_the_null_space_of_old_inputs(context):
    pairs = start(context, "lora-null", alpha=0.5)
    for (name, layer), X in zip(context.base.named_children(), old_inputs(context), strict=True):
        (A, B), weight = pairs[name], layer.weight.detach().double()
        rank = min(int(torch.linalg.matrix_rank(X)), X.shape[1] - 3)
        _, values, V = torch.linalg.svd(X.double())
        null = V[rank:]
        P, s, Q = torch.linalg.svd(weight @ null.mT @ null)
        torch.testing.assert_close(0.5 * (B @ A).double(), (P[:, :3] * s[:3]) @ Q[:3], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(A @ A.mT, B.mT @ B, rtol=1e-3, atol=1e-4)
        # A is orthogonal to the dominant directions, so old inputs reach it no more than they reach any direction left.
        torch.testing.assert_close(A @ V[:rank].mT.float(), torch.zeros(3, rank), rtol=0, atol=1e-5)
        assert float((X @ F.normalize(A).mT).norm()) <= 2 * float(values[rank:].norm()) + 1e-3
        assert name != "fc1" or (X @ F.normalize(A).mT).norm() < 1e-3 * X.norm()


def test_lora_ga_s_first_step_is_the_nearest_of_twice_the_rank_to_the_full_step(context):
    images, labels = (part[split_rows(300, 0.2, 0)[0]] for part in (context.images.images, context.images.labels))
    base = copy.deepcopy(context.base).requires_grad_(True)
    F.cross_entropy(base(images), labels).backward()
    strength, rate = 0.5, 1e-6
    for name, pair in start(context, "lora-ga", alpha=strength).items():
        gradient, A, B = (part.double() for part in (base.get_submodule(name).weight.grad, *pair))
        stepped_A, stepped_B = A - rate * strength * B.mT @ gradient, B - rate * strength * gradient @ A.mT
        change = strength * (stepped_B @ stepped_A - B @ A)
        U, S, V = torch.linalg.svd(gradient, full_matrices=False)
        nearest = (U[:, :6] * S[:6]) @ V[:6]
        size = strength**2 * LAYERS[name][1] ** 0.5 / 16
        torch.testing.assert_close(change / (-rate * size), nearest, rtol=1e-4, atol=1e-4 * float(S[0]))


def test_lora_ga_starts_in_peft_s_directions(context):
    pytest.importorskip("peft")
    from peft.tuners.lora.config import LoraGAConfig
    from peft.tuners.lora.loraga import preprocess_loraga

    images, labels = (part[split_rows(300, 0.2, 0)[0]] for part in (context.images.images, context.images.labels))

    def prepare(model: nn.Module, described: Any) -> None:
        preprocess_loraga(model, described, lambda: F.cross_entropy(model(images), labels).backward())

    expected = peft_start(context, "lora_ga", prepare, lora_ga_config=LoraGAConfig(direction="ArB2r"))
    for name, (A, B) in start(context, "lora-ga", alpha=0.5).items():
        # PEFT multiplies B's columns by their singular values, which the paper does not.
        theirs = F.normalize(expected[name][0]), F.normalize(expected[name][1], dim=0)
        assert torch.all((F.normalize(A) * theirs[0]).sum(1).abs() > 0.999)
        assert torch.all((F.normalize(B, dim=0) * theirs[1]).sum(0).abs() > 0.99)


def test_a_rank_above_a_layer_s_sides_has_rows_of_zeros(context):
    for init in STARTS:
        for name, (A, B) in start(context, init, rank=14, rank_pattern="fc2r2").items():
            own, least = (2 if name == "fc2" else 14), min(LAYERS[name])
            assert (len(A), B.shape[1]) == (own, own)
            assert A[:least].any(1).all()
            assert init == "eva" or not A[least:].any()
    config = settings("corda", rank=14, train="B")
    assert trainable_parameters(config, LAYERS) == 14 * 16 + 12 * 12 + 10 * 10


@pytest.mark.parametrize("init", STARTS)
def test_a_start_reads_training_images_or_samples_of_old_digits_and_nothing_else(init, context):
    """No image that is held out, and none of old digits, which the context does not have."""
    train, held_out = split_rows(300, 0.2, 0)
    expected = start(context, init)

    def moved(rows: Tensor) -> bool:
        images = context.images.images.clone()
        images[rows] = torch.randn(len(rows), 784, generator=torch.Generator().manual_seed(1))
        other = dataclasses.replace(context, images=MNISTDataset(images, context.images.labels))
        found = start(other, init)
        return not all(torch.equal(a, b) for name in LAYERS for a, b in zip(found[name], expected[name], strict=True))

    assert held_out is not None
    assert not moved(held_out)
    assert moved(train) == (init in ("eva", "lora-ga"))
    bare = dataclasses.replace(context, statistics=None)
    if STARTS[init].needs_statistics:
        with pytest.raises(AssertionError):
            start(bare, init)
    else:
        start(bare, init)


def test_members_of_a_bank_start_as_if_alone(context):
    """Of several seeds, ranks and starts, beside one whose start is drawn, which stays as it was drawn."""
    configs = [
        settings(init, seed=seed, rank=2, epochs=1)
        for seed in (0, 1)
        for init in ("eva", "kaiming", "olora", "lora-ga")
    ]
    torch.manual_seed(7)
    models = begun(context, *configs)
    for config, model in zip(configs, models, strict=True):
        if config.init != "kaiming":
            (alone,) = begun(context, config)
            for mine, other in zip(model.parameters(), alone.parameters(), strict=True):
                assert torch.equal(mine, other)
    alone = [copy.deepcopy(model) for model in models]
    fit_bank(models, context.images, configs)
    for config, model, single in zip(configs, models, alone, strict=True):
        fit_bank([single], context.images, [config])
        for mine, other in zip(model.parameters(), single.parameters(), strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)


def test_the_fused_engine_knows_the_start_that_leaves_the_weight(context):
    assert obstacle(settings("eva")) is None
    assert obstacle(settings("corda")) == "the start corda"
