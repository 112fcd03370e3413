"""The manifest of an artifact from a stranger's folder: read with limits, checked in full, brought to this schema.

An artifact may have been handed on by anyone, so nothing in its manifest is believed: not its size, nesting or types,
and no path that it names. What passes here is safe to use, and says exactly what was published.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

from lora_mnist_cli.settings.adapter_config import unused_value
from lora_mnist_cli.settings.choices import METHODS
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.settings.grid import OTHERS, Axis, varying_axes
from lora_mnist_cli.system.errors import ArtifactError, UsageError, make_again
from lora_mnist_cli.system.files import read_regular

SCHEMA_VERSION = 2
MANIFEST = "artifact.json"
KINDS = ("base", "adapter", "sweep", "report")
ROLES = {"base": ("base",), "adapter": ("adapter",), "member": ("adapter",), "input": KINDS}
"""What an artifact is to one that was made from it → the kinds that it may have."""

UPGRADE = "upgrade lora-mnist"
"""The advice for what a newer version wrote."""

MAX_NAME = 100
MAX_MANIFEST = 64 * 2**20
"""Bytes: a sweep of ten thousand adapters, the most there can be, has a manifest of some ten megabytes."""
MAX_PLAIN = 2**20
"""Bytes of a manifest of any other kind, which lists nothing but its files and parents."""
_MAX_STRUCTURE = 1_500_000
"""Brackets, commas and colons: a sweep of ten thousand has some 600,000. Each can cost a hundred times its byte."""
MAX_NOTE = 2000
MAX_YEAR = 2999
_MAX_FILES = 1000
_MAX_BYTES = 2**32
"""Of one file: twice the largest weights that are read. A sparse file of any size costs its sender nothing."""
_MAX_TEXT = 10_000
_MAX_WHOLE = 2**63
_MAX_DEPTH = 20

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._,-]*", re.ASCII)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
_CREATED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00", re.ASCII)
_LAYER = re.compile(r"fc[1-9][0-9]{0,2}", re.ASCII)
_FIELDS = {
    "name", "kind", "created", "digest", "fingerprint", "seal", "scores", "details", "environment", "wall_seconds",
    "files", "config", "dataset", "parents", "training_code", "schema_version",
}  # fmt: skip


def is_name(text: object) -> bool:
    """Whether an artifact may be called so: a letter or digit, then letters, digits and ``._,-``, 100 at most."""
    return isinstance(text, str) and len(text) <= MAX_NAME and _NAME.fullmatch(text) is not None


def is_digest(text: object) -> bool:
    """Whether this is a digest as they are written everywhere: ``sha256:`` and 64 hexadecimal digits."""
    return isinstance(text, str) and _DIGEST.fullmatch(text) is not None


def is_created(text: object) -> bool:
    """Whether this is a time of publication as they are written everywhere: in UTC, to the microsecond."""
    with contextlib.suppress(ValueError):
        fits = isinstance(text, str) and _CREATED.fullmatch(text) is not None
        return fits and datetime.fromisoformat(str(text)).year <= MAX_YEAR
    return False


def is_subsets(rows: object) -> bool:
    """Whether these are scores, a row a digit set, in the form of the command line's JSON."""
    with contextlib.suppress(ValueError):
        _check_scores({"subsets": rows, "per_digit": []})
        return True
    return False


def is_file(name: object) -> bool:
    """Whether this names a file inside an artifact's folder: relative, in at most one folder, nothing hidden."""
    if not isinstance(name, str) or not 0 < len(name) <= 255 or not name.isprintable() or "\\" in name:
        return False
    parts = name.split("/")
    return len(parts) <= 2 and all(part and not part.startswith(".") for part in parts) and name != MANIFEST


def read_manifest(folder: Path, seal_of: Callable[[Mapping[str, Any]], str]) -> dict[str, Any]:
    """The manifest in a folder, checked and in the shape of the present schema.

    Args:
        seal_of: what the seal of a manifest has to be.

    Raises:
        ArtifactError: where there is none, or it is damaged, makes no sense, or is newer than this version.
    """
    name = folder.name
    hint = make_again(name)
    try:
        manifest = decode_manifest(read_regular(folder / MANIFEST, MAX_MANIFEST))
    except OSError as error:
        raise ArtifactError(f"'{name}' has no readable {MANIFEST}: {error.strerror}", hint=hint, value=name) from error
    except ExtentError as error:
        raise ArtifactError(f"'{name}' is damaged: {MANIFEST}: {error}", hint=hint, value=name) from error
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"'{name}' is damaged: {MANIFEST} is not JSON", hint=hint, value=name) from error
    return parse_manifest(manifest, name, seal_of, hint)


class ExtentError(ValueError):
    """There is more of it than is ever written."""


def decode_manifest(raw: bytes) -> Any:
    """The JSON of a manifest. What would take far more memory than it has bytes is not decoded.

    Raises:
        ValueError: where it is none, or more of it than makes sense.
        RecursionError: where it is nested without end.
    """
    if len(raw) > MAX_PLAIN:
        if b'"sweep"' not in raw:
            raise ExtentError(f"it has {len(raw):,} bytes, and {MAX_PLAIN:,} at most make sense where it is no sweep")
        if not raw.isascii():  # as it is always written; other characters could take four bytes each
            raise ExtentError(f"it has {len(raw):,} bytes that are not all ASCII")
    if (count := sum(map(raw.count, (b"[", b"{", b",", b":")))) > _MAX_STRUCTURE:
        raise ExtentError(f"it has {count:,} brackets, commas and colons, and {_MAX_STRUCTURE:,} at most make sense")
    return json.loads(raw, parse_constant=_refuse_constant)


def parse_manifest(
    manifest: Any, name: str, seal_of: Callable[[Mapping[str, Any]], str], hint: str = ""
) -> dict[str, Any]:
    """A manifest that was read as JSON, checked and in the shape of the present schema.

    Raises:
        ArtifactError: as :func:`read_manifest`.
    """
    version = manifest.get("schema_version") if isinstance(manifest, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise ArtifactError(
            f"'{name}' was written by a newer lora-mnist (schema {version}, this one reads up to {SCHEMA_VERSION})",
            hint=UPGRADE,
            value=version,
        )
    try:
        _hold(type(version) is int and version >= 1, "it has no schema version")
        _check_extent(manifest)
        _hold(manifest.get("seal") == seal_of(manifest), "its seal does not fit")
        for old in range(int(version or 0), SCHEMA_VERSION):
            manifest = _UPGRADES[old](manifest)
        _check(manifest)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"'{name}' is damaged: {MANIFEST}: {error}", hint=hint, value=name) from error
    return dict(manifest)


def _from_1(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Schema 1 had no note."""
    return {**manifest, "note": ""}


_UPGRADES: dict[int, Callable[[Mapping[str, Any]], dict[str, Any]]] = {1: _from_1}
"""Schema version → what makes its manifests those of the next."""


def _check_extent(manifest: Mapping[str, Any]) -> None:
    """Nothing in it is nested deeper, longer or larger than what is ever written; ValueError says what is."""
    # Iterators, and no list of all that is still to come, which would be as large as the manifest again.
    above: list[Iterator[Any]] = [iter((manifest,))]
    while above:
        for value in above[-1]:
            if isinstance(value, (dict, list)):
                _hold(len(above) <= _MAX_DEPTH, "it is nested too deeply")
                above.append(chain(value, value.values()) if isinstance(value, dict) else iter(value))
                break
            if isinstance(value, str):
                _hold(len(value) <= _MAX_TEXT, f"a text of {len(value):,} characters")
            elif isinstance(value, int):
                _hold(abs(value) < _MAX_WHOLE, "a number without measure")
        else:
            above.pop()


def _check(manifest: Mapping[str, Any]) -> None:
    """Every field has its type and a value that makes sense; ValueError says which has not."""
    odd = sorted(set(manifest) ^ (_FIELDS | {"note"}))
    _hold(not odd, f"fields are missing or unknown: {', '.join(odd)}")
    _hold(is_name(manifest["name"]), f"name {manifest['name']!r}")
    _hold(manifest["kind"] in KINDS, f"kind {manifest['kind']!r}")
    created = manifest["created"]
    _hold(is_created(created), f"created {created!r}")
    for key in ("digest", "fingerprint"):
        _hold(is_digest(manifest[key]), f"{key} {manifest[key]!r}")
    note = manifest["note"]
    _hold(isinstance(note, str) and len(note) <= MAX_NOTE, "note")
    _hold(_is_number(manifest["wall_seconds"]) and manifest["wall_seconds"] >= 0, "wall_seconds")
    _hold(type(manifest["training_code"]) is int, "training_code")
    for key in ("scores", "details", "environment", "config", "dataset", "files"):
        _hold(isinstance(manifest[key], dict), key)
    dataset = manifest["dataset"]
    _hold(set(dataset) == {"name", "digest"} and is_name(dataset["name"]), "dataset")
    _hold(is_digest(dataset["digest"]), f"dataset digest {dataset['digest']!r}")
    _hold(isinstance(manifest["parents"], list), "parents")
    for parent in manifest["parents"]:
        _hold(isinstance(parent, dict) and set(parent) == {"role", "name", "digest"}, "parents")
        _hold(parent["role"] in ROLES and is_name(parent["name"]) and is_digest(parent["digest"]), f"parent {parent!r}")
    named = [(parent["role"], parent["digest"]) for parent in manifest["parents"]]
    _hold(len(named) == len(set(named)), "a parent is named twice")
    possible, any_number = _LINEAGE[manifest["kind"]]
    roles = [parent["role"] for parent in manifest["parents"] if parent["role"] != any_number]
    _hold(tuple(roles) in possible, f"a {manifest['kind']} whose parents are {', '.join(roles) or 'none'}")
    _hold(len(manifest["files"]) <= _MAX_FILES, "files")
    for file, entry in manifest["files"].items():
        _hold(is_file(file), f"file name {file!r}")
        _hold(isinstance(entry, dict) and set(entry) == {"bytes", "sha256"}, f"file {file!r}")
        _hold(type(entry["bytes"]) is int and 0 <= entry["bytes"] <= _MAX_BYTES, f"size of {file!r}")
        _hold(is_digest(entry["sha256"]), f"digest of {file!r}")
    for key in ("rank", "seed"):
        _hold(type(manifest["config"].get(key, 0)) is int, key)
    _hold("digits" not in manifest["config"] or _is_digits(manifest["config"]["digits"]), "digits")
    if manifest["scores"]:
        _check_scores(manifest["scores"])
    versions = manifest["environment"].get("versions", {})
    _hold(isinstance(versions, dict), "versions")
    _DETAILS[manifest["kind"]](manifest)
    _check_ranges(manifest)


def _check_ranges(manifest: Mapping[str, Any]) -> None:
    """No number that was found to be one is out of the range of what it counts."""
    config, details = manifest["config"], manifest["details"]
    of_a_sweep = manifest["kind"] == "sweep"
    _hold("base_digits" not in details or _is_digits(details["base_digits"]), "base_digits")
    for row in (config, details, *(details["results"] if of_a_sweep else ())):
        least_rank = _least_rank([row.get("method", config.get("method", "lora"))])
        for key, least in (("rank", least_rank), ("seed", 0), ("trainable_parameters", 0)):
            value = row.get(key, least)
            _hold(not isinstance(value, int) or value >= least, f"{key} {value!r}")
    if of_a_sweep:
        least_rank = _least_rank(config.get("methods", [config.get("method", "lora")]))
        _hold(min(config["ranks"]) >= least_rank, f"rank {min(config['ranks'])}")
        _hold(min(config["seeds"]) >= 0, f"seed {min(config['seeds'])}")


def _default_of(axis: Axis, row: Mapping[str, Any], config: Mapping[str, Any]) -> list[Any]:
    """What a row may have on an axis beside the sweep's values: the default, where its method has no use for it."""
    method = METHODS.get(str(row.get("method", config.get("method", "lora"))))
    return [unused_value(axis.field)] if method is not None and axis.field in method.unused else []


def _least_rank(methods: list[Any]) -> int:
    """0 where none of some methods has a rank."""
    return int(any(str(name) not in METHODS or METHODS[str(name)].ranked for name in methods))


def _check_scores(scores: Mapping[str, Any]) -> None:
    _hold(set(scores) == {"subsets", "per_digit"}, "scores")
    for key, label in (("subsets", "digits"), ("per_digit", "digit")):
        _hold(isinstance(scores[key], list), f"scores: {key}")
        for row in scores[key]:
            _hold(isinstance(row, dict) and set(row) == {label, "count", "accuracy", "loss"}, f"scores: {key}")
            _hold(type(row[label]) is (str if label == "digits" else int), f"scores: {key}")
            count, accuracy, loss = row["count"], row["accuracy"], row["loss"]
            _hold(_is_digits(str(row[label])) and type(count) is int and count >= 0, f"scores: {key}: count {count!r}")
            _hold(accuracy is None or (_is_number(accuracy) and 0 <= accuracy <= 1), f"scores: accuracy {accuracy!r}")
            _hold(loss is None or (_is_number(loss) and loss >= 0), f"scores: loss {loss!r}")


def _check_base(manifest: Mapping[str, Any]) -> None:
    details = manifest["details"]
    layers, stats = details.get("layers"), details.get("pixel_stats")
    _hold(isinstance(layers, dict) and 0 < len(layers) <= 999, "layers")
    for layer, shape in layers.items():
        _hold(_LAYER.fullmatch(layer) is not None, f"layer {layer!r}")
        _hold(isinstance(shape, list) and len(shape) == 2, f"shape of {layer}")
        _hold(all(type(size) is int and 0 < size <= 2**20 for size in shape), f"shape of {layer}")
    _hold(isinstance(stats, list) and len(stats) == 2 and all(map(_is_number, stats)) and stats[1] > 0, "pixel_stats")
    _hold(_is_digits(manifest["config"].get("digits")), "digits")
    merged = bool(manifest["parents"])
    _hold(merged == ("merged_alpha" in manifest["config"]) == ("merged" in details), "merged")
    if merged:
        _check_merged(details["merged"])


def _check_merged(certificate: Any) -> None:
    kinds: dict[str, Callable[[Any], bool]] = {
        "alpha": _is_number, "weight_residual": _is_number, "logit_residual": _is_number, "largest_logit": _is_number,
        "base_digits": _is_digits, "adapter_digits": _is_digits, "predictions_changed": _is_count, "images": _is_count,
    }  # fmt: skip
    _hold(isinstance(certificate, dict) and certificate.keys() == kinds.keys(), "merged")
    for key, check in kinds.items():
        _hold(check(certificate[key]), f"merged: {key}")


def _check_adapter(manifest: Mapping[str, Any]) -> None:
    config, details = manifest["config"], manifest["details"]
    for key in ("rank", "seed"):
        _hold(type(config.get(key)) is int, key)
    _hold(_is_digits(config.get("digits")), "digits")
    _hold(_is_digits(details.get("base_digits")), "base_digits")
    _hold(type(details.get("trainable_parameters")) is int, "trainable_parameters")
    for key in ("failed", "bank"):
        _hold(isinstance(details.get(key, ""), str), key)
    adapters = [parent for parent in manifest["parents"] if parent["role"] == "adapter"]
    _hold(bool(adapters) == ("combined" in config) == ("combined" in details), "combined")
    if adapters:
        _hold(manifest["parents"][0]["role"] == "base", "parents")
        _check_combined(details["combined"], config, len(adapters))
    _hold("imported" not in config or is_digest(config["imported"]), "imported")


def _check_combined(made: Any, config: Mapping[str, Any], count: int) -> None:
    _hold(isinstance(made, dict) and made.keys() == {"parents", "layers", "residual"}, "combined")
    _hold(isinstance(config.get("combined_weights"), list) and len(config["combined_weights"]) == count, "combined")
    _hold(isinstance(made["parents"], list) and len(made["parents"]) == count, "combined: parents")
    for parent in made["parents"]:
        _hold(isinstance(parent, dict) and parent.keys() == {"name", "digits", "weight"}, "combined: parents")
        _hold(is_name(parent["name"]) and _is_digits(parent["digits"]), "combined: parents")
        _hold(_is_number(parent["weight"]), "combined: parents")
    _hold(isinstance(made["layers"], dict) and _is_size(made["residual"]), "combined: residual")
    for layer, row in made["layers"].items():
        _hold(_LAYER.fullmatch(layer) is not None, f"combined: layer {layer!r}")
        _hold(isinstance(row, dict) and row.keys() == {"norm", "residual"}, f"combined: {layer}")
        _hold(all(map(_is_size, row.values())), f"combined: {layer}")


def _check_sweep(manifest: Mapping[str, Any]) -> None:
    config, results = manifest["config"], manifest["details"].get("results")
    _hold(_is_digits(config.get("digits")), "digits")
    for key in ("ranks", "seeds"):
        values = config.get(key)
        _hold(isinstance(values, list) and values and all(type(value) is int for value in values), key)
    _hold(isinstance(results, list) and results, "results")
    varying = varying_axes(config)
    for axis in varying:
        values = config[axis.plural]
        _hold(isinstance(values, list) and len(values) > 1 and axis.field not in config, axis.plural)
        _hold(all(type(value) is axis.kind and _is_plain(value) for value in values), axis.plural)
        _hold(len(set(values)) == len(values), axis.plural)
    for row in results:
        _hold(isinstance(row, dict) and is_name(row.get("artifact")), "results")
        for axis in OTHERS:
            known = config[axis.plural] + _default_of(axis, row, config) if axis in varying else []
            _hold(axis.field in row if known else axis.field not in row, f"results: {axis.field}")
            _hold(
                not known or _is_one_of(row[axis.field], known),
                f"results: {axis.field}",
            )
        _hold(all(type(row.get(key)) is int for key in ("rank", "seed", "trainable_parameters")), "results")
        _hold(row.get("failed") is None or isinstance(row["failed"], str), "results")
        _check_scores({"subsets": row.get("subsets"), "per_digit": []})
        labels = [score["digits"] for score in row["subsets"]]
        _hold(labels == [score["digits"] for score in results[0]["subsets"]], "results")


def _check_report(manifest: Mapping[str, Any]) -> None:
    rows = manifest["details"].get("rows")
    _hold(isinstance(rows, list) and all(isinstance(row, dict) for row in rows), "rows")
    for row in rows:
        _hold(all(isinstance(row.get(key), str) for key in ("what", "digits", "measure")), "rows")
        for key in ("study", "here", "difference"):
            _hold(key in row and (row[key] is None or _is_number(row[key])), "rows")


_LINEAGE: dict[str, tuple[tuple[tuple[str, ...], ...], str | None]] = {
    "base": (((), ("base", "adapter")), None),  # trained, or an adapter merged into a base
    "adapter": ((("base",),), "adapter"),  # trained, or combined from adapters of one base
    "sweep": ((("base",),), "member"),
    "report": (((),), "input"),
}
"""Kind → the roles of parents that it can have, in order, and the role of which it may have any number."""
_DETAILS = {"base": _check_base, "adapter": _check_adapter, "sweep": _check_sweep, "report": _check_report}


def _is_digits(value: object) -> bool:
    return isinstance(value, str) and len(value) < 20 and _is_canonical(value)


@lru_cache(maxsize=2048)
def _is_canonical(digits: str) -> bool:
    with contextlib.suppress(UsageError):
        return str(DigitSet.parse(digits)) == digits
    return False


def _is_plain(value: object) -> bool:
    """Whether a setting's value is a finite number or a word."""
    return is_name(value) if isinstance(value, str) else _is_number(value)


def _is_one_of(value: object, known: list[Any]) -> bool:
    return any(type(value) is type(each) and value == each for each in known)


def _hold(condition: object, what: str) -> None:
    if not condition:
        raise ValueError(what)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_size(value: object) -> bool:
    return isinstance(value, (int, float)) and _is_number(value) and value >= 0


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is no number of JSON")
