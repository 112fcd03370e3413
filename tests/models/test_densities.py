"""Densities of digits: against scipy, against mixtures that are known, and what damaged files are refused for."""

from __future__ import annotations

import math

import numpy as np
import pytest
import safetensors.torch
import torch
from scipy.stats import multivariate_normal
from torch import Tensor

from lora_mnist_cli.data.dataset import MNISTDataset, split_rows
from lora_mnist_cli.models.blur import blur, sharpen
from lora_mnist_cli.models.densities import ClassStatistics, log_sums
from lora_mnist_cli.settings.digits import DigitSet

SIDE = 28


def ramp(*shape: int, scale: float = 1.0, step: float = 0.7) -> Tensor:
    """A deterministic fill in [-scale, scale]."""
    count = math.prod(shape)
    return (scale * torch.sin(step * torch.arange(1, count + 1, dtype=torch.float64))).reshape(shape).float()


def by_hand() -> ClassStatistics:
    """Two digits in a basis of three, one with two components, each with two directions."""
    basis = torch.linalg.qr(ramp(784, 3).double())[0].float()
    return ClassStatistics(
        digits=torch.tensor([3, 7]), counts=torch.tensor([30, 10]), components=torch.tensor([2, 1]),
        mean=ramp(784, scale=0.3), basis=basis, weights=torch.tensor([0.25, 0.75, 1.0]),
        centres=ramp(3, 3, scale=2.0).half(), directions=ramp(3, 3, 2, scale=3.0, step=1.3).half(),
        noise=torch.tensor([0.5, 0.2, 1.0]),
    )  # fmt: skip


def stored(tensors: dict[str, Tensor]) -> ClassStatistics:
    """The statistics, written to a file and read from it."""
    return ClassStatistics.from_bytes(
        safetensors.torch.save({key: tensor.contiguous() for key, tensor in tensors.items()})
    )


def blurring() -> np.ndarray:
    """The blur as a 784 × 784 matrix, from its definition."""
    place = np.arange(SIDE)
    kernel = np.exp(-((place[:, None] - place[None]) ** 2) / 2)
    kernel /= kernel[SIDE // 2].sum()
    return np.kron(kernel, kernel)


@pytest.fixture(scope="module")
def split() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """5,000 training images of 0 and 1, and a validation part."""
    data = MNISTDataset.load("train", DigitSet.parse("0-1"))
    train, val = split_rows(len(data), 0.4, 0)
    assert val is not None
    return (*data[train[:5000]], *data[val])


@pytest.fixture(scope="module")
def fitted(split: tuple[Tensor, Tensor, Tensor, Tensor]) -> ClassStatistics:
    return ClassStatistics.fit(split[0], split[1])


class TestDensity:
    def test_it_is_scipys_over_pixels(self):
        statistics, images = by_hand(), 0.5 + ramp(5, 784, step=2.1).double()
        back = np.linalg.inv(blurring())
        mean, basis = statistics.mean.double().numpy(), statistics.basis.double().numpy()
        each = []
        for c in range(3):
            loadings = basis @ statistics.directions[c].double().numpy()
            blurred = loadings @ loadings.T + float(statistics.noise[c]) * np.eye(784)
            centre = back @ (mean + basis @ statistics.centres[c].double().numpy())
            pixels = multivariate_normal(centre, back @ blurred @ back.T, allow_singular=False)
            each.append(np.log(float(statistics.weights[c])) + pixels.logpdf(images.numpy()))
        expected = np.stack([np.logaddexp(each[0], each[1]), each[2]], axis=1)
        assert statistics.log_density(images).numpy() == pytest.approx(expected, abs=2e-3)
        assert statistics.log_prior.tolist() == pytest.approx([np.log(0.75), np.log(0.25)])

    def test_single_precision_is_enough(self, fitted, split):
        images = split[2][:100]
        assert torch.allclose(fitted.log_density(images).double(), fitted.log_density(images.double()), atol=0.1)

    def test_no_images_have_no_densities(self):
        assert by_hand().log_density(torch.empty(0, 784)).shape == (0, 2)


def test_sums_of_exponentials_are_those_of_each_group():
    values = 300 * ramp(6, 7)
    values[0, 0], values[:2, 1], values[3, 2] = torch.inf, -torch.inf, torch.nan
    expected = torch.stack([group.logsumexp(0) for group in torch.split(values, [2, 1, 3])])
    torch.testing.assert_close(log_sums(values.clone(), [2, 1, 3]), expected, equal_nan=True)


def test_sums_take_no_exponential_that_is_subnormal(monkeypatch):
    taken, exponential = [], Tensor.exp_
    monkeypatch.setattr(Tensor, "exp_", lambda values: exponential(taken.append(values.clone()) or values))
    log_sums(torch.tensor([[0.0], [-500.0]]), [2])
    assert torch.cat(taken).exp().min() >= torch.finfo(torch.float32).tiny


def test_blurring_is_undone():
    images = ramp(3, 784).double()
    assert torch.allclose(blur(images), torch.from_numpy(images.numpy() @ blurring()), atol=1e-12)
    assert torch.allclose(sharpen(blur(images)), images, atol=1e-8)


class TestFit:
    def test_a_mixture_is_found_again(self):
        """Three clouds far apart in a plane: their weights, centres and spreads come back."""
        generator = torch.Generator().manual_seed(0)
        plane = torch.linalg.qr(ramp(784, 2).double())[0]
        centres = torch.tensor([[0.0, 40.0], [40.0, 0.0], [-40.0, -40.0]], dtype=torch.float64)
        sizes, spreads = (48, 30, 18), torch.tensor([[3.0, 1.0], [1.0, 4.0], [2.0, 2.0]], dtype=torch.float64)
        owner = torch.repeat_interleave(torch.arange(3), torch.tensor(sizes))
        places = centres[owner] + spreads[owner] * torch.randn(96, 2, generator=generator, dtype=torch.float64)
        images = sharpen(places @ plane.T + 0.01 * torch.randn(96, 784, generator=generator, dtype=torch.float64))
        found = ClassStatistics.fit(images.float(), torch.full((96,), 4))
        assert (found.components.tolist(), found.counts.tolist()) == ([3], [96])
        back = (found.mean + found.centres.float() @ found.basis.T).double() @ plane
        order = torch.cdist(centres, back).argmin(1)
        assert sorted(order.tolist()) == [0, 1, 2]
        means = torch.stack([places[owner == c].mean(0) for c in range(3)])
        assert torch.allclose(back[order], means, atol=0.1)
        assert found.weights[order].tolist() == pytest.approx([49 / 99, 31 / 99, 19 / 99])

    def test_the_digits_of_images_it_has_not_seen_are_told(self, fitted, split):
        guess = fitted.digits[fitted.log_density(split[2]).argmax(1)]
        assert (guess == split[3]).double().mean() > 0.995

    def test_it_is_dearer_to_others(self, fitted, split):
        """Digits that it was not fitted on are less likely, image by image."""
        others = MNISTDataset.load("test", DigitSet.parse("5-9")).images[:500]
        theirs, ours = (fitted.log_density(images).logsumexp(1) for images in (others, split[2]))
        assert theirs.median() < ours.quantile(0.01)

    def test_the_same_images_give_the_same_bytes(self, split):
        images, labels = split[0][:600], split[1][:600]
        threads = torch.get_num_threads()
        one = ClassStatistics.fit(images, labels).to_tensors()
        try:
            torch.set_num_threads(2)
            two = ClassStatistics.fit(images, labels).to_tensors()
        finally:
            torch.set_num_threads(threads)
        assert all(torch.equal(one[name], two[name]) for name in one)
        other = ClassStatistics.fit(images, labels, seed=1).to_tensors()
        assert not torch.equal(one["centres"], other["centres"])

    def test_no_component_is_of_a_few_images(self, split):
        """Three strangers among many: a component of their own would show them."""
        images = torch.cat([split[0][split[1] == 1][:397], 2.8 * torch.eye(784)[:3] * 50])
        found = ClassStatistics.fit(images, torch.ones(400).long())
        sizes = found.weights * (400 + len(found.weights)) - 1
        assert float(sizes.min()) >= 9.99
        assert float(sizes.sum()) == pytest.approx(400, abs=0.1)

    @pytest.mark.parametrize("count", [1, 2, 40])
    def test_few_images_have_a_density_too(self, split, count):
        images = split[0][:count]
        found = stored(ClassStatistics.fit(images, torch.zeros(count).long()).to_tensors())
        assert found.log_density(images).isfinite().all()

    def test_repeated_images_do_no_harm(self, split):
        images = split[0][:1].repeat(100, 1)
        assert ClassStatistics.fit(images, torch.zeros(100).long()).log_density(images).isfinite().all()

    def test_nothing_has_no_statistics(self):
        with pytest.raises(ValueError, match="don't fit"):
            ClassStatistics.fit(torch.empty(0, 784), torch.empty(0).long())


class TestSample:
    def test_its_moments_are_the_mixtures(self):
        statistics = by_hand()
        images, labels = statistics.sample(40_000, torch.Generator().manual_seed(0))
        assert (labels == 3).double().mean() == pytest.approx(0.75, abs=0.01)
        basis = statistics.basis.double()
        places = (blur(images[labels == 7].double()) - statistics.mean) @ basis
        loadings = statistics.directions[2].double()
        expected = loadings @ loadings.T + torch.eye(3, dtype=torch.float64) * float(statistics.noise[2])
        assert torch.allclose(places.mean(0), statistics.centres[2].double(), atol=0.1)
        assert torch.allclose(places.T.cov(), expected, atol=0.6)

    def test_it_looks_like_what_was_fitted(self, fitted):
        images, labels = fitted.sample(500, torch.Generator().manual_seed(1))
        guess = fitted.digits[fitted.log_density(images).argmax(1)]
        assert (images.dtype, images.shape) == (torch.float32, (500, 784))
        assert (guess == labels).double().mean() > 0.99

    def test_pixels_stay_in_their_range(self, fitted):
        images, _ = fitted.sample(50, torch.Generator().manual_seed(1), pixel_range=(-0.4, 2.8))
        assert float(images.min()) == pytest.approx(-0.4)
        assert float(images.max()) <= 2.8

    def test_one_generator_one_sample(self, fitted):
        one, two = (fitted.sample(20, torch.Generator().manual_seed(5)) for _ in range(2))
        assert torch.equal(one[0], two[0])
        assert torch.equal(one[1], two[1])


class TestTensors:
    def test_they_come_back(self, fitted, split):
        again = stored(fitted.to_tensors())
        assert torch.equal(again.log_density(split[2][:50]), fitted.log_density(split[2][:50]))

    def test_ten_digits_take_less_than_a_megabyte(self):
        tensors = ClassStatistics.fit(ramp(10_300, 784, step=0.01), torch.arange(10).repeat(1030)).to_tensors()
        assert tensors["components"].tolist() == [32] * 10
        assert sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()) < 800_000

    @pytest.mark.parametrize(
        ("key", "value", "said"),
        [
            ("noise", None, "noise is missing"),
            ("pickle", torch.zeros(1), "pickle is unknown"),
            ("centres", torch.zeros(3, 3), "centres is F32, not F16"),
            ("digits", torch.tensor([7, 3]), "not ascending"),
            ("digits", torch.tensor([3, 10]), "not ascending"),
            ("counts", torch.tensor([30, 0]), "counts are not one positive number"),
            ("components", torch.tensor([3, 1]), r"weights has the shape \(3,\), not \(4,\)"),
            ("weights", torch.tensor([0.25, 0.7, 1.0]), "add up to 1"),
            ("weights", torch.tensor([-0.25, 1.25, 1.0]), "not positive"),
            ("noise", torch.tensor([0.5, 0.0, 1.0]), "positive definite"),
            ("noise", torch.tensor([0.5, float("nan"), 1.0]), "no finite numbers"),
            ("centres", torch.full((3, 3), float("inf")).half(), "no finite numbers"),
            ("basis", torch.ones(784, 3), "not orthonormal"),
            ("basis", torch.ones(784, 1), "no"),
            ("directions", torch.zeros(3, 3).half(), "not matrices"),
        ],
    )
    def test_what_is_damaged_is_refused(self, key, value, said):
        tensors = by_hand().to_tensors()
        if value is None:
            del tensors[key]
        else:
            tensors[key] = value
        with pytest.raises(ValueError, match=said):
            stored(tensors)


def test_statistics_in_one_basis_are_joined_and_those_of_a_digit_that_both_have_are_the_others():
    images, labels = MNISTDataset.load("test")[:1500]
    first = labels < 4
    second = (labels == 3) | (labels == 7)
    one = ClassStatistics.fit(images[first], labels[first])
    other = ClassStatistics.fit(images[second], labels[second], seed=1, like=one)
    assert torch.equal(one.basis, other.basis)
    both = one.joined(other)
    assert both.digits.tolist() == [0, 1, 2, 3, 7]
    assert both.counts.tolist() == [*one.counts[:3].tolist(), *other.counts.tolist()]
    shown = images[:50]
    expected = torch.cat([one.log_density(shown)[:, :3], other.log_density(shown)], 1)
    torch.testing.assert_close(both.log_density(shown), expected)
    stored(both.to_tensors())
    torch.testing.assert_close(other.joined(one).log_density(shown)[:, 3], one.log_density(shown)[:, 3])
    apart = ClassStatistics.fit(images[second], labels[second])
    assert not one.shares_basis(apart)
    with pytest.raises(ValueError, match="different bases"):
        one.joined(apart)
