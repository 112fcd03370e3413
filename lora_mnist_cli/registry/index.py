"""A cache of manifests in SQLite, so that ten thousand artifacts are listed without reading ten thousand files.

It decides nothing: an entry counts only while the manifest's file is the very same (device, inode, size and both
times), it may be deleted at any time, and where it can't be read or written the folders are read instead. Only a
large registry has one.

A folder from a stranger may bring an index along. Copied, unpacked or fetched, its manifests are other files than those
that it knows, so none of its entries counts; and no export carries one. SQLite runs what a database tells it to, so a
file is opened only where it looks as those written here do, and read only where it holds the one plain table. Whoever
may write to ``runs/`` itself could still put a false entry beside a manifest, as they could forge the manifest: what
uses an artifact reads that, and ``runs verify`` reads nothing else.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import sqlite3
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_mnist_cli.registry.artifact import Artifact, Parent, read_artifact
from lora_mnist_cli.registry.manifest import KINDS, MANIFEST, is_created, is_digest, is_name, is_subsets
from lora_mnist_cli.system.errors import ArtifactError

INDEX = ".index.sqlite"
WORTHWHILE = 100
"""Manifests that have to be read anew before an index is begun: below that, it saves nothing that anyone notices."""
_VERSION = 2
_COLUMNS = "name, stamp, kind, dataset, digest, created, summary"
_TABLE = f"CREATE TABLE entries ({_COLUMNS.replace('name,', 'name TEXT PRIMARY KEY,')}) WITHOUT ROWID"
_SPARE_ROWS = 1000
"""Entries that an index may have beyond the folders that are there: of artifacts that were removed by hand."""
_MAX_ROW = 2**22
"""Bytes: a sweep of ten thousand adapters, the most there can be, has an entry of some two megabytes."""
_SPARE_BYTES, _BYTES_A_FOLDER = 2**24, 2**15
_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")


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
            "rank": artifact.config.get("rank") or None,  # 0 is none
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
        head = {key: getattr(self, key) for key in ("name", "kind", "created", "digest", "dataset")}
        return {**head, **self._told()}

    @property
    def failed(self) -> bool:
        """Whether its training diverged, so that it has no weights."""
        return bool(self._told()["failed"])

    @property
    def by_name_alone(self) -> bool:
        """Whether no stage takes it by default: it diverged, or was made of adapters by merging or combining."""
        told = self._told()
        of_adapters = self.kind in ("base", "adapter") and any(p["role"] == "adapter" for p in told["parents"])
        return bool(told["failed"]) or of_adapters

    @property
    def parents(self) -> tuple[Parent, ...]:
        """What the artifact was made from."""
        return tuple(Parent(**parent) for parent in self._told()["parents"])

    def _told(self) -> dict[str, Any]:
        """The summary, checked: it is read only when it is asked for, which of most entries it never is."""
        with contextlib.suppress(ValueError, RecursionError):
            found = json.loads(self.summary)
            if _is_summary(found):
                return dict(found)
        raise ArtifactError(
            f"the index of artifacts is damaged: its entry of '{self.name}' makes no sense",
            hint=f"delete {INDEX} in the runs directory; it is made anew",
            value=self.name,
        )


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
    names, known = _known(root)
    remembered = _REMEMBERED.setdefault(str(root.absolute()), {})
    found, changed, errors = {}, {}, []
    for name in names:
        stamp = stamp_of(root, name)
        if stamp is None:
            continue
        row = None if known is None else known.get(name)
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
    gone = set(known or ()) - found.keys()
    if len(changed) >= WORTHWHILE or (known and (changed or gone)):
        _store(root, changed, gone, len(names), anew=known is None)
    return found, errors


def newest(root: Path, kind: str, dataset: str | None) -> Entry | None:
    """The newest artifact of a kind (and data set) of a registry that has an index which is complete.

    Returns:
        The entry, or None where this can't be told from the index alone: then the whole of :func:`entries` tells.
    """
    names, known = _known(root)
    if not known or any(name not in known and stamp_of(root, name) for name in names):
        return None
    fitting = [row for row in known.values() if row[1].kind == kind and dataset in (None, row[1].dataset)]
    if not fitting:
        return None
    # Whether one is a candidate takes a look into the summary to tell, so only the newest are asked.
    for stamp, entry in sorted(fitting, key=lambda row: (row[1].created, row[1].name), reverse=True):
        if stamp_of(root, entry.name) != stamp:
            return None
        if not entry.by_name_alone:
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


def _known(root: Path) -> tuple[list[str], dict[str, tuple[str, Entry]] | None]:
    """The folders that may be artifacts, and what :func:`_load` has of them."""
    names = folders(root)
    known = _load(root, len(names))
    # Others may have published meanwhile: what is known is there, or was removed.
    return (names if not known or known.keys() <= set(names) else folders(root)), known


@contextlib.contextmanager
def _connection(path: Path, mode: str) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=1)) as made:
        if hasattr(made, "setlimit"):  # Python 3.11
            made.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 2 * _MAX_ROW)
            made.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
            made.setlimit(sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH, 0)
        made.execute("PRAGMA trusted_schema = OFF")
        yield made


def _load(root: Path, count: int) -> dict[str, tuple[str, Entry]] | None:
    """Name → stamp and entry as they were, of a registry of so many folders; empty where there is no index.

    None where there is one that can't be used: it is to be begun anew.
    """
    path = root / INDEX
    if not os.path.lexists(path):
        return {}
    if not _is_ours(path, count):
        return None
    try:
        with _connection(path, "ro") as index:
            most = count + _SPARE_ROWS
            # A backstop: a plain scan takes some ten steps a row.
            ticks = itertools.count()
            index.set_progress_handler(lambda: next(ticks) > most // 10 + 100, 1000)
            return _rows(index, most, _most_bytes(count)) if _is_plain_table(index) else None
    except sqlite3.OperationalError as error:
        return {} if "locked" in str(error) else None
    except (sqlite3.Error, OSError):
        return None


def _rows(index: sqlite3.Connection, most: int, most_bytes: int) -> dict[str, tuple[str, Entry]] | None:
    """Name → stamp and entry, or None where there are more than make sense, or one that nobody wrote here."""
    found: dict[str, tuple[str, Entry]] = {}
    for row in index.execute(f"SELECT {_COLUMNS} FROM entries"):
        if len(found) >= most or not all(isinstance(value, str) for value in row):
            return None
        name, stamp, kind, dataset, digest, created, summary = row
        most_bytes -= sum(map(len, row))
        head = is_name(name) and kind in KINDS and is_name(dataset) and is_digest(digest) and is_created(created)
        if not head or most_bytes < 0 or name in found:
            return None
        found[name] = (stamp, Entry(name, kind, dataset, digest, created, summary))
    return found


def _store(
    root: Path, changed: Mapping[str, tuple[str, Entry]], gone: set[str], count: int, *, anew: bool
) -> None:  # fmt: skip
    """Write down what changed, if that is possible; one that is damaged, odd or of another version is begun anew."""
    path = root / INDEX
    rows = [(e.name, stamp, e.kind, e.dataset, e.digest, e.created, e.summary) for stamp, e in changed.values()]
    rows = [row for row in rows if sum(map(len, row)) <= _MAX_ROW]
    for _ in range(2):
        if path.is_symlink():
            return
        try:
            if anew or (path.exists() and not _is_ours(path, count)):
                _take_away(path)
            anew = True
            with _connection(path, "rwc") as index, index:
                version = index.execute("PRAGMA user_version").fetchone()[0]
                if version == 0 and not _schema(index):
                    index.execute(_TABLE)
                    index.execute(f"PRAGMA user_version = {_VERSION}")
                elif version != _VERSION or not _is_plain_table(index):
                    raise sqlite3.DatabaseError("another version")
                index.executemany("DELETE FROM entries WHERE name = ?", [(name,) for name in gone])
                index.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
                return
        except sqlite3.OperationalError:  # locked by another, or on a file system that is read-only or full
            return
        except (sqlite3.Error, OSError):
            continue


def _schema(index: sqlite3.Connection) -> list[tuple[str, str, str]]:
    """Type, name and definition of what a database holds; two entries say enough of one that holds more."""
    return index.execute("SELECT type, name, sql FROM sqlite_master LIMIT 2").fetchall()


def _is_plain_table(index: sqlite3.Connection) -> bool:
    """Whether a database is of this version and holds its one table: no view, trigger or column that computes."""
    version = index.execute("PRAGMA user_version").fetchone()[0]
    return bool(version == _VERSION and _schema(index) == [("table", "entries", _TABLE)])


def _is_ours(path: Path, count: int) -> bool:
    """Whether a file may be opened as a database: what is opened can do more than be read.

    A journal that names another file makes SQLite delete that one; here none ever does. Nor is a log written ahead.
    """
    with contextlib.suppress(OSError):
        if not _is_plain(path) or path.stat().st_size > _most_bytes(count):
            return False
        if os.path.lexists(f"{path}-wal") or os.path.lexists(f"{path}-shm"):
            return False
        journal = Path(f"{path}-journal")
        if os.path.lexists(journal):
            if not _is_plain(journal):
                return False
            with contextlib.suppress(FileNotFoundError), journal.open("rb") as file:  # its writer may be done meanwhile
                file.seek(max(0, os.fstat(file.fileno()).st_size - len(_JOURNAL_MAGIC)))
                if file.read(len(_JOURNAL_MAGIC)) == _JOURNAL_MAGIC:
                    return False
        return True
    return False


def _take_away(path: Path) -> None:
    """Remove an index with whatever lies beside it for SQLite; a symbolic link is removed itself."""
    for suffix in ("-journal", "-wal", "-shm", ""):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{path}{suffix}")


def _most_bytes(count: int) -> int:
    """How large the index of so many folders can be."""
    return _SPARE_BYTES + _BYTES_A_FOLDER * count


def _is_summary(found: Any) -> bool:
    """Whether this is what :meth:`Entry.of` writes."""
    keys = {"digits", "rank", "seed", "parents", "subsets", "bytes", "note", "failed"}
    if not isinstance(found, dict) or found.keys() != keys or not isinstance(found["parents"], list):
        return False
    parents = found["parents"]
    return (
        all(isinstance(found[key], str) or found[key] is None for key in ("digits", "failed"))
        and all(type(found[key]) is int or found[key] is None for key in ("rank", "seed"))
        and type(found["bytes"]) is int
        and isinstance(found["note"], str)
        and all(isinstance(parent, dict) and parent.keys() == {"role", "name", "digest"} for parent in parents)
        and all(isinstance(value, str) for parent in parents for value in parent.values())
        and is_subsets(found["subsets"])
    )


def _is_plain(path: Path) -> bool:
    with contextlib.suppress(OSError):
        return stat.S_ISREG(path.lstat().st_mode)
    return False
