"""Export an artifact with everything it was made from to a zip file, and import such a file. No torch.

An imported file may come from anyone: names, sizes, digests, weights and lineage are checked in a staging folder before
anything is published.
"""

from __future__ import annotations

import shutil
import stat
import zipfile
from pathlib import Path

from lora_mnist_cli.registry.archive_reading import opened, planned, unpack
from lora_mnist_cli.registry.artifact import Artifact, Parent, read_artifact
from lora_mnist_cli.registry.entries import Entry, children_first
from lora_mnist_cli.registry.manifest_types import MANIFEST
from lora_mnist_cli.registry.registry import Registry
from lora_mnist_cli.registry.verification import lineage_names, problems_inside
from lora_mnist_cli.system.errors import ArtifactError, MachineError, UsageError
from lora_mnist_cli.system.files import flush, machine_errors
from lora_mnist_cli.system.output_file import is_plain, output_file

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
    if file.is_dir() or (file.exists() and is_plain(file) and not force):
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
                    content = each.read_manifest() if part == MANIFEST else each.read(part)
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
    with opened(file) as archive:
        plan = planned(archive, file)
        total = sum(info.file_size for parts in plan.values() for info in parts.values())
        parts_of = next(iter(plan))
        with registry.staging(parts_of) as inner:
            room = inner.parent / "imported"
            with machine_errors(f"can't write to {registry.root}"):
                free = shutil.disk_usage(inner).free
                if total > free:
                    raise MachineError(f"{file} unpacks to {total:,} bytes, and {free:,} are free", value=total)
                room.mkdir()
            with machine_errors(f"can't unpack {file}"):
                artifacts = [unpack(archive, parts, room / name, file) for name, parts in plan.items()]
            artifacts = _parents_first(artifacts)
            _refuse_unsound(registry, artifacts)
            fresh = registry.admit(artifacts)
    return artifacts, fresh


def _refuse_unsound(registry: Registry, artifacts: list[Artifact]) -> None:
    """Refuse artifacts of which one would not pass ``verify`` once it is here."""
    known: dict[str, Artifact | None] = {artifact.digest: artifact for artifact in artifacts}
    here = {entry.digest: entry.name for entry in registry.scan()[0]}

    def find(parent: Parent) -> Artifact | None:
        if parent.digest not in known and parent.digest in here:
            known[parent.digest] = registry.readable(here[parent.digest])
        return known.get(parent.digest)

    for artifact in artifacts:
        for file, problem in problems_inside(artifact, find):
            raise ArtifactError(f"'{artifact.name}' is not sound: {file}: {problem}", value=artifact.name)


def _parents_first(artifacts: list[Artifact]) -> list[Artifact]:
    by_name = {artifact.name: artifact for artifact in artifacts}
    return [by_name[name] for name in reversed(children_first([Entry.of(artifact) for artifact in artifacts]))]
