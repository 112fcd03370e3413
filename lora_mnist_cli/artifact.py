"""What an artifact is: its manifest, its digests, and what its name may be. No torch.

Two digests, for two questions. ``digest`` is over what the artifact holds (settings, parents, data and files), and
not over when, where or under which name it was made: the same work gives the same digest, and lineage is by it.
``seal`` is over the whole manifest, so that a changed score is found as surely as a changed weight.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from lora_mnist_cli.config import TRAINING_CODE
from lora_mnist_cli.errors import ArtifactError, UsageError

SCHEMA_VERSION = 1
MANIFEST = "artifact.json"
KINDS = ("base", "adapter", "sweep", "report")
LOG_FOLDER = "tensorboard"
"""Event files carry times and host names, so they are no part of the content digest."""

MAX_NAME = 100
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._,-]*", re.ASCII)
# Roles whose digests decide what a stage computes. A sweep's members are what it made, not what it was made from.
_INPUT_ROLES = ("base", "input")


def is_name(text: str) -> bool:
    """Whether an artifact may be called so; see :func:`check_name`."""
    return len(text) <= MAX_NAME and _NAME.fullmatch(text) is not None


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


def canonical(value: object) -> bytes:
    """JSON with sorted keys and no spaces: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def sha256(content: bytes) -> str:
    """The digest as it is written everywhere: ``sha256:`` and 64 hexadecimal digits."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


@dataclass(frozen=True)
class Parent:
    """What an artifact was made from, by name and content digest, never by path.

    ``role`` is ``base`` or ``input`` for what decided the result, ``member`` for an adapter that a sweep lists.
    """

    role: str
    name: str
    digest: str


@dataclass(frozen=True)
class Settings:
    """All that decides what a stage makes: the same settings on the same machine give the same artifact."""

    kind: str
    config: dict[str, Any]
    dataset: dict[str, str]
    parents: tuple[Parent, ...] = ()
    code: int = TRAINING_CODE

    def flat(self) -> dict[str, Any]:
        """A flat table of the settings, to compare two of them line by line."""
        inputs = {f"{p.role} {i}": p.digest for i, p in enumerate(self.parents) if p.role in _INPUT_ROLES}
        dataset = {f"dataset {key}": value for key, value in self.dataset.items()}
        return {"kind": self.kind, **self.config, **dataset, **inputs, "training code": self.code}

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
    files: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def config(self) -> dict[str, Any]:
        """The settings that the stage was given."""
        return self.settings.config

    @property
    def dataset(self) -> str:
        """The name of the data set."""
        return self.settings.dataset["name"]

    @property
    def parents(self) -> tuple[Parent, ...]:
        """The artifacts that it was made from."""
        return self.settings.parents

    def read(self, file: str) -> bytes:
        """The bytes of one of its files, checked against the manifest.

        Raises:
            ArtifactError: where it is missing, or not what was published.
        """
        entry = self.files.get(file)
        if entry is None:
            raise ArtifactError(f"'{self.name}' has no file {file}", value=file)
        try:
            content = (self.path / file).read_bytes()
        except OSError as error:
            raise self._damaged(file, error.strerror or str(error)) from error
        if len(content) != entry["bytes"] or sha256(content) != entry["sha256"]:
            raise self._damaged(file, "its digest is not the one it was published with")
        return content

    def _damaged(self, file: str, why: str) -> ArtifactError:
        return ArtifactError(
            f"'{self.name}' is damaged: {file}: {why}",
            hint=f"lora-mnist runs remove {self.name}, then make it again",
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
            "parents": list(settings["parents"]),
            "training_code": settings["code"],
        }


def seal_of(manifest: Mapping[str, Any]) -> str:
    """The seal that belongs to a manifest: over all of it but the seal itself."""
    return sha256(canonical({key: value for key, value in manifest.items() if key != "seal"}))


def content_digest(fingerprint: str, files: Mapping[str, Mapping[str, Any]]) -> str:
    """The digest of what an artifact holds: its fingerprint, and name and digest of each file but the logs."""
    kept = {name: entry["sha256"] for name, entry in files.items() if not name.startswith(f"{LOG_FOLDER}/")}
    return sha256(canonical({"fingerprint": fingerprint, "files": kept}))


def read_artifact(path: Path) -> Artifact:
    """The artifact in a folder, its manifest checked: schema version, fields, seal and digest.

    Raises:
        ArtifactError: where there is none, or it is damaged or newer than this version.
    """
    name = path.name
    hint = f"lora-mnist runs remove {name}, then make it again"
    try:
        manifest = json.loads((path / MANIFEST).read_bytes())
    except OSError as error:
        raise ArtifactError(f"'{name}' has no readable {MANIFEST}: {error.strerror}", hint=hint, value=name) from error
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"'{name}' is damaged: {MANIFEST} is not JSON", hint=hint, value=name) from error
    version = manifest.get("schema_version") if isinstance(manifest, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise ArtifactError(
            f"'{name}' was written by a newer lora-mnist (schema {version}, this one reads up to {SCHEMA_VERSION})",
            hint="upgrade lora-mnist",
            value=version,
        )
    try:
        if version != SCHEMA_VERSION or manifest["seal"] != seal_of(manifest):
            raise ValueError("its seal does not fit")
        settings = Settings(
            kind=manifest["kind"],
            config=manifest["config"],
            dataset=manifest["dataset"],
            parents=tuple(Parent(**parent) for parent in manifest["parents"]),
            code=manifest["training_code"],
        )
        own = {f.name: manifest[f.name] for f in fields(Artifact) if f.name not in ("path", "settings")}
        # The folder's name is the artifact's, so a folder may be renamed or copied by hand.
        return Artifact(path=path, settings=settings, **(own | {"name": name}))
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"'{name}' is damaged: {MANIFEST}: {error}", hint=hint, value=name) from error
