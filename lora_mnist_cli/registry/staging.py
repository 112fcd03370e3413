"""Staging folders of ``runs/``: new artifacts are written there; cleaning removes those of killed processes. No torch.

A staging folder is locked as long as its process lives, so a free lock means that the process is dead. The folder
lists the parents that the work needs, so that nobody removes one meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from lora_mnist_cli.registry.artifact import Artifact, Parent, check_new_name
from lora_mnist_cli.registry.catalog import TAGS, Catalog
from lora_mnist_cli.registry.manifest_types import MANIFEST
from lora_mnist_cli.registry.shared_statistics import drop_unused_statistics, unused_statistics
from lora_mnist_cli.system.errors import ArtifactError, MachineError
from lora_mnist_cli.system.files import flush, machine_errors, make_folder, missing_folders, remove_empty
from lora_mnist_cli.system.locks import HOST, LOCK, exclusive, owner, read_owner
from lora_mnist_cli.system.platforms import here

STAGING = ".staging"
REPLACED = ".replaced"
REMOVED = "removed"
OLD_INDEX = ".index.sqlite"
"""A cache of manifests that earlier versions kept; nothing reads it any more."""
_OWNER = "owner.json"


class StagingArea(Catalog):
    """The artifacts under one folder, with the staging folders beside them."""

    def _lock(self, doing: str) -> AbstractContextManager[None]:
        return exclusive(self.root, doing, self.say)

    @contextlib.contextmanager
    def staging(self, name: str, parents: Sequence[Parent] = ()) -> Iterator[Path]:
        """Make a folder to write an artifact into, and remove it afterwards; see :meth:`staging_all`."""
        with self.staging_all([name], parents) as (folder,):
            yield folder

    @contextlib.contextmanager
    def staging_all(self, names: Sequence[str], parents: Sequence[Parent] = ()) -> Iterator[list[Path]]:
        """Make folders to write artifacts into that are published together, and remove them afterwards.

        It is made before any work is done, so that a folder that can't be written to is found out at once. Dead
        folders of this machine are cleared on the way.

        Args:
            parents: what the work needs; nobody may remove them while it goes on.

        Raises:
            MachineError: where it can't be made.
            ArtifactError: where a parent is gone.
        """
        for name in names:
            check_new_name(name)
        # An empty staging folder is always taken away; the runs folder and those around it, if they were made here.
        made = list(dict.fromkeys([self.root / STAGING, *missing_folders(self.root)]))
        with contextlib.ExitStack() as stack:
            stack.callback(remove_empty, made)
            with machine_errors(f"can't write to {self.root}"):
                outer, handle = self._begin(names[0], parents)
                stack.callback(shutil.rmtree, outer, ignore_errors=True)  # a file that is open may stay before
                stack.callback(os.close, handle)
                stack.callback(self._discard, outer)
                for folder in made[1:]:
                    flush(folder.parent)
                folders = [outer / name for name in names]
                for folder in folders:
                    folder.mkdir()
            yield folders

    def _begin(self, name: str, parents: Sequence[Parent]) -> tuple[Path, int]:
        """Make a locked staging folder; give it with the open file that holds its lock."""
        for _ in range(100):
            with contextlib.suppress(FileNotFoundError):  # another process has just taken the empty folder away
                make_folder(self.root)
                with self._lock(f"making room for {name}"):
                    return self._begin_locked(name, parents)
        raise OSError(f"{self.root} is taken away again and again")

    def _begin_locked(self, name: str, parents: Sequence[Parent]) -> tuple[Path, int]:
        self._refuse_orphan(name, parents)
        self._remove_dead()
        outer = self._new_folder(name)
        try:
            handle = here.open_file(outer / _OWNER, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            try:
                for _ in range(1000):
                    if here.try_lock(handle):
                        break
                    time.sleep(0.001)  # one that only looks has it for a moment
                else:
                    raise OSError("this file system's locks don't work")
                os.write(handle, owner(name=name, needs=[parent.digest for parent in parents]))
            except BaseException:
                os.close(handle)
                raise
        except BaseException:
            shutil.rmtree(outer, ignore_errors=True)
            raise
        return outer, handle

    def _new_folder(self, name: str) -> Path:
        """Make a new staging folder; its name begins with the artifact's."""
        for _ in range(100):
            with contextlib.suppress(FileNotFoundError):  # another process has just removed the empty folder
                make_folder(self._staging_root())
                return Path(tempfile.mkdtemp(prefix=f"{name}@{HOST}@", dir=self._staging_root()))
        raise OSError(f"{self._staging_root()} is taken away again and again")

    def _staging_root(self) -> Path:
        folder = self.root / STAGING
        if folder.is_symlink():
            raise ArtifactError(f"{folder} is a symbolic link: nothing is written through it", value=folder)
        return folder

    def _discard(self, outer: Path) -> None:
        """Remove a staging folder; an artifact that was about to be replaced goes back to its place first.

        Where an artifact was being removed, its aliases may be left: they go first, or none would know of them.
        Statistics that nothing else shares go last.
        """
        final = self.root / outer.name.partition("@")[0]
        for old in (outer / REPLACED).glob("*"):
            if (old / MANIFEST).is_file() and not (self.root / old.name).exists():
                with contextlib.suppress(OSError):
                    here.rename(old, self.root / old.name)
        if (outer / REMOVED).is_dir():
            removed = self.readable(f"{STAGING}/{outer.name}/{REMOVED}")
            with contextlib.suppress(OSError):
                self._forget([final.name], [] if removed is None else [removed])
        held = _files(outer)
        shutil.rmtree(outer, ignore_errors=True)
        if held:
            drop_unused_statistics(self.root)

    def clean(self, *, dry_run: bool = False, all_hosts: bool = False) -> list[dict[str, Any]]:
        """Remove what killed processes left, and statistics that no artifact shares any more.

        A folder of artifacts that has nothing else in it goes too.

        Args:
            dry_run: only look.
            all_hosts: those of other machines too. A lock that another machine holds may not be seen here, so this is
                for when no other machine works in this folder.

        Returns:
            For each staging folder its ``folder``, the ``name`` that it was to become, ``host``, ``pid`` and start of
            its process, ``state`` (``live``, ``dead`` or ``another host``), ``bytes`` and ``files``, and whether it
            was ``removed``.

        Raises:
            MachineError: where the folder can't be written to.
        """
        if not self._needs_cleaning():
            return []
        if dry_run:
            return self._clean(dry_run=True, all_hosts=all_hosts)
        with machine_errors(f"can't clean {self.root}"), self._lock("cleaning up"):
            for path in self._leftovers():
                path.unlink(missing_ok=True)
            found = self._clean(all_hosts=all_hosts)
            drop_unused_statistics(self.root)
            remove_empty([self.root / STAGING, self.root / TAGS])
        remove_empty([self.root])
        return found

    def _needs_cleaning(self) -> bool:
        """Tell whether a killed process may have left something; a live one that changes the folder looks the same."""
        has = (self.root / STAGING).is_dir() or (self.root / LOCK).is_file()
        return has or bool(self._leftovers() or unused_statistics(self.root))

    def tidy(self) -> None:
        """Remove the files of killed processes, if possible: for a stage that has nothing else to do.

        A process may be killed when its work is published and its staging folder is not yet gone.
        """
        with contextlib.suppress(MachineError, ArtifactError):
            self.clean()

    def _was_removing(self, name: str) -> bool:
        """Return whether a process was killed while it removed an artifact, so that only a hidden rest is left."""
        root = self._staging_root()
        return any(
            row["state"] == "dead" and row["name"] == name and not (root / row["folder"] / _OWNER).exists()
            for row in self._clean(dry_run=True)
        )

    def _leftovers(self) -> list[Path]:
        """Return files that a killed process was about to rename, and the index that earlier versions kept."""
        folder, index = self.root / TAGS, self.root / OLD_INDEX
        found = [] if folder.is_symlink() else list(folder.glob(".*.new"))
        return [*found, index] if index.is_file() or index.is_symlink() else found

    def _remove_dead(self) -> None:
        """Remove the staging folders of this machine that no process has locked; those of live ones are not read.

        A bank of many adapters calls this once per adapter, beside the folders of all the others.
        """
        with contextlib.suppress(OSError):
            os.unlink(self.root / OLD_INDEX)
        for folder in self._staging_folders():
            if folder.name.split("@")[1] == HOST and not _is_locked(folder / _OWNER):
                self._discard(folder)

    def _staging_folders(self) -> list[Path]:
        """Return the staging folders, sorted; symbolic links are none."""
        root = self._staging_root()
        with contextlib.suppress(FileNotFoundError), os.scandir(root) as found:
            return sorted(root / e.name for e in found if e.name.count("@") >= 2 and not e.is_symlink())
        return []

    def _clean(self, *, dry_run: bool = False, all_hosts: bool = False) -> list[dict[str, Any]]:
        found = []
        for folder in self._staging_folders():
            who, files = read_owner(folder / _OWNER), _files(folder)
            name, host = folder.name.split("@")[:2]
            state = "live" if _is_locked(folder / _OWNER) else "dead" if host == HOST else "another host"
            remove = not dry_run and (state == "dead" or (state == "another host" and all_hosts))
            found.append(
                {
                    "folder": folder.name,
                    "name": name,
                    "host": host,
                    "pid": who.get("pid"),
                    "started": who.get("started"),
                    "needs": who.get("needs", []),
                    "state": state,
                    "bytes": sum(files.values()),
                    "files": list(files),
                    "removed": remove,
                }
            )
            if remove:
                self._discard(folder)
        return found

    def _refuse_orphan(self, name: str, parents: Sequence[Parent]) -> None:
        """Refuse an artifact if one of its parents is missing."""
        # By name first; the folders are gone through only where a parent was renamed, and then once.
        elsewhere = [parent for parent in parents if self.locate(parent.name, parent.digest, ()) is None]
        have = {entry.digest for entry in self.scan()[0]} if elsewhere else set()
        for parent in elsewhere:
            if parent.digest not in have:
                raise ArtifactError(
                    f"'{name}' needs '{parent.name}' ({parent.digest[:19]}…), which was removed meanwhile",
                    hint="make that again, then this",
                    value=parent.name,
                )

    def _refuse_if_in_use(self, artifacts: Sequence[Artifact], done: str) -> None:
        digests = {artifact.digest: artifact.name for artifact in artifacts}
        for staged in self._clean(dry_run=True):
            for digest in staged["needs"] if staged["state"] == "live" else ():
                if digest in digests:
                    raise ArtifactError(
                        f"'{digests[digest]}' can't be {done}: process {staged['pid']} on {staged['host']} is making "
                        f"'{staged['name']}' from it",
                        hint="wait until it is done, or stop it",
                        value=digests[digest],
                    )

    def _forget(self, names: Sequence[str], artifacts: Sequence[Artifact]) -> None:
        """Remove the aliases of removed names, and of artifacts that were the last of their content; say so."""
        gone = {*names, *(artifact.digest for artifact in artifacts)}
        for alias, (name, digest) in self.tags().items():
            if gone & {name, digest} and self.locate(name, digest) is None:
                (self.root / TAGS / alias).unlink(missing_ok=True)
                flush(self.root / TAGS)
                self.say(f"the alias '@{alias}' stood for '{name}' and is gone with it")
        remove_empty([self.root / TAGS])


def _files(folder: Path) -> dict[str, int]:
    """Return the files in a staging folder and their sizes; another process may be removing them meanwhile."""
    found = {}
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place) / name
            with contextlib.suppress(OSError):
                if name != _OWNER and stat.S_ISREG((status := path.lstat()).st_mode):
                    found[path.relative_to(folder).as_posix()] = status.st_size
    return dict(sorted(found.items()))


def _is_locked(path: Path) -> bool:
    """Return whether a process holds the lock of a file; a missing file has none."""
    try:
        handle = here.open_file(path, os.O_RDWR)
    except PermissionError:
        return True  # another user's; not ours to judge
    except OSError:
        return False
    try:
        return not here.try_lock(handle)
    finally:
        os.close(handle)
