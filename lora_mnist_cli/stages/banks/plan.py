"""What a sweep is going to do, told before it does it: adapters, banks, what is there already, and about how long."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import Any

from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.grid import Value
from lora_mnist_cli.stages.banks.work import AdapterJobs, AdapterRequest, memory
from lora_mnist_cli.system.errors import ArtifactError

MAX_SAMPLES = 200
"""Adapters whose time an estimate looks at, the newest first: to read ten thousand manifests would itself take time."""


@dataclass(frozen=True)
class Estimate:
    """How long training and scoring take, by what they took for adapters of the same base on this machine.

    To read the data and to put artifacts on the disk comes on top, which shows where trainings are many and short.

    Args:
        seconds: by their median seconds an optimiser step.
        low: by the fastest of them.
        high: by the slowest.
        samples: how many they are.
        alike: whether they come from banks of about the sizes that are planned. A member of a large bank costs a
            fraction of an adapter that is trained alone, so otherwise the figure is a rough one.
    """

    seconds: float
    low: float
    high: float
    samples: int
    alike: bool

    def __str__(self) -> str:
        by = f"{self.samples} adapter{'' if self.samples == 1 else 's'} on this base"
        spread = f"{_time(self.low)} to {_time(self.high)}, " if self.samples > 1 else ""
        if self.alike:
            return f"about {_time(self.seconds)} ({spread}by {by})"
        return f"very roughly {_time(self.seconds)} ({spread}by {by}, from banks of other sizes)"

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {**vars(self)}


@dataclass(frozen=True)
class Plan:
    """What a sweep is going to do.

    Args:
        name: the sweep's.
        axes: the values of its ranks and seeds, and of whatever else varies, by plural name.
        work: what is there, and what is to be trained.
        up_to_date: whether the sweep itself is there, and all its adapters are.
    """

    name: str
    axes: dict[str, list[Value]]
    work: AdapterJobs
    up_to_date: bool = False

    @property
    def there(self) -> list[str]:
        """Names of the adapters that are there already."""
        return [each.name for each in self.work.wanted if each.name in self.work.done]

    @property
    def missing(self) -> list[str]:
        """Names of those that are to be trained."""
        return [each.name for each in self.work.wanted if each.name not in self.work.done]

    @property
    def banks(self) -> list[list[AdapterRequest]]:
        """In which they are trained. A bank that was published in part is put together again, with what is there."""
        return self.work.banks

    def megabytes(self, bank: list[AdapterRequest]) -> float:
        """About how much memory a bank takes."""
        return sum(memory(each.config, self.work.base) for each in bank) / 2**20

    @cached_property
    def estimate(self) -> Estimate | None:
        """How long training is going to take; None where nothing tells.

        Raises:
            DataError: where the data set can't be had.
        """
        if not self.banks:
            return None
        samples = _samples(self.work)
        if not samples:
            return None
        seconds = low = high = 0.0
        alike = True
        for bank in self.banks:
            steps = sum(each.config.epochs * self.work.steps_an_epoch(each.config) for each in bank)
            near = [cost for cost, together in samples if len(bank) / 2 <= together <= 2 * len(bank)]
            costs = near or [cost for cost, _ in samples]
            alike = alike and bool(near)
            seconds, low, high = (
                total + steps * cost
                for total, cost in zip((seconds, low, high), (median(costs), min(costs), max(costs)), strict=True)
            )
        return Estimate(seconds, low, high, len(samples), alike)

    def time(self) -> str:
        """The estimate in words."""
        if not self.banks:
            return "nothing to train"
        return str(self.estimate) if self.estimate else "unknown until one is trained on this base"

    def __str__(self) -> str:
        there, count, banks = len(self.there), len(self.work.wanted), len(self.banks)
        parts = [f"{count:,} adapter{'' if count == 1 else 's'}"]
        parts += [f"{there:,} there already"] if there else []
        parts += [f"{count - there:,} to train in {banks} bank{'' if banks == 1 else 's'}"] if banks else []
        return f"plan for {self.name}: {', '.join(parts)}; time: {self.time()}"

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {
            "artifact": self.name,
            "up_to_date": self.up_to_date,
            "base": self.work.base.name,
            "digits": str(self.work.wanted[0].config.digits),
            "grid": self.axes,
            "adapters": len(self.work.wanted),
            "there": self.there,
            "missing": self.missing,
            "banks": [
                {"adapters": [each.name for each in bank], "megabytes": round(self.megabytes(bank), 1)}
                for bank in self.banks
            ],
            "estimate": self.estimate.to_json() if self.estimate else None,
        }


def _samples(work: AdapterJobs) -> list[tuple[float, int]]:
    """Seconds an optimiser step, and the size of its bank, of each adapter that was trained in like circumstances."""
    config, registry = work.wanted[0].config, work.workspace.registry
    found = {artifact.digest: artifact for artifact in work.done.values()}
    entries, _ = registry.scan()
    others = [
        entry.name for entry in reversed(entries)
        if entry.kind == "adapter" and not entry.failed and entry.digest not in found
        and any(parent.digest == work.base.digest for parent in entry.parents)
    ]  # fmt: skip
    chosen = [*found.values(), *(registry.readable(name) for name in others[:MAX_SAMPLES])]
    costs = [(artifact, cost) for artifact in chosen if artifact and (cost := _cost(work, artifact, config))]
    together = Counter(artifact.details.get("bank", artifact.digest) for artifact, _ in costs)
    return [(cost, together[artifact.details.get("bank", artifact.digest)]) for artifact, cost in costs]


def _cost(work: AdapterJobs, artifact: Artifact, like: AdapterConfig) -> float | None:
    """Seconds an optimiser step; None where it was trained in another precision or on other threads, or failed."""
    threads = work.workspace.runtime.threads
    try:
        config = AdapterConfig.from_json(artifact.config)
    except ArtifactError:
        return None
    if config.precision != like.precision or artifact.environment.get("threads") != threads or not config.epochs:
        return None
    if artifact.details.get("failed"):
        return None
    steps = config.epochs * work.steps_an_epoch(config)
    return artifact.wall_seconds / steps if steps else None


def _time(seconds: float) -> str:
    """A time as one would say it."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
