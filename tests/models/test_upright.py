"""Densities of upright images: the way there and back, what samples look like, and joining."""

from __future__ import annotations

import pytest
import torch

from lora_mnist_cli.data.dataset import MNISTDataset
from lora_mnist_cli.models.features import moments
from lora_mnist_cli.models.upright import (
    CONTRAST,
    SLANT,
    UPRIGHT,
    UprightStatistics,
    leaning_images,
    upright_points,
    waves,
)
from lora_mnist_cli.settings.digits import DigitSet

DARK, BRIGHT = -0.5, 2.5


def strokes(slant: float) -> torch.Tensor:
    """A bar with soft edges that leans by so many columns per row: 1 × 784."""
    place = torch.arange(28) - 13.5
    across = place[None, :] - slant * place[:, None]
    tall = torch.sigmoid(8 - place.abs())[:, None]
    return (DARK + (BRIGHT - DARK) * tall * torch.exp(-(across**2) / 8)).reshape(1, 784)


@pytest.fixture(scope="module")
def fitted(small_data) -> tuple[UprightStatistics, UprightStatistics, MNISTDataset]:
    data = MNISTDataset.load("train", DigitSet.parse("0-2"), data_dir=small_data, dataset="fashion-mnist")
    first = data.labels < 2
    nothing = UprightStatistics.nothing()
    parts = (UprightStatistics.fit(data.images[rows], data.labels[rows], like=nothing) for rows in (first, ~first))
    return (*parts, data)


def test_the_waves_are_orthonormal_and_the_longest_come_first():
    columns = waves()
    torch.testing.assert_close(columns.T @ columns, torch.eye(columns.shape[1]), atol=1e-5, rtol=0)
    assert UPRIGHT.dimensions == 1 + columns.shape[1]
    # The longest is the same everywhere in the middle; the others add up to nothing.
    assert (columns[:, 0] > 0).sum() == 22 * 22
    torch.testing.assert_close(columns.sum(0)[1:], torch.zeros(columns.shape[1] - 1), atol=1e-4, rtol=0)


@pytest.mark.parametrize("slant", [-0.4, 0.0, 0.3])
def test_a_slant_is_a_coordinate_of_its_own_and_comes_back(slant):
    image, straight = strokes(slant), strokes(0.0)
    points = upright_points(image)
    assert points[0, 0] == pytest.approx(SLANT * slant, abs=0.05 * SLANT)
    torch.testing.assert_close(points[:, 1:], upright_points(straight)[:, 1:], atol=0.8, rtol=0)
    back = leaning_images(points, DARK, BRIGHT)
    assert float((back - image).square().mean() / image.var()) < 0.05
    assert float(moments((back - DARK).view(-1, 28, 28))[2]) == pytest.approx(slant, abs=0.05)
    assert (float(back.min()), float(back.max())) == pytest.approx((DARK, BRIGHT), abs=0.3)
    assert back.min() >= DARK
    assert back.max() <= BRIGHT + 1e-6


def test_samples_have_more_contrast():
    points = torch.zeros(2, UPRIGHT.dimensions)
    points[:, 1] = 22 * (BRIGHT - DARK) * torch.tensor([0.75, 0.25])
    centre = leaning_images(points, DARK, BRIGHT)[:, 14 * 28 + 14]
    expected = DARK + (BRIGHT - DARK) * (0.5 + CONTRAST * torch.tensor([0.25, -0.25]))
    torch.testing.assert_close(centre, expected)


def test_statistics_learned_one_after_the_other_are_joined(fitted):
    first, second, data = fitted
    both = UprightStatistics.nothing().joined(first).joined(second)
    assert both.digits.tolist() == [0, 1, 2]
    assert both.counts.tolist() == torch.bincount(data.labels).tolist()
    torch.testing.assert_close(both.log_density(data.images[:9])[:, :2], first.log_density(data.images[:9]))
    images, labels = both.sample(400, torch.Generator().manual_seed(1), pixel_range=(DARK, BRIGHT))
    assert set(labels.tolist()) == {0, 1, 2}
    assert (images.min() >= DARK, images.max() <= BRIGHT + 1e-6) == (True, True)
    again, _ = both.sample(400, torch.Generator().manual_seed(1), pixel_range=(DARK, BRIGHT))
    assert torch.equal(images, again)


def test_a_sample_is_likeliest_under_its_own_digit(fitted):
    first, second, data = fitted
    both = first.joined(second)
    low, high = float(data.images.min()), float(data.images.max())
    images, labels = both.sample(300, torch.Generator().manual_seed(2), pixel_range=(low, high))
    right = both.digits[both.log_density(images).argmax(1)] == labels
    assert float(right.float().mean()) > 0.9
