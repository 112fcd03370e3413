"""Training a bank by the fused kernels: launches of members, epoch by epoch, and all scores on the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn

from lora_mnist_cli.data.dataset import MNISTDataset
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.system.progress import Reporter
from lora_mnist_cli.training.fused.images import DeviceImages, to_device
from lora_mnist_cli.training.fused.layout import frozen_layers, pack, unpack
from lora_mnist_cli.training.fused.orders import Streams
from lora_mnist_cli.training.fused.plan import plan_launches
from lora_mnist_cli.training.fused.support import refuse_obstacle
from lora_mnist_cli.training.fused.tables import block_share
from lora_mnist_cli.training.member_rates import MemberRates
from lora_mnist_cli.training.objective import Objective
from lora_mnist_cli.training.outcomes import ClassSums, Outcome, add_records, mean_of_finite, note_failures
from lora_mnist_cli.training.trainer import EpochRecord

if TYPE_CHECKING:
    from lora_mnist_cli.training.fused.launch import Launch

T = TypeVar("T")
Scores = tuple[list[float], list[float]]
"""Each member's mean cross-entropy and accuracy."""


class FusedTraining:
    """Trains the adapters of many models that share one frozen base, each by a thread block of a GPU.

    It is a :class:`~lora_mnist_cli.training.engines.Training`, which says who calls what. Its module holds the factors
    of all members, one tensor per launch; :meth:`settle` hands them back to the models.

    Args:
        models: the base with each member's adapters attached, on the CPU; the base's layers are the same in all.
        configs: one per member; epochs are the same in all.
        objective: the images of the digits to learn.
        reporter: receives steps and epochs.
        test: images that the members are scored on at the end; None for no scores.

    Raises:
        UsageError: for members that the kernels do not know.
    """

    fused = True

    def __init__(
        self, models: Sequence[nn.Module], configs: Sequence[AdapterConfig], objective: Objective, reporter: Reporter,
        test: MNISTDataset | None = None,
    ) -> None:  # fmt: skip
        self._layers = frozen_layers(models[0])
        sizes = (self._layers[0].in_features, *(layer.out_features for layer in self._layers))
        for config in configs:
            refuse_obstacle(config, sizes)
        self.outcomes = [Outcome([]) for _ in configs]
        self.plans = plan_launches(configs, sizes)
        self._models, self._configs, self._objective, self._reporter = models, configs, objective, reporter
        self._test, self._epochs = test, configs[0].epochs
        self._streams = [Streams.drawn(chosen(configs, plan.members), objective) for plan in self.plans]
        self._rates = [MemberRates(chosen(configs, plan.members)) for plan in self.plans]
        factors = [pack(chosen(models, plan.members), plan.shape) for plan in self.plans]
        self.module: nn.Module = nn.ParameterList(nn.Parameter(rows, requires_grad=False) for rows in factors)
        self._launches: list[Launch] = []

    @property
    def steps(self) -> int:
        """Optimiser steps per epoch; those of the launches add up."""
        return sum(streams.orders[0].steps for streams in self._streams)

    def prepare(self) -> None:
        """Move images and rows to where the factors are."""
        from lora_mnist_cli.training.fused.launch import Launch, compiled_before  # it imports Triton

        factors = [parameter.detach() for parameter in self.module.parameters()]
        self._device = factors[0].device
        if self._device.type == "cuda" and not compiled_before():
            self._reporter.notice("compiling the kernels for this GPU, which takes some seconds once")
        self._images = self._move(self._objective.data)
        for plan, rows, streams in zip(self.plans, factors, self._streams, strict=True):
            models, configs = chosen(self._models, plan.members), chosen(self._configs, plan.members)
            launch = Launch(plan, rows, models, configs, self._layers, self._images, streams)
            self._launches.append(launch)
        self._rows = [
            (streams.train.to(self._device), None if streams.val is None else streams.val.to(self._device))
            for streams in self._streams
        ]

    def blocks(self) -> range:
        """Return the blocks of an epoch: one, which all launches do at the same time."""
        return range(1)

    def train_block(self, block: int, epoch: int) -> None:
        """Train an epoch of all members."""
        for launch, rates in zip(self._launches, self._rates, strict=True):
            launch.start_epoch(epoch, rates.full)
        for launch, rates in zip(self._launches, self._rates, strict=True):
            losses = launch.losses()
            if any(rates.cosine):
                rates.share = block_share(epoch, self._epochs, launch.steps, losses.shape[1] - 1)
            if not losses.isfinite().all():
                for of_block in losses.T.tolist():
                    note_failures(self.outcomes, launch.plan.members, of_block, epoch)
            self._reporter.advance(launch.steps, epoch, mean_of_finite(losses[:, -1].tolist()))

    def score(self, epoch: int) -> None:
        """Score both splits, add that to the histories, let the schedules see it; at the end score the test images."""
        started = [
            (launch.score(self._images, train), None if val is None else launch.score(self._images, val))
            for launch, (train, val) in zip(self._launches, self._rows, strict=True)
        ]
        latest: dict[int, EpochRecord] = {}
        for number, (launch, (train, val)) in enumerate(zip(self._launches, started, strict=True)):
            rows = self._streams[number]
            train_scores = _means(launch.read(*train), rows.train.shape[1])
            val_scores = None if val is None or rows.val is None else _means(launch.read(*val), rows.val.shape[1])
            latest |= self._records(number, epoch, train_scores, val_scores)
        add_records(self.outcomes, latest, epoch, self._reporter)
        if epoch == self._epochs and self._test is not None:
            self._score_test(self._test)

    def settle(self) -> None:
        """Hand the factors back to the models, once they are on the CPU again."""
        for plan, rows in zip(self.plans, self.module.parameters(), strict=True):
            unpack(rows.detach(), chosen(self._models, plan.members), plan.shape)

    def _records(self, number: int, epoch: int, train: Scores, val: Scores | None) -> dict[int, EpochRecord]:
        """Return the records of a launch's members that did not fail."""
        members, rates = self.plans[number].members, self._rates[number]
        now = rates.now
        if epoch:
            # The last step of an epoch can be the one that diverges; the loss before it does not show that.
            note_failures(self.outcomes, members, train[0], epoch)
            rates.watch(train[0] if val is None else val[0])
        nothing = [None] * len(members)
        figures = zip(members, *train, *(val or (nothing, nothing)), now, strict=True)
        return {m: EpochRecord(epoch, *each) for m, *each in figures if self.outcomes[m].failed is None}

    def _score_test(self, test: MNISTDataset) -> None:
        images = self._move(test)
        rows = torch.arange(len(test), dtype=torch.int32, device=self._device)[None]
        started = [launch.score(images, rows) for launch in self._launches]
        for launch, sums in zip(self._launches, started, strict=True):
            losses, hits = launch.read(*sums)
            classes = launch.plan.shape.sizes[-1]  # without the padding
            for m, loss, right in zip(launch.plan.members, losses.tolist(), hits.tolist(), strict=True):
                self.outcomes[m].test = ClassSums(loss[:classes], right[:classes])

    def _move(self, images: MNISTDataset) -> DeviceImages:
        return to_device(images, self._layers[0], self.plans[0].shape.units, self._device)


def chosen(each: Sequence[T], members: Sequence[int]) -> list[T]:
    """Return what some members have."""
    return [each[m] for m in members]


def _means(sums: Sequence[Tensor], count: int) -> Scores:
    """Return mean loss and accuracy over so many rows, from sums of losses and hits (members × classes)."""
    losses, hits = sums
    return (losses.sum(1) / count).tolist(), (hits.sum(1).double() / count).tolist()
