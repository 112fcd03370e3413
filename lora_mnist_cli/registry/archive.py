"""Export an artifact with everything it was made from to a zip file, and import such a file. No torch.

An imported file may come from anyone: names, sizes, digests, weights and lineage are checked in a staging folder before
anything is published.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from lora_mnist_cli.registry.artifact import Artifact, read_artifact, to_artifact
from lora_mnist_cli.registry.entries import Entry, children_first
from lora_mnist_cli.registry.manifest import parse_manifest
from lora_mnist_cli.registry.manifest_limits import MAX_MANIFEST, ExtentError, decode_manifest
from lora_mnist_cli.registry.manifest_types import MANIFEST, is_file, is_name
from lora_mnist_cli.registry.registry import Registry
from lora_mnist_cli.registry.verification import lineage_names
from lora_mnist_cli.registry.weights import check_header
from lora_mnist_cli.system.errors import ArtifactError, MachineError, UsageError
from lora_mnist_cli.system.files import flush, machine_errors
from lora_mnist_cli.system.output_file import is_plain, output_file

_MAX_ENTRIES = 100_000
_CHUNK = 2**20
_FIRST_DAY = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip file knows; with one time for all, equal artifacts make equal files."""


def export_artifact(registry: Registry, name: str, file: Path, *, force: bool = False) -> list[Artifact]:
    """Write an artifact and everything it was made from to a zip file, after checking every byte.

    Args:
        force: replace a file that is there.

    Returns:
        What is in the file, parents first.

    Raises:
        UsageError: where the file is there already.
        ArtifactError: where the artifact, or a part of its lineage, is missing or damaged.
        MachineError: where the file can't be written; nothing is left then.
    """
    if file.is_dir() or (file.exists() and not force):
        raise UsageError(f"{file} is there already", hint="another name, or --force replaces a file", value=file)
    entries, _ = registry.scan()
    artifact = registry.get(name)
    artifacts = [read_artifact(registry.root / each) for each in lineage_names(registry, artifact.name, entries)]
    have = {each.digest for each in artifacts}
    for each in artifacts:
        for parent in each.parents:
            if parent.digest not in have:
                raise ArtifactError(
                    f"'{each.name}' was made from '{parent.name}', which is not in {registry.root}",
                    hint="lora-mnist runs verify tells what else is missing",
                    value=parent.name,
                )
    artifacts = _parents_first(artifacts)
    with machine_errors(f"can't write {file}", "FILE"):
        with output_file(file) as target, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            for each in artifacts:
                for part in [MANIFEST, *each.files]:
                    content = (each.path / part).read_bytes() if part == MANIFEST else each.read(part)
                    info = zipfile.ZipInfo(f"{each.name}/{part}", _FIRST_DAY)
                    info.external_attr = (stat.S_IFREG | 0o644) << 16
                    archive.writestr(info, content, zipfile.ZIP_DEFLATED)
        if is_plain(file):
            flush(file.parent)
    return artifacts


def import_artifacts(registry: Registry, file: Path) -> tuple[list[Artifact], list[Artifact]]:
    """Publish the artifacts in a file of :func:`export_artifact`: all of them or, if anything is damaged, none.

    Returns:
        All artifacts of the file, parents first; and those of them that were not there already.

    Raises:
        ArtifactError: where the file is no such zip file, anything in it is damaged or out of place, a parent is
            missing, or a name is taken by something else. Nothing was published then.
        MachineError: where there is no room.
    """
    with _opened(file) as archive:
        plan = _plan(archive, file)
        total = sum(info.file_size for parts in plan.values() for info in parts.values())
        parts_of = next(iter(plan))
        with registry.staging(parts_of) as inner:
            room = inner.parent / "imported"
            with machine_errors(f"can't write to {registry.root}"):
                free = shutil.disk_usage(inner).free
                if total > free:
                    raise MachineError(f"{file} unpacks to {total:,} bytes, and {free:,} are free", value=total)
                room.mkdir()
            staged = {}
            for name, parts in plan.items():
                with machine_errors(f"can't unpack {file}"):
                    staged[name] = _unpack(archive, parts, room / name, file)
            artifacts = _parents_first(list(staged.values()))
            _check_weights(registry, artifacts)
            fresh = registry.admit([(room / artifact.name, artifact) for artifact in artifacts])
    return artifacts, fresh


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[zipfile.ZipFile]:
    if not file.is_file():
        raise ArtifactError(f"there is no file {file}", value=file)
    try:
        with zipfile.ZipFile(file) as archive:
            yield archive
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise ArtifactError(f"{file} can't be read as a zip file: {error}", value=file) from error


@contextlib.contextmanager
def _reading(file: Path) -> Iterator[None]:
    """Blame the zip file for a failed read, not the disk that it is unpacked to."""
    try:
        yield
    except OSError as error:
        raise ArtifactError(f"{file} can't be read as a zip file: {error}", value=file) from error


def _plan(archive: zipfile.ZipFile, file: Path) -> dict[str, dict[str, zipfile.ZipInfo]]:
    """Return artifact → path in its folder → entry, and refuse entries that no export writes."""
    infos = archive.infolist()
    if len(infos) > _MAX_ENTRIES:
        raise ArtifactError(f"{file} has {len(infos):,} entries, {_MAX_ENTRIES:,} at most make sense", value=file)
    plan: dict[str, dict[str, zipfile.ZipInfo]] = {}
    for info in infos:
        if info.is_dir():
            continue
        name, _, part = info.filename.partition("/")
        kind = stat.S_IFMT(info.external_attr >> 16)
        # Exports use no other compression, and other readers fail in other ways.
        plain = info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) and not info.flag_bits & 1
        known = plain and is_name(name) and (part == MANIFEST or is_file(part)) and kind in (0, stat.S_IFREG)
        if not known or part in plan.get(name, {}):
            raise ArtifactError(f"{file} has an entry {info.filename!r}, which no export writes", value=info.filename)
        plan.setdefault(name, {})[part] = info
    lacking = [name for name, parts in plan.items() if MANIFEST not in parts]
    if lacking or not plan:
        raise ArtifactError(f"{file} has no {MANIFEST}{f' for {lacking[0]}' if lacking else ''}", value=file)
    return plan


def _unpack(archive: zipfile.ZipFile, parts: dict[str, zipfile.ZipInfo], folder: Path, file: Path) -> Artifact:
    """Write one artifact of a zip file into a folder, and check it there."""
    if parts[MANIFEST].file_size > MAX_MANIFEST:
        raise ArtifactError(f"{file}: {folder.name}: its {MANIFEST} is too large", value=folder.name)
    with _reading(file):
        raw = archive.read(parts[MANIFEST])
    try:
        read = decode_manifest(raw)
    except ExtentError as error:
        raise ArtifactError(f"{file}: {folder.name}: its {MANIFEST}: {error}", value=folder.name) from error
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{file}: {folder.name}: its {MANIFEST} is not JSON", value=folder.name) from error
    artifact = to_artifact(folder, parse_manifest(read, folder.name))
    if odd := sorted(parts.keys() ^ {MANIFEST, *artifact.files}):
        raise ArtifactError(f"{file}: {folder.name}: missing or not listed: {', '.join(odd)}", value=odd)
    folder.mkdir()
    (folder / MANIFEST).write_bytes(raw)
    for part, entry in artifact.files.items():
        if parts[part].file_size != entry["bytes"]:
            raise ArtifactError(f"{file}: {folder.name}/{part} is not of the size it was published with", value=part)
        (folder / part).parent.mkdir(exist_ok=True)
        with _reading(file):
            source = archive.open(parts[part])
        with source, (folder / part).open("wb") as target:
            left = entry["bytes"]
            while left > 0:
                with _reading(file):
                    chunk = source.read(min(_CHUNK, left))
                if not chunk:
                    break
                target.write(chunk)
                left -= len(chunk)
            target.flush()
            os.fsync(target.fileno())
    read_artifact(folder).check_files()
    return artifact


def _check_weights(registry: Registry, artifacts: list[Artifact]) -> None:
    by_digest = {artifact.digest: artifact for artifact in artifacts}
    for artifact in artifacts:
        base: Artifact | None = artifact
        for parent in artifact.parents:
            if parent.role == "base" and artifact.kind != "base":
                here = registry.locate(parent.name, parent.digest)
                base = by_digest.get(parent.digest) or (registry.readable(here) if here else None)
        # An adapter without its base is refused when it is admitted.
        if base is not None:
            check_header(artifact, base)


def _parents_first(artifacts: list[Artifact]) -> list[Artifact]:
    by_name = {artifact.name: artifact for artifact in artifacts}
    return [by_name[name] for name in reversed(children_first([Entry.of(artifact) for artifact in artifacts]))]
