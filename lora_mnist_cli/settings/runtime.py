"""Where and how training runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lora_mnist_cli.settings.checks import SelfChecking, one_of, setting, whole
from lora_mnist_cli.settings.choices import ACCELERATORS, BACKENDS, ENGINES, LOGGERS


@dataclass(frozen=True, kw_only=True)
class Runtime(SelfChecking):
    """Where and how training runs. It changes no more than the last places of a result, and so is no setting.

    One thread is the default by measurement: on an idle machine of two cores a second one saves a fifth of the time,
    and beside another busy process it costs ten times as much, because each step ends in threads that wait for each
    other. It also makes results the same on machines with other numbers of cores.

    Banks are cut by memory, which changes results by rounding alone; they have the same bytes on every backend.
    """

    accelerator: str = setting("auto", "Device of the training.", one_of(ACCELERATORS))
    engine: str = setting("auto", "What drives the training; auto is plain.", one_of(("auto", *ENGINES)))
    logger: str = setting("csv", "Where metrics are written.", one_of(LOGGERS))
    threads: int = setting(1, "CPU threads of the training.", whole(1, 1024))
    bank_megabytes: int = setting(
        512, "Memory of adapters that are trained together, beside the images: larger grids become several banks.",
        whole(1, 2**20), words="bank memory in MB",
    )  # fmt: skip
    backend: str = setting("local", "Where the banks of a sweep are trained.", one_of(BACKENDS))
    workers: int | None = setting(
        None, "Processes of the backend ``processes``; by default as many as leave each thread a core.", whole(1, 1024)
    )
    address: str | None = setting(None, "Address of the Ray cluster.", lambda _name, _value: ())

    @property
    def engine_taken(self) -> str:
        """The engine that ``auto`` stands for, or the one that is named."""
        return "plain" if self.engine == "auto" else self.engine

    def _conflicts(self) -> Iterator[str]:
        if self.engine == "fused" and self.accelerator == "cpu":
            yield "the engine fused needs a GPU, which the accelerator cpu rules out"
        if self.workers is not None and self.backend != "processes":
            yield f"workers are those of --backend processes, not of {self.backend}"
        if self.address is not None and self.backend != "ray":
            yield f"an address is that of --backend ray, not of {self.backend}"
