"""Check artifacts in full: manifest, every byte of every file, weights, and lineage. No torch."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lora_mnist_cli.models.methods import trainable_parameters
from lora_mnist_cli.registry.artifact import Artifact, Parent, read_artifact
from lora_mnist_cli.registry.catalog import Catalog
from lora_mnist_cli.registry.entries import Entry, stamp_of
from lora_mnist_cli.registry.manifest import UPGRADE, refuse_role
from lora_mnist_cli.registry.manifest_types import MANIFEST
from lora_mnist_cli.registry.settings_check import unknown_settings
from lora_mnist_cli.registry.weights import check_weights
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.lists import some
from lora_mnist_cli.system.errors import ArtifactError
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
    kinds = {entry.name: entry.kind for entry in entries}
    for parent in artifact.parents:
        here = catalog.locate(parent.name, parent.digest, entries)
        if here is None:
            verdict.problems.append((MANIFEST, f"its {parent.role} '{parent.name}' ({parent.digest[:19]}…) is missing"))
        elif here in kinds:
            with _noting(verdict.problems, MANIFEST):
                refuse_role(name, parent.role, here, kinds[here])

    def find(parent: Parent) -> Artifact | None:
        here = catalog.locate(parent.name, parent.digest, entries)
        return None if here is None else catalog.readable(here)

    verdict.problems += problems_inside(artifact, find, files_are_sound=not verdict.problems)
    if verdict.problems:
        verdict.descendants = [entry.name for entry in catalog.descendants(name, all_generations=True)]
    return verdict


def problems_inside(
    artifact: Artifact, find: Callable[[Parent], Artifact | None], *, files_are_sound: bool = True
) -> list[tuple[str, str]]:
    """Return file and problem of all that does not hold in an artifact, beside its manifest, files and parents' roles.

    Args:
        find: returns a parent, or None where it is missing or damaged.
        files_are_sound: whether all files are there, and those that were published.
    """
    problems = []
    if unknown := unknown_settings(artifact.kind, artifact.config):
        problems.append((MANIFEST, f"the settings don't fit this version: {', '.join(unknown)}"))
    base = next((find(parent) for parent in artifact.parents if parent.role == "base"), None)
    if base is not None and base.kind == "base":
        problems += [(MANIFEST, problem) for problem in _problems_with_parents(artifact, base, find)]
    below = artifact if artifact.kind == "base" else base
    if files_are_sound and not unknown and below is not None and below.kind == "base":
        with _noting(problems, "weights"):
            check_weights(artifact, below)
    return problems


def _problems_with_parents(
    artifact: Artifact, base: Artifact, find: Callable[[Parent], Artifact | None]
) -> Iterator[str]:
    """Return what an artifact says of its base that is not so, and which of its adapters are on another base."""
    details, digits = artifact.details, base.config["digits"]
    said = details.get("merged", details).get("base_digits", digits)
    if said != digits:
        yield f"details.base_digits is '{said}', and those of its base '{base.name}' are '{digits}'"
    if artifact.kind == "adapter":
        config = AdapterConfig.from_json(artifact.config)
        layers = {name: shape for name, shape in base.details["layers"].items() if name in (config.target_layers or ())}
        counted = trainable_parameters(config, layers)
        if details["trainable_parameters"] != counted:
            yield f"details.trainable_parameters is {details['trainable_parameters']}, and its settings give {counted}"
    for parent in artifact.parents:
        adapter = find(parent) if parent.role == "adapter" else None
        if adapter and base.digest not in [each.digest for each in adapter.parents if each.role == "base"]:
            yield f"its adapter '{parent.name}' is not one of its base '{base.name}'"


@contextlib.contextmanager
def _noting(problems: list[tuple[str, str]], file: str) -> Iterator[None]:
    """Record a refusal inside as a problem of that file."""
    try:
        yield
    except ArtifactError as error:
        problems.append((file, error.problem))


def problem_line(verdict: Verdict, root: Path) -> str:
    """Return a line that lists the problems of a verdict."""
    told = "; ".join(f"{file}: {problem}" for file, problem in verdict.problems)
    needed = f"; made from it: {some(verdict.descendants)}" if verdict.descendants else ""
    return f"{root / verdict.name}: {told}{needed}"
