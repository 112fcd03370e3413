"""Read ``runs/``: names and aliases, the newest, parents and descendants. Nothing is written. No torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from lora_mnist_cli.registry.artifact import Artifact, Parent, Settings, check_name, read_artifact
from lora_mnist_cli.registry.entries import Entry, folders, generations, links, read_entries
from lora_mnist_cli.registry.manifest import ROLES
from lora_mnist_cli.registry.manifest_types import MANIFEST, is_name
from lora_mnist_cli.registry.newest import advice_of_sweep, any_artifact, newest
from lora_mnist_cli.settings.checks import is_digest
from lora_mnist_cli.settings.human_text import human
from lora_mnist_cli.settings.lists import some
from lora_mnist_cli.system.errors import (
    ArtifactError,
    MachineError,
    OtherSettingsError,
    UsageError,
    make_again,
    nearest,
)
from lora_mnist_cli.system.files import machine_errors, read_regular

TAGS = ".tags"
_MAX_TAG = 10_000

# What makes an artifact of each kind, for "which command comes first".
MAKERS = {
    "base": "lora-mnist train-base",
    "adapter": "lora-mnist finetune",
    "sweep": "lora-mnist sweep",
    "report": "lora-mnist reproduce",
}


def ignore(_text: str) -> None:
    """Ignore a notice; the default of ``say``."""


class Catalog:
    """The artifacts under one folder, which need not exist.

    Args:
        root: the folder, ``runs/`` by default.
        say: hears what a user may want to know while it happens: what is waited for.

    Raises:
        UsageError: where ``root`` is something else than a folder.
    """

    def __init__(self, root: Path, say: Callable[[str], None] = ignore) -> None:
        self.root = root
        self.say = say
        if root.exists() and not root.is_dir():
            raise UsageError(f"the runs directory '{root}' is a file", hint="choose another --runs-dir", value=root)

    def names(self) -> list[str]:
        """Return the names of all artifacts, sorted; a folder without a manifest is not an artifact."""
        with machine_errors(f"can't read {self.root}"):
            return sorted(name for name in folders(self.root) if self.has(name))

    def has(self, name: str) -> bool:
        """Whether there is an artifact of that name, sound or not."""
        return (self.root / name / MANIFEST).is_file()

    def links(self) -> list[str]:
        """Return the names of symbolic links to artifacts, which are left out everywhere."""
        return links(self.root)

    def scan(self) -> tuple[list[Entry], list[ArtifactError]]:
        """Return all artifacts, oldest first, and an error for each that can't be read."""
        with machine_errors(f"can't read {self.root}"):
            return read_entries(self.root)

    def get(self, name: str, *kinds: str) -> Artifact:
        """Return the artifact with a name, or with an alias after an ``@``.

        Args:
            kinds: the kinds that will do; any by default.

        Raises:
            ArtifactError: where there is none of the name (the nearest is offered), it is damaged, or another kind.
        """
        name = self.resolve(name)
        if not self.has(name):
            names = self.names()
            there = "lora-mnist runs list shows what is there" if names else ""
            hint = advice_of_sweep(self.root, name) or nearest(name, names) or there
            if not names:
                hint = f"nothing was made yet; begin with: {MAKERS['base']}"
            raise ArtifactError(f"there is no artifact '{name}' in {self.root}", hint=hint, value=name)
        artifact = read_artifact(self.root / name)
        if kinds and artifact.kind not in kinds:
            members = [parent.name for parent in artifact.parents if parent.role == "member"]
            hint = f"it has {some(members)}" if members else ""
            wanted = " or ".join(kinds)
            raise ArtifactError(f"'{name}' is of kind {artifact.kind}, not {wanted}", hint=hint, value=name)
        return artifact

    def latest(
        self, *kinds: str, dataset: str | None = None, fits: Callable[[Artifact], bool] = any_artifact
    ) -> Artifact:
        """Return what a user means by the newest artifact of some kinds (:mod:`lora_mnist_cli.registry.newest`).

        Args:
            fits: tells which is taken rather than others.

        Raises:
            ArtifactError: where there is none; it says which command comes first.
        """
        with machine_errors(f"can't read {self.root}"):
            for good in dict.fromkeys((fits, any_artifact)):
                if (artifact := newest(self.root, kinds, dataset, good)) is not None:
                    return artifact
        found, errors = self.scan()
        if errors:
            raise errors[0]
        of = f" of {dataset}" if dataset else ""
        first = MAKERS["base"] + (f" --dataset {dataset}" if dataset else "")
        steps = [MAKERS[kinds[0]]] if kinds[0] != "base" else []
        bases = (entry for entry in found if entry.kind == "base" and dataset in (None, entry.dataset))
        if all(base.never_default for base in bases):
            steps.insert(0, first)
        raise ArtifactError(f"there is no {kinds[0]}{of} in {self.root} yet", hint=f"first: {', then '.join(steps)}")

    def parent(self, artifact: Artifact, role: str = "base") -> Artifact:
        """Return the parent with a role: by name, or by content if its folder was renamed.

        Raises:
            ArtifactError: where there is none, or no artifact has the digest that the lineage names.
        """
        found = next(self.parents(artifact, role), None)
        if found is None:
            raise ArtifactError(f"'{artifact.name}' has no {role}", value=artifact.name)
        return found

    def parents(self, artifact: Artifact, role: str) -> Iterator[Artifact]:
        """Yield the parents with a role, each as :meth:`parent` finds it.

        Raises:
            ArtifactError: where no artifact has the digest that the lineage names.
        """
        for parent in artifact.parents:
            if parent.role != role:
                continue
            found = self.locate(parent.name, parent.digest)
            if found is None:
                if self.has(parent.name):
                    read_artifact(self.root / parent.name)  # one that is damaged says so itself
                raise ArtifactError(
                    f"'{artifact.name}' was made from {role} '{parent.name}' ({parent.digest[:19]}…), which is not in "
                    f"{self.root}",
                    hint="bring that artifact back, or make this one again on the present base with another --name",
                    value=parent.name,
                )
            there = read_artifact(self.root / found)
            refuse_role(artifact.name, role, there.name, there.kind)
            yield there

    def locate(self, name: str, digest: str, among: Iterable[Entry] | None = None) -> str | None:
        """Return the name of the artifact with a digest: the given name, or another with that content.

        Args:
            among: where to look for the content; all artifacts by default.
        """
        candidate = self.readable(name) if is_name(name) and self.has(name) else None
        if candidate is not None and candidate.digest == digest:
            return name
        # The entries are only a hint of where to look: what counts is the manifest now.
        for entry in self.scan()[0] if among is None else among:
            if entry.digest == digest and (there := self.readable(entry.name)) is not None and there.digest == digest:
                return entry.name
        return None

    def descendants(self, name: str, *, all_generations: bool = False, besides: str = "") -> list[Entry]:
        """Return the artifacts that were made from this one or list it, unless another artifact has the same content.

        The digest of an unreadable artifact is unknown: then the artifacts that name it count as its descendants.

        Args:
            all_generations: those that were made from them as well, and so on.
            besides: the digest of the artifact that replaces it; artifacts made from that content lose nothing.
        """
        found, _ = self.scan()
        others = [entry for entry in found if entry.name != name]
        elsewhere = {entry.digest for entry in others} | {besides}
        artifact = self.readable(name)

        def is_this(parent: Parent) -> bool:
            same = parent.name == name if artifact is None else parent.digest == artifact.digest
            return same and parent.digest not in elsewhere

        children = [entry for entry in others if any(map(is_this, entry.parents))]
        return generations(others, children) if all_generations else children

    def readable(self, name: str) -> Artifact | None:
        """Return the artifact with a name, or None if there is none or it is damaged."""
        try:
            return read_artifact(self.root / name)
        except ArtifactError:
            return None

    def taken(self, name: str) -> bool:
        """Whether there is an artifact of that name, sound or not.

        Raises:
            ArtifactError: where there is something else of that name; it is nothing of ours to replace.
        """
        path = self.root / name
        if not path.is_symlink() and self.has(name):
            return True
        if path.is_symlink() or path.exists():
            raise ArtifactError(f"{path} is there and is no artifact", hint="move it, or give a --name", value=name)
        return False

    def up_to_date(self, name: str, settings: Settings, *, force: bool = False) -> Artifact | None:
        """Return the artifact with a name if it has these settings, or None if the work has to be done.

        Args:
            force: do the work in any case, in place of what is there.

        Raises:
            OtherSettingsError: where the name has other settings and ``force`` is not given.
            ArtifactError: where what is there is damaged, files included, or others need what ``force`` would replace.
        """
        check_name(name)
        if not self.taken(name):
            return None
        found = read_artifact(self.root / name) if not force else self.readable(name)
        same = found is not None and found.fingerprint == settings.fingerprint()
        if force:
            if found is not None and not same:
                self.refuse_if_needed(name, "replaced")
            return None
        assert found is not None
        if same:
            found.check_files()
            return found
        old, new = found.settings.flat(), settings.flat()
        differing = [
            f"{key} {_shown(old.get(key))} there, {_shown(new.get(key))} asked for"
            for key in [*old, *(key for key in new if key not in old)]
            if old.get(key) != new.get(key)
        ]
        raise OtherSettingsError(
            f"'{name}' exists with other settings: {'; '.join(differing)}",
            hint="--name NEW keeps both, --force replaces it",
            value=name,
        )

    def refuse_if_needed(self, name: str, done: str, *, besides: str = "") -> None:
        """Refuse to remove or replace an artifact that others were made from.

        Args:
            besides: the digest of what will take its place.

        Raises:
            ArtifactError: where there are others; it names them.
        """
        needed_by = [entry.name for entry in self.descendants(name, besides=besides)]
        if needed_by:
            verb = "needs" if len(needed_by) == 1 else "need"
            help_ = f"lora-mnist runs remove {name} --cascade deletes them too"
            raise ArtifactError(
                f"'{name}' can't be {done}: {some(needed_by)} {verb} it",
                hint=help_ + ("; --name NEW keeps both" if done == "replaced" else ""),
                value=name,
            )

    def tags(self) -> dict[str, tuple[str, str]]:
        """Return alias → name and digest of its artifact, sorted by alias.

        Raises:
            MachineError: where they can't be read.
        """
        folder, found = self.root / TAGS, {}
        try:
            aliases = sorted(path.name for path in folder.iterdir() if is_name(path.name))
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except OSError as error:
            raise MachineError(f"can't read {folder}: {error.strerror}", value=folder) from error
        for alias in aliases if not folder.is_symlink() else ():
            if (tag := self._tag(alias)) is not None:
                found[alias] = tag
        return found

    def resolve(self, name: str) -> str:
        """Return the name itself, checked, or the name of the artifact that an alias (``@best``) stands for.

        Raises:
            UsageError: where it can't be a name.
            ArtifactError: where there is no such alias, or what it stood for is gone.
        """
        if not isinstance(name, str):
            raise UsageError(f"an artifact's name is a text, not {name!r}", value=name)
        if not name.startswith("@"):
            path = Path(name)  # as a shell completes it: a folder in the folder of artifacts is meant by its name
            return check_name(path.name if path.parent.absolute() == self.root.absolute() else name)
        alias = check_name(name[1:])
        tag = self._tag(alias) if not (self.root / TAGS).is_symlink() else None
        if tag is None:
            hint = nearest(alias, list(self.tags())) or "lora-mnist runs tag NAME ALIAS makes one"
            raise ArtifactError(f"there is no alias '@{alias}' in {self.root}", hint=hint, value=name)
        found = self.locate(*tag)
        if found is None:
            raise ArtifactError(
                f"the alias '@{alias}' stands for '{tag[0]}' ({tag[1][:19]}…), which is not in {self.root} any more",
                hint=f"lora-mnist runs tag NAME {alias} lets it stand for another",
                value=name,
            )
        return found

    def _tag(self, alias: str) -> tuple[str, str] | None:
        try:
            tag = json.loads(read_regular(self.root / TAGS / alias, _MAX_TAG))
            name, digest = tag["name"], tag["digest"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        return (name, digest) if is_name(name) and is_digest(digest) else None


def refuse_role(name: str, role: str, parent: str, kind: str) -> None:
    """Raise an ArtifactError if a parent is of a kind that its role does not allow; only a forged lineage has one."""
    if kind not in ROLES[role]:
        raise ArtifactError(
            f"'{name}' names '{parent}' as its {role}, which is of kind {kind}", hint=make_again(name), value=parent
        )


def _shown(value: object) -> str:
    text = human(value)
    return f"{text[:19]}…" if text.startswith("sha256:") else text
