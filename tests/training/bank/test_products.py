"""Methods whose change is a product of small matrices, in a bank: against their twins trained alone, by autograd."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from method_training import adapted, settings
from torch import nn

from lora_mnist_cli.data.dataset import MNISTDataset
from lora_mnist_cli.models.adapted_linear import adapter_tensors, settle
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.choices import METHODS
from lora_mnist_cli.training.bank.trainer import fit_bank
from lora_mnist_cli.training.trainer import fit

pytestmark = pytest.mark.usefixtures("one_thread")

PRODUCTS = [name for name, method in METHODS.items() if method.in_banks and name != "lora"]
SGD_RATES = {"vera": 3.0, "pissa": 0.1, "delora": 0.1, "miss": 0.003}
TEN_STEPS = {"epochs": 1, "batch_size": 16}


@pytest.fixture(scope="module")
def images() -> MNISTDataset:
    """Noise: a pixel that never changes has gradients of rounding errors alone, which Adam makes steps of."""
    draw = torch.Generator().manual_seed(0)
    return MNISTDataset(torch.rand(200, 784, generator=draw), torch.randint(10, (200,), generator=draw))


def together(configs: Sequence[AdapterConfig], images: MNISTDataset) -> list[nn.Module]:
    models = [adapted(config) for config in configs]
    fit_bank(models, images, configs)
    return models


def assert_twins(configs: Sequence[AdapterConfig], images: MNISTDataset, tolerance: float) -> None:
    for config, member in zip(configs, together(configs, images), strict=True):
        alone = adapted(config)
        fit(alone, images, config)
        settle(alone)
        start = adapted(config)
        settle(start)
        expected, before = adapter_tensors(alone), adapter_tensors(start)
        for name, tensor in adapter_tensors(member).items():
            torch.testing.assert_close(tensor, expected[name], rtol=tolerance, atol=tolerance, msg=name)
        assert any(not torch.equal(tensor, before[name]) for name, tensor in expected.items())


@pytest.mark.parametrize("method", PRODUCTS)
def test_a_member_equals_its_twin_trained_alone(method, images):
    """By sgd: Adam makes steps of full size of gradients that are rounding errors, as DeLoRA's first ones are."""
    alike = {"rank": 3, "epochs": 20, "optimizer": "sgd", "lr": SGD_RATES[method], "schedule": "constant"}
    assert_twins([settings(method, seed=seed, **alike) for seed in (0, 1)], images, 1e-4)


@pytest.mark.parametrize("method", PRODUCTS)
def test_members_of_any_shapes_and_settings_equal_their_twins(method, images):
    alike = {"precision": "64-true", **TEN_STEPS}
    more = {"alpha": 0.5} if "alpha" not in METHODS[method].unused else {}
    configs = [
        settings(method, rank=1, **alike),
        settings(method, rank=11, lr=0.1, schedule="cosine", **alike),  # above a layer's smaller side
        settings(method, rank=4, target_layers=("fc1", "fc3"), **alike),
        settings(method, rank=4, seed=1, target_layers=("fc2",), weight_decay=0.0, **alike, **more),
    ]
    assert_twins(configs, images, 1e-6)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_their_optimisers_see_the_numbers_and_not_the_factors(optimizer, images):
    configs = [settings(method, optimizer=optimizer, rank=2, precision="64-true", **TEN_STEPS) for method in PRODUCTS]
    assert_twins(configs, images, 1e-6)


def test_lora_is_trained_to_the_same_bytes_beside_them(images):
    plain = [settings("lora", rank=rank, seed=seed, **TEN_STEPS) for rank in (2, 3) for seed in (0, 1)]
    others = [settings(method, rank=2, **TEN_STEPS) for method in PRODUCTS]
    for one, beside in zip(together(plain, images), together([*others, *plain], images)[len(others) :], strict=True):
        for tensor, again in zip(adapter_tensors(one).values(), adapter_tensors(beside).values(), strict=True):
            assert torch.equal(tensor, again)


@pytest.mark.parametrize("method", PRODUCTS)
def test_with_dropout_one_that_diverges_disturbs_no_other(method, images):
    wild, tame = (settings(method, rank=2, lr=lr, dropout=0.5, optimizer="sgd", **TEN_STEPS) for lr in (1e30, 1e-3))
    models = [adapted(wild), adapted(tame)]
    first, second = fit_bank(models, images, [wild, tame])
    assert (first.failed is None, second.failed) == (False, None)
    (alone,) = together([tame], images)
    for tensor, again in zip(adapter_tensors(models[1]).values(), adapter_tensors(alone).values(), strict=True):
        torch.testing.assert_close(tensor, again)
