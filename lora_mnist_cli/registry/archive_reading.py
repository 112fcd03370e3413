"""Read a zip file that anyone may have made: its entries, and one artifact of it into a folder. No torch.

Names, sizes, manifests and digests are checked on the way; what is written is what was published.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path

from lora_mnist_cli.registry.artifact import Artifact, to_artifact
from lora_mnist_cli.registry.manifest import parse_manifest
from lora_mnist_cli.registry.manifest_limits import MAX_MANIFEST, ExtentError, decode_manifest
from lora_mnist_cli.registry.manifest_types import MANIFEST, is_file, is_name
from lora_mnist_cli.system.errors import ArtifactError
from lora_mnist_cli.system.platforms.names import is_portable

_MAX_ENTRIES = 100_000
_CHUNK = 2**20

Plan = dict[str, dict[str, zipfile.ZipInfo]]
"""Artifact → path in its folder → entry of the zip file."""


@contextlib.contextmanager
def opened(file: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip file.

    Raises:
        ArtifactError: where there is none.
    """
    if not file.is_file():
        raise ArtifactError(f"there is no file {file}", value=file)
    with _reading(file):
        archive = zipfile.ZipFile(file)
    with archive:
        yield archive


@contextlib.contextmanager
def _reading(file: Path) -> Iterator[None]:
    """Blame the zip file for whatever its reader raises, and not this program or the disk that it is unpacked to."""
    try:
        yield
    except Exception as error:  # zipfile meets a broken header with errors of ten kinds
        raise ArtifactError(f"{file} can't be read as a zip file: {error}", value=file) from error


def planned(archive: zipfile.ZipFile, file: Path) -> Plan:
    """Return what is to be unpacked.

    Raises:
        ArtifactError: where there is an entry that no export writes, there are too many, or a manifest is missing.
    """
    infos = archive.infolist()
    if len(infos) > _MAX_ENTRIES:
        raise ArtifactError(f"{file} has {len(infos):,} entries, {_MAX_ENTRIES:,} at most make sense", value=file)
    plan: Plan = {}
    for info in infos:
        if info.filename.endswith("/"):
            continue
        name, _, part = info.filename.partition("/")
        kind = stat.S_IFMT(info.external_attr >> 16)
        # Exports use no other compression, and other readers fail in other ways.
        plain = info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) and not info.flag_bits & 1
        known = plain and is_name(name) and (part == MANIFEST or is_file(part)) and kind in (0, stat.S_IFREG)
        if not all(map(is_portable, info.filename.split("/"))):
            raise ArtifactError(f"{file} has an entry {info.filename!r}, a name that Windows reserves", value=name)
        if not known or part in plan.get(name, {}):
            raise ArtifactError(f"{file} has an entry {info.filename!r}, which no export writes", value=info.filename)
        plan.setdefault(name, {})[part] = info
    lacking = [name for name, parts in plan.items() if MANIFEST not in parts]
    if lacking or not plan:
        raise ArtifactError(f"{file} has no {MANIFEST}{f' for {lacking[0]}' if lacking else ''}", value=file)
    return plan


def unpack(archive: zipfile.ZipFile, parts: dict[str, zipfile.ZipInfo], folder: Path, file: Path) -> Artifact:
    """Write one artifact of a zip file into a new folder; nothing is flushed.

    Args:
        parts: its entries in the :data:`Plan`.
        file: the zip file, for messages.

    Raises:
        ArtifactError: where the manifest is damaged, or a file is not the one that it lists.
        OSError: where it can't be written.
    """
    where = f"{file}: {folder.name}"
    if parts[MANIFEST].file_size > MAX_MANIFEST:
        raise ArtifactError(f"{where}: its {MANIFEST} is too large", value=folder.name)
    with _reading(file):
        raw = archive.read(parts[MANIFEST])
    try:
        read = decode_manifest(raw)
    except ExtentError as error:
        raise ArtifactError(f"{where}: its {MANIFEST}: {error}", value=folder.name) from error
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{where}: its {MANIFEST} is not JSON", value=folder.name) from error
    artifact = to_artifact(folder, parse_manifest(read, folder.name))
    if odd := sorted(parts.keys() ^ {MANIFEST, *artifact.files}):
        raise ArtifactError(f"{where}: missing or not listed: {', '.join(odd)}", value=odd)
    place = str(folder)  # thousands of paths as objects take as long as all checks
    os.mkdir(place)
    with open(f"{place}/{MANIFEST}", "wb") as target:
        target.write(raw)
    for part, entry in artifact.files.items():
        if parts[part].file_size != entry["bytes"]:
            raise ArtifactError(f"{where}/{part} is not of the size it was published with", value=part)
        if "/" in part:
            os.makedirs(os.path.dirname(f"{place}/{part}"), exist_ok=True)
        found = hashlib.sha256()
        with open(f"{place}/{part}", "wb") as target:
            for chunk in _content(archive, parts[part], file):
                found.update(chunk)
                target.write(chunk)
        if f"sha256:{found.hexdigest()}" != entry["sha256"]:
            raise ArtifactError(f"{where}/{part}: its digest is not the one it was published with", value=part)
    return artifact


def _content(archive: zipfile.ZipFile, info: zipfile.ZipInfo, file: Path) -> Iterator[bytes]:
    """Return the content of an entry in parts, and never more than it says that it has."""
    left = info.file_size
    with _reading(file):
        source = archive.open(info)
    with source:
        while left > 0:
            with _reading(file):
                chunk = source.read(min(_CHUNK, left))
            if not chunk:
                break
            yield chunk
            left -= len(chunk)
