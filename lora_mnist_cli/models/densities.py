"""Class statistics: a density for each digit that a stage was trained on, in a space of images. They hold no image.

Each digit is a mixture of probabilistic principal component analysers (Tipping and Bishop 1999, "Mixtures of
probabilistic principal component analysers", Neural Computation 11): a component is a Gaussian with few directions and
isotropic noise in all others, ``Σ = W Wᵀ + σ² I``. Its mean and directions lie in the span of the leading principal
components of the stage's training images, and its noise in the whole space
(:mod:`~lora_mnist_cli.models.density_spaces`). Therefore the densities of two artifacts can be compared, although they
have different bases.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Self

import safetensors.torch
import torch
from torch import Tensor

from lora_mnist_cli.models import statistics_file
from lora_mnist_cli.models.architecture import PIXELS
from lora_mnist_cli.models.blur import sharpen
from lora_mnist_cli.models.density_fit import BASIS_IMAGES, coordinates, fit_basis, fit_mixture
from lora_mnist_cli.models.density_spaces import BLURRED_PIXELS, FEATURE_SPACE, Space
from lora_mnist_cli.system.arithmetic import computing

_BATCH = 1024

_NOTHING = -80.0
"""The logarithm of a share that float32 can still hold, and that is nothing beside 1."""


@dataclass(frozen=True, eq=False)
class Mixtures:
    """A density in a space of D dimensions for each of d digits, of C components in all.

    Args:
        digits: d, int64: the digits, ascending.
        counts: d, int64: the number of images of each digit, which is its prior.
        components: d, int64: the number of components of each digit; they are stored one after the other.
        mean: D, float32: the mean of the images' points.
        basis: D × b, float32, orthonormal columns: their principal components.
        weights: C, float32: weights of the components, which add up to 1 for each digit.
        centres: C × b, float16: means of the components, from ``mean``.
        directions: C × b × q, float16: ``W``, each direction as long as its standard deviation beyond the noise.
        noise: C, float32: ``σ²``, in squared units of the space.
    """

    space: ClassVar[Space]

    digits: Tensor
    counts: Tensor
    components: Tensor
    mean: Tensor
    basis: Tensor
    weights: Tensor
    centres: Tensor
    directions: Tensor
    noise: Tensor

    @classmethod
    @computing()
    def fit(
        cls, images: Tensor, labels: Tensor, *, seed: int = 0, like: Self | None = None
    ) -> Self:  # fmt: skip
        """Fit the statistics of a training split (:mod:`~lora_mnist_cli.models.density_fit`).

        The same images in the same order give the same bytes; it computes on one thread, because sums depend on the
        number of threads.

        Args:
            images: n × 784, float32, normalised as the model sees them; only the training part of the split.
            labels: n, int64.
            seed: decides the starts of the clusters.
            like: statistics whose mean and basis are used, so that samples of both lie in one space.

        Raises:
            ValueError: where there are no images.
        """
        if len(images) == 0 or images.shape != (len(labels), PIXELS):
            raise ValueError(f"images {tuple(images.shape)} and labels {tuple(labels.shape)} don't fit")
        images, labels, generator = images.detach().cpu().float(), labels.cpu(), torch.Generator().manual_seed(seed)
        sample = cls.space.points(images[:BASIS_IMAGES])
        mean, basis = fit_basis(sample) if like is None else (like.mean, like.basis)
        points, distances = coordinates(sample, images[BASIS_IMAGES:], mean, basis, cls.space)
        digits, counts = torch.unique(labels, return_counts=True)
        rows_of_digits = [labels == digit for digit in digits]
        fitted = [fit_mixture(points[rows], distances[rows], cls.space, generator) for rows in rows_of_digits]
        weights, centres, directions, noise = (torch.cat(parts) for parts in zip(*fitted, strict=True))
        components = torch.tensor([len(parts[0]) for parts in fitted])
        return cls(digits, counts, components, mean, basis, weights, centres.half(), directions.half(), noise)

    def shares_basis(self, other: Self) -> bool:
        """Tell whether both have one basis, as statistics fitted with ``like`` have."""
        return torch.equal(self.mean, other.mean) and torch.equal(self.basis, other.basis)

    def joined(self, other: Self) -> Self:
        """Join statistics that share a basis; of a digit that both have, the other's are taken.

        Raises:
            ValueError: where the bases differ.
        """
        if not self.shares_basis(other):
            raise ValueError("statistics in different bases can't be joined")
        from_other = torch.isin(self.digits, other.digits)
        kept = ~from_other.repeat_interleave(self.components)
        order = torch.cat([self.digits[~from_other], other.digits]).argsort()

        def of_components(name: str) -> list[Tensor]:
            parts = [
                *torch.split(getattr(self, name)[kept], self.components[~from_other].tolist()),
                *torch.split(getattr(other, name), other.components.tolist()),
            ]
            return [parts[i] for i in order.tolist()]

        digits = {
            name: torch.cat([getattr(self, name)[~from_other], getattr(other, name)])[order]
            for name in ("digits", "counts", "components")
        }
        components = ("weights", "centres", "directions", "noise")
        return dataclasses.replace(self, **digits, **{name: torch.cat(of_components(name)) for name in components})

    @computing()
    def log_density(self, images: Tensor) -> Tensor:
        """Return ``log p(image | digit)``, n × d, over the space, in natural logarithms.

        Over :data:`BLURRED_PIXELS` it is a density of the 784 normalised pixels.

        Args:
            images: n × 784, float32 or float64, which is also the precision of the result.
        """
        densities, parts = self.densities(images.dtype), self.components.tolist()
        batches = torch.split(images, _BATCH)
        return torch.cat([log_sums(densities(self.space.points(batch)), parts) for batch in batches], dim=1).T

    @computing()
    def distance(self, images: Tensor) -> Tensor:
        """Return how far images (n × 784) are from all digits, n.

        It is the squared Mahalanobis distance from the nearest component. It has no unit, and images of the digits have
        similar distances in the statistics of any of them.
        """
        densities = self.densities(images.dtype)
        batches = torch.split(images, _BATCH)
        constant = densities.constant[:, None]
        return torch.cat([2 * (constant - densities(self.space.points(batch))).amin(0) for batch in batches])

    @property
    def log_prior(self) -> Tensor:
        """``log p(digit)``, d, float64."""
        return self.counts.double().log() - self.counts.sum().double().log()

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw points, as coordinates in the basis (count × b), and their digits, each as likely as it was in training.

        Args:
            generator: a generator of the CPU.
        """
        shares = (self.weights.double() * self.log_prior.exp().repeat_interleave(self.components)).float()
        chosen = torch.multinomial(shares, count, replacement=True, generator=generator)
        directions = self.directions.float()
        along = torch.randn(count, directions.shape[2], generator=generator)
        points = torch.randn(count, directions.shape[1], generator=generator)
        points *= self.noise[chosen].sqrt()[:, None]
        points += self.centres.float()[chosen]
        sizes = torch.bincount(chosen, minlength=len(directions)).tolist()
        for loadings, rows in zip(directions, torch.split(chosen.argsort(stable=True), sizes), strict=True):
            points.index_add_(0, rows, along[rows] @ loadings.T)
        return points, self.digits.repeat_interleave(self.components)[chosen]

    def to_tensors(self) -> dict[str, Tensor]:
        """Return all tensors by name."""
        return {name: getattr(self, name) for name in statistics_file.TYPES}

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Read a safetensors file of :meth:`to_tensors`.

        Raises:
            SafetensorError: where it is no safetensors file.
            ValueError: with everything that is wrong with keys, types, shapes or values.
        """
        if problems := statistics_file.problems(content, cls.space.dimensions):
            raise ValueError("; ".join(problems))
        return cls(**safetensors.torch.load(content))

    @computing()
    def densities(self, dtype: torch.dtype) -> Densities:
        """Return the densities of the components, prepared for a floating point type."""
        return Densities(**{name: tensor.to(dtype) for name, tensor in vars(self._densities).items()})

    @cached_property
    def _densities(self) -> Densities:
        """Use the matrix inversion lemma: ``(W Wᵀ + σ² I)⁻¹ = (I - W M⁻¹ Wᵀ) / σ²`` with ``M = Wᵀ W + σ² I``, q × q."""
        loadings, noise, centres = self.directions.double(), self.noise.double(), self.centres.double()
        q = loadings.shape[2]
        inner = loadings.transpose(1, 2) @ loadings + noise[:, None, None] * torch.eye(q, dtype=torch.float64)
        factor = torch.linalg.cholesky(inner)
        whitening = torch.linalg.solve_triangular(factor, loadings.transpose(1, 2), upper=False)
        whitening = whitening / noise.sqrt()[:, None, None]
        log_det = 2 * factor.diagonal(dim1=1, dim2=2).log().sum(1) + (self.space.dimensions - q) * noise.log()
        constant = self.weights.double().log() - 0.5 * (self.space.dimensions * math.log(2 * math.pi) + log_det)
        constant += self.space.log_volume()
        return Densities(
            mean=self.mean, basis=self.basis, constant=constant,
            # The first direction of all components, then the second: so sums over directions run along the memory.
            whitening=whitening.transpose(0, 1).reshape(-1, loadings.shape[1]),
            offsets=(whitening @ centres[:, :, None]).squeeze(2).T.reshape(-1, 1),
            centres=centres / noise[:, None],
            at_mean=(constant - 0.5 * centres.square().sum(1) / noise)[:, None],
            noise=noise[:, None],
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class ClassStatistics(Mixtures):
    """Densities of images, from which new ones can be drawn."""

    space = BLURRED_PIXELS

    @computing()
    def sample(
        self, count: int, generator: torch.Generator, *, pixel_range: tuple[float, float] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Draw new images, each digit as likely as it was in training.

        They are drawn within the basis. The noise beyond it is left out: it stands for everything that the basis can't
        represent, and does not look like writing.

        Args:
            generator: a generator of the CPU.
            pixel_range: smallest and largest value of a normalised pixel, to which images are clamped.

        Returns:
            Images (count × 784, float32, normalised as those fitted) and labels (count, int64).
        """
        points, labels = self.draw(count, generator)
        # Sharpening is linear: the sharpened basis sharpens all samples.
        sharp = sharpen(torch.cat([self.mean[None], self.basis.T]).double()).float()
        images = torch.addmm(sharp[0], points, sharp[1:])
        if pixel_range is not None:
            images.clamp_(*pixel_range)
        return images, labels


@dataclass(frozen=True, eq=False)
class FeatureStatistics(Mixtures):
    """Densities of features, which tell digits better; no image can be drawn from them."""

    space = FEATURE_SPACE


@dataclass(frozen=True, eq=False)
class Densities:
    """Prepared densities of all components, at b · q multiplications per image and component instead of b².

    Components are rows and images are columns, so that whatever is added up runs along the memory.

    Args:
        mean: D, and basis: D × b, of :class:`Mixtures`.
        constant: C: logarithm of the weight and of all factors that do not depend on the image.
        whitening: (q · C) × b: the directions take the squared products with it off an image's distance.
        offsets: (q · C) × 1: the products of the centres.
        centres: C × b, each divided by its noise.
        at_mean: C × 1: what the distance of the mean from a centre leaves of the constant.
        noise: C × 1.
    """

    mean: Tensor
    basis: Tensor
    constant: Tensor
    whitening: Tensor
    offsets: Tensor
    centres: Tensor
    at_mean: Tensor
    noise: Tensor

    def __call__(self, points_in_space: Tensor) -> Tensor:
        """Return ``log(weight · p(image | component))``, C × n, of images' points in the space (n × D)."""
        centred = points_in_space - self.mean
        points = (centred @ self.basis).T
        along = torch.addmm(self.offsets, self.whitening, points, beta=-1).square_()
        inside = along.view(len(along) // len(self.noise), len(self.noise), -1).sum(0)
        # |x - c|² = |x|² - 2 x c + |c|², where x and c are from the mean
        found = torch.addmm(self.at_mean, self.centres, points).addcmul_(centred.square().sum(1), -0.5 / self.noise)
        return found.add_(inside, alpha=0.5)


def log_sums(values: Tensor, sizes: list[int]) -> Tensor:
    """Return the logarithm of the sum of exponentials of each group of rows, groups × n; the values are used up.

    Args:
        values: rows × n.
        sizes: the number of rows of each group; groups stand one after the other.
    """
    sums = []
    for group in torch.split(values, sizes):
        top = group.amax(0)
        # Far below the largest nothing shows in the sum, and an exponential that is subnormal takes ten times as long.
        scaled = group.sub_(top.nan_to_num(0.0, 0.0, 0.0)).clamp_(min=_NOTHING)
        sums.append(scaled.exp_().sum(0).log_().add_(top))
    return torch.stack(sums)
