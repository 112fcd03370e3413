"""Densities and experts multiplied, on statistics and experts made by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lora_mnist_cli.data.dataset import MNISTDataset
from lora_mnist_cli.models.densities import FeatureStatistics
from lora_mnist_cli.models.fused import DENSITY_TEMPERATURE, EXPERT_TEMPERATURE, FusedModel

IMAGES, LABELS = MNISTDataset.load("test")[:800]
SHOWN = IMAGES[:50]


class Linear(nn.Module):
    """An expert with logits that depend on the image in some way."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.weight = torch.sin(seed + torch.arange(7840.0)).reshape(784, 10) / 20

    def forward(self, images: Tensor) -> Tensor:
        return images @ self.weight


def known(*digits: int) -> FeatureStatistics:
    rows = torch.isin(LABELS, torch.tensor(digits))
    return FeatureStatistics.fit(IMAGES[rows], LABELS[rows])


OLD, NEW = known(0, 1, 2), known(3, 7)


def terms(statistics: FeatureStatistics) -> Tensor:
    return (statistics.log_density(SHOWN) + statistics.counts.log()) / DENSITY_TEMPERATURE


@pytest.mark.parametrize("routing", ["fused", "densities"])
def test_a_digits_density_is_multiplied_by_the_answer_of_its_own_expert(routing):
    experts = [Linear(1), Linear(2)]
    expected = torch.full((50, 10), -torch.inf)
    for expert, statistics in zip(experts, (OLD, NEW), strict=True):
        answers = expert(SHOWN)[:, statistics.digits].log_softmax(1) / EXPERT_TEMPERATURE
        expected[:, statistics.digits] = terms(statistics) + (answers if routing == "fused" else 0)
    expected = expected.softmax(1)
    model = FusedModel(experts, [OLD, NEW], routing)
    found, posterior = model.answers(SHOWN)
    torch.testing.assert_close(found.exp(), expected, atol=2e-4, rtol=2e-3)
    assert found.isfinite().all()
    of_experts = torch.stack([expected[:, statistics.digits].sum(1) for statistics in (OLD, NEW)], dim=1)
    torch.testing.assert_close(posterior.exp(), of_experts, atol=2e-4, rtol=2e-3)
    assert torch.equal(model.likeliest(posterior), (of_experts[:, 1] > of_experts[:, 0]).long())


def test_the_order_of_experts_makes_no_difference():
    one = FusedModel([Linear(1), Linear(2)], [OLD, NEW])(SHOWN)
    two = FusedModel([Linear(2), Linear(1)], [NEW, OLD])(SHOWN)
    torch.testing.assert_close(one, two)


def test_experts_for_the_same_digits_do_not_outvote_the_others():
    three = FusedModel([Linear(1), Linear(2), Linear(2)], [OLD, NEW, NEW])
    two = FusedModel([Linear(1), Linear(2)], [OLD, NEW])
    torch.testing.assert_close(three(SHOWN).exp(), two(SHOWN).exp(), atol=1e-4, rtol=1e-4)
    _, posterior = three.answers(SHOWN)
    assert set(three.likeliest(posterior).tolist()) <= {0, 1}
    # Two experts that share 60 % are each likelier than one with 40 %.
    assert three.likeliest(torch.tensor([[0.4, 0.3, 0.3]]).log()).tolist() == [1]
