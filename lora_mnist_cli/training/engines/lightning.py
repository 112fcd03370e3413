"""Lightning: its Trainer as an engine, and modules for a Trainer of one's own. No other file imports it."""

from __future__ import annotations

import logging
import math
import signal
import threading
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset

from lora_mnist_cli.data.dataset import MNISTDataset, split_rows
from lora_mnist_cli.data.streams import generator, seeded
from lora_mnist_cli.models.architecture import SCORED_AT_ONCE
from lora_mnist_cli.models.mlp import MNISTModel
from lora_mnist_cli.settings.config import BaseConfig, TrainingConfig
from lora_mnist_cli.settings.digits import ALL_DIGITS, DigitSet
from lora_mnist_cli.settings.runtime import Runtime
from lora_mnist_cli.system.caller import without_backend
from lora_mnist_cli.system.errors import UsageError
from lora_mnist_cli.training.engines import Blocks, Training, training_device
from lora_mnist_cli.training.fused_optimizer import CLASSES
from lora_mnist_cli.training.optimizers import (
    PLATEAU_FACTOR,
    PLATEAU_PATIENCE,
    cosine_share,
    parameter_groups,
    trained_factors_b,
)

with without_backend():  # Lightning's metrics import matplotlib
    import pytorch_lightning as pl
    from pytorch_lightning.plugins.environments import LightningEnvironment  # type: ignore[attr-defined]


class _Driver(pl.LightningModule):
    """Passes Lightning's hooks on to a training.

    Optimisation is manual: Lightning costs as much per call of ``training_step`` as a step of this small network, so
    each call gets a block of batches.
    """

    def __init__(self, work: Training) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.module = work.module  # registered here, so that Lightning moves it to the device and the precision
        self._work = work

    def configure_optimizers(self) -> None:
        self._work.prepare()

    def train_dataloader(self) -> Blocks:
        return self._work.blocks()

    def on_fit_start(self) -> None:
        self._score(0)

    def training_step(self, block: Any, index: int) -> None:
        self._work.train_block(block, self.current_epoch + 1)

    def on_train_epoch_end(self) -> None:
        self._score(self.current_epoch + 1)

    def _score(self, epoch: int) -> None:
        # Lightning enters the precision's context for training_step alone.
        with self.trainer.precision_plugin.forward_context():
            self._work.score(epoch)


def run(work: Training, config: TrainingConfig, runtime: Runtime) -> None:
    """Train; see :func:`lora_mnist_cli.training.engines.train`."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        _make_trainer(config, runtime).fit(_Driver(work))
    except SystemExit as stop:
        # Lightning turns Ctrl-C into an exit with code 1; the caller has to see that it was Ctrl-C.
        if isinstance(stop.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)
        work.module.to("cpu", torch.float32)


IMPLEMENTATION = run


def _make_trainer(config: TrainingConfig, runtime: Runtime) -> pl.Trainer:
    """Return a Trainer for manual optimisation, with everything off that this project does itself."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"pytorch_lightning\..*")
    warnings.filterwarnings("ignore", module=r"lightning_fabric\..*")
    return pl.Trainer(
        max_epochs=config.epochs, accelerator="gpu" if training_device(runtime).type == "cuda" else "cpu", devices=1,
        precision=config.precision, deterministic=True,  # type: ignore[arg-type]
        logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        num_sanity_val_steps=0, limit_val_batches=0,
        plugins=[LightningEnvironment()],  # a scheduler's variables, as in a job of several tasks, concern others
    )  # fmt: skip


class MNISTDataModule(pl.LightningDataModule):
    """Training, validation and test images of a config's digits, for a Trainer of one's own.

    Images are n × 784, float32 and normalised; the split and its seed are the config's, and so the stages' own.

    Args:
        config: of a base; or of an adapter, with its digits.
        dataset: name of the data set; by default the config's, or MNIST.
        data_dir: folder of the data sets; MNIST needs none.

    Raises:
        DataError: in :meth:`setup`, where the files are not available or damaged.
    """

    def __init__(
        self, config: TrainingConfig | None = None, *, dataset: str | None = None, data_dir: Path = Path("data")
    ) -> None:
        super().__init__()
        self.config = config or BaseConfig()
        self.dataset: str = dataset or getattr(self.config, "dataset", None) or "mnist"
        self.data_dir = data_dir

    def setup(self, stage: str | None = None) -> None:
        """Load and split the images."""
        digits: DigitSet = self.config.digits or ALL_DIGITS  # type: ignore[attr-defined]
        whole = MNISTDataset.load("train", digits, dataset=self.dataset, data_dir=self.data_dir)
        train, val = split_rows(len(whole), self.config.val_split, self.config.seed_of("split"))
        self.train, self.val = Subset(whole, train.tolist()), None if val is None else Subset(whole, val.tolist())
        self.test = MNISTDataset.load("test", digits, dataset=self.dataset, data_dir=self.data_dir)

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the training split, in a new random order per epoch."""
        draw = generator(self.config.seed_of("order"), "order")
        return DataLoader(self.train, self.config.batch_size, shuffle=True, generator=draw)

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Return the validation split; nothing without one."""
        return [] if self.val is None else DataLoader(self.val, SCORED_AT_ONCE)

    def test_dataloader(self) -> DataLoader[Any]:
        """Return the test images of the digits."""
        return DataLoader(self.test, SCORED_AT_ONCE)


class MNISTLightningModule(pl.LightningModule):
    """Cross-entropy over all ten logits, for a Trainer of one's own, with the optimiser and schedule of a config.

    It logs ``train_loss``, ``val_loss``, ``val_accuracy``, ``test_loss`` and ``test_accuracy``.

    Args:
        config: how to train.
        model: images (n × 784) → logits (n × 10), frozen where it is not to be trained, for example a base with
            adapters attached; by default the network of a base, as the config's seed initialises it.
    """

    def __init__(self, config: TrainingConfig | None = None, model: nn.Module | None = None) -> None:
        super().__init__()
        self.config = config or BaseConfig()
        if model is None:
            with seeded(self.config.seed_of("init"), "init"):
                model = MNISTModel(getattr(self.config, "hidden_sizes", (64, 64)))
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (n × 10) of images (n × 784)."""
        logits: Tensor = self.model(images)
        return logits

    def configure_optimizers(self) -> Any:
        """Return PyTorch's optimiser over what is not frozen, and the schedule."""
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        groups = parameter_groups(self.config, trained, trained_factors_b(self.model))
        optimizer = CLASSES[self.config.optimizer](groups)
        if self.config.schedule == "plateau":
            plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
                optimizer, factor=PLATEAU_FACTOR, patience=PLATEAU_PATIENCE
            )  # fmt: skip
            watched = "val_loss" if self.config.val_split else "train_loss"
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": watched}}
        if self.config.schedule == "cosine":
            steps = self.trainer.estimated_stepping_batches
            if math.isinf(steps):
                problem = "a cosine schedule needs to know the end: a Trainer with max_epochs or max_steps"
                raise UsageError(problem, value=self.trainer.max_epochs)
            cosine = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: cosine_share(min(step / steps, 1.0)))
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cosine, "interval": "step"}}
        return optimizer

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        """Return the mean cross-entropy of a batch."""
        return self._step("train", batch)

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        """Log the scores of a batch of validation images."""
        self._step("val", batch)

    def test_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        """Log the scores of a batch of test images."""
        self._step("test", batch)

    def _step(self, name: str, batch: tuple[Tensor, Tensor]) -> Tensor:
        images, labels = batch
        logits = self(images)
        loss = F.cross_entropy(logits, labels)
        self.log(f"{name}_loss", loss)
        if name != "train":
            self.log(f"{name}_accuracy", (logits.argmax(1) == labels).float().mean())
        return loss
