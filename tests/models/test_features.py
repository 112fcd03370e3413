"""The features of an image: against convolution and resampling written out, and against what must not change them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, conv2d, grid_sample

from lora_mnist_cli.data.dataset import MNISTDataset
from lora_mnist_cli.models.architecture import FEATURES
from lora_mnist_cli.models.densities import ClassStatistics, FeatureStatistics
from lora_mnist_cli.models.features import centred_and_upright, features


@pytest.fixture(scope="module")
def images() -> Tensor:
    return MNISTDataset.load("test").images[:300]


def resampled(pixels: Tensor) -> Tensor:
    """Images (n × 28 × 28) whose moments are taken out by one affine map, as PyTorch resamples."""
    place = torch.arange(28.0)
    mass = pixels.sum((1, 2))
    row, column = (pixels.sum(2) @ place) / mass, (pixels.sum(1) @ place) / mass
    down, across = place - row[:, None], place - column[:, None]
    slant = torch.einsum("nij,ni,nj->n", pixels, down, across) / torch.einsum("nij,ni,ni->n", pixels, down, down)
    theta = torch.zeros(len(pixels), 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = 1
    theta[:, 0, 1] = slant
    theta[:, 0, 2], theta[:, 1, 2] = (column - 13.5) / 14, (row - 13.5) / 14
    grid = affine_grid(theta, [len(pixels), 1, 28, 28], align_corners=False)
    return grid_sample(pixels[:, None], grid, align_corners=False)[:, 0]


def written_out(images: Tensor) -> Tensor:
    """The features by eight convolutions of 5 × 5 and a Gaussian window per cell."""
    pixels = images.view(-1, 28, 28) - images.amin(1)[:, None, None]
    y, x = torch.meshgrid(torch.arange(-2.0, 3), torch.arange(-2.0, 3), indexing="ij")
    bell = torch.exp(-(x**2 + y**2) / (2 * 0.8**2))
    angles = [0.0, math.pi / 2, math.pi / 4, -math.pi / 4]
    kernels = [(x * math.cos(a) + y * math.sin(a)) * bell / (x * bell).abs().sum() for a in angles]
    kernels += [-kernel for kernel in kernels]
    edges = conv2d(resampled(pixels)[:, None], torch.stack(kernels)[:, None], padding=2).clamp(min=0)
    cells = (torch.arange(5) + 0.5) * 5.6 - 0.5
    window = torch.exp(-((torch.arange(28.0) - cells[:, None]) ** 2) / (2 * (0.45 * 5.6) ** 2))
    window /= window.sum(1, keepdim=True)
    return (window @ edges @ window.T).sqrt().flatten(1)


def test_they_are_rectified_edges_in_windows(images):
    found = features(images)
    assert (found.shape, found.dtype) == ((300, FEATURES), torch.float32)
    torch.testing.assert_close(found.square(), written_out(images).square(), atol=1e-5, rtol=1e-4)


def test_moments_are_taken_out_as_by_one_affine_map(images):
    pixels = images.view(-1, 28, 28) - images.min()
    torch.testing.assert_close(centred_and_upright(pixels), resampled(pixels), atol=1e-5, rtol=1e-4)


def test_place_and_brightness_make_no_difference(images):
    found = features(images)
    torch.testing.assert_close(features(images + 3.5), found, atol=1e-3, rtol=0)
    moved = images.view(-1, 28, 28).roll((2, -3), dims=(1, 2)).flatten(1)
    empty = images.view(-1, 28, 28)
    inside = (empty[:, -2:].amax((1, 2)) == images.amin(1)) & (empty[:, :, :3].amax((1, 2)) == images.amin(1))
    torch.testing.assert_close(features(moved)[inside], found[inside], atol=2e-3, rtol=0)
    assert inside.sum() > 200


POINT = torch.eye(784)


@pytest.mark.parametrize("image", [torch.zeros(1, 784), torch.full((1, 784), 2.0), POINT[:1], POINT[-1:]])
def test_strange_images_have_features_too(image):
    assert features(image).isfinite().all()


def test_each_image_is_alone(images):
    torch.testing.assert_close(features(images[7:8]), features(images)[7:8], atol=1e-4, rtol=1e-4)
    assert features(images[:0]).shape == (0, FEATURES)


def test_their_densities_tell_digits_better_than_those_of_pixels():
    data = MNISTDataset.load("train")
    images, labels, shown, digits = *data[:3000], *data[3000:5000]

    def right(kind: type[ClassStatistics] | type[FeatureStatistics]) -> float:
        found = kind.fit(images, labels)
        return float((found.digits[found.log_density(shown).argmax(1)] == digits).double().mean())

    of_pixels, of_features = right(ClassStatistics), right(FeatureStatistics)
    assert of_features > 0.96
    assert of_features > of_pixels + 0.01


def test_the_statistics_of_features_are_read_as_they_were_written():
    from lora_mnist_cli.registry.checkpoint import statistics_bytes

    data = MNISTDataset.load("test")[:500]
    one = FeatureStatistics.fit(*data)
    again = FeatureStatistics.from_bytes(statistics_bytes(one))
    assert again.mean.shape == (FEATURES,)
    assert statistics_bytes(again) == statistics_bytes(one) == statistics_bytes(FeatureStatistics.fit(*data))
    assert torch.equal(again.log_density(data[0]), one.log_density(data[0]))
    with pytest.raises(ValueError, match="mean has the shape"):
        ClassStatistics.from_bytes(statistics_bytes(one))
