"""An artifact in its staging folder: all that it is to be, before it is published. No torch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from lora_mnist_cli.registry.artifact import Artifact, Settings, read_artifact
from lora_mnist_cli.registry.digests import content_digest, seal_of, sha256
from lora_mnist_cli.registry.manifest_types import MANIFEST


@dataclass(frozen=True)
class Staged:
    """A complete staging folder but for its manifest, and what that is to say.

    Args:
        folder: has the artifact's name.
        note: what the user has to say of it.
    """

    folder: Path
    settings: Settings
    scores: dict[str, Any]
    details: dict[str, Any]
    environment: dict[str, Any]
    wall_seconds: float
    note: str = ""

    @property
    def name(self) -> str:
        """The artifact's name."""
        return self.folder.name

    @cached_property
    def paths(self) -> list[Path]:
        """Its files, without the manifest."""
        return sorted(path for path in self.folder.rglob("*") if path.is_file())

    @cached_property
    def files(self) -> dict[str, dict[str, Any]]:
        """Size and SHA-256 of each of its files, by the path in the folder."""
        contents = ((path.relative_to(self.folder).as_posix(), path.read_bytes()) for path in self.paths)
        return {file: {"bytes": len(content), "sha256": sha256(content)} for file, content in contents}

    def rest(self) -> Iterator[Path]:
        """Yield what there is to flush beside its files: the manifest, and folders from the innermost."""
        yield self.folder / MANIFEST
        yield from (path for path in self.folder.rglob("*") if path.is_dir())
        yield self.folder

    def write_manifest(self, root: Path, created: str) -> Artifact:
        """Write the manifest, and return the artifact that it tells of, as it will be in the folder ``root``.

        Raises:
            ArtifactError: where it is none that a reader would take.
        """
        fingerprint = self.settings.fingerprint()
        artifact = Artifact(
            path=root / self.name, name=self.name, kind=self.settings.kind, created=created,
            digest=content_digest(fingerprint, self.files), fingerprint=fingerprint, seal="", settings=self.settings,
            scores=self.scores, details=self.details, environment=self.environment,
            wall_seconds=round(self.wall_seconds, 3), note=self.note, files=self.files,
        )  # fmt: skip
        manifest = artifact.to_manifest()
        manifest["seal"] = seal_of(manifest)
        text = json.dumps(manifest, indent=2, allow_nan=False) + "\n"
        (self.folder / MANIFEST).write_text(text, encoding="utf-8", newline="\n")
        return replace(read_artifact(self.folder), path=artifact.path)
