"""The gradient written out, against autograd's."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional as F

from lora_mnist_cli.data.dataset import MNISTDataset
from lora_mnist_cli.models.mlp import MNISTModel
from lora_mnist_cli.training.mlp_step import MLPStep


def some_images(n: int, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, 784, generator=generator, dtype=dtype), torch.randint(0, 10, (n,), generator=generator)


@pytest.mark.parametrize("hidden_sizes", [(64, 64), (5,), (7, 3, 9)])
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD])
def test_many_steps_equal_autograds(hidden_sizes, kind, fused):
    ours = MNISTModel(hidden_sizes).double()
    theirs = copy.deepcopy(ours)
    images, labels = some_images(16 * 60 - 5)
    step = MLPStep(ours.parameters())
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(2))
    last = step(MNISTDataset(images, labels), order, 16, kind([step.parameter], lr=1e-3, fused=fused).step)

    optimizer = kind(theirs.parameters(), lr=1e-3)
    loss = torch.zeros(())
    for batch, target in zip(images[order].split(16), labels[order].split(16), strict=True):
        loss = F.cross_entropy(theirs(batch), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert last == pytest.approx(loss.item(), rel=1e-9)
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, rtol=1e-9, atol=1e-9)


def test_the_model_is_used_and_saved_as_before():
    model = MNISTModel()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    images, labels = some_images(8, torch.float32)
    with torch.no_grad():
        logits = model(images)
    step = MLPStep(model.parameters())
    assert list(model.state_dict()) == list(before)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with torch.no_grad():
        assert torch.equal(model(images), logits)
    step(MNISTDataset(images, labels), torch.arange(8), 8, torch.optim.SGD([step.parameter], lr=0.1).step)
    with torch.no_grad():
        assert not torch.equal(model(images), logits)
