"""Check artifacts in full: manifest, every byte of every file, weights, and lineage. No torch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lora_mnist_cli.registry.artifact import Artifact, read_artifact
from lora_mnist_cli.registry.catalog import Catalog, refuse_role
from lora_mnist_cli.registry.entries import Entry, stamp_of
from lora_mnist_cli.registry.manifest import UPGRADE
from lora_mnist_cli.registry.manifest_types import MANIFEST
from lora_mnist_cli.registry.weights import check_finite, check_header
from lora_mnist_cli.settings.adapter_config import AdapterConfig, without_unused
from lora_mnist_cli.settings.choices import DATASETS
from lora_mnist_cli.settings.config import BaseConfig
from lora_mnist_cli.settings.grid import AXES
from lora_mnist_cli.settings.lists import some
from lora_mnist_cli.system.errors import ArtifactError, make_again
from lora_mnist_cli.system.progress import Reporter, Silent
from lora_mnist_cli.system.work import piece

_PHASE, _SECONDS = "verifying", 0.01
"""The phase of a check, and the seconds that an artifact takes."""
_TRIES = 20
"""For an artifact that others replace faster than it can be read."""


@dataclass
class Verdict:
    """The problems found in an artifact.

    Args:
        problems: file (or ``artifact.json`` for lineage) and what is wrong with it.
        descendants: names of everything made from it, if there are problems.
        newer: whether the only problem is that a newer version wrote it.
    """

    name: str
    kind: str | None
    problems: list[tuple[str, str]] = field(default_factory=list)
    descendants: list[str] = field(default_factory=list)
    files: int = 0
    bytes: int = 0
    newer: bool = False


def verify(catalog: Catalog, name: str | None = None, reporter: Reporter | None = None) -> list[Verdict]:
    """Check an artifact and everything it was made from, or all artifacts.

    Args:
        reporter: is told which artifact is checked.

    Returns:
        One verdict per artifact, parents before children.

    Raises:
        ArtifactError: where there is no artifact of that name.
    """
    entries, _ = catalog.scan()
    if name is None:
        names: Sequence[str] = catalog.names()
    else:
        resolved = catalog.resolve(name)
        if not catalog.has(resolved):
            catalog.get(resolved)
        names = lineage_names(catalog, resolved, entries)
    age = {entry.name: i for i, entry in enumerate(entries)}
    ordered = sorted(names, key=lambda n: (age.get(n, -1), n))
    reporter = reporter or Silent()
    reporter.plan({_PHASE: len(ordered) * _SECONDS})
    verdicts = []
    for number, each in enumerate(ordered, start=1):
        reporter.phase(_PHASE, _SECONDS, piece(number, len(ordered)))
        if (verdict := _verify_settled(catalog, each, entries)) is not None:
            verdicts.append(verdict)
    return verdicts


def lineage_names(catalog: Catalog, name: str, entries: Sequence[Entry]) -> list[str]:
    """Return the name of an artifact, then the names of everything it was made from that is here."""
    found, pending = [], [name]
    by_name = {entry.name: entry for entry in entries}
    where = {entry.digest: entry.name for entry in reversed(entries)}
    while pending:
        each = pending.pop()
        if each in found:
            continue
        found.append(each)
        for parent in by_name[each].parents if each in by_name else ():
            same = parent.name in by_name and by_name[parent.name].digest == parent.digest
            # A damaged parent has no entry, but its folder is there under its name.
            here = parent.name if same else where.get(parent.digest, parent.name)
            if catalog.has(here):
                pending.append(here)
    return found


def _verify_settled(catalog: Catalog, name: str, entries: Sequence[Entry]) -> Verdict | None:
    """Return the verdict; check again if the artifact was replaced meanwhile, and return None if it was removed."""
    for _ in range(_TRIES):
        before = stamp_of(catalog.root, name)
        verdict = _verify_one(catalog, name, entries)
        after = stamp_of(catalog.root, name)
        if not verdict.problems or (before == after and catalog.has(name)):
            break
        if not catalog.has(name):
            return None
    return verdict


def _verify_one(catalog: Catalog, name: str, entries: Sequence[Entry]) -> Verdict:
    verdict = Verdict(name, None)
    try:
        artifact = read_artifact(catalog.root / name)
    except ArtifactError as error:
        verdict.problems.append((MANIFEST, error.problem))
        verdict.descendants = [entry.name for entry in catalog.descendants(name, all_generations=True)]
        verdict.newer = error.hint == UPGRADE
        return verdict
    verdict.kind = artifact.kind
    verdict.files, verdict.bytes = len(artifact.files), sum(entry["bytes"] for entry in artifact.files.values())
    verdict.problems += artifact.problems()
    verdict.problems += _problems_of_settings(artifact)
    base: Artifact | None = artifact
    kinds = {entry.name: entry.kind for entry in entries}
    for parent in artifact.parents:
        here = catalog.locate(parent.name, parent.digest, entries)
        if here is None:
            verdict.problems.append((MANIFEST, f"its {parent.role} '{parent.name}' ({parent.digest[:19]}…) is missing"))
        elif here in kinds:
            with _noting(verdict, MANIFEST):
                refuse_role(name, parent.role, here, kinds[here])
        if parent.role == "base" and artifact.kind != "base":
            base = catalog.readable(here) if here is not None else None
    if any(parent.role == "adapter" for parent in artifact.parents) and not verdict.problems:
        with _noting(verdict, MANIFEST):
            _check_one_base(catalog, artifact, entries)
    if not verdict.problems and base is not None:
        with _noting(verdict, "weights"):
            check_header(artifact, base)
            check_finite(artifact)
    if verdict.problems:
        verdict.descendants = [entry.name for entry in catalog.descendants(name, all_generations=True)]
    return verdict


def _check_one_base(catalog: Catalog, made: Artifact, entries: Sequence[Entry]) -> None:
    """Refuse a merged or combined artifact whose adapters were not trained on its base."""
    base = catalog.parent(made)
    for parent in made.parents:
        if parent.role != "adapter":
            continue
        here = catalog.locate(parent.name, parent.digest, entries)
        adapter = None if here is None else catalog.readable(here)
        if adapter is None or base.digest not in [each.digest for each in adapter.parents if each.role == "base"]:
            raise ArtifactError(
                f"its adapter '{parent.name}' is not one of its base '{base.name}'", hint=make_again(made.name),
                value=parent.name,
            )  # fmt: skip


@contextlib.contextmanager
def _noting(verdict: Verdict, file: str) -> Iterator[None]:
    """Record a refusal inside as a problem of that file."""
    try:
        yield
    except ArtifactError as error:
        verdict.problems.append((file, error.problem))


def _problems_of_settings(artifact: Artifact) -> Iterator[tuple[str, str]]:
    """Return the settings that have valid types but impossible values."""
    if artifact.dataset not in DATASETS:
        yield MANIFEST, f"there is no data set '{artifact.dataset}'"
    try:
        if artifact.kind == "base":
            BaseConfig.from_json(artifact.config)
        elif artifact.kind == "adapter":
            AdapterConfig.from_json(artifact.config)
        elif artifact.kind == "sweep":
            for one in _members_settings(artifact.config):
                AdapterConfig.from_json(one)
    except ArtifactError as error:
        yield MANIFEST, error.problem


def _members_settings(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Return settings of members, which together have every value of every axis of a sweep."""
    axes = [axis for axis in AXES if isinstance(config.get(axis.plural), list)]
    listed = {axis.plural for axis in axes}
    shared = {key: value for key, value in config.items() if key not in listed}
    first = shared | {axis.field: config[axis.plural][0] for axis in axes if config[axis.plural]}
    for axis in axes:
        for value in config[axis.plural]:
            yield without_unused(first | {axis.field: value})


def problem_line(verdict: Verdict, root: Path) -> str:
    """Return a line that lists the problems of a verdict."""
    told = "; ".join(f"{file}: {problem}" for file, problem in verdict.problems)
    needed = f"; made from it: {some(verdict.descendants)}" if verdict.descendants else ""
    return f"{root / verdict.name}: {told}{needed}"
