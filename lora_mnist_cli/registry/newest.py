"""Finding an artifact that is not named: what a user means by the newest, and one that has the same settings. No torch.

The newest is the one that was made last on its own. What a sweep, a chain or a study made counts where there is nothing
else: then the newest with the lowest seed of the one that was made last. Diverged training, merged bases and combined
adapters are never meant.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from lora_mnist_cli.registry.artifact import Artifact, read_artifact
from lora_mnist_cli.registry.entries import Entry, heads, newest_first
from lora_mnist_cli.system.errors import ArtifactError
from lora_mnist_cli.system.files import machine_errors

Span = tuple[str, str]
"""From when to when a sweep, a chain or a study was made."""


def any_artifact(_: Artifact) -> bool:
    """Say that an artifact will do, whatever it is."""
    return True


def newest(
    root: Path, kinds: Sequence[str], dataset: str | None, fits: Callable[[Artifact], bool]
) -> Artifact | None:  # fmt: skip
    """Return the newest artifact of the first kind that has one that fits; None where there is none.

    Args:
        root: the folder of artifacts.
        dataset: the data set that it is of; any where that is None.
        fits: tells which will do.

    Raises:
        OSError: where the folder can't be read.
    """

    def good(names: Iterable[str]) -> Iterator[Artifact]:
        for name in names:
            try:
                artifact = read_artifact(root / name)
            except ArtifactError:
                continue
            right = artifact.kind == kind and dataset in (None, artifact.dataset) and fits(artifact)
            if right and not Entry.of(artifact).never_default:
                yield artifact

    made = _made_within(root)
    for kind in kinds:
        alone: list[str] = []
        parts: dict[str, list[Span]] = {}
        for name, head in heads(root, kind):
            spans = [span for span in made.get(head.digest, ()) if span[0] <= head.created <= span[1]]
            if spans:
                parts[name] = spans
            else:
                alone.append(name)
        if (found := next(good(alone), None)) is not None:
            return found
        if (found := next(good(parts), None)) is not None:
            last = parts[found.name][0]
            together = good(name for name, spans in parts.items() if last in spans)
            return min(together, key=lambda artifact: artifact.config.get("seed", 0))
    return None


def _made_within(root: Path) -> dict[str, list[Span]]:
    """Return the digest of each artifact that a sweep, a chain or a study lists → when those that list it were made.

    An artifact that was created within that time was made by it, and not on its own.
    """
    made: dict[str, list[Span]] = {}
    for artifact in newest_first(root, "sweep", "report"):
        span = _span(artifact)
        for parent in artifact.parents:
            if parent.role in ("member", "input"):
                made.setdefault(parent.digest, []).append(span)
    return made


def was_made_by(part: Artifact, whole: Artifact) -> bool:
    """Whether an artifact that a sweep, a chain or a study lists was made by it, and was not there before."""
    begun, ended = _span(whole)
    return begun <= part.created <= ended


def _span(artifact: Artifact) -> Span:
    if "since" in artifact.details:  # a sweep that keeps more than before
        return artifact.details["since"], artifact.created
    begun = datetime.fromisoformat(artifact.created) - timedelta(seconds=artifact.wall_seconds)
    return begun.isoformat(timespec="microseconds"), artifact.created


def begun(artifact: Artifact) -> str:
    """Return when the making of an artifact began; of a sweep that keeps more than before, when it first did."""
    return _span(artifact)[0]


def make_kept(sweep: str, name: str) -> str:
    """Return the advice for an adapter that a sweep trained and did not keep."""
    return f"lora-mnist runs command {sweep} prints its command: --keep {name} beside it makes this one, --keep all all"


def advice_of_sweep(root: Path, name: str) -> str:
    """Return :func:`make_kept` for the newest sweep that trained an adapter of that name; empty where none did."""
    with contextlib.suppress(OSError):
        for sweep in newest_first(root, "sweep"):
            if "keep" in sweep.details and any(row["artifact"] == name for row in sweep.details["results"]):
                return make_kept(sweep.name, name)
    return ""


def same_settings(root: Path, kind: str, wanted: Collection[str]) -> dict[str, Artifact]:
    """Return the artifacts that have some fingerprints, whatever their names; of several the newest.

    Diverged training and what is damaged are left out.

    Returns:
        Fingerprint → artifact.

    Raises:
        MachineError: where the folder can't be read.
    """
    with machine_errors(f"can't read {root}"):
        names = {head.fingerprint: name for name, head in reversed(heads(root, kind))}
    found = {}
    for mark in wanted:
        with contextlib.suppress(ArtifactError, KeyError):
            artifact = read_artifact(root / names[mark])
            if artifact.fingerprint == mark and not artifact.details.get("failed"):
                found[mark] = artifact
    return found
