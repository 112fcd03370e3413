"""Where and how training runs."""

from __future__ import annotations

from dataclasses import dataclass

from lora_mnist_cli.settings.checks import Problems
from lora_mnist_cli.settings.choices import ACCELERATORS, BACKENDS, LOGGERS
from lora_mnist_cli.system.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """Where and how training runs: none of it changes more than the last places of a result, so it is no setting.

    One thread is the default by measurement: on an idle machine of two cores a second one saves a fifth of the time,
    and beside another busy process it costs ten times as much, because each step ends in threads that wait for each
    other. It also makes results the same on machines with other numbers of cores.
    """

    accelerator: str = "auto"
    logger: str = "csv"
    threads: int = 1
    bank_megabytes: int = 512
    """Memory that adapters trained together may take beside the images: larger grids are cut into several banks. How
    they are cut changes results by rounding alone."""
    backend: str = "local"
    """Where the banks of a sweep are trained; they have the same bytes everywhere."""
    workers: int | None = None
    """Processes of the backend ``processes``; by default as many as leave each thread a core."""
    address: str | None = None
    """Of the Ray cluster."""

    def __post_init__(self) -> None:
        problems = Problems()
        problems.choice("accelerator", self.accelerator, ACCELERATORS)
        problems.choice("logger", self.logger, LOGGERS)
        problems.whole("threads", self.threads, 1, 1024)
        problems.whole("bank memory in MB", self.bank_megabytes, 1, 2**20)
        problems.choice("backend", self.backend, BACKENDS)
        if self.workers is not None:
            problems.whole("workers", self.workers, 1, 1024)
            if self.backend != "processes":
                problems.append(f"workers are those of --backend processes, not of {self.backend}")
        if self.address is not None and self.backend != "ray":
            problems.append(f"an address is that of --backend ray, not of {self.backend}")
        if problems:
            raise ConfigError(problems, value=self)
