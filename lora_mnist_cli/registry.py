"""The folder of artifacts: publish whole or not at all, find, resolve, remove. No torch.

An artifact is written into a staging folder on the same file system, flushed, and renamed into place, so a reader
sees a whole artifact or none. The rename doubles as the lock: of several processes that publish one name, the file
system lets exactly one through.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from lora_mnist_cli.artifact import (
    MANIFEST,
    Artifact,
    Settings,
    check_name,
    content_digest,
    is_name,
    read_artifact,
    seal_of,
    sha256,
)
from lora_mnist_cli.errors import ArtifactError, MachineError, OtherSettingsError, UsageError, nearest
from lora_mnist_cli.folders import missing_folders, remove_empty

STAGING = ".staging"
_LOCK = ".lock"
_REPLACED = "replaced"
_HOST = socket.gethostname()

# What makes an artifact of each kind, for "which command comes first".
MAKERS = {
    "base": "lora-mnist train-base",
    "adapter": "lora-mnist finetune",
    "sweep": "lora-mnist sweep",
    "report": "lora-mnist reproduce",
}


@contextlib.contextmanager
def machine_errors(what: str) -> Iterator[None]:
    """Turns the operating system's refusals inside into one line with an exit code.

    Raises:
        MachineError: for a full disk, a missing permission, a read-only file system and the like.
    """
    try:
        yield
    except OSError as error:
        hints = {
            errno.ENOSPC: "free some space, or choose another --runs-dir",
            errno.EDQUOT: "free some space, or choose another --runs-dir",
            errno.EACCES: "choose a --runs-dir that you may write to",
            errno.EPERM: "choose a --runs-dir that you may write to",
            errno.EROFS: "choose a --runs-dir that you may write to",
        }
        reason = error.strerror or str(error)
        raise MachineError(f"{what}: {reason}", hint=hints.get(error.errno or 0, ""), value=error) from error


class Registry:
    """The artifacts under one folder. The folder need not exist until something is published.

    Args:
        root: the folder, ``runs/`` by default.

    Raises:
        UsageError: where ``root`` is something else than a folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        if root.exists() and not root.is_dir():
            raise UsageError(f"the runs directory '{root}' is a file", hint="choose another --runs-dir", value=root)

    def names(self) -> list[str]:
        """Names of all artifacts, sorted; what lies around without a manifest is none."""
        try:
            with os.scandir(self.root) as entries:
                folders = [e.name for e in entries if not e.name.startswith(".") and e.is_dir(follow_symlinks=False)]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise MachineError(f"can't read {self.root}: {error.strerror}", value=self.root) from error
        return sorted(name for name in folders if is_name(name) and (self.root / name / MANIFEST).is_file())

    def scan(self) -> tuple[list[Artifact], list[ArtifactError]]:
        """All artifacts, oldest first, and what is wrong with those that can't be read."""
        artifacts, errors = [], []
        for name in self.names():
            try:
                artifacts.append(read_artifact(self.root / name))
            except ArtifactError as error:
                errors.append(error)
        return sorted(artifacts, key=lambda artifact: (artifact.created, artifact.name)), errors

    def get(self, name: str, *kinds: str) -> Artifact:
        """The artifact of that name.

        Args:
            kinds: the kinds that will do; any by default.

        Raises:
            ArtifactError: where there is none of the name (the nearest is offered), it is damaged, or another kind.
        """
        check_name(name)
        if not (self.root / name / MANIFEST).is_file():
            names = self.names()
            hint = nearest(name, names) or ("lora-mnist runs list shows what is there" if names else "")
            if not names:
                hint = f"nothing was made yet; begin with: {MAKERS['base']}"
            raise ArtifactError(f"there is no artifact '{name}' in {self.root}", hint=hint, value=name)
        artifact = read_artifact(self.root / name)
        if kinds and artifact.kind not in kinds:
            members = [parent.name for parent in artifact.parents if parent.role == "member"]
            hint = f"it has {', '.join(members)}" if members else ""
            wanted = " or ".join(kinds)
            raise ArtifactError(f"'{name}' is of kind {artifact.kind}, and {wanted} is needed", hint=hint, value=name)
        return artifact

    def latest(self, *kinds: str, dataset: str | None = None) -> Artifact:
        """The newest artifact of the first kind of which there is one.

        Raises:
            ArtifactError: where there is none; it says which command comes first.
        """
        artifacts, errors = self.scan()
        for kind in kinds:
            fitting = [a for a in artifacts if a.kind == kind and dataset in (None, a.dataset)]
            if fitting:
                return fitting[-1]
        if errors:
            raise errors[0]
        of = f" of {dataset}" if dataset else ""
        first = MAKERS["base"] + (f" --dataset {dataset}" if dataset else "")
        steps = [MAKERS[kinds[0]]] if kinds[0] != "base" else []
        if not any(a.kind == "base" and dataset in (None, a.dataset) for a in artifacts):
            steps.insert(0, first)
        raise ArtifactError(f"there is no {kinds[0]}{of} in {self.root} yet", hint=f"first: {', then '.join(steps)}")

    def parent(self, artifact: Artifact, role: str = "base") -> Artifact:
        """The parent of that role: by name, or wherever its content is now if that folder was renamed.

        Raises:
            ArtifactError: where there is none, or no artifact has the digest that the lineage names.
        """
        for parent in artifact.parents:
            if parent.role != role:
                continue
            if (self.root / check_name(parent.name) / MANIFEST).is_file():
                candidate = read_artifact(self.root / parent.name)
                if candidate.digest == parent.digest:
                    return candidate
            for candidate in self.scan()[0]:
                if candidate.digest == parent.digest:
                    return candidate
            raise ArtifactError(
                f"'{artifact.name}' was made from {role} '{parent.name}' ({parent.digest[:19]}…), which is not in "
                f"{self.root}",
                hint="bring that artifact back, or make this one again on the present base with another --name",
                value=parent.name,
            )
        raise ArtifactError(f"'{artifact.name}' has no {role}", value=artifact.name)

    def descendants(self, artifact: Artifact) -> list[Artifact]:
        """The artifacts that were made from this one or list it, unless another artifact has the same content."""
        artifacts, _ = self.scan()
        if any(a.digest == artifact.digest and a.name != artifact.name for a in artifacts):
            return []
        return [a for a in artifacts if any(parent.digest == artifact.digest for parent in a.parents)]

    def up_to_date(self, name: str, settings: Settings, *, force: bool = False) -> Artifact | None:
        """The artifact of that name if it has these settings, or None if the work has to be done.

        Args:
            force: do the work in any case, in place of what is there.

        Raises:
            OtherSettingsError: where the name has other settings and ``force`` is not given.
            ArtifactError: where what is there is damaged, or others need what ``force`` would replace.
        """
        check_name(name)
        if not self._taken(name):
            return None
        found = read_artifact(self.root / name) if not force else self._readable(name)
        same = found is not None and found.fingerprint == settings.fingerprint()
        if force:
            if found is not None and not same:
                self._refuse_if_needed(found, "replaced")
            return None
        assert found is not None
        if same:
            return found
        old, new = found.settings.flat(), settings.flat()
        differing = [
            f"{key} {_show(old.get(key))} there, {_show(new.get(key))} asked for"
            for key in [*old, *(key for key in new if key not in old)]
            if old.get(key) != new.get(key)
        ]
        raise OtherSettingsError(
            f"'{name}' exists with other settings: {'; '.join(differing)}",
            hint="--name NEW keeps both, --force replaces it",
            value=name,
        )

    @contextlib.contextmanager
    def staging(self, name: str) -> Iterator[Path]:
        """A new folder to write an artifact into; whatever is left of it afterwards is removed.

        It is made before any work is done, so that a folder that can't be written to is found out at once. A lock on a
        file in it lives as long as the process: a folder whose lock is free is dead, and the next stage clears it.

        Raises:
            MachineError: where it can't be made.
        """
        check_name(name)
        # An empty staging folder is always taken away; the runs folder and those around it, if they were made here.
        made = list(dict.fromkeys([self.root / STAGING, *missing_folders(self.root)]))
        with contextlib.ExitStack() as stack:
            stack.callback(remove_empty, made)
            with machine_errors(f"can't write to {self.root}"):
                outer = self._make_staging(name)
                stack.callback(self._discard, outer)
                # The lock is taken before the file has the name that a cleaner looks for, so it never finds it free.
                lock = os.open(outer / f"{_LOCK}.new", os.O_RDWR | os.O_CREAT, 0o644)
                stack.callback(os.close, lock)
                fcntl.flock(lock, fcntl.LOCK_EX)
                os.rename(outer / f"{_LOCK}.new", outer / _LOCK)
                self.clean()
                inner = outer / name
                inner.mkdir()
            yield inner

    def _make_staging(self, name: str) -> Path:
        for attempt in range(10):
            (self.root / STAGING).mkdir(parents=True, exist_ok=True)
            try:
                return Path(tempfile.mkdtemp(prefix=f"{name}@{_HOST}@", dir=self.root / STAGING))
            except FileNotFoundError:  # another process has just taken the empty folder away
                if attempt == 9:
                    raise
        raise AssertionError

    def _discard(self, outer: Path) -> None:
        """Remove a staging folder; an artifact that was about to be replaced goes back to its place first."""
        old = outer / _REPLACED
        name = outer.name.partition("@")[0]
        if (old / MANIFEST).is_file() and not (self.root / name).exists():
            os.rename(old, self.root / name)
        shutil.rmtree(outer, ignore_errors=True)

    def clean(self) -> list[str]:
        """Remove staging folders that a killed process of this machine left; returns their names."""
        removed = []
        for folder in (self.root / STAGING).glob(f"*@{_HOST}@*"):
            with contextlib.suppress(OSError):
                lock = os.open(folder / _LOCK, os.O_RDWR)
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    self._discard(folder)
                    removed.append(folder.name)
                finally:
                    os.close(lock)
        return removed

    def publish(
        self, staged: Path, settings: Settings, *, scores: dict[str, Any], details: dict[str, Any],
        environment: dict[str, Any], wall_seconds: float, force: bool = False,
    ) -> Artifact:  # fmt: skip
        """Make a staged folder an artifact: write its manifest, flush everything, rename it into place.

        Returns:
            The artifact; another process's where that one was first with the same settings.

        Raises:
            ArtifactError: where the name was taken meanwhile, with other settings.
            MachineError: where the disk is full or the folder may not be written; nothing is left then.
        """
        name, final = staged.name, self.root / staged.name
        with machine_errors(f"can't publish {final}"):
            files = {}
            for path in sorted(p for p in staged.rglob("*") if p.is_file()):
                content = path.read_bytes()
                files[path.relative_to(staged).as_posix()] = {"bytes": len(content), "sha256": sha256(content)}
                _flush(path)
            fingerprint = settings.fingerprint()
            artifact = Artifact(
                path=final,
                name=name,
                kind=settings.kind,
                created=datetime.fromtimestamp(time.time(), timezone.utc).isoformat(timespec="microseconds"),
                digest=content_digest(fingerprint, files),
                fingerprint=fingerprint,
                seal="",
                settings=settings,
                scores=scores,
                details=details,
                environment=environment,
                wall_seconds=round(wall_seconds, 3),
                files=files,
            )
            manifest = artifact.to_manifest()
            manifest["seal"] = seal_of(manifest)
            text = json.dumps(manifest, indent=2, allow_nan=False) + "\n"
            (staged / MANIFEST).write_text(text, encoding="utf-8")
            _flush(staged / MANIFEST)
            for folder in (*(p for p in staged.rglob("*") if p.is_dir()), staged):
                _flush(folder)
            if force and self._taken(name):
                found = self._readable(name)
                if found is not None and found.digest != artifact.digest:
                    self._refuse_if_needed(found, "replaced")
                os.rename(final, staged.parent / _REPLACED)
            try:
                os.rename(staged, final)
            except OSError as error:
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                    raise
                first = self.up_to_date(name, settings)
                if first is None:
                    raise
                return first
            _flush(self.root)
        return read_artifact(final)

    def remove(self, name: str) -> None:
        """Remove an artifact that no other needs; a damaged one too.

        Raises:
            ArtifactError: where there is none, or others were made from it; it names them.
        """
        check_name(name)
        artifact = self._readable(name)
        if artifact is None and not (self.root / name / MANIFEST).is_file():
            self.get(name)
        if artifact is not None:
            self._refuse_if_needed(artifact, "removed")
        with self.staging(name) as staged, machine_errors(f"can't remove {self.root / name}"):
            # Out of sight in one step first: a reader never sees an artifact that is half gone.
            os.rename(self.root / name, staged.parent / "removed")
            _flush(self.root)

    def _taken(self, name: str) -> bool:
        """Whether there is an artifact of that name, sound or not.

        Raises:
            ArtifactError: where there is something else of that name; it is nothing of ours to replace.
        """
        path = self.root / name
        if (path / MANIFEST).is_file():
            return True
        if os.path.lexists(path):
            raise ArtifactError(f"{path} is there and is no artifact", hint="move it, or give a --name", value=name)
        return False

    def _readable(self, name: str) -> Artifact | None:
        try:
            return read_artifact(self.root / name)
        except ArtifactError:
            return None

    def _refuse_if_needed(self, artifact: Artifact, done: str) -> None:
        needed_by = [a.name for a in self.descendants(artifact)]
        if needed_by:
            verb = "needs" if len(needed_by) == 1 else "need"
            raise ArtifactError(
                f"'{artifact.name}' can't be {done}: {', '.join(needed_by)} {verb} it",
                hint="first: lora-mnist runs remove NAME" + (", or give a --name" if done == "replaced" else ""),
                value=artifact.name,
            )


def _flush(path: Path) -> None:
    """Bring a file or folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _show(value: object) -> str:
    if isinstance(value, str) and value.startswith("sha256:"):
        return value[:19] + "…"
    return json.dumps(value)
