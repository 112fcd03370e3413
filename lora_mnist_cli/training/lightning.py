"""Lightning: its Trainer as the engine of a training, and its loggers. No other file imports it.

The Trainer chooses device and precision and drives the epochs. Optimisation is manual: Lightning costs as much per
call of ``training_step`` as a step of this small network, so each call gets a block of batches.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import warnings
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from pytorch_lightning.utilities.exceptions import MisconfigurationException  # type: ignore[attr-defined]

from lora_mnist_cli.settings.config import TrainingConfig
from lora_mnist_cli.settings.runtime import Runtime
from lora_mnist_cli.system.errors import UsageError
from lora_mnist_cli.training.engine import Blocks, Training

__all__ = ["Logger", "MLFlowLogger", "TensorBoardLogger", "WandbLogger", "make_trainer", "quiet", "run"]


class _Driver(pl.LightningModule):
    """Passes Lightning's hooks on to a training."""

    def __init__(self, work: Training) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.module = work.module  # registered here, so that Lightning moves it to the device and the precision
        self._work = work

    def configure_optimizers(self) -> Any:
        return list(self._work.prepare())

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
    """Train with Lightning's Trainer, and leave the process's settings as they were.

    Args:
        config: its ``epochs`` and ``precision`` are used.

    Raises:
        UsageError: where the accelerator is not available.
        KeyboardInterrupt: on Ctrl-C.
    """
    deterministic, handler = torch.are_deterministic_algorithms_enabled(), signal.getsignal(signal.SIGINT)
    try:
        make_trainer(config, runtime).fit(_Driver(work))
    except SystemExit as stop:
        # Lightning turns Ctrl-C into an exit with code 1; the caller has to see that it was Ctrl-C.
        if isinstance(stop.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)
        torch.use_deterministic_algorithms(deterministic)
        work.module.to("cpu", torch.float32)


def make_trainer(config: TrainingConfig, runtime: Runtime) -> pl.Trainer:
    """Return a Trainer for manual optimisation, with everything off that this project does itself, as :func:`run`."""
    quiet()
    # cuBLAS needs this for results that repeat, and reads it at its first call.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # CUDA is the one accelerator that was tried, so "auto" takes no other.
    on_cpu = runtime.accelerator == "auto" and not torch.cuda.is_available()
    try:
        return pl.Trainer(
            max_epochs=config.epochs, accelerator="cpu" if on_cpu else runtime.accelerator, devices=1,
            precision=config.precision, deterministic=True,  # type: ignore[arg-type]
            logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
            num_sanity_val_steps=0, limit_val_batches=0,
        )  # fmt: skip
    except MisconfigurationException as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"no accelerator '{runtime.accelerator}' here: {reason}", value=runtime.accelerator) from error


def quiet(*loggers: str) -> None:
    """Silence Lightning's notices about devices and its advice on data loaders.

    Args:
        loggers: other packages whose notices to silence; import them before, because they set their levels at import.
    """
    for name in ("pytorch_lightning", *loggers):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"pytorch_lightning\..*")
    warnings.filterwarnings("ignore", module=r"lightning_fabric\..*")
