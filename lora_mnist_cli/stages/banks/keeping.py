"""Train the adapters of a sweep and publish those that it keeps; of the others a row is all that stays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.settings.grid import Axis
from lora_mnist_cli.settings.keep import Keep
from lora_mnist_cli.settings.lists import counted
from lora_mnist_cli.stages.banks.cut import MAX_MEMBERS, AdapterRequest, Bank
from lora_mnist_cli.stages.banks.members import Finished
from lora_mnist_cli.stages.banks.work import AdapterJobs
from lora_mnist_cli.stages.records.results import Rows, swept_row
from lora_mnist_cli.stages.workspace import Making


def run_keeping(jobs: AdapterJobs, keep: Keep, axes: Sequence[Axis], known: Rows) -> tuple[Rows, list[Artifact]]:
    """Train what is missing and publish what is kept.

    Args:
        axes: those that the sweep varies beside rank and seed.
        known: the rows of the same sweep where it is there and lacks some of what is to be kept; else none.

    Returns:
        A row per request, in their order, and the adapters that are kept.

    Raises:
        DataError, ArtifactError, MachineError: as :meth:`~lora_mnist_cli.stages.banks.work.AdapterJobs.run`.
    """
    if keep.everything:
        adapters = jobs.run()
        return [swept_row(adapter, axes) for adapter in adapters], adapters
    rows = {name: swept_row(artifact, axes) | {"artifact": name} for name, artifact in jobs.done.items()}
    shelf = Shelf(keep if not known else Keep(best=len(known)))
    with closing(jobs.train(_nothing)) as trainings:
        for finished, _ in trainings:
            for each in finished:
                if each.name not in rows:
                    rows[each.name] = each.row(jobs.base, axes)
                    if jobs.wanted is None or each.name in jobs.wanted:
                        shelf.offer(rows[each.name], each)
    table = known or [rows[request.name] for request in jobs.requests]
    _tell_diverged(jobs, rows.values())
    wanted = keep.choose(table) | (jobs.wanted or set())
    kept = _published(jobs, shelf.held(wanted))
    kept |= {name: jobs.taken(name) for name in jobs.done if name in wanted}
    return table, [kept[request.name] for request in jobs.requests if request.name in kept]


class Shelf:
    """The adapters that may turn out to be kept, while others still train: about twice as many as are kept."""

    def __init__(self, keep: Keep) -> None:
        self._keep = keep
        self._held: dict[str, tuple[dict[str, Any], Finished]] = {}

    def offer(self, row: dict[str, Any], finished: Finished) -> None:
        """Hold an adapter, unless enough better ones are held."""
        self._held[finished.name] = row, finished
        if len(self._held) > 2 * (self._keep.best or 0):
            wanted = self._keep.choose([row for row, _ in self._held.values()])
            self._held = {name: held for name, held in self._held.items() if name in wanted}

    def held(self, names: set[str]) -> list[Finished]:
        """Return those of some names that are held."""
        return [finished for name, (_, finished) in self._held.items() if name in names]


def _published(jobs: AdapterJobs, finished: Sequence[Finished]) -> dict[str, Artifact]:
    kept: dict[str, Artifact] = {}
    for start in range(0, len(finished), MAX_MEMBERS):
        part = finished[start : start + MAX_MEMBERS]
        with jobs.stage([AdapterRequest(each.name, each.config) for each in part]) as making:
            kept |= jobs.publish(part, making)
    return kept


@contextmanager
def _nothing(_bank: Bank) -> Iterator[list[Making]]:
    """Stage nothing: which of a bank's adapters are kept is known when all are trained."""
    yield []


def _tell_diverged(jobs: AdapterJobs, rows: Iterable[dict[str, Any]]) -> None:
    if failed := [row for row in rows if row["failed"] is not None]:
        first, problem = failed[0]["artifact"], failed[0]["failed"]
        jobs.workspace.reporter.warn(f"{counted(len(failed), 'adapter')} diverged, for example {first}: {problem}")
