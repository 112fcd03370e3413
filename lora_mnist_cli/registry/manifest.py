"""Reading the manifest of an artifact, which is checked in full every time.

An artifact may come from anyone, so nothing in its manifest is believed: not its size, nesting or types, and no path
in it. :mod:`~lora_mnist_cli.registry.manifest_limits` decides what is decoded at all,
:mod:`~lora_mnist_cli.registry.manifest_types` declares the parts, and :mod:`~lora_mnist_cli.registry.manifest_kinds`
says what a manifest of each kind holds.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec

from lora_mnist_cli.registry.digests import is_sealed
from lora_mnist_cli.registry.manifest_kinds import KINDS, MANIFESTS, Manifest, check_open_parts, decode_typed
from lora_mnist_cli.registry.manifest_limits import MAX_MANIFEST, ExtentError, decode_manifest, refuse_excess
from lora_mnist_cli.registry.manifest_types import FORMS, MANIFEST, hold
from lora_mnist_cli.system.errors import ArtifactError, make_again
from lora_mnist_cli.system.files import read_regular

SCHEMA_VERSION = 2
ROLES = {"base": ("base",), "adapter": ("adapter",), "member": ("adapter",), "input": KINDS}
"""Role of a parent → the kinds that such a parent may have."""

UPGRADE = "upgrade lora-mnist"
"""The advice for an artifact that a newer version wrote."""

_REFUSAL = re.compile(r"(.*?)(?: - at `(key` in `)?\$\.?(.*)`)?", re.DOTALL)
"""A message of msgspec: the problem, whether it is a key that does not hold, and the path."""
_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


def refuse_role(name: str, role: str, parent: str, kind: str) -> None:
    """Raise an ArtifactError if a parent is of a kind that its role does not allow; only a forged lineage has one."""
    if kind not in ROLES[role]:
        raise ArtifactError(
            f"'{name}' names '{parent}' as its {role}, which is of kind {kind}", hint=make_again(name), value=parent
        )


def read_manifest(folder: Path | str, name: str) -> Manifest:
    """Read the manifest in an artifact's folder, check it, and bring it to the present schema.

    Raises:
        ArtifactError: where there is none, or it is damaged, makes no sense, or is newer than this version.
    """
    try:
        return manifest_of(name, read_regular(f"{folder}/{MANIFEST}", MAX_MANIFEST))
    except OSError as error:
        raise unreadable(name, error) from error


def unreadable(name: str, error: OSError) -> ArtifactError:
    """Return the error of a manifest that the system does not read."""
    return ArtifactError(f"'{name}' has no readable {MANIFEST}: {error.strerror}", hint=make_again(name), value=name)


def manifest_of(name: str, raw: bytes) -> Manifest:
    """Check the bytes of a manifest, as :func:`read_manifest`."""
    try:
        refuse_excess(raw)
        return _sound(raw) or parse_manifest(decode_manifest(raw), name, make_again(name))
    except (ValueError, RecursionError) as error:
        why = f": {error}" if isinstance(error, ExtentError) else " is not JSON"
        raise ArtifactError(f"'{name}' is damaged: {MANIFEST}{why}", hint=make_again(name), value=name) from error


def _sound(raw: bytes) -> Manifest | None:
    """Return the manifest if it is of the present schema and everything in it holds.

    It is decoded to its types at once, which takes half the time. Of any other, :func:`parse_manifest` knows whether an
    older schema allows it, and says what is wrong in words.
    """
    try:
        manifest = decode_typed(raw)
        if manifest.schema_version != SCHEMA_VERSION or not manifest.is_sealed():
            return None
        check_open_parts(manifest)
    except (ValueError, RecursionError):
        return None
    return manifest


def parse_manifest(manifest: Any, name: str, hint: str = "") -> Manifest:
    """Check a manifest that was read as JSON, as :func:`read_manifest`, and bring it to the present schema."""
    version = manifest.get("schema_version") if isinstance(manifest, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise ArtifactError(
            f"'{name}' was written by a newer lora-mnist (schema {version}, this one reads up to {SCHEMA_VERSION})",
            hint=UPGRADE,
            value=version,
        )
    try:
        hold(type(version) is int and version >= 1, "it has no schema version")
        hold(is_sealed(manifest), "its seal does not fit")
        present = manifest if version != 1 else {**manifest, "note": ""}  # schema 1 had no note
        kind = str(present.get("kind"))
        hold(kind in KINDS, f"kind is {present.get('kind')!r:.60}, not one of {', '.join(KINDS)}")
        checked: Manifest = msgspec.convert(present, MANIFESTS[kind])
        check_open_parts(checked)
    except msgspec.ValidationError as error:
        problem = f"'{name}' is damaged: {MANIFEST}: {_in_words(str(error), present)}"
        raise ArtifactError(problem, hint=hint, value=name) from error
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"'{name}' is damaged: {MANIFEST}: {error}", hint=hint, value=name) from error
    return checked


def _in_words(problem: str, manifest: Any) -> str:
    """Return a refusal by msgspec in words: the field, its value where the path tells it, and what is expected.

    ``Expected `int`, got `str` - at `$.config.seed``` becomes ``config.seed is 'x': expected int, got str``.
    """
    found = _REFUSAL.fullmatch(problem)
    assert found is not None
    what, key, field = found[1], found[2], found[3] or ""
    for pattern, form in FORMS.items():
        what = what.replace(f"`str` matching regex {pattern!r}", form)
    what = what[0].lower() + what[1:].replace("`", "").replace("int | float", "float")
    if not field:
        return what
    value = manifest
    try:
        for name, index in _STEP.findall(field):
            value = value[name] if name else value[int(index)]
    except (LookupError, TypeError):  # the path does not tell which entry of a dict it is
        return f"{field}: {what}"
    if key or isinstance(value, (dict, list)):
        return f"{field}: {what}"
    return f"{field} is {value!r:.60}: {what}"
