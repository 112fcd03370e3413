"""The manifest of an artifact: declared types for each kind, checked in full at every read.

An artifact may come from anyone, so nothing in its manifest is believed: not its size, nesting or types, and no path
in it. :mod:`~lora_mnist_cli.registry.manifest_limits` decides what is decoded at all,
:mod:`~lora_mnist_cli.registry.manifest_types` declares the parts, and the structs here say what a manifest of each kind
holds and how its fields depend on each other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from lora_mnist_cli.registry.digests import is_sealed
from lora_mnist_cli.registry.manifest_limits import MAX_MANIFEST, ExtentError, check_extent, decode_manifest
from lora_mnist_cli.registry.manifest_settings import AdapterSettings, BaseSettings, Settings, SweepSettings
from lora_mnist_cli.registry.manifest_types import (
    FORMS,
    MANIFEST,
    MAX_NOTE,
    AdapterDetails,
    BaseDetails,
    DataSet,
    Details,
    Environment,
    File,
    Name,
    ParentEntry,
    PossibleScores,
    ReportDetails,
    Scores,
    Seconds,
    Strict,
    SweepDetails,
    Whole,
    hold,
    is_created,
    is_file,
    is_name,
)
from lora_mnist_cli.registry.settings_check import check_settings
from lora_mnist_cli.settings.adapter_config import unused_value
from lora_mnist_cli.settings.choices import METHODS
from lora_mnist_cli.settings.grid import Axis, varying_axes
from lora_mnist_cli.system.errors import ArtifactError, make_again
from lora_mnist_cli.system.files import read_stamped

SCHEMA_VERSION = 2
KINDS = ("base", "adapter", "sweep", "report")
ROLES = {"base": ("base",), "adapter": ("adapter",), "member": ("adapter",), "input": KINDS}
"""Role of a parent → the kinds that such a parent may have."""

UPGRADE = "upgrade lora-mnist"
"""The advice for an artifact that a newer version wrote."""

_REFUSAL = re.compile(r"(.*?)(?: - at `(key` in `)?\$\.?(.*)`)?", re.DOTALL)
"""A message of msgspec: the problem, whether it is a key that does not hold, and the path."""
_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")
_MAX_FILES = 1000
_ROW = frozenset({"artifact", "rank", "seed", "trainable_parameters", "failed", "subsets", "last_epoch"})
"""Fields of a sweep's result, beside the axes that the sweep varies."""


class Manifest(Strict, tag_field="kind"):
    """What a manifest of any kind holds."""

    schema_version: int
    name: Name
    created: str
    digest: str  # with the fingerprint and the seal, it is computed anew and compared
    fingerprint: str
    seal: str
    note: Annotated[str, Meta(max_length=MAX_NOTE)]
    wall_seconds: Seconds
    training_code: Whole
    dataset: DataSet
    environment: Environment
    files: Annotated[dict[str, File], Meta(max_length=_MAX_FILES)]
    parents: list[ParentEntry]
    scores: Strict
    config: Settings
    details: Details

    lineages: ClassVar[tuple[tuple[str, ...], ...]] = ()
    """The roles that the parents may have, in order."""
    any_number: ClassVar[str] = ""
    """A role of which there may be any number of parents beside these."""

    def __post_init__(self) -> None:
        if not is_created(self.created):
            raise ValueError(f"created is {self.created!r:.60}, which is not a time in UTC")
        for file in self.files:
            if not is_file(file):
                raise ValueError(f"files: {file!r:.60} is not a name inside the artifact's folder")
        if len(self.parents) > 1:
            named = {(parent.role, parent.digest) for parent in self.parents}
            hold(len(named) == len(self.parents), "parents: one is named twice")
        roles = tuple([parent.role for parent in self.parents if parent.role != self.any_number])
        if roles not in self.lineages:
            raise ValueError(f"parents: their roles are {', '.join(roles) or 'none'}, not those of its kind")


class BaseManifest(Manifest, tag="base"):
    """A base: trained, or an adapter merged into another base."""

    scores: Scores
    config: BaseSettings
    details: BaseDetails

    lineages = ((), ("base", "adapter"))

    def __post_init__(self) -> None:
        super().__post_init__()
        merged = bool(self.parents)
        alpha, certificate = self.config.merged_alpha, self.details.merged
        hold(
            merged == (alpha is not UNSET) == (certificate is not UNSET),
            "parents, config.merged_alpha and details.merged belong together",
        )


class AdapterManifest(Manifest, tag="adapter"):
    """An adapter: trained on a base, combined from adapters of one base, or imported."""

    scores: Scores
    config: AdapterSettings
    details: AdapterDetails

    lineages = (("base",),)
    any_number = "adapter"

    def __post_init__(self) -> None:
        super().__post_init__()
        config, made = self.config, self.details.combined
        _check_rank(config.rank, config.method)
        count = len(self.parents) - 1
        hold(
            bool(count) == (config.combined is not UNSET) == (made is not UNSET),
            "parents, config.combined and details.combined belong together",
        )
        if not isinstance(made, UnsetType):
            hold(self.parents[0].role == "base", "parents: the base comes first")
            hold(len(config.combined_weights or ()) == count, "config.combined_weights: one weight for each adapter")
            hold(len(made.parents) == count, "details.combined.parents: one for each adapter")


class SweepManifest(Manifest, tag="sweep"):
    """A sweep over adapters of one base."""

    scores: PossibleScores
    config: SweepSettings
    details: SweepDetails

    lineages = (("base",),)
    any_number = "member"

    def __post_init__(self) -> None:
        super().__post_init__()
        labels = [score.digits for score in self.details.results[0].subsets]
        for row in self.details.results:
            hold([score.digits for score in row.subsets] == labels, "details.results: rows on different digits")


class ReportManifest(Manifest, tag="report"):
    """A report on any artifacts."""

    scores: PossibleScores
    config: Settings
    details: ReportDetails

    lineages = ((),)
    any_number = "input"


_MANIFESTS: dict[str, type[Manifest]] = {
    "base": BaseManifest, "adapter": AdapterManifest, "sweep": SweepManifest, "report": ReportManifest,
}  # fmt: skip


def refuse_role(name: str, role: str, parent: str, kind: str) -> None:
    """Raise an ArtifactError if a parent is of a kind that its role does not allow; only a forged lineage has one."""
    if kind not in ROLES[role]:
        raise ArtifactError(
            f"'{name}' names '{parent}' as its {role}, which is of kind {kind}", hint=make_again(name), value=parent
        )


def read_manifest(folder: Path | str, name: str) -> tuple[dict[str, Any], tuple[int, ...]]:
    """Read the manifest in an artifact's folder, check it, and bring it to the present schema.

    Returns it with the stamp of its file, by which :mod:`~lora_mnist_cli.registry.entries` knows it again.

    Raises:
        ArtifactError: where there is none, or it is damaged, makes no sense, or is newer than this version.
    """
    try:
        raw, stamp = read_stamped(f"{folder}/{MANIFEST}", MAX_MANIFEST)
        manifest = decode_manifest(raw)
    except OSError as error:
        problem = f"'{name}' has no readable {MANIFEST}: {error.strerror}"
        raise ArtifactError(problem, hint=make_again(name), value=name) from error
    except (ValueError, RecursionError) as error:
        why = f": {error}" if isinstance(error, ExtentError) else " is not JSON"
        raise ArtifactError(f"'{name}' is damaged: {MANIFEST}{why}", hint=make_again(name), value=name) from error
    return parse_manifest(manifest, name, make_again(name)), stamp


def parse_manifest(manifest: Any, name: str, hint: str = "") -> dict[str, Any]:
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
        checked: dict[str, Any] = manifest if version != 1 else {**manifest, "note": ""}  # schema 1 had no note
        _check(checked)
    except msgspec.ValidationError as error:
        problem = f"'{name}' is damaged: {MANIFEST}: {_in_words(str(error), checked)}"
        raise ArtifactError(problem, hint=hint, value=name) from error
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"'{name}' is damaged: {MANIFEST}: {error}", hint=hint, value=name) from error
    return checked


def _check(manifest: dict[str, Any]) -> None:
    """Refuse a manifest in which a field is missing, unknown, of another type, or out of range.

    Raises:
        ValueError: with the first problem; msgspec.ValidationError where a declared type does not hold.
    """
    kind = manifest.get("kind")
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r:.60}, not one of {', '.join(KINDS)}")
    checked = msgspec.convert(manifest, _MANIFESTS[kind])
    for part in ("config", "details", "environment"):
        # Other fields are allowed in these, and have no declared type.
        if free := manifest[part].keys() - getattr(checked, part).__struct_fields__:
            check_extent(free)
            check_extent(map(manifest[part].__getitem__, free))
    check_settings(kind, manifest["config"])
    if kind == "sweep":
        _check_axes(manifest["config"], manifest["details"]["results"])


def _check_axes(config: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> None:
    """Refuse a sweep whose results do not lie on the axes that it varies."""
    varying = varying_axes(config)
    for axis in varying:
        values = config[axis.plural]
        hold(isinstance(values, list) and len(values) > 1, f"config.{axis.plural} is not a list of several values")
        hold(axis.field not in config, f"config: {axis.field} and {axis.plural} exclude each other")
        fits = all(type(value) is axis.kind and (axis.kind is not str or is_name(value)) for value in values)
        hold(fits and len(set(values)) == len(values), f"config.{axis.plural} is {values!r:.60}")
    for method in config.get("methods", [config.get("method")]):
        _check_rank(min(config["ranks"]), method)
    fields = _ROW | {axis.field for axis in varying}
    for row in results:
        hold(row.keys() <= fields, f"details.results: a row has {', '.join(map(repr, row.keys() - fields))}")
        for axis in varying:
            known = config[axis.plural] + _default_of(axis, row, config)
            fits = any(type(row.get(axis.field)) is type(value) and row[axis.field] == value for value in known)
            hold(fits, f"details.results: {axis.field} is {row.get(axis.field)!r:.60}, which the sweep does not have")
        _check_rank(row["rank"], row.get("method", config.get("method")))


def _default_of(axis: Axis, row: Mapping[str, Any], config: Mapping[str, Any]) -> list[Any]:
    """Return the default of an axis that a row may have where its method does not use the axis."""
    method = METHODS.get(str(row.get("method", config.get("method", "lora"))))
    return [unused_value(axis.field)] if method is not None and axis.field in method.unused else []


def _check_rank(rank: int, method: object) -> None:
    """Refuse rank 0 for a method that has ranks."""
    if rank < 1 and (method not in METHODS or METHODS[str(method)].ranked):
        raise ValueError(f"rank is {rank}, and its method has ranks from 1")


def _in_words(problem: str, manifest: Any) -> str:
    """Return a refusal by msgspec in words: the field, its value where the path tells it, and what is expected.

    ``Expected `int`, got `str` - at `$.config.seed``` becomes ``config.seed is 'x': expected int, got str``.
    """
    found = _REFUSAL.fullmatch(problem)
    assert found is not None
    what, key, field = found[1], found[2], found[3] or ""
    for pattern, form in FORMS.items():
        what = what.replace(f"`str` matching regex {pattern!r}", form)
    what = what[0].lower() + what[1:].replace("`", "")
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
