"""What a stage remembers of its digits: a density over images for each, which holds no image.

Each digit is a mixture of probabilistic principal component analysers (Tipping and Bishop 1999, "Mixtures of
probabilistic principal component analysers", Neural Computation 11): a component is a Gaussian with few directions of
its own and isotropic noise in all others, ``Σ = W Wᵀ + σ² I``. Its means and directions lie in the span of the leading
principal components of the stage's own training images, and its noise in the whole space, so the densities of two
artifacts can be compared with each other though each has a basis of its own.

The noise is white after images are blurred (:func:`blur`). Blurring is a fixed invertible linear map, the same for all
artifacts, so a density after it is one over pixels up to a constant, which is included. Noise that is white in pixels
takes a stroke that is moved by a pixel for as strange as one that is not there at all: its densities told the digits
0-4 from 5-9 for 96 % of the validation images with eight full Gaussians a digit, in place of 99 %.

The numbers below were chosen on the validation images (a fifth of the training images, seed 0) of 0-4 and 5-9 by how
often a digit of one was found likelier under the statistics of the other. That is a choice made once for the tool, on
images of both halves; a stage has nothing to choose.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from lora_mnist_cli.models.architecture import PIXELS

BLUR = 1.0
"""Standard deviation of the blur, in pixels."""

BASIS = 64
"""Principal components of the stage's images that the components' means and directions lie in."""

COMPONENTS = 32
"""Components a digit, or as many as there are :data:`IMAGES_EACH` images for."""

DIRECTIONS = 12
"""Directions of its own that a component has."""

IMAGES_EACH = 32
"""Images that a component has on average at least."""

FEWEST = 10
"""Images that a component is made of at least, where a digit has so many: fewer would be told too much about."""

SHRINKAGE = 20.0
"""How many images' weight the digit's own covariance has in that of each of its components."""

NOISE_FLOOR = 0.003
"""Added to each noise variance, so that a digit with a single image has a density too."""

BASIS_IMAGES = 4096
"""Images that the basis is found from: of all 24,500, it would take the larger part of the time."""

_CLUSTERED = 40
"""Leading principal components that decide which component an image belongs to."""
_ROUNDS = 6
_BATCH = 1024
_SIDE = math.isqrt(PIXELS)
_MANY = 2**31


@lru_cache
def _kernel(dtype: torch.dtype) -> Tensor:
    """Blurring along one axis, 28 × 28, symmetric and positive definite."""
    place = torch.arange(_SIDE, dtype=torch.float64)
    kernel = torch.exp(-((place[:, None] - place) ** 2) / (2 * BLUR**2))
    return (kernel / kernel[_SIDE // 2].sum()).to(dtype)


def blur(images: Tensor) -> Tensor:
    """Images (n × 784) blurred by a Gaussian of :data:`BLUR` pixels; nothing comes in from beyond the edges."""
    return _both_axes(images, _kernel(images.dtype))


def sharpen(blurred: Tensor) -> Tensor:
    """The images (n × 784) that :func:`blur` makes these of."""
    return _both_axes(blurred, torch.linalg.inv(_kernel(torch.float64)).to(blurred.dtype))


def _both_axes(images: Tensor, kernel: Tensor) -> Tensor:
    # Two products of all rows at once: to multiply image by image takes five times as long.
    columns = (images.reshape(-1, _SIDE) @ kernel).view(-1, _SIDE, _SIDE).transpose(1, 2)
    return (columns.reshape(-1, _SIDE) @ kernel).view(-1, _SIDE, _SIDE).transpose(1, 2).reshape(-1, PIXELS)


@lru_cache
def _log_volume() -> float:
    """The logarithm of the blur's determinant over 784 pixels."""
    return 2 * _SIDE * float(torch.linalg.slogdet(_kernel(torch.float64))[1])


@dataclass(frozen=True, eq=False)
class ClassStatistics:
    """A density over images for each digit that a stage was trained on. C components in all, d digits.

    Args:
        digits: d, int64: the digits, ascending.
        counts: d, int64: how many images of each there were; the digits' prior.
        components: d, int64: how many components each has; they lie one after the other.
        mean: 784, float32: the mean of the blurred images.
        basis: 784 × b, float32, orthonormal columns: their principal components.
        weights: C, float32: of a digit's components, adding up to 1.
        centres: C × b, float16: means of the components, from ``mean``.
        directions: C × b × q, float16: ``W``, each direction as long as its standard deviation beyond the noise.
        noise: C, float32: ``σ²``, in squared units of the model's input, after blurring.
    """

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
    def fit(
        cls, images: Tensor, labels: Tensor, *, seed: int = 0, like: ClassStatistics | None = None
    ) -> ClassStatistics:  # fmt: skip
        """The statistics of a training split; the same images in the same order give the same bytes.

        It takes one thread, so that the sums are the same whoever makes them. Images are divided among a digit's
        components by k-means, from starts that k-means++ draws (Arthur and Vassilvitskii 2007); a component is then the
        maximum likelihood solution for its images (Tipping and Bishop 1999, §3.2), its covariance drawn towards that of
        its digit. Rounds of expectation and maximisation after that changed nothing on validation images.

        Args:
            images: n × 784, float32, normalised as the model sees them; the training part of the split alone.
            labels: n, int64.
            seed: decides the starts.
            like: take the mean and the basis of these, so that samples of both lie in one space.

        Raises:
            ValueError: where there are no images.
        """
        if len(images) == 0 or images.shape != (len(labels), PIXELS):
            raise ValueError(f"images {tuple(images.shape)} and labels {tuple(labels.shape)} don't fit")
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return cls._fit(images.detach().cpu().float(), labels.cpu(), torch.Generator().manual_seed(seed), like)
        finally:
            torch.set_num_threads(threads)

    @classmethod
    def _fit(
        cls, images: Tensor, labels: Tensor, generator: torch.Generator, like: ClassStatistics | None
    ) -> ClassStatistics:  # fmt: skip
        mean, basis = _basis(images) if like is None else (like.mean, like.basis)
        places, rest = _coordinates(images, mean, basis)
        digits, counts = torch.unique(labels, return_counts=True)
        fitted = [_mixture(places[rows], rest[rows], generator) for rows in (labels == digit for digit in digits)]
        weights, centres, directions, noise = (torch.cat(parts) for parts in zip(*fitted, strict=True))
        components = torch.tensor([len(parts[0]) for parts in fitted])
        return cls(digits, counts, components, mean, basis, weights, centres.half(), directions.half(), noise)

    def shares_basis(self, other: ClassStatistics) -> bool:
        """Whether both are in one basis, as those are that were fitted one like the other."""
        return torch.equal(self.mean, other.mean) and torch.equal(self.basis, other.basis)

    def joined(self, other: ClassStatistics) -> ClassStatistics:
        """Those of both, in one basis; of a digit that both have, the other's.

        Raises:
            ValueError: where they are in different bases.
        """
        if not self.shares_basis(other):
            raise ValueError("statistics in different bases can't be joined")
        from_other = torch.isin(self.digits, other.digits)
        kept = ~from_other.repeat_interleave(self.components)
        order = torch.cat([self.digits[~from_other], other.digits]).argsort()

        def of_digits(name: str) -> Tensor:
            return torch.cat([getattr(self, name)[~from_other], getattr(other, name)])

        def of_components(name: str) -> list[Tensor]:
            own = torch.split(getattr(self, name)[kept], self.components[~from_other].tolist())
            parts = [*own, *torch.split(getattr(other, name), other.components.tolist())]
            return [parts[place] for place in order.tolist()]

        digits = {name: of_digits(name)[order] for name in ("digits", "counts", "components")}
        components = ("weights", "centres", "directions", "noise")
        return dataclasses.replace(self, **digits, **{name: torch.cat(of_components(name)) for name in components})

    def log_density(self, images: Tensor) -> Tensor:
        """``log p(image | digit)``, n × d, over the 784 normalised pixels, in natural logarithms.

        Args:
            images: n × 784; float64 ones are calculated with as such.
        """
        densities, parts = self.densities(images.dtype), self.components.tolist()
        found = []
        for batch in torch.split(images, _BATCH):
            each = torch.split(densities(blur(batch)), parts, dim=1)
            found.append(torch.stack([part.logsumexp(1) for part in each], dim=1))
        return torch.cat(found)

    def log_marginal(self, images: Tensor) -> Tensor:
        """``log p(image)`` under all of the digits, each as likely as it was in training; n."""
        return (self.log_density(images) + self.log_prior.to(images.dtype)).logsumexp(1)

    @property
    def log_prior(self) -> Tensor:
        """``log p(digit)``, d, float64."""
        return self.counts.double().log() - self.counts.sum().double().log()

    def sample(
        self, count: int, generator: torch.Generator, *, pixel_range: tuple[float, float] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Images that never were, each digit as likely as it was in training.

        They are drawn from what the components know within the basis. The noise beyond it is left out: it stands for
        all that a basis can't tell, and looks like nothing that was ever written.

        Args:
            generator: of the CPU.
            pixel_range: smallest and largest value of a normalised pixel, to which images are clamped.

        Returns:
            Images (count × 784, float32, normalised as those fitted) and labels (count, int64).
        """
        shares = (self.weights.double() * self.log_prior.exp().repeat_interleave(self.components)).float()
        chosen = torch.multinomial(shares, count, replacement=True, generator=generator)
        directions = self.directions.float()
        along = torch.randn(count, directions.shape[2], generator=generator)
        places = torch.randn(count, directions.shape[1], generator=generator)
        places *= self.noise[chosen].sqrt()[:, None]
        places += self.centres.float()[chosen]
        sizes = torch.bincount(chosen, minlength=len(directions)).tolist()
        for own, rows in zip(directions, torch.split(chosen.argsort(stable=True), sizes), strict=True):
            places.index_add_(0, rows, along[rows] @ own.T)
        # Sharpening is linear: to sharpen the basis does for all samples.
        sharp = sharpen(torch.cat([self.mean[None], self.basis.T]).double()).float()
        images = torch.addmm(sharp[0], places, sharp[1:])
        if pixel_range is not None:
            images.clamp_(*pixel_range)
        return images, self.digits.repeat_interleave(self.components)[chosen]

    def to_tensors(self) -> dict[str, Tensor]:
        """Name → tensor of all that there is to keep."""
        return {name: getattr(self, name) for name in _TYPES}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> ClassStatistics:
        """The statistics that :meth:`to_tensors` gave.

        Raises:
            ValueError: with all that is wrong with keys, types, shapes or values.
        """
        if problems := _problems(tensors):
            raise ValueError("; ".join(problems))
        return cls(**{name: tensors[name] for name in _TYPES})

    def densities(self, dtype: torch.dtype) -> Densities:
        """The components' densities, ready to be calculated in a floating point type."""
        if dtype not in self._ready:
            self._ready[dtype] = self._densities(dtype)
        return self._ready[dtype]

    @cached_property
    def _ready(self) -> dict[torch.dtype, Densities]:
        return {}

    def _densities(self, dtype: torch.dtype) -> Densities:
        """By the matrix inversion lemma: ``(W Wᵀ + σ² I)⁻¹ = (I - W M⁻¹ Wᵀ) / σ²`` with ``M = Wᵀ W + σ² I``, q × q."""
        loadings, noise, centres = self.directions.double(), self.noise.double(), self.centres.double()
        q = loadings.shape[2]
        inner = loadings.transpose(1, 2) @ loadings + noise[:, None, None] * torch.eye(q, dtype=torch.float64)
        factor = torch.linalg.cholesky(inner)
        whitening = torch.linalg.solve_triangular(factor, loadings.transpose(1, 2), upper=False)
        whitening = whitening / noise.sqrt()[:, None, None]
        log_det = 2 * factor.diagonal(dim1=1, dim2=2).log().sum(1) + (PIXELS - q) * noise.log()
        constant = self.weights.double().log() - 0.5 * (PIXELS * math.log(2 * math.pi) + log_det) + _log_volume()
        made = Densities(
            mean=self.mean, basis=self.basis, constant=constant,
            whitening=whitening.reshape(-1, loadings.shape[1]).T.contiguous(),
            offsets=(whitening @ centres[:, :, None]).reshape(-1),
            centres=centres, noise=noise,
        )  # fmt: skip
        return Densities(**{name: tensor.to(dtype) for name, tensor in vars(made).items()})


@dataclass(frozen=True, eq=False)
class Densities:
    """What each component's density is calculated with; it costs b · q multiplications an image, and not b².

    Args:
        mean: 784, and basis: 784 × b, as :class:`ClassStatistics` has them.
        constant: C: logarithm of the weight and of all that does not depend on the image.
        whitening: b × (C · q): squared products with it are what the directions take off an image's distance.
        offsets: C · q: the products of the centres.
        centres: C × b.
        noise: C.
    """

    mean: Tensor
    basis: Tensor
    constant: Tensor
    whitening: Tensor
    offsets: Tensor
    centres: Tensor
    noise: Tensor

    def __call__(self, blurred: Tensor) -> Tensor:
        """``log(weight · p(image | component))``, n × C, of images (n × 784) after :func:`blur`."""
        away = blurred - self.mean
        places = away @ self.basis
        rest = (away.square().sum(1) - places.square().sum(1)).clamp(min=0)
        known = places @ self.whitening - self.offsets
        inside = known.view(-1, len(self.noise), len(self.offsets) // len(self.noise)).square().sum(2)
        distance = places.square().sum(1, keepdim=True) - 2 * places @ self.centres.T + self.centres.square().sum(1)
        return self.constant - 0.5 * ((distance + rest[:, None]) / self.noise - inside)


def _basis(images: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of the blurred images, and their leading principal components (784 × b)."""
    sample = blur(images[:BASIS_IMAGES])
    mean = sample.mean(0)
    sample -= mean
    basis = torch.linalg.eigh(sample.T @ sample)[1][:, -BASIS:].flip(1).contiguous()
    # A column's sign is the solver's whim; the bytes are not to depend on it.
    basis *= basis.gather(0, basis.abs().argmax(0, keepdim=True)).sign()
    return mean, basis


def _coordinates(images: Tensor, mean: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    """Where images lie in a basis (n × b) after blurring, and their squared distance from its span (n)."""
    places, rest = [], []
    for batch in torch.split(images, _BATCH):
        blurred = blur(batch).sub_(mean)
        places.append(blurred @ basis)
        rest.append((blurred.square().sum(1) - places[-1].square().sum(1)).clamp_(min=0))
    return torch.cat(places), torch.cat(rest)


def _mixture(places: Tensor, rest: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weights, centres, directions and noise of one digit's components."""
    count, width = places.shape
    wanted = max(1, min(COMPONENTS, count // IMAGES_EACH))
    owner = _clusters(places[:, :_CLUSTERED], wanted, generator)
    wanted = int(owner.max()) + 1
    middle = places - places.mean(0)
    whole, whole_rest = middle.T @ middle / count, rest.mean()
    sizes = torch.bincount(owner, minlength=wanted)
    centres = torch.zeros(wanted, width).index_add_(0, owner, places) / sizes[:, None]
    covariances = torch.empty(wanted, width, width)
    order = owner.argsort(stable=True)
    for each, rows in enumerate(torch.split(order, sizes.tolist())):
        own = places[rows] - centres[each]
        covariances[each] = (own.T @ own + SHRINKAGE * whole) / (len(rows) + SHRINKAGE)
    beyond = (torch.zeros(wanted).index_add_(0, owner, rest) + SHRINKAGE * whole_rest) / (sizes + SHRINKAGE)
    values, vectors = torch.linalg.eigh(covariances)
    noise = (values[:, :-DIRECTIONS].clamp(min=0).sum(1) + beyond) / (PIXELS - DIRECTIONS) + NOISE_FLOOR
    lengths = (values[:, -DIRECTIONS:] + NOISE_FLOOR - noise[:, None]).clamp(min=0).sqrt()
    return (sizes + 1) / (count + wanted), centres, vectors[:, :, -DIRECTIONS:] * lengths[:, None], noise


def _clusters(places: Tensor, wanted: int, generator: torch.Generator) -> Tensor:
    """Which of the clusters each place belongs to."""
    first = int(torch.randint(len(places), (1,), generator=generator))
    centres = places[first : first + 1]
    distance = (places - centres).square().sum(1)
    for _ in range(wanted - 1):
        # Where all that is left are repetitions there is nothing to prefer.
        chances = distance if distance.sum() > 0 else torch.ones_like(distance)
        chosen = torch.multinomial(chances, 1, generator=generator)
        centres = torch.cat([centres, places[chosen]])
        distance = torch.minimum(distance, (places - places[chosen]).square().sum(1))
    owner = torch.zeros(len(places), dtype=torch.int64)
    for _ in range(_ROUNDS):
        owner = (centres.square().sum(1) - 2 * places @ centres.T).argmin(1)
        sizes = torch.bincount(owner, minlength=wanted)
        sums = torch.zeros_like(centres).index_add_(0, owner, places)
        centres = torch.where(sizes[:, None] > 0, sums / sizes.clamp(min=1)[:, None], centres)
    enough = torch.bincount(owner, minlength=wanted) >= min(FEWEST, len(places))
    while not enough.all():
        # What belonged to a cluster that is too small goes to the nearest of the others, which only grow by it.
        centres = centres[enough]
        owner = (centres.square().sum(1) - 2 * places @ centres.T).argmin(1)
        enough = torch.bincount(owner, minlength=len(centres)) >= min(FEWEST, len(places))
    return owner


_TYPES = {
    "digits": torch.int64, "counts": torch.int64, "components": torch.int64, "mean": torch.float32,
    "basis": torch.float32, "weights": torch.float32, "centres": torch.float16, "directions": torch.float16,
    "noise": torch.float32,
}  # fmt: skip


def _problems(tensors: Mapping[str, Tensor]) -> list[str]:
    """What is wrong with tensors: keys and types, then the shapes, then the values."""
    problems = [f"{key} is missing" for key in _TYPES if key not in tensors]
    problems += [f"{key} is unknown" for key in tensors if key not in _TYPES]
    for key, dtype in _TYPES.items():
        if key in tensors and tensors[key].dtype != dtype:
            problems.append(f"{key} is {tensors[key].dtype}, not {dtype}")
    return problems or _problems_of_shapes(tensors) or _problems_of_values(tensors)


def _problems_of_shapes(tensors: Mapping[str, Tensor]) -> list[str]:
    problems = []
    digits, basis, directions = tensors["digits"], tensors["basis"], tensors["directions"]
    if digits.ndim != 1 or not len(digits) or (digits.diff() <= 0).any() or digits[0] < 0 or digits[-1] > 9:
        problems.append("digits are none, or not ascending from 0 to 9")
    for key in ("counts", "components"):
        if tensors[key].shape != digits.shape or (tensors[key] < 1).any() or (tensors[key] > _MANY).any():
            problems.append(f"{key} are not one positive number a digit")
    if basis.ndim != 2 or directions.ndim != 3 or not 0 < directions.shape[2] <= basis.shape[1] <= PIXELS:
        problems.append("basis or directions are not matrices of their kind")
    if problems:
        return problems
    total, width = int(tensors["components"].sum()), basis.shape[1]
    shapes: dict[str, tuple[int, ...]] = {
        "mean": (PIXELS,), "basis": (PIXELS, width), "weights": (total,), "centres": (total, width),
        "directions": (total, width, directions.shape[2]), "noise": (total,),
    }  # fmt: skip
    for key, shape in shapes.items():
        if tensors[key].shape != shape:
            problems.append(f"{key} has the shape {tuple(tensors[key].shape)}, not {shape}")
    return problems


def _problems_of_values(tensors: Mapping[str, Tensor]) -> list[str]:
    odd = [key for key, tensor in tensors.items() if not tensor.isfinite().all()]
    problems = [f"{key} has values that are no finite numbers" for key in odd]
    if (tensors["noise"] <= 0).any():
        problems.append("noise is not positive, so that no covariance is positive definite")
    weights, basis = tensors["weights"], tensors["basis"]
    sums = torch.stack([part.sum() for part in torch.split(weights, tensors["components"].tolist())])
    if (weights <= 0).any() or not torch.allclose(sums, torch.ones_like(sums), atol=1e-3):
        problems.append("weights are not positive or don't add up to 1 for each digit")
    if not torch.allclose(basis.T @ basis, torch.eye(basis.shape[1]), atol=1e-3):
        problems.append("basis is not orthonormal")
    return problems
