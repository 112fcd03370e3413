"""Training a bank with Lightning: adapters of any ranks, seeds and rates on one frozen base, in one run of the Trainer.

Members that see the same images in the same order are a cohort; cohorts take turns within each epoch. One call of
Lightning's ``training_step`` gets a block of batches, as in :mod:`lora_mnist_cli.training.trainer`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from lora_mnist_cli.data.dataset import MNISTDataset, ShuffledBlocks
from lora_mnist_cli.data.streams import stream_seed
from lora_mnist_cli.models.adapted_linear import settle
from lora_mnist_cli.models.architecture import TRAIN_SAMPLE
from lora_mnist_cli.models.lora import LoRALinear
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.runtime import Runtime
from lora_mnist_cli.system.errors import DivergedError
from lora_mnist_cli.system.progress import Reporter, Silent
from lora_mnist_cli.training.bank.cohort import Cohort, linear_layers
from lora_mnist_cli.training.bank.grouping import cohorts
from lora_mnist_cli.training.bank.inputs import FrozenInputs
from lora_mnist_cli.training.objective import Objective
from lora_mnist_cli.training.optimizers import MemberOptimizer
from lora_mnist_cli.training.trainer import EpochRecord, fit, make_trainer, session


@dataclass
class Outcome:
    """What became of one member.

    Args:
        history: the start as epoch 0, then one record an epoch, as long as its figures were finite.
        failed: why its training ended, where it left the finite numbers; its weights are worth nothing then.
    """

    history: list[EpochRecord]
    failed: str | None = None


@dataclass(frozen=True)
class Crew:
    """The members of one cohort, and the data that they see.

    Args:
        members: their places in the bank, the first shape's for each seed in turn, then the second's, and so on.
        orders: of each seed.
        train: rows of each seed's training split (seeds × n).
        val: of its validation split; None without one.
    """

    members: list[int]
    orders: list[ShuffledBlocks]
    train: Tensor
    val: Tensor | None


class _Turns:
    """An epoch of all cohorts, one after the other, as a loader of ``(cohort, rows)`` with rows as seeds × n."""

    def __init__(self, crews: Sequence[Crew]) -> None:
        self.crews = crews

    def __len__(self) -> int:
        return sum(len(crew.orders[0]) for crew in self.crews)

    def __iter__(self) -> Iterator[tuple[int, Tensor]]:
        for cohort, crew in enumerate(self.crews):
            for rows in zip(*crew.orders, strict=True):
                yield cohort, torch.stack(rows)


class BankModule(pl.LightningModule):
    """Trains the adapters of many models that share one frozen base.

    Args:
        models: the base with each member's adapters attached; the base's own layers are the same in all.
        configs: a member each; epochs and precision are the same in all.
        lesson: the images of the digits to learn, and what protects others; each seed splits them in its own way.
        reporter: is told of steps and epochs.
    """

    def __init__(
        self, models: Sequence[nn.Module], configs: Sequence[AdapterConfig], objective: Objective, reporter: Reporter
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.models = nn.ModuleList(models)
        self.configs, self.objective, self.reporter = configs, objective, reporter
        self.outcomes = [Outcome([]) for _ in configs]
        self.crews = [_crew(members, seeds, configs, objective) for members, seeds in cohorts(configs)]
        self._cohorts: list[tuple[Cohort, MemberOptimizer]] = []
        self._done = [0] * len(self.crews)

    def configure_optimizers(self) -> Any:
        """Make the cohorts, now that the models are on the trainer's device and in its precision."""
        like = next(self.models.parameters())
        objective = self.objective.to(like)
        dataset = objective.data
        first = linear_layers(self.models[0])[0]
        terms = objective.terms if objective.protected else ()
        inputs = FrozenInputs(dataset, first.base if isinstance(first, LoRALinear) else first, terms)
        for crew in self.crews:
            for order in crew.orders:
                order.dataset = dataset
            configs = [self.configs[m] for m in crew.members]
            streams = [stream_seed(config.seed_of("dropout"), "dropout") for config in configs]
            cohort = Cohort(
                [self.models[m] for m in crew.members], inputs, configs[0].batch_size, seeds=len(crew.orders),
                generators=[torch.Generator(like.device).manual_seed(seed) for seed in streams],
                avoided=objective.avoided,
            )  # fmt: skip
            optimizer = MemberOptimizer(cohort.flat, cohort.gradient, cohort.parts, configs, cohort.parts_b)
            self._cohorts.append((cohort, optimizer))
        return [optimizer.optimizer for _, optimizer in self._cohorts]

    def train_dataloader(self) -> _Turns:
        """The cohorts' blocks, in turn."""
        return _Turns(self.crews)

    def on_fit_start(self) -> None:
        """Score the untouched starts, as epoch 0."""
        self.record(0)

    def training_step(self, block: tuple[int, Tensor], index: int) -> None:
        """One optimiser step a batch of the block, for all members of its cohort."""
        number, rows = block
        cohort, optimizer = self._cohorts[number]
        blocks = len(self.crews[number].orders[0])
        # A block of steps has one rate, that of its middle.
        optimizer.advance((self._done[number] + 0.5) / (blocks * self.configs[0].epochs))
        self._done[number] += 1
        losses = cohort.steps(rows, optimizer.step).tolist()
        self._note_failures(self.crews[number].members, losses, self.current_epoch + 1)
        finite = [loss for loss in losses if math.isfinite(loss)]
        steps = math.ceil(rows.shape[1] / cohort.batch_size)
        self.reporter.advance(steps, self.current_epoch + 1, _mean(finite) if finite else math.nan)

    def on_train_epoch_end(self) -> None:
        """Score both splits, and let each member's schedule look at its result."""
        latest = [record for record in self.record(self.current_epoch + 1) if record is not None]
        val_losses = [record.val_loss for record in latest if record.val_loss is not None]
        accuracies = [record.val_accuracy for record in latest if record.val_accuracy is not None]
        self.reporter.epoch_done(
            self.current_epoch + 1, _mean(val_losses) if val_losses else None, _mean(accuracies) if accuracies else None
        )

    def record(self, epoch: int) -> list[EpochRecord | None]:
        """Score all present weights on both splits, and remember that; None for what failed."""
        latest: list[EpochRecord | None] = [None] * len(self.configs)
        for crew, (cohort, optimizer) in zip(self.crews, self._cohorts, strict=True):
            members, device = crew.members, cohort.flat.device
            train_losses, train_accuracies = cohort.scores(crew.train[:, :TRAIN_SAMPLE].contiguous().to(device))
            val_losses, val_accuracies = (None, None) if crew.val is None else cohort.scores(crew.val.to(device))
            rates = optimizer.rates
            if epoch:
                # The last step of an epoch can be the one that diverges; the loss before it does not show that.
                self._note_failures(members, train_losses, epoch)
                optimizer.watch(train_losses if val_losses is None else val_losses)
            nothing = [None] * len(members)
            figures = zip(
                train_losses, train_accuracies, val_losses or nothing, val_accuracies or nothing, rates, strict=True
            )
            for m, row in zip(members, figures, strict=True):
                if self.outcomes[m].failed is None:
                    latest[m] = EpochRecord(epoch, *row)
        for m, record in enumerate(latest):
            if record is not None:
                self.outcomes[m].history.append(record)
        return latest

    def _note_failures(self, members: Sequence[int], losses: Sequence[float], epoch: int) -> None:
        for m, loss in zip(members, losses, strict=True):
            if not math.isfinite(loss) and self.outcomes[m].failed is None:
                self.outcomes[m].failed = f"the loss became {loss} in epoch {epoch}"
        if all(outcome.failed for outcome in self.outcomes):
            raise DivergedError("no member is left")


def fit_bank(
    models: Sequence[nn.Module], objective: MNISTDataset | Objective, configs: Sequence[AdapterConfig], *,
    runtime: Runtime | None = None, reporter: Reporter | None = None, title: str = "training",
) -> list[Outcome]:  # fmt: skip
    """Train the adapters of many models that share one frozen base, in place.

    Members that diverge are told in the result, and disturb nobody. In mixed precision, and by methods that a bank does
    not know, the members are trained one after the other.

    Args:
        models: on the CPU, see :class:`BankModule`; they are there again afterwards, in float32.
        lesson: the images of the digits to learn; or these with what protects others, which a bank alone knows.
        configs: a member each; epochs and precision are the same in all, and whether they are trained alone.

    Returns:
        What became of each member, in their order.

    Raises:
        UsageError: where the accelerator is not to be had.
        KeyboardInterrupt: on Ctrl-C.
    """
    runtime, reporter = runtime or Runtime(), reporter or Silent()
    if len({(config.epochs, config.precision, config.alone) for config in configs}) != 1:
        raise ValueError("the members of a bank have the same epochs and precision, and are all trained alone or none")
    objective = Objective.of(objective) if isinstance(objective, MNISTDataset) else objective
    if configs[0].alone:
        if objective.protected:
            raise ValueError("what is trained alone knows no protection")
        outcomes = []
        for m, (model, config) in enumerate(zip(models, configs, strict=True)):
            which = title if len(models) == 1 else f"{title}: {m + 1}/{len(models)}"
            outcomes.append(_fit_alone(model, objective.data, config, runtime, reporter, which))
        return outcomes
    module = BankModule(models, configs, objective, reporter)
    steps = sum(crew.orders[0].steps for crew in module.crews)
    with session(runtime, reporter, title, configs[0].epochs, steps):
        try:
            make_trainer(configs[0], runtime).fit(module)
        except DivergedError:
            if not all(outcome.failed for outcome in module.outcomes):
                raise
        finally:
            module.to("cpu", torch.float32)
    return module.outcomes


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


def _crew(members: list[int], seeds: int, configs: Sequence[AdapterConfig], objective: Objective) -> Crew:
    firsts = [configs[m] for m in members[:seeds]]
    splits = [objective.split(config) for config in firsts]
    orders = [
        ShuffledBlocks(objective.data, train, config.batch_size, config.seed_of("order"))
        for config, (train, _) in zip(firsts, splits, strict=True)
    ]
    val = [rows for _, rows in splits if rows is not None]
    return Crew(members, orders, torch.stack([train for train, _ in splits]), torch.stack(val) if val else None)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
