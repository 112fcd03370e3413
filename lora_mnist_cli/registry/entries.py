"""What a list of artifacts shows of each, read from all manifests of a folder, and their lineage. No torch.

Every manifest is read and checked in full. A process remembers an entry for as long as its manifest is the same file
with the same times: a forced sweep asks for all artifacts once per adapter.
"""

from __future__ import annotations

import contextlib
import gc
import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from lora_mnist_cli.registry.artifact import Artifact, Parent, Settings, read_folder, settings_of
from lora_mnist_cli.registry.manifest import manifest_of, unreadable
from lora_mnist_cli.registry.manifest_kinds import Manifest
from lora_mnist_cli.registry.manifest_limits import MAX_MANIFEST
from lora_mnist_cli.registry.manifest_types import MANIFEST, SubsetScore, is_name
from lora_mnist_cli.system.errors import ArtifactError
from lora_mnist_cli.system.files import read_ahead
from lora_mnist_cli.system.platforms import here

_REMEMBERED: dict[str, dict[str, tuple[tuple[int, ...], Entry]]] = {}
"""Folder → name → stamp of the manifest, and the entry that was read from it."""


class Entry(msgspec.Struct, frozen=True, gc=False):
    """What listing and finding need of an artifact.

    Args:
        digits: the digits that it learned, or None.
        rank: None where it has none.
        subsets: its scores, a row per digit set.
        bytes: of all its files.
        failed: why its training failed, or None.
        chain: whether it is the report of a chain.
    """

    name: str
    kind: str
    created: str
    digest: str
    dataset: str
    digits: str | None = None
    rank: int | None = None
    seed: int | None = None
    parents: tuple[Parent, ...] = ()
    subsets: tuple[SubsetScore, ...] = ()
    bytes: int = 0
    note: str = ""
    failed: str | None = None
    chain: bool = False

    @classmethod
    def of(cls, artifact: Artifact) -> Entry:
        """Return the entry of an artifact."""
        subsets = msgspec.convert(artifact.scores.get("subsets", ()), tuple[SubsetScore, ...])
        size = sum(file["bytes"] for file in artifact.files.values())
        return cls._of(artifact.name, artifact.settings, artifact, subsets, size)

    @classmethod
    def from_manifest(cls, name: str, settings: Settings, manifest: Manifest) -> Entry:
        """Return the entry of the artifact with those settings; its other fields are as in its manifest."""
        size = sum([file.bytes for file in manifest.files.values()])
        return cls._of(name, settings, manifest, tuple(manifest.scores.subsets or ()), size)

    @classmethod
    def _of(
        cls, name: str, settings: Settings, of: Artifact | Manifest, subsets: tuple[SubsetScore, ...], size: int
    ) -> Entry:
        return cls(
            name=name,
            kind=settings.kind,
            created=of.created,
            digest=of.digest,
            dataset=settings.dataset["name"],
            digits=settings.config.get("digits"),
            rank=settings.config.get("rank") or None,
            seed=settings.config.get("seed"),
            parents=settings.parents,
            subsets=subsets,
            bytes=size,
            note=of.note,
            failed=of.details.get("failed"),
            chain="cures" in settings.config,
        )

    def to_json(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        values: dict[str, Any] = msgspec.to_builtins(self)
        del values["chain"]
        return values

    @property
    def never_default(self) -> bool:
        """Whether no stage takes it by default: it diverged, or was made of adapters by merging or combining."""
        of_adapters = self.kind in ("base", "adapter") and any(parent.role == "adapter" for parent in self.parents)
        return bool(self.failed) or of_adapters


class Head(msgspec.Struct):
    """What a manifest says of itself first: enough to sort by, and nothing to believe."""

    created: str
    kind: str
    digest: str = ""
    fingerprint: str = ""


_decode_head = msgspec.json.Decoder(Head).decode


def folders(root: Path) -> list[str]:
    """Return the names of the folders that may be artifacts, in no order; symbolic links are none.

    Raises:
        OSError: where the folder exists and can't be read.
    """
    try:
        with os.scandir(root) as found:
            return [e.name for e in found if is_name(e.name) and e.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []


def links(root: Path) -> list[str]:
    """Return the names of symbolic links that lead to an artifact's folder: nothing reads them, and lists say so."""
    try:
        with os.scandir(root) as found:
            return sorted(e.name for e in found if e.is_symlink() and os.path.isfile(f"{e.path}/{MANIFEST}"))
    except OSError:
        return []


def read_entries(root: Path) -> tuple[list[Entry], list[ArtifactError]]:
    """Return the entries of all artifacts, oldest first, and an error for each that can't be read.

    Raises:
        OSError: where the folder exists and can't be read.
    """
    where = str(root.absolute())
    before, errors = _REMEMBERED.get(where, {}), []
    collecting = gc.isenabled()
    gc.disable()  # thousands of entries, none of them garbage: looking for some takes a fifth of the time
    try:
        names = folders(root)
        now = {name: before[name] for name in names if name in before and before[name][0] == stamp_of(root, name)}
        for name, read in _read(root, [name for name in names if name not in now]):
            try:
                if isinstance(read, OSError):
                    raise unreadable(name, read)
                manifest = manifest_of(name, read[0])
                now[name] = read[1], Entry.from_manifest(name, settings_of(name, manifest), manifest)
            except ArtifactError as error:
                if stamp_of(root, name) is not None:  # otherwise it is no artifact, or was removed meanwhile
                    errors.append(error)
    finally:
        if collecting:
            gc.enable()
    _REMEMBERED[where] = now
    return sorted((entry for _, entry in now.values()), key=creation_order), errors


def _read(root: Path, names: Sequence[str]) -> Iterator[tuple[str, tuple[bytes, tuple[int, ...]] | OSError]]:
    """Yield the names with the bytes and the stamp of each manifest, or why it can't be read."""
    where = str(root)
    return zip(names, read_ahead((f"{where}/{name}/{MANIFEST}" for name in names), MAX_MANIFEST), strict=True)


def heads(root: Path, *kinds: str) -> list[tuple[str, Head]]:
    """Return name and head of the artifacts of some kinds, the newest first.

    Only the first words of a manifest are looked at, so that one of thousands is found without checking all.

    Raises:
        OSError: where the folder exists and can't be read.
    """
    found = []
    for name, read in _read(root, folders(root)):
        if isinstance(read, OSError):
            continue
        try:
            head = _decode_head(read[0])
        except (ValueError, RecursionError):  # the full reader understands more, or tells why not
            try:
                full = read_folder(root / name)
            except ArtifactError:
                continue
            head = Head(full.created, full.kind, full.digest, full.fingerprint)
        if head.kind in kinds:
            found.append((name, head))
    return sorted(found, key=lambda each: (each[1].created, each[0]), reverse=True)


def newest_first(root: Path, *kinds: str) -> Iterator[Artifact]:
    """Read the artifacts of some kinds, the newest first; those that can't be read are left out.

    Raises:
        OSError: where the folder exists and can't be read.
    """
    for name, _ in heads(root, *kinds):
        with contextlib.suppress(ArtifactError):
            artifact = read_folder(root / name)
            if artifact.kind in kinds:
                yield artifact


def chain_parts(entries: Sequence[Entry]) -> set[str]:
    """Return the names of what chains made on their way: all that they list, but for the bases, which stages share."""
    by_digest = {entry.digest: entry for entry in entries}
    listed = {p.digest for entry in entries if entry.chain for p in entry.parents if p.role == "input"}
    inputs = [by_digest[digest] for digest in listed if digest in by_digest]
    before = [by_digest[p.digest] for entry in inputs for p in entry.parents if p.digest in by_digest]
    return {entry.name for entry in (*inputs, *before) if entry.kind != "base" or entry.never_default}


def creation_order(entry: Entry) -> tuple[str, str]:
    """Return what entries are sorted by, oldest first."""
    return entry.created, entry.name


def stamp_of(root: Path, name: str) -> tuple[int, ...] | None:
    """Return what changes whenever a manifest does, or None where there is no such file."""
    try:
        found = os.stat(f"{root}/{name}/{MANIFEST}", follow_symlinks=False)
    except OSError:
        return None
    return here.stamp(found) if stat.S_ISREG(found.st_mode) else None


def generations(entries: Sequence[Entry], first: Sequence[Entry]) -> list[Entry]:
    """Return some artifacts and everything made from them, directly or not, oldest first."""
    made_from: dict[str, list[Entry]] = {}
    for entry in entries:
        for digest in {parent.digest for parent in entry.parents}:
            made_from.setdefault(digest, []).append(entry)
    reached, pending = {entry.name: entry for entry in first}, list(first)
    while pending:
        for entry in made_from.get(pending.pop().digest, []):
            if entry.name not in reached:
                reached[entry.name] = entry
                pending.append(entry)
    return sorted(reached.values(), key=creation_order)


def children_first(entries: Sequence[Entry]) -> list[str]:
    """Return the names in an order in which an artifact comes before its parents."""
    by_digest = {entry.digest: entry for entry in entries}
    parents = {e.digest: {p.digest for p in e.parents if p.digest in by_digest} for e in by_digest.values()}
    waiting = Counter(digest for of_one in parents.values() for digest in of_one)
    ordered: list[str] = []
    pending = [digest for digest in by_digest if not waiting[digest]]
    while pending:
        digest = pending.pop()
        ordered.append(digest)
        for parent in parents[digest]:
            waiting[parent] -= 1
            if not waiting[parent]:
                pending.append(parent)
    # The rest stands in a circle, which only a forged lineage has: any order will do.
    rank = {digest: i for i, digest in enumerate([*ordered, *(by_digest.keys() - set(ordered))])}
    return [entry.name for entry in sorted(entries, key=lambda entry: rank[entry.digest])]
