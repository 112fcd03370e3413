"""The objective of a bank's adapters: rows, targets, terms of the loss, and directions that the adapters avoid.

Without a protection it is images and their digits, by cross-entropy over all ten logits. Protections
(``training.protections``) add samples to the images, hide logits, add terms, or name directions to avoid.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from lora_mnist_cli.data.dataset import MNISTDataset, split_rows
from lora_mnist_cli.data.streams import generator
from lora_mnist_cli.models.architecture import CLASSES, SCORED_AT_ONCE
from lora_mnist_cli.models.densities import ClassStatistics
from lora_mnist_cli.models.mlp import MNISTModel
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.config import training_images
from lora_mnist_cli.settings.digits import DigitSet


@dataclass(frozen=True)
class LossTerm:
    """A part of the loss: a cross-entropy between targets and a softmax.

    Its gradient by the logits z is ``weight · softmax((z + hidden) / temperature) − targets``.

    Args:
        targets: rows × classes, multiplied by the weight.
        hidden: rows × classes; minus infinity where the softmax does not see a class, else 0. None: it sees all.
        weight: the same for every row.
        temperature: the logits are divided by it.
    """

    targets: Tensor
    hidden: Tensor | None = None
    weight: float = 1.0
    temperature: float = 1.0

    def to(self, like: Tensor) -> LossTerm:
        """Return the term on the device and in the dtype of a tensor."""
        hidden = None if self.hidden is None else self.hidden.to(like)
        return dataclasses.replace(self, targets=self.targets.to(like), hidden=hidden)


@dataclass(frozen=True)
class Objective:
    """The rows that adapters learn from, and their loss.

    Args:
        data: the images of the digits to learn, and then the samples. A sample's label is the digit that the base, or
            the sampler, takes it for.
        images: how many of the rows are images.
        main: the term that learns the targets.
        more: other terms.
        avoided: per layer, orthonormal directions of its inputs (in × d) that A is kept orthogonal to; empty where A
            is free.
    """

    data: MNISTDataset
    images: int
    main: LossTerm
    more: tuple[LossTerm, ...] = ()
    avoided: tuple[Tensor, ...] = ()

    @classmethod
    def of(cls, images: MNISTDataset) -> Objective:
        """Return the objective without protections: images and their digits."""
        return cls(images, len(images), LossTerm(F.one_hot(images.labels, CLASSES).to(images.images.dtype)))

    @property
    def terms(self) -> tuple[LossTerm, ...]:
        """All terms, the main term first."""
        return (self.main, *self.more)

    @property
    def protected(self) -> bool:
        """Whether it is more than images and their digits by cross-entropy."""
        return bool(self.images < len(self.data) or self.main.hidden is not None or self.more or self.avoided)

    def to(self, like: Tensor) -> Objective:
        """Return the objective on the device and in the dtype of a tensor."""
        main, *more = (term.to(like) for term in self.terms)
        avoided = tuple(directions.to(like) for directions in self.avoided)
        data = self.data.to(like.device, like.dtype)
        return dataclasses.replace(self, data=data, main=main, more=tuple(more), avoided=avoided)

    def with_samples(self, *samples: tuple[Tensor, Tensor, Tensor]) -> Objective:
        """Return the objective with samples below its rows, given as groups of images, labels and targets.

        Add rows first: later protections decide something for each row.
        """
        rows = (self.data.images, self.data.labels, self.main.targets)
        images, labels, targets = (torch.cat(parts) for parts in zip(rows, *samples, strict=True))
        main = dataclasses.replace(self.main, targets=targets)
        return dataclasses.replace(self, data=MNISTDataset(images, labels), main=main)

    def split(self, config: AdapterConfig) -> tuple[Tensor, Tensor | None]:
        """Return the rows for training and for validation.

        Images are split as without a protection. Samples are split at random in the same ratio, by the seed's stream
        ``replay``. Each part mixes both.
        """
        train, val = split_rows(self.images, config.val_split, config.seed_of("split"))
        count = len(self.data) - self.images
        if not count:
            return train, val
        stream = generator(config.seed_of("replay"), "replay")
        samples = self.images + torch.randperm(count, generator=stream)
        cut = training_images(count, config.val_split)
        parts = [(train, samples[:cut])] + ([] if val is None else [(val, samples[cut:])])
        mixed = [torch.cat(part) for part in parts]
        mixed = [rows[torch.randperm(len(rows), generator=stream)] for rows in mixed]
        return mixed[0], mixed[1] if val is not None else None


@dataclass(frozen=True)
class ProtectionContext:
    """The information that a protection or a start may use: the base, the statistics of its digits, and the new images.

    Args:
        base: frozen.
        base_digits: the digits that the base learned.
        config: the adapter's, with its digits filled in; in a bank, any member's.
        images: the images of the digits to learn.
        pixel_stats: mean and standard deviation by which the images are normalised.
        statistics: the class statistics of the base's digits; None where neither protection nor start needs them.
    """

    base: MNISTModel
    base_digits: DigitSet
    config: AdapterConfig
    images: MNISTDataset
    pixel_stats: tuple[float, float]
    statistics: ClassStatistics | None = None

    @property
    def new_digits(self) -> DigitSet:
        """The digits to learn."""
        assert self.config.digits is not None
        return self.config.digits

    @property
    def old_digits(self) -> DigitSet:
        """The base's digits that are not learned now, and may be forgotten."""
        return DigitSet(digit for digit in self.base_digits.members if digit not in self.new_digits.members)

    def hidden(self, digits: DigitSet) -> Tensor:
        """Return an addend for logits (1 × classes) by which a softmax sees some digits alone."""
        hidden = torch.full((1, CLASSES), -math.inf, dtype=self.images.images.dtype)
        hidden[:, list(digits.members)] = 0
        return hidden

    def training_images(self, count: int) -> tuple[Tensor, Tensor]:
        """Return the first of the config's training images (at most count × 784), in random order, and their digits."""
        rows, _ = split_rows(len(self.images), self.config.val_split, self.config.seed_of("split"))
        return self.images[rows[:count]]

    @cached_property
    def new_statistics(self) -> ClassStatistics:
        """The class statistics of all new images, which are the same for seeds that split them differently.

        They use the basis of the old statistics. In a basis of their own, a network could tell old samples from new
        ones by the basis, and real images don't show that difference.
        """
        return ClassStatistics.fit(self.images.images, self.images.labels, like=self.statistics)

    def old_samples(self, count: int, stream: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return sampled images (count × 784) of old digits, and their digits.

        Raises:
            ValueError: where the statistics know none of the old digits.
        """
        assert self.statistics is not None
        known = self.statistics.digits.tolist()
        old = torch.tensor([digit for digit in self.old_digits.members if digit in known])
        if not len(old):
            raise ValueError(f"there are statistics of {known}, and of none of {self.old_digits}")
        images, labels = self._samples(self.statistics, count, stream)
        # Where the adapter learns some of the base's digits again, samples of these are drawn anew.
        while not (fits := torch.isin(labels, old)).all():
            missing = (~fits).nonzero().squeeze(1)
            images[missing], labels[missing] = self._samples(self.statistics, len(missing), stream)
        return images, labels

    def new_samples(self, count: int, stream: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return sampled images (count × 784) of the digits to learn, and their digits."""
        return self._samples(self.new_statistics, count, stream)

    def _samples(self, statistics: ClassStatistics, count: int, stream: torch.Generator) -> tuple[Tensor, Tensor]:
        mean, std = self.pixel_stats
        images, labels = statistics.sample(count, stream, pixel_range=(-mean / std, (1 - mean) / std))
        return images.to(self.images.images.dtype), labels

    @torch.no_grad()
    def base_logits(self, images: Tensor) -> Tensor:
        """Return the base's logits (n × classes)."""
        return torch.cat([self.base(part) for part in torch.split(images, SCORED_AT_ONCE)])

    @torch.no_grad()
    def layer_inputs(self, images: Tensor) -> list[Tensor]:
        """Return the inputs of each of the base's layers (n × in) for some images."""
        inputs: list[Tensor] = []
        for layer in self.base.children():
            inputs.append(images)
            images = torch.relu(layer(images))
        return inputs
