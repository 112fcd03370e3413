"""What a manifest of each kind holds, as declared types, and how its fields depend on each other.

:mod:`~lora_mnist_cli.registry.manifest_types` declares the parts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from lora_mnist_cli.registry.digests import has_digest
from lora_mnist_cli.registry.manifest_limits import check_extent
from lora_mnist_cli.registry.manifest_settings import AdapterSettings, BaseSettings, Settings, SweepSettings
from lora_mnist_cli.registry.manifest_types import (
    MAX_NOTE,
    AdapterDetails,
    BaseDetails,
    DataSet,
    Details,
    Environment,
    File,
    Name,
    Parent,
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

KINDS = ("base", "adapter", "sweep", "report")
_MAX_FILES = 1000
_ROW = frozenset({"artifact", "rank", "seed", "trainable_parameters", "failed", "subsets", "last_epoch"})
"""Fields of a sweep's result, beside the axes that the sweep varies."""


class _Open:
    """The parts of a manifest that may have fields that no type declares.

    Args:
        types: a struct of them, each in its declared type.
        fields: part → the fields that are declared.
    """

    def __init__(self, config: Any, details: Any) -> None:
        parts = {"environment": Environment, "config": config, "details": details}
        self.types = msgspec.defstruct("Open", list(parts.items()), gc=False)
        self.fields = {part: frozenset(declared.__struct_fields__) for part, declared in parts.items()}


class Manifest(Strict, tag_field="kind"):
    """What a manifest of any kind holds."""

    schema_version: int
    name: Name
    created: str
    digest: str  # with the fingerprint and the seal, it is computed anew and compared
    fingerprint: str
    seal: str | UnsetType
    note: Annotated[str, Meta(max_length=MAX_NOTE)]
    wall_seconds: Seconds
    training_code: Whole
    dataset: DataSet
    environment: dict[str, Any]
    files: Annotated[dict[str, File], Meta(max_length=_MAX_FILES)]
    parents: tuple[Parent, ...]
    scores: Scores | PossibleScores
    config: dict[str, Any]
    details: dict[str, Any]

    open_parts: ClassVar[_Open] = _Open(Settings, Details)
    lineages: ClassVar[tuple[tuple[str, ...], ...]] = ()
    """The roles that the parents may have, in order."""
    any_number: ClassVar[str] = ""
    """A role of which there may be any number of parents beside these."""

    @property
    def kind(self) -> str:
        """The kind of artifact."""
        return str(self.__struct_config__.tag)

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

    def check(self, parts: Any) -> None:
        """Refuse open parts, in their declared types, that do not fit the rest; with a ValueError for the first."""

    def is_sealed(self) -> bool:
        """Return whether it still says what it said when it was sealed."""
        return has_digest(msgspec.structs.replace(self, seal=UNSET), self.seal)


class BaseManifest(Manifest, tag="base"):
    """A base: trained, or an adapter merged into another base."""

    scores: Scores

    open_parts = _Open(BaseSettings, BaseDetails)
    lineages = ((), ("base", "adapter"))

    def check(self, parts: Any) -> None:
        """Refuse a certificate of merging without its parents, and so on."""
        merged = bool(self.parents)
        alpha, certificate = parts.config.merged_alpha, parts.details.merged
        hold(
            merged == (alpha is not UNSET) == (certificate is not UNSET),
            "parents, config.merged_alpha and details.merged belong together",
        )


class AdapterManifest(Manifest, tag="adapter"):
    """An adapter: trained on a base, combined from adapters of one base, or imported."""

    scores: Scores

    open_parts = _Open(AdapterSettings, AdapterDetails)
    lineages = (("base",),)
    any_number = "adapter"

    def check(self, parts: Any) -> None:
        """Refuse a rank that its method does not have, and a combination without its parents."""
        config, made = parts.config, parts.details.combined
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

    open_parts = _Open(SweepSettings, SweepDetails)
    lineages = (("base",),)
    any_number = "member"

    def check(self, parts: Any) -> None:
        """Refuse results on different digits."""
        labels = [score.digits for score in parts.details.results[0].subsets]
        for row in parts.details.results:
            hold([score.digits for score in row.subsets] == labels, "details.results: rows on different digits")


class ReportManifest(Manifest, tag="report"):
    """A report on any artifacts."""

    scores: PossibleScores

    open_parts = _Open(Settings, ReportDetails)
    lineages = ((),)
    any_number = "input"


MANIFESTS: dict[str, type[Manifest]] = {
    "base": BaseManifest, "adapter": AdapterManifest, "sweep": SweepManifest, "report": ReportManifest,
}  # fmt: skip
_EVERY_KIND: Any = BaseManifest | AdapterManifest | SweepManifest | ReportManifest
decode_typed: Callable[[bytes], Manifest] = msgspec.json.Decoder(_EVERY_KIND).decode
"""Decodes a manifest to the struct of its kind, in which nothing but the open parts is left to check."""


def check_open_parts(manifest: Manifest) -> None:
    """Refuse a manifest in which open parts are not as their types say, or fields do not fit each other.

    Raises:
        ValueError: with the first problem; msgspec.ValidationError where a declared type does not hold.
    """
    manifest.check(msgspec.convert(manifest, manifest.open_parts.types, from_attributes=True))
    for part, declared in manifest.open_parts.fields.items():
        given: dict[str, Any] = getattr(manifest, part)
        if not declared.issuperset(given):
            free = given.keys() - declared
            check_extent(free)
            check_extent(map(given.__getitem__, free))
    kind = manifest.kind
    check_settings(kind, manifest.config)
    if kind == "sweep":
        _check_axes(manifest.config, manifest.details["results"])


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
