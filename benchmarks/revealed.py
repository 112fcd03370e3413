"""What statistics reveal of the images that they were fitted to: ``python benchmarks/revealed.py``; a table on stdout.

The training images of each half of the digits are cut in two at random. Statistics are fitted to one part; the other is
unseen, as large, and of the same digits. Three questions follow, and no test image is read. Where nothing is revealed,
each answer is 50 %:

- membership: how often a fitted image is likelier under the density of its digit than an unseen one (the area under the
  curve of an attack that asks for the density; Shokri et al. 2017, arXiv:1610.05820, for attacks of the kind);
- copies: how often the fitted image nearest to a component's mean is nearer than the nearest unseen one (the idea of
  Meehan, Chaudhuri and Dasgupta 2020, "A non-parametric test to detect data-copying in generative models",
  arXiv:2004.05675);
- the same of samples, for the densities from which images can be drawn.

Distances are Euclidean, in the space of the densities.
"""

from __future__ import annotations

import torch
from harness import hardware, options, report, table
from torch import Tensor

from lora_mnist_cli.data.dataset import MNISTDataset
from lora_mnist_cli.evaluation.intervals import mean_interval
from lora_mnist_cli.models.densities import ClassStatistics, FeatureStatistics, Mixtures
from lora_mnist_cli.models.upright import UprightStatistics
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.system.arithmetic import computing

HALVES = ("0-4", "5-9")
KINDS: dict[str, type[Mixtures]] = {
    "pixels": ClassStatistics, "features": FeatureStatistics, "upright images": UprightStatistics
}  # fmt: skip
SAMPLES = 2000
HEAD = ("digits", "densities of", "membership, %", "copies in means, %", "copies in samples, %")


@computing()
def main() -> None:
    """Measure, and print the table."""
    given = options(__doc__, cuts=5).parse_args()
    rows = []
    for digits in HALVES:
        data = MNISTDataset.load("train", DigitSet.parse(digits))
        for what, kind in KINDS.items():
            answers = [revealed(kind, data, cut) for cut in range(given.cuts)]
            rows.append((digits, what, *(told([answer[i] for answer in answers]) for i in range(3))))
    report(given, table(HEAD, rows, text=2), hardware())


def revealed(kind: type[Mixtures], data: MNISTDataset, cut: int) -> tuple[float, float, float | None]:
    """Return membership, copies in means and in samples as fractions; None where nothing can be drawn."""
    generator = torch.Generator().manual_seed(cut)
    order = torch.randperm(len(data), generator=generator)
    fitted, unseen = (data[rows] for rows in order[: len(data) // 2 * 2].chunk(2))
    like = UprightStatistics.nothing() if kind is UprightStatistics else None
    statistics = kind.fit(*fitted, seed=cut, like=like)
    points = [kind.space.points(images) for images, _ in (fitted, unseen)]
    own = [density_of_own(statistics, *part) for part in (fitted, unseen)]
    means = statistics.mean + statistics.centres.float() @ statistics.basis.T
    drawn = None
    if isinstance(statistics, (ClassStatistics, UprightStatistics)):
        images = fitted[0]
        limits = None if like is None else (float(images.min()), float(images.max()))
        samples = kind.space.points(statistics.sample(SAMPLES, generator, pixel_range=limits)[0])
        drawn = share_nearer(samples, *points)
    return likelier(*own), share_nearer(means, *points), drawn


def density_of_own(statistics: Mixtures, images: Tensor, labels: Tensor) -> Tensor:
    """Return the log density of each image under its own digit, n."""
    places = torch.searchsorted(statistics.digits, labels)
    return statistics.log_density(images).gather(1, places[:, None])[:, 0]


def likelier(fitted: Tensor, unseen: Tensor) -> float:
    """Return how often one of the first is above one of the second: the area under the curve."""
    ranks = torch.cat([fitted, unseen]).argsort().argsort()[: len(fitted)].double() + 1
    return float((ranks.sum() - len(fitted) * (len(fitted) + 1) / 2) / (len(fitted) * len(unseen)))


def share_nearer(points: Tensor, fitted: Tensor, unseen: Tensor) -> float:
    """Return the share of points whose nearest neighbour among both is a fitted one."""
    nearest = [
        torch.cat([torch.cdist(part, others).amin(1) for part in points.split(256)]) for others in (fitted, unseen)
    ]
    return float((nearest[0] < nearest[1]).double().mean())


def told(answers: list[float | None]) -> str:
    """Write a mean over cuts in percent, with half of its 95 % interval."""
    values = [100 * answer for answer in answers if answer is not None]
    if not values:
        return "–"
    known = mean_interval(values)
    return f"{known.mean:.1f}" + (f" ± {known.half_width:.1f}" if known.half_width is not None else "")


if __name__ == "__main__":
    main()
