"""What an artifact is: its manifest, its digests, and what its name may be. No torch.

Two digests, for two questions. ``digest`` is over what the artifact holds (settings, parents, data and files), and
not over when, where or under which name it was made: the same work gives the same digest, and lineage is by it.
``seal`` is over the whole manifest, so that a changed score is found as surely as a changed weight.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import msgspec

from lora_mnist_cli.data.source import class_names
from lora_mnist_cli.registry.digests import canonical, content_of, has_digest, sha256
from lora_mnist_cli.registry.manifest import SCHEMA_VERSION, read_manifest
from lora_mnist_cli.registry.manifest_kinds import Manifest
from lora_mnist_cli.registry.manifest_limits import MAX_MANIFEST
from lora_mnist_cli.registry.manifest_types import MANIFEST, MAX_NAME, is_name
from lora_mnist_cli.registry.manifest_types import Parent as Parent  # noqa: PLC0414 - its place for others
from lora_mnist_cli.settings.config import TRAINING_CODE
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.settings.own_data import known_digits
from lora_mnist_cli.system.errors import ArtifactError, UsageError, make_again
from lora_mnist_cli.system.files import open_regular, read_regular
from lora_mnist_cli.system.platforms.names import is_portable

_LITTER = re.compile(r"\.DS_Store|\._.*|\.localized|\.directory|\.nfs[0-9a-f]+|\.fuse_hidden[0-9a-f]+|\.smbdelete.*")
"""Hidden files that file managers and file systems leave wherever they look; nobody put them there."""

_PART = 2**20

# Roles whose digests decide what a stage computes. A sweep's members are what it made, not what it was made from.
_INPUT_ROLES = ("base", "adapter", "input")


def check_name(name: str) -> str:
    """The name, if it can be an artifact's: a letter or digit, then letters, digits and ``._,-``, 100 at most.

    Raises:
        UsageError: otherwise; such a name could leave the folder, hide in it or pass for an option.
    """
    shown = repr(name if len(name) <= 40 else name[:40] + "…")
    if len(name) > MAX_NAME:
        raise UsageError(f"the name {shown} has {len(name)} characters", hint=f"{MAX_NAME} at most", value=name)
    if not is_name(name):
        hint = "a letter or digit first, then letters, digits, '.', '_', ',' and '-'"
        raise UsageError(f"{shown} can't be an artifact's name", hint=hint, value=name)
    return name


def check_new_name(name: str) -> str:
    """The name, if an artifact can be made of it: :func:`check_name`, and a folder can have it on every system.

    Raises:
        UsageError: otherwise; the folder of artifacts could not be copied to Windows.
    """
    if not is_portable(check_name(name)):
        raise UsageError(f"'{name}' can't be an artifact's name", hint="Windows reserves it for itself", value=name)
    return name


@dataclass(frozen=True)
class Settings:
    """All that decides what a stage makes: the same settings on the same machine give the same artifact."""

    kind: str
    config: dict[str, Any]
    dataset: dict[str, Any]
    parents: tuple[Parent, ...] = ()
    code: int = TRAINING_CODE

    def flat(self) -> dict[str, Any]:
        """A flat table of the settings, to compare two of them line by line."""
        table = {"kind": self.kind, **self.config}
        for key, value in self.dataset.items():
            table[f"dataset {key}"] = value
        for i, parent in enumerate(self.parents):
            if parent.role in _INPUT_ROLES:
                table[f"{parent.role} {i}"] = parent.digest
        return table | {"training code": self.code}

    def fingerprint(self) -> str:
        """SHA-256 over the settings."""
        return sha256(canonical(self.flat()))


@dataclass(frozen=True)
class Artifact:
    """A published artifact, as its manifest tells it.

    Args:
        path: its folder.
        scores: subset scores on the test images, in the form of the command line's JSON.
        details: what else its kind records (layer shapes, parameter counts, a sweep's results).
        note: whatever the user wrote about it.
        files: name → size in bytes and SHA-256 of each file beside the manifest.
    """

    path: Path
    name: str
    kind: str
    created: str
    digest: str
    fingerprint: str
    seal: str
    settings: Settings
    scores: dict[str, Any]
    details: dict[str, Any]
    environment: dict[str, Any]
    wall_seconds: float
    note: str = ""
    files: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def config(self) -> dict[str, Any]:
        """The settings that the stage was given."""
        return self.settings.config

    @property
    def dataset(self) -> str:
        """The name of the data set."""
        return str(self.settings.dataset["name"])

    @property
    def classes(self) -> tuple[str, ...]:
        """What the digits of the data set stand for; empty where they are digits."""
        return tuple(self.settings.dataset.get("classes", ())) or class_names(self.dataset)

    @property
    def known_digits(self) -> DigitSet:
        """The digits that the data set has: all ten, or one per class of a user's own."""
        return known_digits(self.settings.dataset)

    @property
    def parents(self) -> tuple[Parent, ...]:
        """The artifacts that it was made from."""
        return self.settings.parents

    def rows(self) -> list[dict[str, Any]]:
        """Its scores as plain rows, a digit set each, for ``pandas.DataFrame(artifact.rows())`` and the like.

        A sweep has those of all its adapters, and a report its table. The scores of single digits are in
        ``scores["per_digit"]``.
        """
        if self.kind == "report":
            return [dict(row) for row in self.details["rows"]]
        own = {"artifact": self.name} | {key: self.config[key] for key in ("rank", "seed") if key in self.config}
        results = self.details.get("results", [{**own, "subsets": self.scores.get("subsets", [])}])
        return [
            {key: value for key, value in result.items() if key not in ("subsets", "last_epoch")} | dict(scores)
            for result in results
            for scores in result["subsets"]
        ]

    @property
    def instead_of_training(self) -> str:
        """Where it comes from if it was not trained here, for a sentence; empty if it was."""
        if "imported" in self.config:
            return "it was trained elsewhere, and imported"
        if "combined" in self.config:
            return "it was combined from others, and not trained"
        return "it was merged, and not trained" if "merged_alpha" in self.config else ""

    def read(self, file: str) -> bytes:
        """The bytes of one of its files, checked against the manifest.

        Raises:
            ArtifactError: where it is missing, a symbolic link, or not what was published.
        """
        return b"".join(self._parts(file))

    def read_manifest(self) -> bytes:
        """The bytes of its manifest.

        Raises:
            ArtifactError: where it is not the one that this artifact was read from: it was replaced, or removed.
        """
        try:
            raw = read_regular(self.path / MANIFEST, MAX_MANIFEST)
        except OSError as error:
            raise self._damaged(MANIFEST, error.strerror or str(error)) from error
        if self.seal.encode() not in raw:
            raise self._damaged(MANIFEST, "its seal is not the one that it had")
        return raw

    def check(self, file: str) -> None:
        """Read one of its files and compare it with the manifest, as :meth:`read`, in parts that need little memory."""
        for _ in self._parts(file):
            pass

    def _parts(self, file: str) -> Iterator[bytes]:
        entry = self.files.get(file)
        if entry is None:
            raise ArtifactError(f"'{self.name}' has no file {file}", value=file)
        found, size = hashlib.sha256(), 0
        try:
            if (self.path / file).parent.is_symlink():
                raise self._damaged(file, "it lies behind a symbolic link")
            with open_regular(self.path / file, entry["bytes"]) as stream:
                while part := stream.read(_PART):
                    found.update(part)
                    size += len(part)
                    yield part
        except OSError as error:
            raise self._damaged(file, error.strerror or str(error)) from error
        if f"sha256:{found.hexdigest()}" != entry["sha256"]:
            raise self._damaged(file, "its digest is not the one it was published with")
        if size != entry["bytes"]:
            raise self._damaged(file, "its size is not the one it was published with")

    def problems(self) -> Iterator[tuple[str, str]]:
        """File and reason of each that is missing, damaged, or there without being part of the artifact."""
        for file in self.files:
            try:
                self.check(file)
            except ArtifactError as error:
                yield file, error.problem.partition(f": {file}: ")[2] or error.problem
        for path in sorted(self.path.rglob("*")):
            file = path.relative_to(self.path).as_posix()
            if path.is_symlink():
                if file not in self.files:
                    yield file, "a symbolic link is no part of an artifact"
            elif not path.is_dir() and file not in (MANIFEST, *self.files) and not _LITTER.fullmatch(path.name):
                yield file, "it is no part of what was published"

    def check_files(self) -> None:
        """Read all files, and compare them with what was published.

        Raises:
            ArtifactError: for the first that is missing or damaged.
        """
        for file in self.files:
            self.check(file)

    def _damaged(self, file: str, why: str) -> ArtifactError:
        try:
            there = read_artifact(self.path).seal
        except ArtifactError:
            there = self.seal if (self.path / MANIFEST).exists() else ""
        if there != self.seal:
            done = "replaced" if there else "removed"
            return ArtifactError(f"'{self.name}' was {done} while it was read", hint="run it again", value=self.name)
        return ArtifactError(
            f"'{self.name}' is damaged: {file}: {why}",
            hint=make_again(self.name),
            value=file,
        )

    def to_manifest(self) -> dict[str, Any]:
        """The manifest, ready to be written as JSON."""
        manifest = {"schema_version": SCHEMA_VERSION, **asdict(self)}
        del manifest["path"]
        settings = manifest.pop("settings")
        return manifest | {
            "config": settings["config"],
            "dataset": settings["dataset"],
            "parents": msgspec.to_builtins(list(self.parents)),
            "training_code": settings["code"],
        }


def read_artifact(path: Path) -> Artifact:
    """The artifact in a folder, its manifest checked: schema version, fields, seal and digest.

    Raises:
        ArtifactError: where there is none, or it is damaged or newer than this version.
    """
    if os.path.islink(path):
        problem = f"'{path.name}' is a symbolic link, which is no artifact"
        raise ArtifactError(problem, hint=make_again(path.name), value=path.name)
    return read_folder(path)


def read_folder(path: Path) -> Artifact:
    """Read the artifact in a folder, as :func:`read_artifact` does; it is known that the folder is no symbolic link."""
    return to_artifact(path, read_manifest(path, path.name))


def to_artifact(path: Path, manifest: Manifest) -> Artifact:
    """The artifact that a checked manifest tells of.

    Raises:
        ArtifactError: as :func:`settings_of`.
    """
    name = path.name  # a folder may be renamed or copied by hand
    settings = settings_of(name, manifest)
    scores, files = msgspec.to_builtins(manifest.scores), msgspec.to_builtins(manifest.files)
    artifact = object.__new__(Artifact)  # the constructor of a frozen dataclass takes four times as long
    vars(artifact).update({key: getattr(manifest, key) for key in _OWN_FIELDS})
    vars(artifact).update(path=path, name=name, settings=settings, scores=scores, files=files)
    return artifact


def settings_of(name: str, manifest: Manifest) -> Settings:
    """The settings that a checked manifest tells of.

    Raises:
        ArtifactError: where its fingerprint or digest is not that of what it holds.
    """
    settings = Settings(
        manifest.kind,
        manifest.config,
        msgspec.to_builtins(manifest.dataset),
        manifest.parents,
        manifest.training_code,
    )
    content = content_of(manifest.fingerprint, msgspec.to_builtins(manifest.files))
    if not has_digest(settings.flat(), manifest.fingerprint) or not has_digest(content, manifest.digest):
        raise ArtifactError(
            f"'{name}' is damaged: {MANIFEST}: its digest is not that of its settings and files",
            hint=make_again(name),
            value=name,
        )
    return settings


_OWN_FIELDS = tuple(f.name for f in fields(Artifact) if f.name not in ("path", "name", "settings", "scores", "files"))
"""Fields of an artifact that stand in its manifest under the same name and in the same form."""
