"""Methods without trained factors beside PEFT, and beside plain loops: BitFit, (IA)³, VeRA, HRA."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from method_training import LAYERS, adapted, compare_with_peft, compare_with_peft_training, loop, plain, settings, train
from torch import nn

from lora_mnist_cli.models import adapted_linear, lora
from lora_mnist_cli.models.methods.vera import random_numbers
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.system.errors import ConfigError

pytestmark = pytest.mark.usefixtures("one_thread")

RATES = {"ia3": (0.05, 1.0), "hra": (0.02, 0.1), "vera": (0.05, 3.0)}
"""By adamw and by sgd."""


def with_peft(config: AdapterConfig) -> nn.Module:
    """PEFT's model at the same start as ours."""
    peft = pytest.importorskip("peft")
    layers = list(LAYERS)
    if config.method == "ia3":
        return peft.get_peft_model(plain(), peft.IA3Config(target_modules=layers, feedforward_modules=layers))
    if config.method == "vera":
        described = peft.VeraConfig(r=config.rank, target_modules=layers, d_initial=0.1)
        theirs = peft.get_peft_model(plain(), described)
        A, B = random_numbers(config.seed, config.rank, 784, 16)
        theirs.base_model.vera_A["default"].copy_(torch.tensor(A))
        theirs.base_model.vera_B["default"].copy_(torch.tensor(B))
        return theirs  # type: ignore[no-any-return]
    theirs = peft.get_peft_model(plain(), peft.HRAConfig(r=2 * config.rank, target_modules=layers))
    for name, layer in lora.adapted_layers(adapted(config)).items():
        module = theirs.get_submodule(f"base_model.model.{name}")
        module.hra_u["default"].data.copy_(layer.trained["hra_u"].data)  # type: ignore[index]
    return theirs  # type: ignore[no-any-return]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("method", ["ia3", "hra", "vera"])
def test_a_training_is_what_peft_makes_of_it(method, optimizer, images):
    ranked = {} if method == "ia3" else {"rank": 3}
    config = settings(method, optimizer=optimizer, lr=RATES[method][optimizer == "sgd"], weight_decay=0.0, **ranked)
    compare_with_peft_training(with_peft(config), config, images)


@pytest.mark.parametrize("method", ["ia3", "hra"])
def test_peft_loads_the_folder(method, images, tmp_path):
    config = settings(method, lr=0.05, **({} if method == "ia3" else {"rank": 3}))
    compare_with_peft(train(config, images), config, images, tmp_path)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_bitfit_is_plain_fine_tuning_of_the_biases(optimizer, images):
    config = settings("bitfit", optimizer=optimizer, lr=0.3 if optimizer == "sgd" else 0.02)
    ours, theirs = train(config, images), plain()
    biases = [p for name, p in theirs.requires_grad_(False).named_parameters() if name.endswith("bias")]
    loop(theirs, config, images, [{"params": [p.requires_grad_(True) for p in biases]}])
    lora.merge(ours)
    found = lora.detach(ours).state_dict()
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-5)
        assert torch.equal(value, plain().state_dict()[name]) is name.endswith("weight")


def test_hra_keeps_lengths_and_angles(images):
    model = train(settings("hra", rank=4, lr=0.1), images)
    for layer in lora.adapted_layers(model).values():
        before, after = layer.base.weight.double(), (layer.base.weight + layer.change()[0]).double()
        torch.testing.assert_close(after @ after.T, before @ before.T, rtol=1e-4, atol=1e-5)
        assert float((after - before).norm() / before.norm()) > 0.05


def test_vera_s_layers_share_one_random_pair_that_the_seed_gives_back():
    A, B = random_numbers(7, 3, 784, 64)
    narrow_A, narrow_B = random_numbers(7, 3, 16, 10)
    assert (narrow_A == A[:, :16]).all()
    assert (narrow_B == B[:10]).all()
    assert (random_numbers(8, 3, 784, 64)[0] != A).all()
    assert abs(A).max() < (6 / 784) ** 0.5
    assert abs(B).max() < 2**0.5
    # The same numbers on every machine and with every version of NumPy.
    assert A[0, :3].tolist() == pytest.approx([-0.0338896, 0.00914438, 0.0679983], rel=1e-5)


@pytest.mark.parametrize("method", ["bitfit", "ia3", "vera", "hra"])
def test_what_is_read_without_torch_is_the_same_change(method, images):
    config = settings(method, lr=0.05)
    model = train(config, images)
    for layer in lora.adapted_layers(model).values():
        assert isinstance(layer, adapted_linear.MethodLinear)
        kept = {name: tensor.double().numpy() for name, tensor in layer.kept().items()}
        weight, bias = layer.method.change(kept, layer.base.weight.double().numpy(), config)
        expected = layer.change()
        torch.testing.assert_close(torch.from_numpy(weight).float(), expected[0], rtol=1e-4, atol=1e-6)
        if expected[1] is not None:
            torch.testing.assert_close(torch.from_numpy(bias).float(), expected[1], rtol=1e-4, atol=1e-6)
        rank = layer.method.change_rank(config, layer.base.in_features, layer.base.out_features)
        values = torch.linalg.svdvals(torch.from_numpy(weight))
        assert not (values[rank:] > 1e-9 * values[0]).any()


def test_alpha_belongs_to_the_time_after_the_training():
    for method in ("bitfit", "ia3", "vera", "hra"):
        with pytest.raises(ConfigError, match=f"{method} has no alpha, so it cannot be 0.5"):
            dataclasses.replace(AdapterConfig(method=method), alpha=0.5)
