"""Engines: what drives a training.

A :class:`Training` holds the weights, the data and the arithmetic of a step. An engine chooses device and precision and
counts the epochs. Each is a row of :data:`~lora_mnist_cli.settings.choices.ENGINES` and a module here of that name.
The plain engine and Lightning give the same bytes, and the fused one the same numbers to rounding.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import nn

from lora_mnist_cli.settings.choices import implementation
from lora_mnist_cli.settings.config import TrainingConfig
from lora_mnist_cli.settings.runtime import Runtime
from lora_mnist_cli.system.arithmetic import computing
from lora_mnist_cli.system.errors import UsageError
from lora_mnist_cli.system.progress import Reporter


class Blocks(Protocol):
    """One epoch of work in blocks of batches: a call of an engine may cost as much as a step, so it gets a block."""

    def __len__(self) -> int:
        """Return the number of blocks in an epoch."""

    def __iter__(self) -> Iterator[Any]:
        """Yield the blocks of one epoch in a new random order."""


class Training(Protocol):
    """Weights to train, and the methods that an engine calls to train them.

    The contract: an engine moves :attr:`module` to its device and precision, and then calls :meth:`prepare` once and
    :meth:`score` with epoch 0. In each epoch, from 1 on, it calls :meth:`train_block` for each of :meth:`blocks`, and
    then :meth:`score`. All calls come from one thread, with gradients, with PyTorch's deterministic algorithms, and in
    autocast where the precision is mixed. An exception of a method ends the training and reaches the caller. At the end
    the engine moves the module back to the CPU, as float32, and leaves the process's settings as they were.
    """

    module: nn.Module
    fused: bool
    """Whether kernels do its steps: then the fused engine drives it, and otherwise another."""

    def prepare(self) -> None:
        """Make the optimisers, now that the weights are where they are trained."""

    def blocks(self) -> Blocks:
        """Return the blocks of an epoch; the same object serves all epochs."""

    def train_block(self, block: Any, epoch: int) -> None:
        """Take one optimiser step per batch of a block.

        Raises:
            DivergedError: when the loss is not finite.
        """

    def score(self, epoch: int) -> None:
        """Score the weights at the end of an epoch, or before training as epoch 0, and let schedules see the result.

        Raises:
            DivergedError: when the loss is not finite.
        """


def train(work: Training, config: TrainingConfig, runtime: Runtime) -> None:
    """Train by the engine that the runtime names.

    Args:
        config: its ``epochs`` and ``precision`` are used.

    Raises:
        UsageError: where the accelerator is not available.
        KeyboardInterrupt: on Ctrl-C.
    """
    with _deterministic(), torch.enable_grad():
        implementation(__name__, runtime.engine_taken)(work, config, runtime)


def training_device(runtime: Runtime) -> torch.device:
    """Return the device to train on; ``auto`` takes CUDA alone, because no other accelerator was tried.

    Raises:
        UsageError: where the accelerator is not available.
    """
    there = torch.cuda.is_available()
    if runtime.accelerator == "gpu" and not there:
        raise UsageError("no accelerator 'gpu' here: PyTorch finds no CUDA device", value=runtime.accelerator)
    return torch.device("cuda", 0) if there and runtime.accelerator != "cpu" else torch.device("cpu")


@contextmanager
def _deterministic() -> Iterator[None]:
    # cuBLAS needs this for results that repeat, and reads it at its first call.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # ``torch.use_deterministic_algorithms`` would import PyTorch's compiler to tell it too.
    before = torch.get_deterministic_debug_mode()
    torch.set_deterministic_debug_mode("error")
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(before)


@contextmanager
def session(runtime: Runtime, reporter: Reporter, title: str, epochs: int, steps: int) -> Iterator[None]:
    """Compute as a training does (:func:`.computing`) inside the block, and report its begin and its end.

    Args:
        steps: optimiser steps per epoch.
    """
    implementation(__name__, runtime.engine_taken)  # loaded before the begin: it is no part of the training's time
    reporter.begin(title, epochs, steps)
    try:
        with computing(runtime.threads):
            yield
    finally:
        reporter.end()
