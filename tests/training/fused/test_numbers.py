"""What the kernels read: factors, frozen layers, images, and tables of steps."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from members import MIX, adapted, base

from lora_mnist_cli.data.dataset import BLOCK_STEPS, MNISTDataset, ShuffledBlocks
from lora_mnist_cli.models.adapted_linear import adapter_tensors
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.training.fused.images import to_device, whole_pixels
from lora_mnist_cli.training.fused.layout import frozen_layers, pack, pack_frozen, scales, unpack
from lora_mnist_cli.training.fused.orders import EpochOrders, Streams
from lora_mnist_cli.training.fused.plan import plan_launches
from lora_mnist_cli.training.fused.tables import corrections, shares
from lora_mnist_cli.training.objective import Objective

CPU = torch.device("cpu")


def test_factors_come_back_as_they_were_and_the_rest_is_zero():
    plain = base(dtype=torch.float32)
    models = [adapted(plain, config) for config in MIX]
    before = [{name: tensor.clone() for name, tensor in adapter_tensors(model).items()} for model in models]
    shape = plan_launches([AdapterConfig(rank=20)], plain.sizes)[0].shape
    rows = pack(models, shape)
    assert rows.count_nonzero(1).tolist() == [sum(int(t.count_nonzero()) for t in each.values()) for each in before]
    for model in models:
        for tensor in adapter_tensors(model).values():
            tensor.zero_()
    unpack(rows, models, shape)
    for model, tensors in zip(models, before, strict=True):
        assert all(torch.equal(tensor, tensors[name]) for name, tensor in adapter_tensors(model).items())


def test_a_layer_without_an_adapter_has_the_scale_zero():
    model = adapted(
        base(dtype=torch.float32), AdapterConfig(rank=4, alpha=3.0, scaling="standard", target_layers=("fc2",))
    )
    assert scales(model) == [0.0, 0.75, 0.0]


def test_frozen_layers_are_padded_and_no_softmax_sees_a_class_that_is_not_there():
    plain = base((12, 9), torch.float32)
    shape = plan_launches([AdapterConfig()], plain.sizes)[0].shape
    weights, biases = pack_frozen(frozen_layers(plain), shape)
    assert torch.equal(weights[:256].view(16, 16)[:9, :12], plain.fc2.weight)
    assert torch.equal(weights[256:].view(16, 16)[:10, :9], plain.fc3.weight)
    assert weights.count_nonzero() == 12 * 9 + 9 * 10
    assert torch.equal(biases[16:26], plain.fc3.bias)
    assert biases[:16].count_nonzero() == 9
    assert torch.isneginf(biases[26:]).all()


@pytest.fixture
def pictures() -> MNISTDataset:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 28, 28)).astype(np.uint8)
    return MNISTDataset.from_pixels(pixels, (np.arange(20) % 10).astype(np.uint8), (0.2, 0.4))


def test_pixels_are_found_again_where_images_were_made_of_bytes(pictures):
    whole = whole_pixels(pictures)
    assert whole is not None
    assert whole.dtype == torch.uint8
    again = MNISTDataset.from_pixels(
        whole.view(-1, 28, 28).numpy(), pictures.labels.numpy().astype(np.uint8), (0.2, 0.4)
    )
    assert torch.equal(again.images, pictures.images)


def test_other_numbers_stay_as_they_are(pictures):
    assert whole_pixels(MNISTDataset(pictures.images, pictures.labels)) is None
    pictures.images[3, 5] += 1e-3
    assert whole_pixels(pictures) is None
    images = to_device(pictures, torch.nn.Linear(784, 12), 16, CPU)
    assert not images.whole
    assert torch.equal(images.pixels[: 20 * 784].view(20, 784), pictures.images)


def test_pixels_are_looked_for_on_the_device(pictures, monkeypatch):
    """A CPU takes half a second for the images of a bank; another device is a fake one here, which computes nothing."""
    seen: list[MNISTDataset] = []
    monkeypatch.setattr("lora_mnist_cli.training.fused.images.whole_pixels", seen.append)
    images = to_device(pictures, torch.nn.Linear(784, 12), 16, torch.device("meta"))
    assert {each.device.type for each in (seen[0].images, images.pixels, images.labels, images.frozen)} == {"meta"}


def test_the_frozen_product_is_the_first_layers(pictures):
    first = torch.nn.Linear(784, 12)
    images = to_device(pictures, first, 16, CPU)
    assert images.whole
    torch.testing.assert_close(images.frozen[:, :12], first(pictures.images), rtol=1e-5, atol=1e-5)
    assert not images.frozen[:, 12:].any()


def test_corrections_are_adams():
    table = corrections(3, 7)
    steps = torch.arange(15, 22, dtype=torch.float64)
    torch.testing.assert_close(table.double(), torch.stack([1 - 0.9**steps, (1 - 0.999**steps).sqrt()]))


def test_a_block_of_steps_has_the_rate_of_its_middle():
    steps, epochs = 2 * BLOCK_STEPS + 3, 4
    table = torch.cat([shares(epoch, epochs, steps) for epoch in range(1, epochs + 1)], 1)
    assert torch.equal(table[0], torch.ones(epochs * steps))
    blocks = table[1].view(epochs, steps)
    assert (blocks[:, :BLOCK_STEPS] == blocks[:, :1]).all()
    middle = (3 + 1 + 0.5) / 12  # of the second block of the second epoch
    assert blocks[1, BLOCK_STEPS].item() == pytest.approx((1 + math.cos(math.pi * (middle - 0.05) / 0.95)) / 2)


def test_orders_are_those_of_a_bank_and_members_of_one_seed_share_them(pictures):
    configs = [AdapterConfig(seed=seed, batch_size=4, epochs=2) for seed in (3, 8, 3)]
    objective = Objective.of(pictures)
    streams = Streams.drawn(configs, objective)
    assert len(streams.orders) == 2
    orders = EpochOrders(streams.orders, 2)
    epochs = [orders.next(), orders.next()]
    for m, config in enumerate(configs):
        train, val = objective.split(config)
        bank = ShuffledBlocks(pictures, train, 4, config.seed)
        for epoch in epochs:
            assert torch.equal(torch.cat(list(bank)), epoch[streams.of[m]].long())
        assert streams.val is not None
        assert torch.equal(streams.train[streams.of[m]].long(), train)
        assert torch.equal(streams.val[streams.of[m]].long(), val)
