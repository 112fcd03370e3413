"""What the adapters of a bank learn from, where they are to keep what the base knows: rows, targets, terms of the loss.

Without a protection it is images and their digits, by cross-entropy over all ten logits. Protections
(``training.protections``) add samples to the images, hide logits, add terms, or name directions that adapters
keep out of.
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
    """A part of the loss: a cross-entropy between targets and a softmax, whose gradient by the logits z is
    ``weight · softmax((z + hidden) / temperature) − targets``.

    Args:
        targets: rows × classes, times the weight.
        hidden: rows × classes; minus infinity where the softmax does not see a class, else 0. None: it sees all.
        weight: of every row.
        temperature: what logits are divided by.
    """

    targets: Tensor
    hidden: Tensor | None = None
    weight: float = 1.0
    temperature: float = 1.0

    def to(self, like: Tensor) -> LossTerm:
        """The same of the device and dtype of a tensor."""
        hidden = None if self.hidden is None else self.hidden.to(like)
        return dataclasses.replace(self, targets=self.targets.to(like), hidden=hidden)


@dataclass(frozen=True)
class Objective:
    """See the module.

    Args:
        data: the images of the digits to learn, and then the samples.
        images: how many of its rows are images.
        main: the term that learns the targets.
        more: other terms.
        avoided: for each layer, orthonormal directions of its inputs (in × d) that A is kept orthogonal to; empty
            where it is free.
    """

    data: MNISTDataset
    images: int
    main: LossTerm
    more: tuple[LossTerm, ...] = ()
    avoided: tuple[Tensor, ...] = ()

    @classmethod
    def of(cls, images: MNISTDataset) -> Objective:
        """Images and their digits, and nothing else."""
        return cls(images, len(images), LossTerm(F.one_hot(images.labels, CLASSES).to(images.images.dtype)))

    @property
    def labels(self) -> Tensor:
        """The digit of each row: of a sample, what it is taken for by whom it was labelled."""
        return self.data.labels

    @property
    def terms(self) -> tuple[LossTerm, ...]:
        """All terms, the main one first."""
        return (self.main, *self.more)

    @property
    def protected(self) -> bool:
        """Whether it is anything but images and their digits by cross-entropy."""
        plain = self.images == len(self.data) and self.main.hidden is None and not self.more and not self.avoided
        return not plain

    def to(self, like: Tensor) -> Objective:
        """The same on the device and in the dtype of a tensor."""
        main, *more = (term.to(like) for term in self.terms)
        avoided = tuple(directions.to(like) for directions in self.avoided)
        data = self.data.to(like.device, like.dtype)
        return dataclasses.replace(self, data=data, main=main, more=tuple(more), avoided=avoided)

    def with_samples(self, *samples: tuple[Tensor, Tensor, Tensor]) -> Objective:
        """The lesson with samples below its rows; for those that add rows, before anything else is decided a row.

        Args:
            samples: groups of images, their labels and their targets.
        """
        images, labels, targets = (
            torch.cat(parts) for parts in zip((self.data.images, self.labels, self.main.targets), *samples, strict=True)
        )
        main = dataclasses.replace(self.main, targets=targets)
        return dataclasses.replace(self, data=MNISTDataset(images, labels), main=main)

    def split(self, config: AdapterConfig) -> tuple[Tensor, Tensor | None]:
        """Rows for training and for validation. Images are split as without a protection, and samples at random in the
        same ratio by the seed's own stream ``replay``; in each part both are mixed.
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
    """What is known when new digits are to be learned: the base, what it keeps of its own digits, and new images.

    Args:
        base: frozen.
        base_digits: what it learned.
        config: of the adapter, its digits filled in; of a bank's members it is any.
        images: of the digits to learn.
        pixel_stats: mean and standard deviation that they are normalised with.
        statistics: of the base's digits; None where no protection asks for them.
    """

    base: MNISTModel
    base_digits: DigitSet
    config: AdapterConfig
    images: MNISTDataset
    pixel_stats: tuple[float, float]
    statistics: ClassStatistics | None = None

    @property
    def new_digits(self) -> DigitSet:
        """Those that are to be learned."""
        assert self.config.digits is not None
        return self.config.digits

    @property
    def old_digits(self) -> DigitSet:
        """Those of the base that are not learned now: what there is to lose."""
        return DigitSet(digit for digit in self.base_digits.members if digit not in self.new_digits.members)

    def hidden(self, digits: DigitSet) -> Tensor:
        """What is added to logits (1 × classes) so that a softmax sees those of some digits alone."""
        hidden = torch.full((1, CLASSES), -math.inf, dtype=self.images.images.dtype)
        hidden[:, list(digits.members)] = 0
        return hidden

    @cached_property
    def new_statistics(self) -> ClassStatistics:
        """Those of the images at hand, of all of them: they are the same for seeds that split them otherwise.

        They lie in the basis of the old ones: each in a basis of its own, samples could be told apart by that, which
        real images can't.
        """
        return ClassStatistics.fit(self.images.images, self.images.labels, like=self.statistics)

    def old_samples(self, count: int, stream: torch.Generator) -> tuple[Tensor, Tensor]:
        """Images (count × 784) of old digits that never were, and their digits.

        Raises:
            ValueError: where the statistics know none of them.
        """
        assert self.statistics is not None
        known = self.statistics.digits.tolist()
        old = torch.tensor([digit for digit in self.old_digits.members if digit in known])
        if not len(old):
            raise ValueError(f"there are statistics of {known}, and of none of {self.old_digits}")
        images, labels = self._samples(self.statistics, count, stream)
        while not (fits := torch.isin(labels, old)).all():  # where the adapter learns some of the base's digits again
            missing = (~fits).nonzero().squeeze(1)
            images[missing], labels[missing] = self._samples(self.statistics, len(missing), stream)
        return images, labels

    def new_samples(self, count: int, stream: torch.Generator) -> tuple[Tensor, Tensor]:
        """The same of the digits to learn."""
        return self._samples(self.new_statistics, count, stream)

    def _samples(self, statistics: ClassStatistics, count: int, stream: torch.Generator) -> tuple[Tensor, Tensor]:
        mean, std = self.pixel_stats
        images, labels = statistics.sample(count, stream, pixel_range=(-mean / std, (1 - mean) / std))
        return images.to(self.images.images.dtype), labels

    @torch.no_grad()
    def base_logits(self, images: Tensor) -> Tensor:
        """The base's logits (n × classes)."""
        return torch.cat([self.base(part) for part in torch.split(images, SCORED_AT_ONCE)])

    @torch.no_grad()
    def layer_inputs(self, images: Tensor) -> list[Tensor]:
        """What each of the base's layers gets (n × in) when it sees images."""
        inputs: list[Tensor] = []
        for layer in self.base.children():
            inputs.append(images)
            images = torch.relu(layer(images))
        return inputs
