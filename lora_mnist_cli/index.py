"""A cache of manifests in SQLite, so that ten thousand artifacts are listed without reading ten thousand files.

It decides nothing: an entry counts only while the manifest's file is the very same (device, inode, size and both
times), it may be deleted at any time, and where it can't be read or written the folders are read instead. Only a
large registry has one.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_mnist_cli.artifact import Artifact, Parent, read_artifact
from lora_mnist_cli.errors import ArtifactError
from lora_mnist_cli.manifest import MANIFEST, is_name

INDEX = ".index.sqlite"
WORTHWHILE = 100
"""Manifests that have to be read anew before an index is begun: below that, it saves nothing that anyone notices."""
_VERSION = 2
_COLUMNS = "name, stamp, kind, dataset, digest, created, summary"
_TABLE = f"CREATE TABLE IF NOT EXISTS entries ({_COLUMNS.replace('name,', 'name TEXT PRIMARY KEY,')}) WITHOUT ROWID"


_REMEMBERED: dict[str, dict[str, tuple[str, Entry]]] = {}
"""Folder → name → stamp and entry that this process has read: a sweep asks after each adapter that it publishes."""


@dataclass(frozen=True)
class Entry:
    """What listing and finding need of an artifact.

    Args:
        summary: as JSON, what else ``runs list`` shows: digits, rank, seed, parents, subset scores, bytes, note, and
            why training failed.
    """

    name: str
    kind: str
    dataset: str
    digest: str
    created: str
    summary: str

    @classmethod
    def of(cls, artifact: Artifact) -> Entry:
        """The entry of an artifact."""
        summary = {
            "digits": artifact.config.get("digits"),
            "rank": artifact.config.get("rank"),
            "seed": artifact.config.get("seed"),
            "parents": [{"role": p.role, "name": p.name, "digest": p.digest} for p in artifact.parents],
            "subsets": artifact.scores.get("subsets", []),
            "bytes": sum(entry["bytes"] for entry in artifact.files.values()),
            "note": artifact.note,
            "failed": artifact.details.get("failed"),
        }
        return cls(
            artifact.name, artifact.kind, artifact.dataset, artifact.digest, artifact.created, json.dumps(summary)
        )

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        found = json.loads(self.summary)
        head = {key: getattr(self, key) for key in ("name", "kind", "created", "digest", "dataset")}
        return {**head, **found}

    @property
    def failed(self) -> bool:
        """Whether its training diverged, so that it has no weights."""
        return bool(json.loads(self.summary)["failed"])

    @property
    def parents(self) -> tuple[Parent, ...]:
        """What the artifact was made from."""
        return tuple(Parent(**parent) for parent in json.loads(self.summary)["parents"])


def folders(root: Path) -> list[str]:
    """Names of the folders that may be artifacts, in no order; symbolic links are none.

    Raises:
        OSError: where the folder is there and can't be read.
    """
    try:
        with os.scandir(root) as found:
            return [e.name for e in found if is_name(e.name) and e.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []


def entries(root: Path) -> tuple[dict[str, Entry], list[ArtifactError]]:
    """Name → entry of all artifacts, and what is wrong with those that can't be read.

    Raises:
        OSError: where the folder is there and can't be read.
    """
    known = _load(root)
    remembered = _REMEMBERED.setdefault(str(root.absolute()), {})
    found, changed, errors = {}, {}, []
    for name in folders(root):
        stamp = stamp_of(root, name)
        if stamp is None:
            continue
        row = known.get(name)
        if row is not None and row[0] == stamp:
            found[name] = row[1]
            continue
        try:
            row = remembered.get(name)
            if row is None or row[0] != stamp:
                row = remembered[name] = (stamp, Entry.of(read_artifact(root / name)))
            found[name] = row[1]
            changed[name] = row
        except ArtifactError as error:
            if stamp_of(root, name) is not None:  # otherwise it was removed meanwhile
                errors.append(error)
    gone = known.keys() - found.keys()
    if len(changed) >= WORTHWHILE or (known and (changed or gone)):
        _store(root, changed, gone)
    return found, errors


def newest(root: Path, kind: str, dataset: str | None) -> Entry | None:
    """The newest artifact of a kind (and data set) of a registry that has an index which is complete.

    Returns:
        The entry, or None where this can't be told from the index alone: then the whole of :func:`entries` tells.
    """
    known = _load(root)
    if not known or any(name not in known and stamp_of(root, name) for name in folders(root)):
        return None
    fitting = [row for row in known.values() if row[1].kind == kind and dataset in (None, row[1].dataset)]
    if not fitting:
        return None
    # A failed one is no candidate; to tell takes a look into the summary, so only the newest are asked.
    for stamp, entry in sorted(fitting, key=lambda row: (row[1].created, row[1].name), reverse=True):
        if stamp_of(root, entry.name) != stamp:
            return None
        if not entry.failed:
            return entry
    return None


def stamp_of(root: Path, name: str) -> str | None:
    """What changes whenever a manifest does; None where there is no such file."""
    try:
        found = os.stat(f"{root}/{name}/{MANIFEST}", follow_symlinks=False)
    except OSError:
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return f"{found.st_dev}-{found.st_ino}-{found.st_size}-{found.st_mtime_ns}-{found.st_ctime_ns}"


@contextlib.contextmanager
def _connection(path: Path, mode: str) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=1)) as made:
        yield made


def _load(root: Path) -> dict[str, tuple[str, Entry]]:
    """Name → stamp and entry as they were; empty where there is no index, or it can't be used."""
    path = root / INDEX
    if not _is_plain(path):
        return {}
    with contextlib.suppress(sqlite3.Error, OSError), _connection(path, "ro") as index:
        if index.execute("PRAGMA user_version").fetchone()[0] == _VERSION:
            rows = index.execute(f"SELECT {_COLUMNS} FROM entries")
            whole = (row for row in rows if all(isinstance(value, str) for value in row))
            return {row[0]: (row[1], Entry(row[0], row[2], row[3], row[4], row[5], row[6])) for row in whole}
    return {}


def _store(root: Path, changed: Mapping[str, tuple[str, Entry]], gone: set[str]) -> None:
    """Write down what changed, if that is possible; one that is damaged or of another version is begun anew."""
    path = root / INDEX
    rows = [(e.name, stamp, e.kind, e.dataset, e.digest, e.created, e.summary) for stamp, e in changed.values()]
    for _ in range(2):
        if path.is_symlink():
            return
        try:
            with _connection(path, "rwc") as index, index:
                version = index.execute("PRAGMA user_version").fetchone()[0]
                if version not in (0, _VERSION):
                    raise sqlite3.DatabaseError("another version")
                index.execute(_TABLE)
                index.execute(f"PRAGMA user_version = {_VERSION}")
                index.executemany("DELETE FROM entries WHERE name = ?", [(name,) for name in gone])
                index.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
                return
        except sqlite3.OperationalError:  # locked by another, or on a file system that is read-only or full
            return
        except sqlite3.Error:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        except OSError:
            return


def _is_plain(path: Path) -> bool:
    with contextlib.suppress(OSError):
        return stat.S_ISREG(path.lstat().st_mode)
    return False
