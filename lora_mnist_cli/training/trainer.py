"""Training with Lightning, which is done here and in :mod:`lora_mnist_cli.training.bank.trainer` alone.

Lightning's Trainer chooses the device and the precision and drives the epochs. Its cost is per call of
``training_step``, about as much as a step of this small network itself; so one call gets a block of batches and runs
their optimiser steps in a plain loop (manual optimisation).
"""

from __future__ import annotations

import csv
import io
import logging
import math
import os
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn
from torch.nn import functional as F

from lora_mnist_cli.data.dataset import MNISTDataset, ShuffledBlocks, split_rows
from lora_mnist_cli.data.streams import seeded
from lora_mnist_cli.evaluation.logits import mean_scores, predict
from lora_mnist_cli.models.adapted_linear import MethodLinear
from lora_mnist_cli.models.architecture import TRAIN_SAMPLE
from lora_mnist_cli.models.lora import AdaptedLinear
from lora_mnist_cli.models.mlp import MNISTModel
from lora_mnist_cli.settings.config import TrainingConfig
from lora_mnist_cli.settings.runtime import Runtime
from lora_mnist_cli.system.errors import DivergedError, UsageError
from lora_mnist_cli.system.progress import Reporter, Silent
from lora_mnist_cli.training.mlp_step import MLPStep
from lora_mnist_cli.training.optimizers import cosine_share, is_factor_b, make_optimizer, make_plateau, ratio_b


@dataclass(frozen=True)
class EpochRecord:
    """The state after an epoch (0: before training): mean cross-entropy and accuracy on both splits, and the rate.

    Both splits are scored with the same weights, those at the epoch's end, in evaluation mode; of the training split,
    which is in random order, the first :data:`TRAIN_SAMPLE` images.
    """

    epoch: int
    train_loss: float
    train_accuracy: float
    val_loss: float | None
    val_accuracy: float | None
    lr: float


class MNISTDataModule(pl.LightningDataModule):
    """A data set split by its seed into training and validation, as loaders of blocks for :class:`Classifier`.

    Args:
        dataset: the images of the digits to learn.
        config: its ``val_split``, ``batch_size`` and ``seed`` are used.
    """

    def __init__(self, dataset: MNISTDataset, config: TrainingConfig) -> None:
        super().__init__()
        self.dtype = torch.float64 if config.precision == "64-true" else torch.float32
        train, val = split_rows(len(dataset), config.val_split, config.seed_of("split"))
        self.blocks = ShuffledBlocks(dataset, train, config.batch_size, config.seed_of("order"))
        self.train_sample = MNISTDataset(*dataset[train[:TRAIN_SAMPLE]])
        self.val = None if val is None else MNISTDataset(*dataset[val])

    def setup(self, stage: str | None = None) -> None:
        """Move the images to the trainer's device, once."""
        if self.trainer is not None:
            device = self.trainer.strategy.root_device
            self.blocks.dataset = self.blocks.dataset.to(device, self.dtype)
            self.train_sample = self.train_sample.to(device, self.dtype)
            self.val = self.val.to(device, self.dtype) if self.val else None

    def train_dataloader(self) -> ShuffledBlocks:
        """A new random order each epoch, in blocks of batches."""
        return self.blocks

    def val_dataloader(self) -> list[tuple[Tensor, Tensor]]:
        """The whole validation split as one batch; no batch at all without a split."""
        return [(self.val.images, self.val.labels)] if self.val else []


class Classifier(pl.LightningModule):
    """Trains whatever parameters of a model are not frozen, by cross-entropy over all ten logits.

    Args:
        model: images (n × 784) → logits (n × 10).
        config: the optimiser's settings.
        reporter: is told of steps and epochs.
        history: gets a record an epoch.
    """

    def __init__(
        self, model: nn.Module, config: TrainingConfig, reporter: Reporter, history: list[EpochRecord] | None = None
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model = model
        self.config = config
        self.reporter = reporter
        self.history: list[EpochRecord] = [] if history is None else history
        self._mlp_step: MLPStep | None = None

    def configure_optimizers(self) -> Any:
        """The optimiser that the config names, with PyTorch's fused kernel, and the study's schedule if it is named."""
        trainable = [parameter for parameter in self.parameters() if parameter.requires_grad]
        # Mixed precision is autograd's business.
        if _is_plain(self.model) and self.config.precision != "bf16-mixed":
            self._mlp_step = MLPStep(trainable)
            trainable = [self._mlp_step.parameter]
        factors_b = [p for name, p in self.named_parameters() if p.requires_grad and is_factor_b(name)]
        optimizer = make_optimizer(self.config, trainable, factors_b)
        if self.config.schedule == "plateau":
            schedule = make_plateau(optimizer)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "monitor": "val_loss"}}
        return optimizer

    def on_fit_start(self) -> None:
        """Score the untouched start, as epoch 0."""
        self.record(0)

    def training_step(self, rows: Tensor, index: int) -> None:
        """One optimiser step a batch of the block."""
        optimizer = self.optimizers(use_pl_optimizer=False)
        assert isinstance(optimizer, torch.optim.Optimizer)
        if self.config.schedule == "cosine":
            # A block of steps has one rate, that of its middle.
            total = self.config.epochs * self.trainer.num_training_batches
            done = self.current_epoch * self.trainer.num_training_batches + index
            share = cosine_share((done + 0.5) / total)
            # The second group, where there is one, are the factors B.
            for group, ratio in zip(optimizer.param_groups, (1.0, ratio_b(self.config)), strict=False):
                group["lr"] = ratio * self.config.rate * share
        steps = self._autograd_steps if self._mlp_step is None else self._mlp_step
        dataset = self.trainer.datamodule.blocks.dataset  # type: ignore[attr-defined]
        loss = steps(dataset, rows, self.config.batch_size, optimizer)
        self._refuse_unless_finite(loss)
        self.reporter.advance(math.ceil(len(rows) / self.config.batch_size), self.current_epoch + 1, loss)

    def _autograd_steps(
        self, dataset: MNISTDataset, rows: Tensor, batch_size: int, optimizer: torch.optim.Optimizer
    ) -> float:
        """One optimiser step a batch, in order; returns the last batch's mean cross-entropy before its step."""
        loss = torch.zeros(())
        images, labels = dataset[rows]
        for batch, target in zip(torch.split(images, batch_size), torch.split(labels, batch_size), strict=True):
            loss = F.cross_entropy(self.model(batch), target)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return loss.item()

    def on_train_epoch_end(self) -> None:
        """Score both splits, and let the schedule look at the result."""
        latest = self.record(self.current_epoch + 1)
        # The last step of an epoch can be the one that diverges; the loss before it does not show that.
        self._refuse_unless_finite(latest.train_loss)
        monitored = latest.train_loss if latest.val_loss is None else latest.val_loss
        schedule = self.lr_schedulers()
        if isinstance(schedule, torch.optim.lr_scheduler.ReduceLROnPlateau):
            schedule.step(monitored)
        self.reporter.epoch_done(latest.epoch, latest.val_loss, latest.val_accuracy)

    def _refuse_unless_finite(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise DivergedError(
                f"training diverged: the loss became {loss} in epoch {self.current_epoch + 1}",
                hint=f"a lower --lr than {self.config.lr:g} may help",
                value=self.config.lr,
            )

    def record(self, epoch: int) -> EpochRecord:
        """Score the present weights on both splits, and remember that."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        images, labels = data.train_sample.images, data.train_sample.labels
        with self.trainer.precision_plugin.forward_context():
            train_loss, train_accuracy = mean_scores(predict(self.model, images), labels)
            val_loss = val_accuracy = None
            if data.val is not None:
                val_loss, val_accuracy = mean_scores(predict(self.model, data.val.images), data.val.labels)
        lr = self.trainer.optimizers[0].param_groups[0]["lr"]
        latest = EpochRecord(epoch, train_loss, train_accuracy, val_loss, val_accuracy, lr)
        self.history.append(latest)
        return latest


def fit(
    model: nn.Module, dataset: MNISTDataset, config: TrainingConfig, *, runtime: Runtime | None = None,
    reporter: Reporter | None = None, title: str = "training", history: list[EpochRecord] | None = None,
) -> list[EpochRecord]:  # fmt: skip
    """Train the parameters of ``model`` that are not frozen, in place.

    Args:
        model: images (n × 784) → logits (n × 10), on the CPU; it is there again afterwards, in float32.
        dataset: the images of the digits to learn; it is split into training and validation here.
        history: gets the records as they come, for those who want them of a training that diverges.

    Returns:
        The history: the start as epoch 0, then one record an epoch.

    Raises:
        DivergedError: when the loss is not finite any more.
        UsageError: where the accelerator is not to be had.
        KeyboardInterrupt: on Ctrl-C.
    """
    runtime, reporter = runtime or Runtime(), reporter or Silent()
    data = MNISTDataModule(dataset, config)
    classifier = Classifier(model, config, reporter, history)
    with session(runtime, reporter, title, config.epochs, data.blocks.steps):
        try:
            with seeded(config.seed_of("dropout"), "dropout"):
                make_trainer(config, runtime).fit(classifier, datamodule=data)
        finally:
            model.to("cpu", torch.float32)
    return classifier.history


@contextmanager
def session(runtime: Runtime, reporter: Reporter, title: str, epochs: int, steps: int) -> Iterator[None]:
    """Training happens inside: on its threads, told to the reporter, and with the process's state as before afterwards.

    Raises:
        KeyboardInterrupt: on Ctrl-C.
    """
    deterministic, threads = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
    reporter.begin(title, epochs, steps)
    handler = signal.getsignal(signal.SIGINT)
    torch.set_num_threads(runtime.threads)
    try:
        yield
    except SystemExit as stop:
        # Lightning turns Ctrl-C into an exit with code 1; the caller is to hear what it was.
        if isinstance(stop.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)
        torch.use_deterministic_algorithms(deterministic)
        torch.set_num_threads(threads)
        reporter.end()


def history_csv(history: list[EpochRecord]) -> str:
    """The history as CSV, a row an epoch; what was not measured is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(field.name for field in fields(EpochRecord))
    writer.writerows(astuple(row) for row in history)
    return text.getvalue()


def make_trainer(config: TrainingConfig, runtime: Runtime) -> pl.Trainer:
    """Lightning's Trainer, for manual optimisation and without what this project does itself.

    Raises:
        UsageError: where the accelerator is not to be had.
    """
    _quiet_lightning()
    # cuBLAS needs this for results that repeat; it has to stand before the first call.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # Of the accelerators only CUDA is known to work, so only that is taken unasked.
    on_cpu = runtime.accelerator == "auto" and not torch.cuda.is_available()
    try:
        return pl.Trainer(
            max_epochs=config.epochs,
            accelerator="cpu" if on_cpu else runtime.accelerator,
            devices=1,
            precision=config.precision,  # type: ignore[arg-type]
            deterministic=True,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            limit_val_batches=0,
        )
    except MisconfigurationException as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"no accelerator '{runtime.accelerator}' here: {reason}", value=runtime.accelerator) from error


def _is_plain(model: nn.Module) -> bool:
    """Whether what is trained is weight and bias of each layer of the plain network, in its own place or beside it."""
    return isinstance(model, MNISTModel) and all(
        isinstance(layer, MethodLinear) and layer.trained_like_plain
        if isinstance(layer, AdaptedLinear)
        else all(parameter.requires_grad for parameter in layer.parameters())
        for layer in model.children()
    )


def _quiet_lightning() -> None:
    """Lightning's notices about devices and its advice on data loaders would drown what a user has to read."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"pytorch_lightning\..*")
    warnings.filterwarnings("ignore", module=r"lightning_fabric\..*")
