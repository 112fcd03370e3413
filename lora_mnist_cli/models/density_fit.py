"""Fit the densities of class statistics to images: a basis, then a mixture of components for each digit.

K-means divides the images of a digit among its components, from starts that k-means++ draws (Arthur and Vassilvitskii
2007). A component is then the maximum likelihood solution for its images (Tipping and Bishop 1999, §3.2), with its
covariance drawn towards that of its digit. Rounds of expectation and maximisation after that changed nothing on
validation images.

The numbers below were chosen on the validation images (a fifth of the training images, seed 0) of 0-4 and 5-9, by how
often a digit of one half was likelier under the statistics of the other. They are fixed for all stages.
"""

from __future__ import annotations

from itertools import chain

import torch
from torch import Tensor

from lora_mnist_cli.models.density_spaces import Space

BASIS = 64
"""Principal components of the stage's images that span the components' means and directions."""

COMPONENTS = 32
"""Components per digit, or one for each :data:`IMAGES_PER_COMPONENT` images where there are fewer."""

DIRECTIONS = 12
"""Directions of each component."""

IMAGES_PER_COMPONENT = 32
"""Least mean number of images per component."""

FEWEST = 10
"""Least number of images of a component, where a digit has so many: fewer images would show in it."""

SHRINKAGE = 20.0
"""Weight of the digit's covariance in that of each of its components, in images."""

BASIS_IMAGES = 4096
"""Images that the basis is fitted to; with all 24,500 it would take most of the time."""

_CLUSTERED = 40
"""Leading principal components that decide the component of an image."""
_ROUNDS = 6
_BATCH = 1024


def fit_basis(sample: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean of images' points in a space (n × D, n > 0): D; and their leading principal components: D × b."""
    mean = sample.mean(0)
    sample = sample - mean
    basis = torch.linalg.eigh(sample.T @ sample)[1][:, -BASIS:].flip(1).contiguous()
    # The solver chooses the sign of a column; the bytes must not depend on it.
    basis *= basis.gather(0, basis.abs().argmax(0, keepdim=True)).sign()
    return mean, basis


def coordinates(
    sample: Tensor, images: Tensor, mean: Tensor, basis: Tensor, space: Space
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return coordinates in a basis of images' points in a space (n × b), and squared distances from its span (n).

    Args:
        sample: the points of the first images, which are there already.
        images: the other ones.
    """
    points, distances = [], []
    for batch in chain(torch.split(sample, _BATCH), map(space.points, torch.split(images, _BATCH))):
        centred = batch - mean
        points.append(centred @ basis)
        distances.append((centred.square().sum(1) - points[-1].square().sum(1)).clamp_(min=0))
    return torch.cat(points), torch.cat(distances)


def fit_mixture(
    points: Tensor, distances: Tensor, space: Space, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return weights, centres, directions and noise of the components of a digit.

    Args:
        points: n × b, and distances: n, the :func:`coordinates` of its images.
    """
    count, width = points.shape
    most = max(1, min(COMPONENTS, count // IMAGES_PER_COMPONENT))
    owner = _clusters(points[:, :_CLUSTERED], most, generator)
    clusters = int(owner.max()) + 1
    centred = points - points.mean(0)
    digit_covariance, digit_distance = centred.T @ centred / count, distances.mean()
    sizes = torch.bincount(owner, minlength=clusters)
    centres = torch.zeros(clusters, width).index_add_(0, owner, points) / sizes[:, None]
    covariances = torch.empty(clusters, width, width)
    order = owner.argsort(stable=True)
    for cluster, rows in enumerate(torch.split(order, sizes.tolist())):
        offsets = points[rows] - centres[cluster]
        covariances[cluster] = (offsets.T @ offsets + SHRINKAGE * digit_covariance) / (len(rows) + SHRINKAGE)
    beyond = torch.zeros(clusters).index_add_(0, owner, distances) + SHRINKAGE * digit_distance
    beyond = beyond / (sizes + SHRINKAGE)
    values, vectors = torch.linalg.eigh(covariances)
    noise = (values[:, :-DIRECTIONS].clamp(min=0).sum(1) + beyond) / (space.dimensions - DIRECTIONS)
    noise += space.noise_floor
    lengths = (values[:, -DIRECTIONS:] + space.noise_floor - noise[:, None]).clamp(min=0).sqrt()
    return (sizes + 1) / (count + clusters), centres, vectors[:, :, -DIRECTIONS:] * lengths[:, None], noise


def _clusters(points: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Return the cluster of each point, of at most ``most`` clusters."""
    first = int(torch.randint(len(points), (1,), generator=generator))
    centres = points[first : first + 1]
    distance = (points - centres).square().sum(1)
    for _ in range(most - 1):
        # Where all remaining points are repetitions, any of them will do.
        chances = distance if distance.sum() > 0 else torch.ones_like(distance)
        chosen = torch.multinomial(chances, 1, generator=generator)
        centres = torch.cat([centres, points[chosen]])
        distance = torch.minimum(distance, (points - points[chosen]).square().sum(1))
    owner = torch.zeros(len(points), dtype=torch.int64)
    for _ in range(_ROUNDS):
        owner = _nearest(points, centres)
        sizes = torch.bincount(owner, minlength=most)
        sums = torch.zeros_like(centres).index_add_(0, owner, points)
        centres = torch.where(sizes[:, None] > 0, sums / sizes.clamp(min=1)[:, None], centres)
    enough = torch.bincount(owner, minlength=most) >= min(FEWEST, len(points))
    while not enough.all():
        # The points of a cluster that is too small go to the nearest of the others, which only grow by it.
        centres = centres[enough]
        owner = _nearest(points, centres)
        enough = torch.bincount(owner, minlength=len(centres)) >= min(FEWEST, len(points))
    return owner


def _nearest(points: Tensor, centres: Tensor) -> Tensor:
    return (centres.square().sum(1) - 2 * points @ centres.T).argmin(1)
