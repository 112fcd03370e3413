"""About how long the banks of a sweep take: by adapters that were trained like them, or by their own first steps."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.lists import counted
from lora_mnist_cli.stages.banks.backends import workers
from lora_mnist_cli.stages.banks.work import AdapterJobs
from lora_mnist_cli.system.errors import ArtifactError
from lora_mnist_cli.system.progress import Silent
from lora_mnist_cli.system.work import TRAINING, duration

MAX_SAMPLES = 200
"""Adapters that an estimate looks at, the newest first: reading ten thousand manifests would itself take time."""
ENOUGH = 1.0
"""Seconds of steps that a measurement takes."""


@dataclass(frozen=True)
class Estimate:
    """How long training and scoring take.

    Args:
        seconds: at the median seconds per optimiser step of the adapters that there are to judge by.
        low: at the seconds per step of the fastest of them.
        high: at those of the slowest.
        samples: how many there are: on the same base, of about as many epochs and in a bank of about the same size,
            since a short training has much work beside its steps, and a member of a large bank costs a fraction of an
            adapter that is trained alone. 0 where the first steps were measured instead.
        alike: whether what was measured is like what is planned; there is no estimate by anything else.
    """

    seconds: float
    low: float
    high: float
    samples: int
    alike: bool = True

    def __str__(self) -> str:
        if not self.samples:
            return f"about {duration(self.seconds)} (by {ENOUGH:g} s of its first steps)"
        spread = f"{duration(self.low)} to {duration(self.high)}, " if self.samples > 1 else ""
        return f"about {duration(self.seconds)} ({spread}by {counted(self.samples, 'adapter')} on this base)"


def estimate(jobs: AdapterJobs, *, measure: bool) -> Estimate | None:
    """Estimate how long the banks of some jobs take; None where there is nothing to train or to judge by.

    Args:
        measure: take the first steps of the first bank where there are no adapters to judge by.

    Raises:
        DataError: where the data set is not available.
    """
    if not jobs.banks:
        return None
    size = median(len(bank) for bank in jobs.banks)
    runtime = jobs.workspace.runtime
    at_once = workers(runtime, len(jobs.banks)) if runtime.backend == "processes" else 1
    if costs := [seconds for seconds, members in _samples(jobs) if near(members, size)]:
        configs = [member.config for bank in jobs.banks for member in bank]
        steps = sum(config.epochs * jobs.steps_per_epoch(config) for config in configs) / at_once
        return Estimate(steps * median(costs), steps * min(costs), steps * max(costs), len(costs))
    if not measure:
        return None
    seconds = measured_seconds(jobs) / at_once
    return Estimate(seconds, seconds, seconds, 0)


def near(size: float, other: float) -> bool:
    """Return whether two sizes are within a factor of two."""
    return size / 2 <= other <= 2 * size


class _EnoughError(Exception):
    pass


class StopWatch(Silent):
    """Measures the share of a training that is done in a second, and then stops it by an exception.

    The first call comes when the first step is done, which is slower than the others, so the clock begins there.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._start: float | None = None
        self._whole = self._steps = 0
        self.seconds = 0.0

    def begin(self, title: str, epochs: int, steps: int) -> None:  # noqa: ARG002
        """Note the steps."""
        self._whole = epochs * steps

    def advance(self, steps: int, epoch: int, loss: float) -> None:  # noqa: ARG002
        """Measure, and end the training when it is enough.

        Raises:
            _EnoughError: to end the training.
        """
        if self._start is None:
            self._start = self._clock()
            return
        self._steps += steps
        past = self._clock() - self._start
        self.seconds = past * self._whole / self._steps
        if past >= ENOUGH:
            raise _EnoughError


def measured_seconds(jobs: AdapterJobs) -> float:
    """Return how long some jobs take by the first steps of the first bank, which are thrown away."""
    from lora_mnist_cli.stages.banks.job import train_bank

    first, watch, works = jobs.banks[0], StopWatch(), [jobs.work(bank) for bank in jobs.banks]
    jobs.workspace.reporter.phase("measuring", ENOUGH)
    with contextlib.suppress(_EnoughError):
        train_bank(*jobs.task(first), watch)
    speed = watch.seconds / works[0][TRAINING] if watch.seconds else 1.0
    return sum(seconds * (speed if name == TRAINING else 1.0) for work in works for name, seconds in work.items())


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
    """Return an adapter's cost; None where it failed, or was trained in another way or for another time."""
    try:
        config = AdapterConfig.from_json(artifact.config)
    except ArtifactError:
        return None
    wanted = jobs.banks[0][0].config
    like = artifact.environment.get("threads") == jobs.workspace.runtime.threads and near(config.epochs, wanted.epochs)
    like = like and _way(config) == _way(wanted)
    steps = config.epochs * jobs.steps_per_epoch(config) if like and not artifact.details.get("failed") else 0
    return artifact.wall_seconds / steps if steps else None


def _way(config: AdapterConfig) -> tuple[object, ...]:
    return config.precision, config.batch_size, config.alone or config.method, config.protect
