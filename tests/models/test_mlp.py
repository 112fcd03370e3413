"""The plain network."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lora_mnist_cli.models.mlp import MNISTModel, layer_shapes


def test_the_studys_network():
    model = MNISTModel()
    assert model.sizes == (784, 64, 64, 10)
    assert {name: tuple(value.shape) for name, value in model.state_dict().items()} == {
        "fc1.weight": (64, 784), "fc1.bias": (64,), "fc2.weight": (64, 64), "fc2.bias": (64,), "fc3.weight": (10, 64),
        "fc3.bias": (10,),
    }  # fmt: skip
    assert sum(p.numel() for p in model.parameters()) == 55_050


@pytest.mark.parametrize("hidden", [(5,), (7, 3), (6, 5, 4, 3)])
def test_sizes_are_configurable(hidden):
    model = MNISTModel(hidden, in_features=12, num_classes=4)
    sizes = (12, *hidden, 4)
    expected = {f"fc{i + 1}": (sizes[i], sizes[i + 1]) for i in range(len(hidden) + 1)}
    assert {name: (layer.in_features, layer.out_features) for name, layer in model.named_children()} == expected
    assert layer_shapes(hidden, 12, 4) == expected


@torch.no_grad()
def test_forward_is_relu_between_linear_layers():
    model = MNISTModel((5, 4), in_features=6, num_classes=3)
    for i, parameter in enumerate(model.parameters()):
        parameter.copy_((torch.arange(parameter.numel()) * 1.7 + i).sin().reshape(parameter.shape))
    x = torch.linspace(-2, 2, 30).reshape(5, 6)
    w = {name: value.numpy().astype(float) for name, value in model.state_dict().items()}
    hidden = np.maximum(x.numpy() @ w["fc1.weight"].T + w["fc1.bias"], 0)
    hidden = np.maximum(hidden @ w["fc2.weight"].T + w["fc2.bias"], 0)
    expected = hidden @ w["fc3.weight"].T + w["fc3.bias"]
    np.testing.assert_allclose(model(x).numpy(), expected, atol=1e-5)
    assert (expected < 0).any()  # the logits themselves are not rectified


def test_images_may_come_flat_or_not():
    model, images = MNISTModel(), torch.linspace(-1, 1, 3 * 784)
    flat = model(images.reshape(3, 784))
    assert flat.shape == (3, 10)
    assert torch.equal(model(images.reshape(3, 1, 28, 28)), flat)
    assert torch.equal(model(images.reshape(3, 28, 28)), flat)


def test_another_model_shares_its_layers_and_draws_nothing():
    model, before = MNISTModel((5, 3), in_features=12, num_classes=4), torch.get_rng_state()
    other = model.sharing_layers()
    assert torch.equal(torch.get_rng_state(), before)
    assert (other.sizes, list(other.named_children())) == (model.sizes, list(model.named_children()))
    images = torch.rand(2, 12)
    assert torch.equal(other(images), model(images))
    layer = model.fc2
    other.set_submodule("fc2", torch.nn.Identity())
    assert model.fc2 is layer
