"""The plan of a sweep: its adapters, its banks, what is there already, and about how long the rest takes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from lora_mnist_cli.settings.grid import Value
from lora_mnist_cli.settings.lists import counted
from lora_mnist_cli.stages.banks.cut import Bank, training_bytes
from lora_mnist_cli.stages.banks.estimate import Estimate, estimate
from lora_mnist_cli.stages.banks.work import AdapterJobs


@dataclass(frozen=True)
class Plan:
    """The work that a sweep is going to do.

    Args:
        name: the sweep's.
        axes: the values of its ranks and seeds, and of whatever else varies, by plural name.
        jobs: the adapters that are there, and those to train.
        up_to_date: whether the sweep itself is there, and all its adapters are.
        measure: whether the estimate may take some steps; a sweep that is going to run measures as it runs.
    """

    name: str
    axes: dict[str, list[Value]]
    jobs: AdapterJobs
    up_to_date: bool = False
    measure: bool = False

    @property
    def there(self) -> list[str]:
        """Names of the adapters that are there already."""
        return [request.name for request in self.jobs.requests if request.name in self.jobs.done]

    @property
    def missing(self) -> list[str]:
        """Names of those that are to be trained."""
        return self.jobs.missing

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
        return estimate(self.jobs, measure=self.measure)

    def time(self) -> str:
        """Return the estimate in words; nothing where there is none."""
        return "nothing to train" if not self.banks else str(self.estimate or "")

    def __str__(self) -> str:
        there, missing, adapters = len(self.there), len(self.missing), len(self.jobs.requests)
        parts = [counted(adapters, "adapter")]
        parts += [f"{there:,} there already"] if there else []
        beside = sum(map(len, self.banks)) - missing
        again = f", with {counted(beside, 'other')} of the same bank" if beside else ""
        parts += [f"{missing:,} to train in {counted(len(self.banks), 'bank')}{again}"] if self.banks else []
        return f"plan for {self.name}: {', '.join(parts)}" + (f"; time: {told}" if (told := self.time()) else "")

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
