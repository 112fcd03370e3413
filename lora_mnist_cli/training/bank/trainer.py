"""Training a bank: adapters of any ranks, seeds and rates on one frozen base, in one run of the engine.

Members that see the same images in the same order are a cohort; cohorts take turns within each epoch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lora_mnist_cli.data.dataset import MNISTDataset, ShuffledBlocks
from lora_mnist_cli.data.streams import stream_seed
from lora_mnist_cli.models.adapted_linear import settle
from lora_mnist_cli.models.architecture import TRAIN_SAMPLE
from lora_mnist_cli.models.lora import LoRALinear, linear_layers
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.runtime import Runtime
from lora_mnist_cli.system.errors import DivergedError
from lora_mnist_cli.system.progress import Reporter, Silent
from lora_mnist_cli.training.bank.cohort import Cohort
from lora_mnist_cli.training.bank.grouping import cohorts
from lora_mnist_cli.training.bank.inputs import FrozenInputs
from lora_mnist_cli.training.bank.optimizer import MemberOptimizer
from lora_mnist_cli.training.bank.products import stand_in
from lora_mnist_cli.training.engines import session, train
from lora_mnist_cli.training.fused.trainer import FusedTraining
from lora_mnist_cli.training.objective import Objective
from lora_mnist_cli.training.outcomes import Outcome, add_records, mean_of_finite, note_failures
from lora_mnist_cli.training.trainer import EpochRecord, fit


@dataclass(frozen=True)
class CohortData:
    """The members of one cohort, and the data that they see.

    Args:
        members: their places in the bank: the first shape's member of each seed in turn, then the second shape's, …
        orders: each seed's training split in its random order.
        train: rows of each seed's training split (seeds × n).
        val: rows of each seed's validation split; None without one.
    """

    members: list[int]
    orders: list[ShuffledBlocks]
    train: Tensor
    val: Tensor | None

    @classmethod
    def of(
        cls, members: list[int], seeds: int, configs: Sequence[AdapterConfig], objective: Objective
    ) -> CohortData:  # fmt: skip
        """Split the rows for each seed of a cohort."""
        firsts = [configs[m] for m in members[:seeds]]
        splits = [objective.split(config) for config in firsts]
        orders = [
            ShuffledBlocks(objective.data, train, config.batch_size, config.seed_of("order"))
            for config, (train, _) in zip(firsts, splits, strict=True)
        ]
        val = [rows for _, rows in splits if rows is not None]
        return cls(members, orders, torch.stack([train for train, _ in splits]), torch.stack(val) if val else None)


class CohortBatches:
    """An epoch of all cohorts, one after the other, as blocks ``(cohort, rows)`` with rows as seeds × n."""

    def __init__(self, cohort_data: Sequence[CohortData]) -> None:
        self._cohort_data = cohort_data

    def __len__(self) -> int:
        return sum(len(data.orders[0]) for data in self._cohort_data)

    def __iter__(self) -> Iterator[tuple[int, Tensor]]:
        for cohort, data in enumerate(self._cohort_data):
            for rows in zip(*data.orders, strict=True):
                yield cohort, torch.stack(rows)


class BankTraining:
    """Trains the adapters of many models that share one frozen base.

    It is a :class:`~lora_mnist_cli.training.engines.Training`, which says who calls what.

    Args:
        models: the base with each member's adapters attached; the base's layers are the same in all.
        configs: one per member; epochs and precision are the same in all.
        objective: the images of the digits to learn, and what protects the base's digits; each seed splits the rows.
        reporter: receives steps and epochs.
    """

    fused = False

    def __init__(
        self, models: Sequence[nn.Module], configs: Sequence[AdapterConfig], objective: Objective, reporter: Reporter
    ) -> None:
        models = [stand_in(model) for model in models]
        self.module: nn.Module = nn.ModuleList(models)
        self.outcomes = [Outcome([]) for _ in configs]
        self.cohort_data = [CohortData.of(members, seeds, configs, objective) for members, seeds in cohorts(configs)]
        self._models, self._configs, self._objective, self._reporter = models, configs, objective, reporter
        self._cohorts: list[tuple[Cohort, MemberOptimizer]] = []
        self._blocks_done = [0] * len(self.cohort_data)

    @property
    def steps(self) -> int:
        """Optimiser steps per epoch; those of the cohorts add up."""
        return sum(data.orders[0].steps for data in self.cohort_data)

    def prepare(self) -> None:
        """Make the cohorts and their optimisers."""
        like = next(self.module.parameters())
        objective = self._objective.to(like)
        first = linear_layers(self._models[0])[0]
        terms = objective.terms if objective.protected else ()
        inputs = FrozenInputs(objective.data, first.base if isinstance(first, LoRALinear) else first, terms)
        for data in self.cohort_data:
            for order in data.orders:
                order.dataset = objective.data
            configs = [self._configs[m] for m in data.members]
            streams = [stream_seed(config.seed_of("dropout"), "dropout") for config in configs]
            cohort = Cohort(
                [self._models[m] for m in data.members], inputs, configs[0].batch_size, seeds=len(data.orders),
                generators=[torch.Generator(like.device).manual_seed(seed) for seed in streams],
                avoided=objective.avoided,
            )  # fmt: skip
            optimizer = MemberOptimizer(cohort.flat, cohort.gradient, cohort.parts, configs, cohort.parts_b)
            self._cohorts.append((cohort, optimizer))

    def blocks(self) -> CohortBatches:
        """Return the cohorts' blocks, in turn."""
        return CohortBatches(self.cohort_data)

    def train_block(self, block: tuple[int, Tensor], epoch: int) -> None:
        """Take one optimiser step per batch of the block, for all members of its cohort."""
        number, rows = block
        cohort, optimizer = self._cohorts[number]
        blocks = len(self.cohort_data[number].orders[0]) * self._configs[0].epochs
        # A block of steps has one rate, the rate of its middle.
        optimizer.advance((self._blocks_done[number] + 0.5) / blocks)
        self._blocks_done[number] += 1
        losses = cohort.steps(rows, optimizer.step).tolist()
        note_failures(self.outcomes, self.cohort_data[number].members, losses, epoch)
        steps = math.ceil(rows.shape[1] / cohort.batch_size)
        self._reporter.advance(steps, epoch, mean_of_finite(losses))

    def score(self, epoch: int) -> None:
        """Score both splits, add that to the histories of those that did not fail, and let their schedules see it."""
        latest: dict[int, EpochRecord] = {}
        for data, (cohort, optimizer) in zip(self.cohort_data, self._cohorts, strict=True):
            members, device = data.members, cohort.flat.device
            train_losses, train_accuracies = cohort.scores(data.train[:, :TRAIN_SAMPLE].contiguous().to(device))
            val_losses, val_accuracies = (None, None) if data.val is None else cohort.scores(data.val.to(device))
            rates = optimizer.rates
            if epoch:
                # The last step of an epoch can be the one that diverges; the loss before it does not show that.
                note_failures(self.outcomes, members, train_losses, epoch)
                optimizer.watch(train_losses if val_losses is None else val_losses)
            for place, m in enumerate(members):
                if self.outcomes[m].failed is None:
                    val_loss = None if val_losses is None else val_losses[place]
                    val_accuracy = None if val_accuracies is None else val_accuracies[place]
                    latest[m] = EpochRecord(
                        epoch, train_losses[place], train_accuracies[place], val_loss, val_accuracy, rates[place]
                    )
        add_records(self.outcomes, latest, epoch, self._reporter)


def fit_bank(
    models: Sequence[nn.Module], objective: MNISTDataset | Objective, configs: Sequence[AdapterConfig], *,
    runtime: Runtime | None = None, reporter: Reporter | None = None, title: str = "training",
    test: MNISTDataset | None = None,
) -> list[Outcome]:  # fmt: skip
    """Train the adapters of many models that share one frozen base, in place.

    A member that diverges says so in its outcome, and disturbs no other. In mixed precision, and for methods that a
    bank does not know, the members are trained one after the other.

    Args:
        models: on the CPU, see :class:`BankTraining`; they are on the CPU again afterwards, in float32.
        objective: the images of the digits to learn; or an objective with protections, which a bank alone knows.
        configs: one per member; epochs and precision are the same in all, and all or none are trained alone.
        test: images that the fused engine scores the members on at the end; other engines leave that to the caller.

    Returns:
        One outcome per member, in their order.

    Raises:
        UsageError: where the accelerator is not available, or the fused engine does not know the members.
        KeyboardInterrupt: on Ctrl-C.
    """
    runtime, reporter = runtime or Runtime(), reporter or Silent()
    if len({(config.epochs, config.precision, config.alone) for config in configs}) != 1:
        raise ValueError("the members of a bank have the same epochs and precision, and are all trained alone or none")
    objective = Objective.of(objective) if isinstance(objective, MNISTDataset) else objective
    if configs[0].alone:
        if objective.protected:
            raise ValueError("a member that is trained alone knows no protection")
        outcomes = []
        for m, (model, config) in enumerate(zip(models, configs, strict=True)):
            which = title if len(models) == 1 else f"{title}: {m + 1}/{len(models)}"
            outcomes.append(_fit_alone(model, objective.data, config, runtime, reporter, which))
        return outcomes
    fused = FusedTraining(models, configs, objective, reporter, test) if runtime.engine_taken == "fused" else None
    training = fused or BankTraining(models, configs, objective, reporter)
    with session(runtime, reporter, title, configs[0].epochs, training.steps):
        try:
            train(training, configs[0], runtime)
        except DivergedError:
            if not all(outcome.failed for outcome in training.outcomes):
                raise
    if fused is not None:
        fused.settle()
    for model in models:
        settle(model)
    return training.outcomes


def _fit_alone(
    model: nn.Module, dataset: MNISTDataset, config: AdapterConfig, runtime: Runtime, reporter: Reporter, title: str
) -> Outcome:
    history: list[EpochRecord] = []
    failed = None
    try:
        fit(model, dataset, config, runtime=runtime, reporter=reporter, title=title, history=history)
    except DivergedError as error:
        failed = str(error.problem).partition(": ")[2]
        history = [record for record in history if math.isfinite(record.train_loss)]
    settle(model)
    return Outcome(history, failed)
