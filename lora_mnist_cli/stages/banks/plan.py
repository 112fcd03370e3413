"""The plan of a sweep: its adapters, its banks, what is there already, and about how long the rest takes."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from functools import cached_property
from statistics import median
from typing import Any

from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.grid import Value
from lora_mnist_cli.settings.lists import counted
from lora_mnist_cli.stages.banks.cut import Bank, training_bytes
from lora_mnist_cli.stages.banks.work import AdapterJobs
from lora_mnist_cli.system.errors import ArtifactError

MAX_SAMPLES = 200
"""Adapters that an estimate looks at, the newest first: reading ten thousand manifests would itself take time."""


@dataclass(frozen=True)
class Estimate:
    """How long training and scoring take, by the seconds per optimiser step of adapters on the same base.

    Reading data and writing artifacts come on top; with many short trainings that shows.

    Args:
        seconds: at the median seconds per step.
        low: at the seconds per step of the fastest adapter.
        high: at those of the slowest.
        samples: how many adapters there are to judge by.
        alike: whether some come from banks of about the size that is planned. A member of a large bank costs a
            fraction of an adapter that is trained alone, so without them the figure is a rough one.
    """

    seconds: float
    low: float
    high: float
    samples: int
    alike: bool

    def __str__(self) -> str:
        by = f"{counted(self.samples, 'adapter')} on this base"
        spread = f"{_time(self.low)} to {_time(self.high)}, " if self.samples > 1 else ""
        if self.alike:
            return f"about {_time(self.seconds)} ({spread}by {by})"
        return f"very roughly {_time(self.seconds)} ({spread}by {by}, from banks of other sizes)"


def estimate(jobs: AdapterJobs) -> Estimate | None:
    """Estimate how long the banks of some jobs take; None where no adapter is there to judge by.

    Raises:
        DataError: where the data set is not available.
    """
    samples = _samples(jobs) if jobs.banks else []
    if not samples:
        return None
    size = median(len(bank) for bank in jobs.banks)
    near = [seconds for seconds, members in samples if size / 2 <= members <= 2 * size]
    costs = near or [seconds for seconds, _ in samples]
    configs = [member.config for bank in jobs.banks for member in bank]
    steps = sum(config.epochs * jobs.steps_per_epoch(config) for config in configs)
    return Estimate(steps * median(costs), steps * min(costs), steps * max(costs), len(samples), bool(near))


def _samples(jobs: AdapterJobs) -> list[tuple[float, int]]:
    """Return the seconds per step, and the members of its bank, of each adapter that was trained like the jobs."""
    registry = jobs.workspace.registry
    there = {artifact.digest: artifact for artifact in jobs.done.values()}
    entries, _ = registry.scan()
    others = [
        entry.name for entry in reversed(entries)
        if entry.kind == "adapter" and not entry.failed and entry.digest not in there
        and any(parent.digest == jobs.base.digest for parent in entry.parents)
    ]  # fmt: skip
    artifacts = [*there.values(), *(registry.readable(name) for name in others[:MAX_SAMPLES])]
    costs = [(artifact, cost) for artifact in artifacts if artifact and (cost := _seconds_per_step(jobs, artifact))]
    members = Counter(artifact.details.get("bank", artifact.digest) for artifact, _ in costs)
    return [(cost, members[artifact.details.get("bank", artifact.digest)]) for artifact, cost in costs]


def _seconds_per_step(jobs: AdapterJobs, artifact: Artifact) -> float | None:
    """Return an adapter's cost; None where it failed, or was trained in another precision or on other threads."""
    try:
        config = AdapterConfig.from_json(artifact.config)
    except ArtifactError:
        return None
    precision, threads = jobs.requests[0].config.precision, jobs.workspace.runtime.threads
    like = config.precision == precision and artifact.environment.get("threads") == threads
    steps = config.epochs * jobs.steps_per_epoch(config) if like and not artifact.details.get("failed") else 0
    return artifact.wall_seconds / steps if steps else None


def _time(seconds: float) -> str:
    """Return a time in the unit that one would say it in."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


@dataclass(frozen=True)
class Plan:
    """The work that a sweep is going to do.

    Args:
        name: the sweep's.
        axes: the values of its ranks and seeds, and of whatever else varies, by plural name.
        jobs: the adapters that are there, and those to train.
        up_to_date: whether the sweep itself is there, and all its adapters are.
    """

    name: str
    axes: dict[str, list[Value]]
    jobs: AdapterJobs
    up_to_date: bool = False

    @property
    def there(self) -> list[str]:
        """Names of the adapters that are there already."""
        return [request.name for request in self.jobs.requests if request.name in self.jobs.done]

    @property
    def missing(self) -> list[str]:
        """Names of those that are to be trained."""
        return [request.name for request in self.jobs.requests if request.name not in self.jobs.done]

    @property
    def banks(self) -> list[Bank]:
        """The banks to train. One that was published in part is trained as a whole, with what is there."""
        return self.jobs.banks

    def megabytes(self, bank: Bank) -> float:
        """Estimate how much memory a bank takes."""
        return sum(training_bytes(member.config, self.jobs.base) for member in bank) / 2**20

    @cached_property
    def estimate(self) -> Estimate | None:
        """How long training takes; None where there is nothing to train or to judge by."""
        return estimate(self.jobs)

    def time(self) -> str:
        """Return the estimate in words."""
        if not self.banks:
            return "nothing to train"
        return str(self.estimate) if self.estimate else "unknown until one is trained on this base"

    def __str__(self) -> str:
        there, adapters = len(self.there), len(self.jobs.requests)
        parts = [counted(adapters, "adapter")]
        parts += [f"{there:,} there already"] if there else []
        parts += [f"{adapters - there:,} to train in {counted(len(self.banks), 'bank')}"] if self.banks else []
        return f"plan for {self.name}: {', '.join(parts)}; time: {self.time()}"

    def to_json(self) -> dict[str, Any]:
        """Return the plan as JSON values."""
        return {
            "artifact": self.name, "up_to_date": self.up_to_date, "base": self.jobs.base.name,
            "digits": str(self.jobs.requests[0].config.digits), "grid": self.axes,
            "adapters": len(self.jobs.requests), "there": self.there, "missing": self.missing,
            "banks": [
                {"adapters": [member.name for member in bank], "megabytes": round(self.megabytes(bank), 1)}
                for bank in self.banks
            ],
            "estimate": asdict(self.estimate) if self.estimate else None,
        }  # fmt: skip
