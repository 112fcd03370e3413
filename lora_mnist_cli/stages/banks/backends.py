"""Choosing the backend that trains the banks, and its number of processes. No torch here."""

from __future__ import annotations

import dataclasses
import importlib.util
import shutil

from lora_mnist_cli.settings.lists import counted
from lora_mnist_cli.settings.runtime import Runtime
from lora_mnist_cli.stages.banks.backend import Backend
from lora_mnist_cli.stages.banks.process_backend import ProcessBackend
from lora_mnist_cli.stages.banks.ray_backend import RayBackend
from lora_mnist_cli.system import machine
from lora_mnist_cli.system.errors import UsageError


def check_backend(runtime: Runtime) -> None:
    """Refuse a backend that is not installed.

    Raises:
        UsageError: then; it says what to install.
    """
    if runtime.backend == "ray" and importlib.util.find_spec("ray") is None:
        raise UsageError("Ray is not installed", hint="pip install 'lora-mnist[ray]'", value="ray")


def make_backend(runtime: Runtime, banks: int) -> Backend:
    """Return the backend that the runtime names, for a number of banks; ``local`` has none."""
    return RayBackend(runtime) if runtime.backend == "ray" else ProcessBackend(workers(runtime, banks))


def workers(runtime: Runtime, banks: int) -> int:
    """Return how many processes train a number of banks.

    By default as many as leave each thread a core. How much they gain depends on other load: docs/performance.md.
    """
    if runtime.workers is not None:
        return min(banks, runtime.workers)
    # Importing torch to ask it takes longer than looking for the tool that comes with the driver.
    if runtime.accelerator != "cpu" and shutil.which("nvidia-smi"):
        import torch

        if torch.cuda.is_available():
            return 1  # a device is one queue, however many processes wait for it
    return max(1, min(banks, machine.cores() // runtime.threads))


def in_one_process(runtime: Runtime) -> Runtime:
    """Return the runtime for one process that trains a bank."""
    return dataclasses.replace(runtime, backend="local", workers=None, address=None)


def about_backend(runtime: Runtime, banks: int) -> str:
    """Say in words where a number of banks are trained."""
    threads = f"{counted(runtime.threads, 'thread')} each"
    if runtime.backend == "ray":
        return f"tasks of a Ray cluster, {threads}"
    processes = 1 if runtime.backend == "local" else workers(runtime, banks)
    return f"{counted(processes, 'process', 'processes')}, {threads}, on a machine of {machine.cores()} cores"
