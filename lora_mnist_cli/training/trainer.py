"""Training one model: a base, or an adapter of a method that a bank does not know.

:func:`fit` gives a :class:`ModelTraining` to an engine.
"""

from __future__ import annotations

import csv
import io
import math
from dataclasses import astuple, dataclass, fields

import torch
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
from lora_mnist_cli.system.errors import DivergedError
from lora_mnist_cli.system.progress import Reporter, Silent
from lora_mnist_cli.training.engines import session, train
from lora_mnist_cli.training.fused_optimizer import FusedOptimizer
from lora_mnist_cli.training.mlp_step import MLPStep
from lora_mnist_cli.training.optimizers import (
    PLATEAU_FACTOR,
    Plateau,
    cosine_share,
    parameter_groups,
    ratio_b,
    trained_factors_b,
)


@dataclass(frozen=True)
class EpochRecord:
    """The state after an epoch (0: before training): mean cross-entropy and accuracy on both splits, and the rate.

    Both splits are scored with the weights at the epoch's end, in evaluation mode. Of the training split, which is in
    random order, the first :data:`TRAIN_SAMPLE` images are scored.
    """

    epoch: int
    train_loss: float
    train_accuracy: float
    val_loss: float | None
    val_accuracy: float | None
    lr: float


def history_csv(history: list[EpochRecord]) -> str:
    """Return the history as CSV, one row per epoch; a figure that was not measured is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(field.name for field in fields(EpochRecord))
    writer.writerows(astuple(row) for row in history)
    return text.getvalue()


class SplitData:
    """A data set, split by the config's seed into training and validation.

    Attributes:
        blocks: the training split, in a new random order per epoch.
        train_sample: the images of the training split that are scored.
        val: the validation split; None without one.
    """

    def __init__(self, dataset: MNISTDataset, config: TrainingConfig) -> None:
        train, val = split_rows(len(dataset), config.val_split, config.seed_of("split"))
        self.blocks = ShuffledBlocks(dataset, train, config.batch_size, config.seed_of("order"))
        self.train_sample = MNISTDataset(*dataset[train[:TRAIN_SAMPLE]])
        self.val = None if val is None else MNISTDataset(*dataset[val])

    def move(self, like: Tensor) -> None:
        """Move the images to the device and dtype of a tensor."""
        self.blocks.dataset = self.blocks.dataset.to(like.device, like.dtype)
        self.train_sample = self.train_sample.to(like.device, like.dtype)
        self.val = self.val.to(like.device, like.dtype) if self.val else None


class ModelTraining:
    """Trains the parameters of a model that are not frozen, by cross-entropy over all ten logits.

    It is a :class:`~lora_mnist_cli.training.engines.Training`, which says who calls what; its arguments are those of
    :func:`fit`.
    """

    fused = False

    def __init__(
        self, module: nn.Module, dataset: MNISTDataset, config: TrainingConfig, reporter: Reporter,
        history: list[EpochRecord] | None = None,
    ) -> None:  # fmt: skip
        self.module, self.config, self.reporter = module, config, reporter
        self.data = SplitData(dataset, config)
        self.history = [] if history is None else history
        self.mlp_step: MLPStep | None = None
        """The step with the gradient written out; None where autograd finds the gradient."""
        self._blocks_done = 0

    def prepare(self) -> None:
        """Make the optimiser and the schedule that the config names."""
        self.data.move(next(self.module.parameters()))
        trainable = [parameter for parameter in self.module.parameters() if parameter.requires_grad]
        # Mixed precision needs autograd.
        if _is_plain(self.module) and self.config.precision != "bf16-mixed":
            self.mlp_step = MLPStep(trainable)
            trainable = [self.mlp_step.parameter]
        groups = parameter_groups(self.config, trainable, trained_factors_b(self.module))
        self._optimizer = FusedOptimizer(self.config.optimizer, groups)
        self._plateau = Plateau(self.config.rate) if self.config.schedule == "plateau" else None

    def blocks(self) -> ShuffledBlocks:
        """Return the training split, in blocks of batches."""
        return self.data.blocks

    def train_block(self, rows: Tensor, epoch: int) -> None:
        """Take one optimiser step per batch of the block."""
        if self.config.schedule == "cosine":
            # A block of steps has one rate, the rate of its middle.
            share = cosine_share((self._blocks_done + 0.5) / (self.config.epochs * len(self.data.blocks)))
            # The second group, where there is one, holds the factors B.
            for group, ratio in zip(self._optimizer.param_groups, (1.0, ratio_b(self.config)), strict=False):
                group["lr"] = ratio * self.config.rate * share
        self._blocks_done += 1
        steps = self._autograd_steps if self.mlp_step is None else self.mlp_step
        loss = steps(self.data.blocks.dataset, rows, self.config.batch_size, self._optimizer)
        self._refuse_unless_finite(loss, epoch)
        self.reporter.advance(math.ceil(len(rows) / self.config.batch_size), epoch, loss)

    def score(self, epoch: int) -> None:
        """Score both splits, and add that to the history; after an epoch, let the schedule see the result."""
        sample, val = self.data.train_sample, self.data.val
        train_loss, train_accuracy = mean_scores(predict(self.module, sample.images), sample.labels)
        val_loss, val_accuracy = mean_scores(predict(self.module, val.images), val.labels) if val else (None, None)
        lr = self._optimizer.param_groups[0]["lr"]
        latest = EpochRecord(epoch, train_loss, train_accuracy, val_loss, val_accuracy, lr)
        self.history.append(latest)
        if epoch == 0:
            return
        # The last step of an epoch can be the one that diverges; the loss before it does not show that.
        self._refuse_unless_finite(latest.train_loss, epoch)
        watched = latest.train_loss if latest.val_loss is None else latest.val_loss
        if self._plateau is not None and self._plateau.watch(watched):
            for group in self._optimizer.param_groups:
                group["lr"] *= PLATEAU_FACTOR
        self.reporter.epoch_done(epoch, latest.val_loss, latest.val_accuracy)

    def _autograd_steps(self, dataset: MNISTDataset, rows: Tensor, batch_size: int, optimizer: FusedOptimizer) -> float:
        """Take one optimiser step per batch, in order; return the last batch's mean cross-entropy before its step."""
        loss = torch.zeros(())
        images, labels = dataset[rows]
        for batch, target in zip(torch.split(images, batch_size), torch.split(labels, batch_size), strict=True):
            self.module.zero_grad()
            loss = F.cross_entropy(self.module(batch), target)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer()
        return loss.item()

    def _refuse_unless_finite(self, loss: float, epoch: int) -> None:
        if not math.isfinite(loss):
            hint = f"a lower --lr than {self.config.lr:g} may help"
            problem = f"training diverged: the loss became {loss} in epoch {epoch}"
            raise DivergedError(problem, hint=hint, value=self.config.lr)


def fit(
    model: nn.Module, dataset: MNISTDataset, config: TrainingConfig, *, runtime: Runtime | None = None,
    reporter: Reporter | None = None, title: str = "training", history: list[EpochRecord] | None = None,
) -> list[EpochRecord]:  # fmt: skip
    """Train the parameters of ``model`` that are not frozen, in place.

    Args:
        model: images (n × 784) → logits (n × 10), on the CPU; it is on the CPU again afterwards, in float32.
        dataset: the images of the digits to learn; it is split into training and validation here.
        history: gets the records as they come, which tells how far a training came that diverges.

    Returns:
        The history: the start as epoch 0, then one record per epoch.

    Raises:
        DivergedError: when the loss is not finite any more.
        UsageError: where the accelerator is not available.
        KeyboardInterrupt: on Ctrl-C.
    """
    runtime, reporter = runtime or Runtime(), reporter or Silent()
    training = ModelTraining(model, dataset, config, reporter, history)
    with (
        session(runtime, reporter, title, config.epochs, training.data.blocks.steps),
        seeded(config.seed_of("dropout"), "dropout"),
    ):
        train(training, config, runtime)
    return training.history


def _is_plain(model: nn.Module) -> bool:
    """Return whether all of the plain network is trained, and nothing else: weight and bias of each layer."""
    return isinstance(model, MNISTModel) and all(
        isinstance(layer, MethodLinear) and layer.trained_like_plain
        if isinstance(layer, AdaptedLinear)
        else all(parameter.requires_grad for parameter in layer.parameters())
        for layer in model.children()
    )
