"""Training histories, epoch by epoch, read back from artifacts. No torch."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.registry.newest import make_kept
from lora_mnist_cli.registry.registry import Registry
from lora_mnist_cli.settings.config import MAX_EPOCHS
from lora_mnist_cli.stages.workspace import HISTORY_FILE
from lora_mnist_cli.system.errors import ArtifactError, make_again

COLUMNS = ("epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "lr")


def read_history(artifact: Artifact) -> list[dict[str, Any]]:
    """Return the rows of an artifact's history, in its order.

    Raises:
        ArtifactError: where it is missing, damaged or odd.
    """
    rows: list[dict[str, Any]] = []
    if HISTORY_FILE not in artifact.files and (instead := artifact.instead_of_training):
        problem = f"'{artifact.name}' has no file {HISTORY_FILE}: {instead}"
        raise ArtifactError(problem, hint="name one that was trained here", value=artifact.name)
    try:
        table = csv.DictReader(io.StringIO(artifact.read(HISTORY_FILE).decode()), strict=True)
        rows += _rows(table)
    except (TypeError, ValueError, csv.Error) as error:
        place = f"line {table.line_num}: " if rows else ""
        problem = f"'{artifact.name}' has an odd {HISTORY_FILE}: {place}{error}"
        raise ArtifactError(problem, hint=make_again(artifact.name), value=HISTORY_FILE) from error
    return rows


def parse_history(text: str) -> list[dict[str, Any]]:
    """Return the rows of a history that was just made; a ValueError says what is odd about it."""
    return list(_rows(csv.DictReader(io.StringIO(text), strict=True)))


def _rows(table: csv.DictReader[str]) -> Iterator[dict[str, Any]]:
    if lacking := [column for column in COLUMNS if column not in (table.fieldnames or ())]:
        raise ValueError(f"it lacks {', '.join(lacking)}")
    for line in table:
        if None in line or None in line.values():
            raise ValueError("a line has not as many fields as there are columns")
        row: dict[str, Any] = {key: float(line[key]) if line[key] else None for key in COLUMNS}
        accuracies = (row["train_accuracy"], row["val_accuracy"])
        if not all(value is None or not math.isfinite(value) or 0 <= value <= 1 for value in accuracies):
            raise ValueError(f"an accuracy is between 0 and 1, not {accuracies}")
        epoch = int(line["epoch"])
        if not 0 <= epoch <= MAX_EPOCHS:
            raise ValueError(f"epoch {epoch}")
        yield row | {"epoch": epoch}


def last_epoch(history: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the end of a history: its last ``epoch`` with loss and accuracy on training and validation images.

    A figure that is not finite is None. A diverged run ends with its last sound epoch, and is None without one.
    """
    if not history:
        return None
    last = max(history, key=lambda row: int(row["epoch"]))
    figures = {name: last[name] for name in COLUMNS[1:5]}
    return {"epoch": last["epoch"]} | {
        name: value if value is not None and math.isfinite(value) else None for name, value in figures.items()
    }


def not_kept(sweep: Artifact, name: str) -> ArtifactError:
    """Return the error for an adapter whose weights a sweep did not keep."""
    problem = f"'{sweep.name}' did not keep the weights of '{name}'"
    return ArtifactError(problem, hint=make_kept(sweep.name, name), value=name)


def kept_digests(sweep: Artifact) -> dict[str, str]:
    """Return name → digest of the adapters whose weights a sweep kept."""
    return {parent.name: parent.digest for parent in sweep.parents if parent.role == "member"}


def kept_names(sweep: Artifact) -> set[str]:
    """Return the names of the adapters whose weights a sweep kept."""
    return set(kept_digests(sweep))


def kept_member(registry: Registry, sweep: Artifact, name: str, digests: Mapping[str, str]) -> Artifact | None:
    """Return an adapter of a sweep by its content, or None where it is gone.

    Args:
        digests: the :func:`kept_digests` of the sweep, which may have thousands.

    Raises:
        ArtifactError: where its weights were not kept.
    """
    if name not in digests:
        raise not_kept(sweep, name)
    here = registry.locate(name, digests[name])
    return None if here is None else registry.get(here)


def members(registry: Registry, sweep: Artifact, results: Sequence[Mapping[str, Any]]) -> list[Artifact]:
    """Return the adapters of some of a sweep's results, in their order.

    Raises:
        ArtifactError: where one is gone, or its weights were not kept.
    """
    adapters, digests = [], kept_digests(sweep)
    for name in (row["artifact"] for row in results):
        member = kept_member(registry, sweep, name, digests)
        if member is None:
            problem = f"'{sweep.name}' lists '{name}', which is not in {registry.root} as it was then"
            raise ArtifactError(problem, hint="the same lora-mnist sweep again trains what is missing", value=name)
        adapters.append(member)
    return adapters


def validation_runs(registry: Registry, sweep: Artifact, results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the runs of a sweep with their accuracies on validation images.

    Returns:
        For each its ``rank``, ``seed`` and, where the sweep varies it, ``lr``, whether it ``failed``, and the
        ``accuracy`` after its last epoch: None where it failed or had no validation images.

    Raises:
        ArtifactError: where none had validation images, or the sweep is of an earlier version, which recorded no ends
            of histories, and an adapter is gone or its history is odd.
    """
    rows = []
    early = [row for row in results if row["failed"] is None and "last_epoch" not in row]
    ends = {
        row["artifact"]: last_epoch(read_history(member))
        for row, member in zip(early, members(registry, sweep, early), strict=True)
    }
    for row in results:
        # The history of a diverged run ends with its last sound epoch, whose figures are not a result.
        failed = row["failed"] is not None
        last = None if failed else row.get("last_epoch", ends.get(row["artifact"]))
        accuracy = last and last["val_accuracy"]
        rows.append(
            {key: row[key] for key in ("rank", "lr", "seed") if key in row} | {"failed": failed, "accuracy": accuracy}
        )
    if not any(row["failed"] or row["accuracy"] is not None for row in rows):
        problem = f"'{sweep.name}' was trained without validation images, and rates are compared on those"
        raise ArtifactError(problem, hint="make it with a --val-split above 0", value=sweep.name)
    return rows
