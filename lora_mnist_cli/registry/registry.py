"""Changing ``runs/``: publish whole or not at all, replace, remove, tag. No torch.

An artifact is written into a staging folder on the same file system, flushed, and renamed into place, so a reader
sees a whole artifact or none. What has to be true at that moment (the parents are there, the name is free) is checked
and done under one lock, so that two processes can't both find it true.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lora_mnist_cli.registry.artifact import Artifact, Settings, check_name, check_new_name, read_artifact
from lora_mnist_cli.registry.catalog import TAGS, ignore
from lora_mnist_cli.registry.creation import forget_created, later, next_created, remember_created
from lora_mnist_cli.registry.entries import Entry, children_first
from lora_mnist_cli.registry.manifest import refuse_role
from lora_mnist_cli.registry.manifest_types import MAX_NOTE
from lora_mnist_cli.registry.shared_statistics import drop_unused_statistics
from lora_mnist_cli.registry.staged import Staged
from lora_mnist_cli.registry.staging import REMOVED, REPLACED, STAGING, StagingArea
from lora_mnist_cli.settings.lists import some
from lora_mnist_cli.system.errors import ArtifactError, UsageError
from lora_mnist_cli.system.files import flush, flush_all, flush_trees, machine_errors, remove_empty, whole_file
from lora_mnist_cli.system.platforms import here

__all__ = ["STAGING", "Registry"]


class Registry(StagingArea):
    """The artifacts under one folder, to read and to change. It is made when something is published.

    Args:
        root: the folder, ``runs/`` by default.
        say: hears what is waited for.
        note: what the user has to say of all that is published; kept with it, but no part of its settings.

    Raises:
        UsageError: where ``root`` is something else than a folder, or the note is too long.
    """

    def __init__(self, root: Path, say: Callable[[str], None] = ignore, *, note: str = "") -> None:
        super().__init__(root, say)
        self.note = check_note(note)

    def publish(
        self, staged: Path, settings: Settings, *, scores: dict[str, Any], details: dict[str, Any],
        environment: dict[str, Any], wall_seconds: float, force: bool = False,
    ) -> Artifact:  # fmt: skip
        """Make a staged folder an artifact: write its manifest, flush everything, rename it into place.

        Returns:
            The artifact; another process's where that one was first with the same settings.

        Raises:
            ArtifactError: where the name was taken meanwhile, with other settings, or a parent is gone.
            MachineError: where the disk is full or the folder may not be written; nothing is left then.
        """
        one = Staged(staged, settings, scores, details, environment, wall_seconds, self.note)
        return self.publish_all([one], force=force)[0]

    def publish_all(self, staged: Sequence[Staged], *, force: bool = False) -> list[Artifact]:
        """Publish artifacts of one staging folder as :meth:`publish` does, under one flush.

        Everything is on the disk before the first of them can be seen. So each is whole where the process is killed
        meanwhile, and where it fails none is published.
        """
        names = [one.name for one in staged]
        with machine_errors(f"can't publish {self.root / names[0]}"):
            flush_all([path for one in staged if one.files for path in one.paths], len(staged))
            with self._lock(f"publishing {some(names, 1)}"):
                first = next_created(self.root, lambda: [entry.created for entry in self.scan()[0]])
                # What no reader would take is not published.
                artifacts = [one.write_manifest(self.root, later(first, i)) for i, one in enumerate(staged)]
                flush_all([path for one in staged for path in one.rest()], len(staged))
                for parents, name in {artifact.parents: artifact.name for artifact in artifacts}.items():
                    self._refuse_orphan(name, parents)
                new = sum(not self.taken(name) for name in names)
                remember_created(self.root, artifacts[-1].created, new_folders=new)
                return self._install(staged, artifacts, force)

    def admit(self, staged: Sequence[Artifact]) -> list[Artifact]:
        """Publish artifacts that bring their manifests along, parents before children: all of them or none.

        Args:
            staged: what was read from folders that lie in a staging folder.

        Returns:
            Those that were not there already.

        Raises:
            ArtifactError: where a name is taken by something else, or a parent is missing.
            MachineError: where they can't be written.
        """
        root = str(self.root)
        with machine_errors(f"can't write to {root}"):
            flush_trees([artifact.path for artifact in staged])
            with self._lock("importing"):
                fresh = self._fresh(staged)
                forget_created(self.root)  # what comes from elsewhere may be newer than anything here
                try:
                    for artifact in fresh:
                        here.rename(artifact.path, f"{root}/{artifact.name}")
                    flush(self.root)
                except BaseException:
                    # Parents came first, so they go last: whoever looks meanwhile sees nothing that lacks its own.
                    for artifact in reversed(fresh):
                        if not artifact.path.exists():
                            with contextlib.suppress(OSError):
                                here.rename(f"{root}/{artifact.name}", artifact.path)
                    raise
        return [replace(artifact, path=self.root / artifact.name) for artifact in fresh]

    def _fresh(self, staged: Sequence[Artifact]) -> list[Artifact]:
        """Return those that are not here already; refuse them all where one can't be published."""
        found, _ = self.scan()
        have = {entry.digest: entry for entry in (*found, *map(Entry.of, staged))}
        root, fresh = str(self.root), []
        for artifact in staged:
            missing = [parent.name for parent in artifact.parents if parent.digest not in have]
            if missing:
                raise ArtifactError(
                    f"'{artifact.name}' was made from {some(missing)}, which is neither here nor in the file",
                    hint="export it with its lineage, or import that first",
                    value=missing,
                )
            for parent in artifact.parents:
                refuse_role(artifact.name, parent.role, parent.name, have[parent.digest].kind)
            if not os.path.lexists(f"{root}/{artifact.name}"):  # as a rule, and so the cheapest question first
                fresh.append(artifact)
                continue
            self.taken(artifact.name)
            if (there := self.readable(artifact.name)) is None or there.digest != artifact.digest:
                raise ArtifactError(
                    f"'{artifact.name}' is in {self.root} already, with other content",
                    hint=f"lora-mnist runs diff tells of two; lora-mnist runs remove {artifact.name} makes room",
                    value=artifact.name,
                )
        return fresh

    def _install(self, staged: Sequence[Staged], artifacts: Sequence[Artifact], force: bool) -> list[Artifact]:
        """Rename complete folders into place; the lock is held. What fails has changed nothing."""
        taken = {artifact.name for artifact in artifacts if self.taken(artifact.name)}
        ours = []
        for one, artifact in zip(staged, artifacts, strict=True):
            if artifact.name in taken and force:
                self._refuse_to_replace(artifact)
            if artifact.name not in taken or force:
                ours.append(one)
            else:
                self.up_to_date(artifact.name, artifact.settings)
        undo: list[Callable[[], object]] = []
        try:
            for one in ours:
                undo.append(self._put_in_place(one, replace=one.name in taken))
            if ours:
                flush(self.root)
        except BaseException:
            forget_created(self.root)
            for step in reversed(undo):
                step()
            raise
        return [read_artifact(artifact.path) for artifact in artifacts]

    def _refuse_to_replace(self, artifact: Artifact) -> None:
        """Refuse to put an artifact in the place of one of its name that others need, or work with."""
        found = self.readable(artifact.name)
        self.refuse_if_needed(artifact.name, "replaced", besides=artifact.digest)
        if found is not None and found.digest != artifact.digest:
            self._refuse_if_in_use([found], "replaced")

    def _put_in_place(self, staged: Staged, *, replace: bool) -> Callable[[], object]:
        """Rename a folder into its place; return what takes that back."""
        folder, final = staged.folder, self.root / staged.name
        # In one step where the system can: then the name is never without an artifact.
        if replace and here.exchange(folder, final):
            return lambda: here.exchange(folder, final)
        if replace:
            (folder.parent / REPLACED).mkdir(exist_ok=True)
            here.rename(final, folder.parent / REPLACED / staged.name)
        here.rename(folder, final)
        return lambda: here.rename(final, folder)

    def _settle(self, undo: Callable[[], object]) -> None:
        """Flush the folder after a change that is seen already, or take it back: what fails has changed nothing."""
        try:
            flush(self.root)
        except OSError:
            undo()
            raise

    def remove(self, name: str, *, cascade: bool = False) -> list[str]:
        """Remove an artifact that no other needs; a damaged one too.

        Args:
            cascade: with all that was made from it.

        Returns:
            The names that were removed; what was made from others goes first, so that whatever stays is whole.

        Raises:
            ArtifactError: where there is none, or others were made from it; it names them.
            MachineError: where the folder can't be written to.
        """
        try:
            name = self.resolve(name)
            self._refuse_missing(name)  # without a lock, which could not be made where there is no folder
        except ArtifactError:
            self.tidy()  # it may be the removal of this name that was killed
            raise
        with machine_errors(f"can't remove {self.root / name}"), self._lock(f"removing {name}"):
            self._refuse_missing(name)
            doomed = [name]
            if cascade:
                doomed = [*children_first(self.descendants(name, all_generations=True)), name]
            else:
                self.refuse_if_needed(name, "removed")
            artifacts = [a for a in map(self.readable, doomed) if a is not None]
            self._refuse_if_in_use(artifacts, "removed")
            self._remove_dead()
            forget_created(self.root)
            with contextlib.ExitStack() as stack:
                stack.callback(remove_empty, [self._staging_root()])
                stack.callback(drop_unused_statistics, self.root)
                try:
                    for each in filter(self.has, doomed):
                        self._put_away(each, stack)
                finally:
                    try:
                        self._forget(doomed, artifacts)
                    except OSError:
                        stack.pop_all()  # whoever cleans up next takes the aliases away, and only then the folders
        remove_empty([self.root])
        return doomed

    def _refuse_missing(self, name: str) -> None:
        """Refuse a name that there is nothing of, not even the rest that a killed removal left to be cleaned."""
        if not self.has(name) and not self._was_removing(name):
            self.get(name)

    def _put_away(self, name: str, stack: contextlib.ExitStack) -> None:
        """Take an artifact out of sight in one step: a reader never sees one that is half gone. The rest goes later."""
        outer = self._new_folder(name)
        stack.callback(shutil.rmtree, outer, ignore_errors=True)
        here.rename(self.root / name, outer / REMOVED)
        self._settle(lambda: here.rename(outer / REMOVED, self.root / name))

    def tag(self, name: str, alias: str) -> Artifact:
        """Let ``@alias`` stand for an artifact, in place of what it stood for.

        Raises:
            UsageError: where the alias can't be one.
            ArtifactError: where there is no such artifact.
            MachineError: where it can't be written.
        """
        check_new_name(alias.removeprefix("@"))
        artifact = self.get(name)
        with machine_errors(f"can't tag '{artifact.name}'"), self._lock(f"tagging {artifact.name}"):
            folder = self.root / TAGS
            if folder.is_symlink():
                raise ArtifactError(f"{folder} is a symbolic link: nothing is written through it", value=folder)
            folder.mkdir(exist_ok=True)
            text = json.dumps({"name": artifact.name, "digest": artifact.digest}) + "\n"
            with whole_file(folder / alias.removeprefix("@")) as file:
                file.write(text.encode())
            flush(folder)
        return artifact

    def untag(self, alias: str) -> None:
        """Take an alias away; the artifact stays.

        Raises:
            ArtifactError: where there is no such alias.
            MachineError: where it can't be removed.
        """
        alias = check_name(alias.removeprefix("@"))
        if alias not in self.tags():
            self.resolve(f"@{alias}")
        with machine_errors(f"can't remove the alias '@{alias}'"), self._lock(f"untagging {alias}"):
            (self.root / TAGS / alias).unlink(missing_ok=True)
            flush(self.root / TAGS)
            remove_empty([self.root / TAGS])


def check_note(note: str) -> str:
    """Return the note, or raise a UsageError if it is too long."""
    if len(note) > MAX_NOTE:
        raise UsageError(f"a note has {MAX_NOTE:,} characters at most, not {len(note):,}", value=len(note))
    return note
