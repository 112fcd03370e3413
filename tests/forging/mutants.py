"""Artifacts of which one thing was changed: a field of the manifest, a cell of the history, a tensor, PEFT's options.

A field gets a value of its declared type, at the ends of its range as a rule, or one of another type; it goes, or gets
company. The types are those that the manifest is checked by.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import safetensors.numpy
from hypothesis import strategies as st

from lora_mnist_cli.registry.manifest_kinds import MANIFESTS

Path_ = tuple[Any, ...]
Change = tuple[str, str, Path_, Any]
"""What is changed (``manifest``, ``history``, ``weights``, ``statistics``), how, where, and to what."""

DIGEST = "sha256:" + 64 * "a"
ODD: list[Any] = [
    None, True, False, 0, 1, -1, 7, 2**31, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), 10**400, 0.5, -0.0, -1.5, 1e-320,
    1e-308, 1e-30, 1e30, 1e38, 3.5e38, 1e200, 1e308, -1e308, "", "x", "5-9", "fc1", "fc999", "lora", "base", "sweep",
    "nan", "\x00", "\x1b[2J", "\ud800", "\u202e", "a\nb", "$\\frac{1$", "x" * 20_000, "../x", DIGEST, [], {}, [1, 2],
    [None], ["fc1", "fc1"], [[]], {"x": 1}, [0.001, 1e308], list(range(10_001)), [1e308] * 3, ["5-9"],
    {"\x1b[2J": "\x1b[2J"}, {"\ud800": 1},
]  # fmt: skip
ANY = st.sampled_from(ODD)
CELLS = [
    "",
    "nan",
    "inf",
    "-inf",
    "1e308",
    "-1e308",
    "1e-320",
    "1e999",
    "-1",
    "x",
    "1_0",
    "\x00",
    '"',
    "1,2",
    "9" * 400,
]
FACTORS = [0.0, -1.0, 1e-38, 1e6, 1e12, 1e18, 1e30, 1e38, 3e38, float("inf"), float("nan")]


def values_of(kind: msgspec.inspect.Type) -> st.SearchStrategy[Any]:  # noqa: PLR0911 - a line per type
    """Values of a declared type, as JSON."""
    i = msgspec.inspect
    if isinstance(kind, i.Metadata):
        return values_of(kind.type)
    if isinstance(kind, i.UnionType):
        return st.one_of([values_of(each) for each in kind.types])
    if isinstance(kind, i.LiteralType):
        return st.sampled_from(list(kind.values))
    if isinstance(kind, i.BoolType):
        return st.booleans()
    if isinstance(kind, i.IntType):
        low = kind.ge if kind.ge is not None else -(2**63)
        high = kind.le if kind.le is not None else 2**63 - 1
        return st.sampled_from([low, high]) | st.integers(low, high)
    if isinstance(kind, i.FloatType):
        low = kind.ge if kind.ge is not None else -1.7e308
        high = kind.le if kind.le is not None else 1.7e308
        return st.sampled_from([low, high]) | st.floats(low, high)
    if isinstance(kind, i.StrType):
        pattern = kind.pattern
        return st.from_regex(pattern) if pattern else st.text(max_size=20) | st.sampled_from(["\x00", "x" * 10_000])
    if isinstance(kind, (i.ListType, i.VarTupleType)):
        return st.lists(values_of(kind.item_type), min_size=kind.min_length or 0, max_size=12)
    if isinstance(kind, i.TupleType):
        return st.tuples(*map(values_of, kind.item_types)).map(list)
    if isinstance(kind, i.DictType):
        return st.dictionaries(values_of(kind.key_type), values_of(kind.value_type), max_size=3)
    if isinstance(kind, i.StructType):
        return st.fixed_dictionaries({field.encode_name: values_of(field.type) for field in kind.fields})
    return st.none() if isinstance(kind, i.NoneType) else ANY


def type_at(kind: msgspec.inspect.Type, path: Path_) -> msgspec.inspect.Type | None:
    """The declared type at a path; None where everything is allowed."""
    i = msgspec.inspect
    if isinstance(kind, i.Metadata):
        return type_at(kind.type, path)
    if not path:
        return kind
    if isinstance(kind, i.UnionType):
        found = (type_at(each, path) for each in kind.types)
        return next((each for each in found if each is not None), None)
    if isinstance(kind, i.StructType):
        inner = {field.encode_name: field.type for field in kind.fields}.get(path[0])
    elif isinstance(kind, i.DictType):
        inner = kind.value_type
    elif isinstance(kind, (i.ListType, i.VarTupleType)):
        inner = kind.item_type
    else:
        inner = kind.item_types[path[0]] if isinstance(kind, i.TupleType) else None
    return None if inner is None else type_at(inner, path[1:])


def paths(value: Any, path: Path_ = ()) -> Iterator[Path_]:
    """The paths to all values in a document; of a list to its first and last."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        if not isinstance(value, list) or key in (0, 1, len(value) - 1):
            yield from paths(each, (*path, key))


def drawn_field(draw: Callable[..., Any], document: Any, kind: msgspec.inspect.Type | None) -> Change:
    """A change of one field of a document; every level below the first is as likely as any field of the first."""
    first = draw(st.sampled_from([key for key in document if key not in ("seal", "digest", "fingerprint")]))
    path = draw(st.sampled_from([found for found in paths(document) if found[:1] == (first,)]))
    how = draw(st.sampled_from(["typed", "typed", "odd", "odd", "odd", "drop", "add", "twice"]))
    value = draw(ANY)
    declared = type_at(kind, path) if kind is not None and how == "typed" else None
    if declared is not None:
        value = draw(values_of(declared))
    elif how == "add":
        value = draw(st.sampled_from(["more", "lrs", "ranks", "failed", "merged", "combined", "\x1b[2J"])), value
    return "manifest", how, path, value


def declared_type(kind: str) -> msgspec.inspect.Type:
    """The declared type of a manifest, with those of its open parts."""
    manifest = MANIFESTS[kind]
    whole, parts = map(msgspec.inspect.type_info, (manifest, manifest.open_parts.types))
    assert isinstance(whole, msgspec.inspect.StructType)
    assert isinstance(parts, msgspec.inspect.StructType)
    kept = {field.name: field for field in (*whole.fields, *parts.fields)}
    return msgspec.structs.replace(whole, fields=tuple(kept.values()))


def change_field(document: Any, how: str, path: Path_, value: Any) -> None:
    """Change a field in place; a TypeError or an AttributeError where that can't be done there."""
    above = reduce(getitem, path[:-1], document)
    if how == "drop":
        del above[path[-1]]
    elif how == "add":
        above[path[-1]][value[0]] = value[1]
    elif how == "twice":
        above[path[-1]].append(above[path[-1]][-1])
    else:
        above[path[-1]] = value


@st.composite
def changes(draw: Callable[..., Any], folder: Path) -> Change:
    """A change of an artifact that lies in a folder."""
    manifest = json.loads((folder / "artifact.json").read_text())
    tensors = sorted(file for file in manifest["files"] if file.endswith(".safetensors"))
    parts = [*["manifest"] * 7, *(["history"] if "history.csv" in manifest["files"] else []), *tensors]
    part = draw(st.sampled_from(parts))
    if part == "manifest":
        return drawn_field(draw, manifest, declared_type(manifest["kind"]))
    if part == "history":
        rows = (folder / "history.csv").read_text().splitlines()
        row = draw(st.integers(0, len(rows) - 1))
        return part, "cell", (row, draw(st.integers(0, rows[row].count(",")))), draw(st.sampled_from(CELLS))
    keys = sorted(safetensors.numpy.load_file(folder / part))
    return part, "scale", (draw(st.sampled_from([*keys, ""])),), draw(st.sampled_from(FACTORS))


def forge_change(forge: Callable[..., None], folder: Path, change: Change) -> bool:
    """Make a change and all digests fit; False where nothing can be written that way."""
    part, how, path, value = change
    try:
        if part == "manifest":
            forge(folder, lambda manifest: change_field(manifest, how, path, value))
        elif part == "history":
            rows = [row.split(",") for row in (folder / "history.csv").read_text().splitlines()]
            rows[path[0]][path[1]] = value
            forge(folder, files={"history.csv": "\n".join(map(",".join, rows)).encode() + b"\n"})
        else:
            tensors = safetensors.numpy.load_file(folder / part)
            with np.errstate(all="ignore"):
                changed = {
                    key: (tensor * tensor.dtype.type(value)).astype(tensor.dtype)
                    if path[0] in ("", key) and tensor.dtype.kind == "f" else tensor
                    for key, tensor in tensors.items()
                }  # fmt: skip
            forge(folder, files={part: safetensors.numpy.save(changed)})
    except (TypeError, AttributeError, IndexError, KeyError, ValueError, UnicodeEncodeError):
        return False
    return True
