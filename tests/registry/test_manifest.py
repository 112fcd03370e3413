"""Manifests from strangers: whatever makes no sense is refused in one line, and older schemas are read."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from functools import reduce
from operator import delitem, getitem, setitem
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lora_mnist_cli.cli.commands.runs.find import runs_table
from lora_mnist_cli.cli.console import print_tables
from lora_mnist_cli.registry import manifest as manifest_reading
from lora_mnist_cli.registry.artifact import Parent, Settings, read_artifact
from lora_mnist_cli.registry.digests import has_digest, seal_of
from lora_mnist_cli.registry.entries import Entry
from lora_mnist_cli.registry.manifest import SCHEMA_VERSION, parse_manifest, read_manifest
from lora_mnist_cli.registry.manifest_limits import MAX_MANIFEST, check_extent, decode_manifest
from lora_mnist_cli.registry.manifest_types import MANIFEST, is_file
from lora_mnist_cli.registry.registry import Registry
from lora_mnist_cli.registry.verification import verify
from lora_mnist_cli.settings.checks import is_digest
from lora_mnist_cli.stages.records.loading import load_model
from lora_mnist_cli.system.errors import ArtifactError

Run = Callable[..., Any]

SCHEMAS = Path(__file__).resolve().parents[1] / "schemas"
BASE, ADAPTER, SWEEP = "base-0-4", "lora-5-9-r1", "sweep-5-9"
ALL = (BASE, ADAPTER, SWEEP, "report")
DIGEST = "sha256:" + 64 * "a"
ENTRY = {"bytes": 1, "sha256": DIGEST}
ROW = {"digits": "0-4", "count": 1, "accuracy": 0.5, "loss": 1.0}
ESCAPES = "\x1b]0;owned\x07\x1b[2J\nerror: forged\r\u202e"


def nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


def put(*path: Any, to: Any) -> Callable[[Any], None]:
    """An edit of the value at a path of keys."""
    return lambda manifest: setitem(reduce(getitem, path[:-1], manifest), path[-1], to)


def drop(*path: Any) -> Callable[[Any], None]:
    """An edit that takes the value at a path of keys away."""
    return lambda manifest: delitem(reduce(getitem, path[:-1], manifest), path[-1])


NAMES = [
    "../../victim", "..", ".", "a/../../b", "/etc/passwd", "a\\b", "..\\b", "a\0b", ".hidden", "a/.hidden", ".hidden/a",
    "a/b/c", "", "a/", "/", "a\nb", "\x1b[2J", "x" * 300, MANIFEST,
]  # fmt: skip
WRONG = [None, True, 1, 1.5, "x", [], {}, [1], {"x": 1}]

OF_A_BASE: dict[str, Callable[[Any], Any]] = {
    **{f"file {name[:20]!r}": put("files", name, to=ENTRY) for name in NAMES},
    **{f"size {size!r}": put("files", "history.csv", "bytes", to=size) for size in (-1, 2**50, 1.5, "1", None, True)},
    **{
        f"sha256 {str(value)[:20]!r}": put("files", "history.csv", "sha256", to=value)
        for value in ("sha256:0", "md5:" + 64 * "0", DIGEST.upper(), DIGEST + "\n", None, 1)
    },
    "file with more": put("files", "history.csv", to={**ENTRY, "path": "/etc/passwd"}),
    "file with less": put("files", "history.csv", to={"bytes": 1}),
    "a thousand and one files": lambda manifest: manifest["files"].update({f"f{i}": ENTRY for i in range(1001)}),
    **{
        f"{key} is {value!r}": put(key, to=value)
        for key in ("name", "kind", "created", "note", "wall_seconds", "training_code", "details", "parents", "files")
        for value in WRONG
        if not (key == "name" and value == "x")
        and not (key == "note" and isinstance(value, str))
        and not (key == "wall_seconds" and type(value) in (int, float))
        and not (key == "training_code" and type(value) is int)
        and not (key == "parents" and value == [])
        and not (key == "files" and value == {})
    },
    **{f"{key} is a list": put(key, to=[]) for key in ("scores", "environment", "config", "dataset")},
    "name with a path": put("name", to="../x"),
    "kind of another world": put("kind", to="weights"),
    "kind of a list": put("kind", to=["base"]),
    "a day that is none": put("created", to="2026-99-99T99:99:99.999999+00:00"),
    "the end of time": put("created", to="9999-12-31T23:59:59.999999+00:00"),
    "local time": put("created", to="2026-01-01T00:00:00.000000+02:00"),
    "a long note": put("note", to="x" * 2001),
    "an endless text": put("environment", "device", to="x" * 10_001),
    "wall seconds below 0": put("wall_seconds", to=-1.0),
    "wall seconds without measure": put("wall_seconds", to=10**4000),
    "an accuracy without measure": put("scores", "subsets", 0, "accuracy", to=10**4000),
    "a seed without measure": put("config", "seed", to=10**4000),
    "a count that is a text": put("scores", "subsets", 0, "count", to="many"),
    "a count without measure": put("scores", "subsets", 0, "count", to=10**4000),
    "a loss that is a list": put("scores", "per_digit", 0, "loss", to=[1]),
    "an accuracy that is a text": put("scores", "subsets", 0, "accuracy", to=ESCAPES),
    "scored digits that are none": put("scores", "subsets", 0, "digits", to=ESCAPES),
    **{
        f"{key} of {value}": put("scores", rows, 3 * (rows == "per_digit"), key, to=value)
        for key, value in (("accuracy", 1e308), ("accuracy", 99.5), ("accuracy", -1), ("count", -1), ("loss", -1.0))
        for rows in ("subsets", "per_digit")
    },
    "a seed below 0": put("config", "seed", to=-1),
    "scores with more": put("scores", "more", to=[]),
    "scores without digits": drop("scores", "per_digit"),
    "scores without subsets": drop("scores", "subsets"),
    "no scores": put("scores", to={}),
    "no digit's score": put("scores", "per_digit", to=[]),
    "nine digits' scores": drop("scores", "per_digit", 4),
    "digits' scores in another order": lambda manifest: manifest["scores"]["per_digit"].reverse(),
    "a loss beyond 32 bits": put("scores", "subsets", 0, "loss", to=1.7e308),
    "pixels beyond measure": put("details", "pixel_stats", to=[1e308, 1e-308]),
    "inputs divided by next to nothing": put("details", "pixel_stats", to=[0.1, 1e-30]),
    "seconds beyond measure": put("wall_seconds", to=1e300),
    "an optimiser that is none": put("config", "optimizer", to="fc1"),
    "a rate below 0": put("config", "lr", to=-0.1),
    "no rate": drop("config", "lr"),
    "a score with more": put("scores", "subsets", 0, to={**ROW, "more": 1}),
    "a score that is none": put("scores", "subsets", 0, to=1),
    "the digit of a score": put("scores", "per_digit", 0, "digit", to="0"),
    "an unknown field": put("more", to=1),
    "no note": drop("note"),
    "no files": drop("files"),
    "a parent's path": put("parents", to=[{"role": "base", "name": "../x", "digest": DIGEST}]),
    "a parent's digest": put("parents", to=[{"role": "base", "name": "x", "digest": "sha256:1"}]),
    "a parent's role": put("parents", to=[{"role": "owner", "name": "x", "digest": DIGEST}]),
    "a parent with more": put("parents", to=[{"role": "base", "name": "x", "digest": DIGEST, "path": "/"}]),
    "a parent that is a text": put("parents", to=["x"]),
    "a base with a base": put("parents", to=[{"role": "base", "name": "x", "digest": DIGEST}]),
    "a base with an input": put("parents", to=[{"role": "input", "name": "x", "digest": DIGEST}]),
    "a data set that is none": put("dataset", "name", to="other"),
    "a data set's path": put("dataset", "name", to="../x"),
    "a data set's digest": put("dataset", "digest", to="x"),
    "a data set with more": put("dataset", "path", to="/"),
    "classes of MNIST": put("dataset", "classes", to=["a", "b"]),
    **{
        f"classes {str(classes)[:20]!r}": put("dataset", to={"name": "own-x", "digest": DIGEST, "classes": classes})
        for classes in (None, "ab", [], ["a"], ["a", "a"], ["a", 1], ["a", ""], ["a", ESCAPES], ["a", "x" * 41],
                        list("abcdefghijk"))
    },
    "one's own data set without classes": put("dataset", to={"name": "own-x", "digest": DIGEST}),
    "a path of one's own": put("dataset", to={"name": "own-../x", "digest": DIGEST, "classes": ["a", "b"]}),
    **{f"digits {value!r}": put("config", "digits", to=value) for value in (None, 1, [0], "4-0", "1,0", "all", "")},
    **{f"seed {value!r}": put("config", "seed", to=value) for value in (None, "0", 1.5, True)},
    "the rank of a base": put("config", "rank", to="x"),
    "no layers": put("details", "layers", to={}),
    "a thousand layers": lambda m: m["details"].update(layers={f"fc{i}": [1, 1] for i in range(1, 1001)}),
    **{
        f"layer {value!r}": put("details", "layers", "fc1", to=value)
        for value in (None, 1, [], [9], [9, 2, 2], [9, 0], [9, -1], [9, 2**21], [9, 2.5], [9, True], ["a", 2])
    },
    "a layer's name": put("details", "layers", "fc1.weight", to=[1, 1]),
    **{
        f"pixel stats {value!r}": put("details", "pixel_stats", to=value)
        for value in (None, [0.1], [0.1, 0.0], [0.1, -1], ["a", "b"], [0.1, 0.3, 0.3], [True, True])
    },
    **{f"versions {value!r}": put("environment", "versions", to=value) for value in (None, [], "1")},
    "a list in a list in a list …": put("details", "more", to=nested(25)),
    "nesting that stops programs": put("details", "more", to=nested(400)),
}  # fmt: skip
PARENT = {"role": "base", "name": "x", "digest": DIGEST}
OF_AN_ADAPTER = {
    "no base": put("parents", to=[]),
    "two bases": put("parents", to=[PARENT, {**PARENT, "digest": DIGEST.replace("0", "1")}]),
    "a base that is no base": put("parents", to=[{**PARENT, "role": "input"}]),
    "a member": lambda manifest: manifest["parents"].append({**PARENT, "role": "member"}),
    **{f"rank {value!r}": put("config", "rank", to=value) for value in (None, "1", 1.0, True)},
    **{f"imported {value!r}"[:40]: put("config", "imported", to=value) for value in (None, 1, "x", DIGEST.upper())},
    "rank 0": put("config", "rank", to=0),
    "no alpha": drop("config", "alpha"),
    "alpha None": put("config", "alpha", to=None),
    "a scaling that is none": put("config", "scaling", to="fc1"),
    "no layers": put("config", "target_layers", to=[]),
    "layers left open": put("config", "target_layers", to=None),
    "a layer twice": put("config", "target_layers", to=["fc1", "fc1"]),
    "no scores": put("scores", to={}),
    "a seed below 0": put("config", "seed", to=-1),
    "parameters below 0": put("details", "trainable_parameters", to=-1),
    "no seed": drop("config", "seed"),
    "no digits": drop("config", "digits"),
    "base digits": put("details", "base_digits", to="9-0"),
    "trainable parameters": put("details", "trainable_parameters", to="many"),
}


def vary(manifest: Any, values: Any, *row: Any, axis: str = "lr", plain: Any = None) -> None:
    """An edit that makes a sweep one over another axis, its rows at one of the values."""
    del manifest["config"][axis]
    if plain is not None:
        manifest["config"][axis] = plain
    manifest["config"][f"{axis}s"] = values
    for value in row:
        manifest["details"]["results"][0][axis] = value


OF_A_SWEEP = {
    "no parents": put("parents", to=[]),
    "a parent twice": lambda manifest: manifest["parents"].append(manifest["parents"][-1]),
    "members alone": lambda manifest: manifest["parents"].pop(0),
    **{f"results {value!r}": put("details", "results", to=value) for value in (None, [], {}, [1], [{}])},
    "a member's path": put("details", "results", 0, "artifact", to="../x"),
    "a row's rank": put("details", "results", 0, "rank", to="1"),
    **{
        f"a row's {key} of {value}": put("details", "results", 0, key, to=value)
        for key, value in (("rank", 0), ("rank", -3), ("seed", -1), ("trainable_parameters", -1), ("more", 1))
    },
    "a row's loss": put("details", "results", 0, "subsets", 1, "loss", to=1.7e308),
    "a scaling that is none": put("config", "scaling", to="fc1"),
    "no alpha": drop("config", "alpha"),
    "one rank of many beyond measure": put("config", "ranks", to=[1, 5000]),
    "ranks without end": put("config", "ranks", to=[1] * 10_001),
    "a row's accuracy": put("details", "results", 0, "subsets", 1, "accuracy", to=99.5),
    "a rank below 1": put("config", "ranks", to=[0]),
    "a seed below 0": put("config", "seeds", to=[-1]),
    "a row without scores": drop("details", "results", 0, "subsets"),
    "a row's scores": put("details", "results", 0, "subsets", to=[{}]),
    "rows on other digits": lambda m: m["details"]["results"].append({**m["details"]["results"][0], "subsets": [ROW]}),
    "ranks": put("config", "ranks", to="1"),
    "no ranks": put("config", "ranks", to=[]),
    "seeds": put("config", "seeds", to=[None]),
    "a row's own axis": put("details", "results", 0, "lr", to=0.001),
    **{
        f"an axis of {values!r}": lambda m, values=values: vary(m, values, 0.001)
        for values in (None, [], [0.001], *([0.001, more] for more in (0.001, "x", True, 1)), {"0.001": 1}, [[1], 2])
    },
    "an axis that is a plain setting too": lambda m: vary(m, [0.001, 0.01], 0.001, plain=0.001),
    **{f"a row at {value!r}": lambda m, value=value: vary(m, [1.0, 0.01], value) for value in (0.5, None, True, 1, [])},
    "a row without its axis": lambda m: vary(m, [0.001, 0.01]),
    "a word with an escape": lambda m: vary(m, ["constant", "\x1b[2J"], "constant", axis="scaling"),
}


@pytest.mark.parametrize(("axis", "values"), [("lr", [0.001, 0.01]), ("scaling", ["constant", "rslora"])])
def test_a_sweep_over_another_axis_is_read(axis, values, example, forge, run):
    forge(example / SWEEP, lambda manifest: vary(manifest, values, values[0], axis=axis))
    shown = run("runs", "show", SWEEP, "--runs-dir", example, "--json")
    assert (shown.code, shown.err) == (0, "")
    assert shown.json["manifest"]["config"][f"{axis}s"] == values
    assert f"{axis}s" in run("runs", "show", SWEEP, "--runs-dir", example).out
    assert len(run("runs", "list", "--runs-dir", example, "--json").json["artifacts"]) == 3


def refused(run: Run, runs: Path, name: str) -> None:
    """Each command says in one line that an artifact is damaged, and the list shows the others."""
    for arguments in (("runs", "show", name), ("evaluate", name)):
        outcome = run(*arguments, "--runs-dir", runs)
        assert (outcome.code, outcome.out) == (3, "")
        (line,) = outcome.err.splitlines()
        assert line.startswith(f"error: '{name}'")
        assert line.isprintable()
        assert len(line) < 3000
    outcome = run("runs", "list", "--json", "--runs-dir", runs)
    assert outcome.code == 0
    assert [row["name"] for row in outcome.json["artifacts"]] == sorted({BASE, ADAPTER, SWEEP} - {name})
    (line,) = outcome.err.splitlines()
    assert line.startswith(f"warning: '{name}'")
    assert line.isprintable()


@pytest.mark.parametrize("name", [BASE, ADAPTER, SWEEP])
def test_a_forger_can_make_all_digests_fit(example, forge, name):
    """What the tests below forge is refused for nothing but what it says."""
    forge(example / name, lambda manifest: manifest.update(note="forged", wall_seconds=1))
    assert read_artifact(example / name).note == "forged"


def refusal_of(folder: Path) -> ArtifactError | None:
    """Why an artifact is not read; None where it is."""
    try:
        read_artifact(folder)
    except ArtifactError as error:
        return error
    return None


@pytest.mark.parametrize("name", [BASE, ADAPTER, SWEEP])
def test_a_manifest_that_makes_no_sense_is_refused(example, forge, name):
    """In one line that names the artifact, with the advice to make it again."""
    original = (example / name / MANIFEST).read_bytes()
    for what, change in {BASE: OF_A_BASE, ADAPTER: OF_AN_ADAPTER, SWEEP: OF_A_SWEEP}[name].items():
        forge(example / name, change)
        refusal = refusal_of(example / name)
        assert refusal is not None, f"{what} was read"
        assert "lora-mnist runs remove" in refusal.hint
        assert refusal.problem.startswith(f"'{name}' is damaged: {MANIFEST}: ")
        assert "\n" not in refusal.problem, what
        assert len(refusal.problem) < 300, what
        (example / name / MANIFEST).write_bytes(original)
    assert read_artifact(example / name).name == name


TOLD = {
    "config: object missing required field alpha": drop("config", "alpha"),
    "config: the settings don't hold: scaling is one of constant, standard, rslora, not 'fc1'": put(
        "config", "scaling", to="fc1"
    ),
    "scores: per_digit: its digits are [9, 8, 7, 6, 5, 4, 3, 2, 1, 0], not 0 to 9": lambda manifest: manifest["scores"][
        "per_digit"
    ].reverse(),
    "config.seed is 'x': expected int, got str": put("config", "seed", to="x"),
    "config.alpha: expected float, got array": put("config", "alpha", to=[1, 2]),
    "config.digits is '4-0': invalid enum value '4-0'": put("config", "digits", to="4-0"),
    "parents[0].digest is 'sha256:1': expected a digest": put("parents", 0, "digest", to="sha256:1"),
    "parents[0].role: expected str, got array": put("parents", 0, "role", to=["fc1"]),
    "scores.per_digit[3].accuracy is 1e+308: expected float <= 1.0": put(
        "scores", "per_digit", 3, "accuracy", to=1e308
    ),
    "object contains unknown field more": put("more", to=1),
    "object missing required field note": drop("note"),
    "files[...].bytes: expected int >= 0": put("files", "history.csv", "bytes", to=-1),
    "files: '../x' is not a name inside the artifact's folder": put("files", "../x", to=ENTRY),
    "rank is 0, and its method has ranks from 1": put("config", "rank", to=0),
}


@pytest.mark.parametrize("told", TOLD)
def test_a_refusal_names_the_field_and_the_value(example, forge, run, told):
    forge(example / ADAPTER, TOLD[told])
    with pytest.raises(ArtifactError) as caught:
        read_artifact(example / ADAPTER)
    assert caught.value.problem == f"'{ADAPTER}' is damaged: {MANIFEST}: {told}"


def test_commands_refuse_a_damaged_manifest_in_one_line(example, forge, run):
    forge(example / ADAPTER, put("config", "seed", to="x"))
    refused(run, example, ADAPTER)
    assert run("plot", "history", ADAPTER).code == 3
    assert run("runs", "verify").code == 3


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths to all values in a manifest."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, each in inner for found in paths(each, (*path, key)))]


EXAMPLES = {name: json.loads((SCHEMAS / "v2" / name / MANIFEST).read_text()) for name in (BASE, ADAPTER, SWEEP)}
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
ANYTHING = st.recursive(
    SCALARS | st.sampled_from(["5-9", "fc1", "base", DIGEST, ESCAPES, "\ud800", 10**4000, 1e308, -1]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_a_forger_changes_is_refused_or_can_be_used(example, forge, data):
    """One value of a manifest becomes another, goes, or gets company; all digests are made to fit."""
    name = data.draw(st.sampled_from([BASE, ADAPTER, SWEEP]))
    path = data.draw(st.sampled_from(paths(EXAMPLES[name])[1:]))
    how = data.draw(st.sampled_from(["change", "drop", "add"]))
    value = data.draw(ANYTHING)
    (example / name / MANIFEST).write_text(json.dumps(EXAMPLES[name]))
    edit = drop(*path) if how == "drop" else put(*path[:-1], data.draw(st.text()), to=value) if how == "add" else None
    # Nothing is added to a list by name, and huge integers have no text.
    with contextlib.suppress(TypeError, ValueError):
        forge(example / name, edit or put(*path, to=value))
    if (refusal := refusal_of(example / name)) is not None:
        assert refusal.problem.startswith(f"'{name}'")
        return
    artifact = read_artifact(example / name)
    entry = Entry.of(artifact)
    assert json.dumps([entry.to_json(), artifact.rows(), artifact.to_manifest(), entry.never_default], allow_nan=False)
    assert [file for file in artifact.files if not is_file(file)] == []
    assert Settings.fingerprint(artifact.settings) == artifact.fingerprint


@pytest.mark.parametrize(
    "path", [("wall_seconds",), ("scores", "subsets", 0, "loss"), ("scores", "per_digit", 3, "accuracy")]
)
def test_a_whole_number_is_not_sealed_as_another_is(example, forge, path):
    """0 and 0.0 are written differently, so one in place of the other is a change."""
    for sealed, changed in ((1.0, 1), (1, 1.0), (0, 0.0)):
        forge(example / BASE, put(*path, to=sealed))
        assert refusal_of(example / BASE) is None
        read: Any = reduce(getitem, path, read_artifact(example / BASE).to_manifest())
        assert repr(read) == repr(sealed)
        manifest = json.loads((example / BASE / MANIFEST).read_text())
        put(*path, to=changed)(manifest)
        (example / BASE / MANIFEST).write_text(json.dumps(manifest))
        assert str(refusal_of(example / BASE)).startswith(f"'{BASE}' is damaged: {MANIFEST}: its seal does not fit")


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 5000])
def test_what_is_no_number_of_json_is_refused(example, run, constant):
    text = (example / BASE / MANIFEST).read_text()
    (example / BASE / MANIFEST).write_text(text.replace('"wall_seconds": ', f'"wall_seconds": {constant}, "x": ', 1))
    refused(run, example, BASE)
    if constant.endswith(("NaN", "Infinity")):
        with pytest.raises(ArtifactError, match="is not JSON"):
            read_artifact(example / BASE)


def test_a_version_that_is_no_number_is_told_of_the_damaged_one_alone(example, run):
    text = (example / SWEEP / MANIFEST).read_text()
    (example / SWEEP / MANIFEST).write_text(text.replace('"schema_version": 2', '"schema_version": Infinity', 1))
    assert run("runs", "show", SWEEP).err.startswith(f"error: '{SWEEP}' is damaged: {MANIFEST} is not JSON")
    beside = run("evaluate", ADAPTER, "--json")
    assert (beside.code, beside.err) == (0, "")


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
@pytest.mark.parametrize("note", ["of any characters", "\\ud83d\\ude00", "half a pair: \\ud800"])
def test_neither_decoder_reads_what_is_no_number(note, constant):
    """Half a surrogate pair takes another decoder, and a forger may put one into any manifest."""
    with pytest.raises(ValueError, match=r"number|Number|malformed"):
        decode_manifest(f'{{"note": "{note}", "wall_seconds": {constant}}}'.encode())
    assert decode_manifest(f'{{"note": "{note}", "wall_seconds": 1e-05}}'.encode())["wall_seconds"] == 1e-05


@pytest.mark.parametrize("deep", ["[" * 100_000, '{"a":' * 100_000, '{"schema_version": 2, "a": ' + "[" * 5000])
def test_nesting_without_end_is_refused(example, run, deep):
    (example / BASE / MANIFEST).write_text(deep)
    refused(run, example, BASE)
    closed = '{"schema_version": 2, "seal": "x", "a": ' + "[" * 900 + "]" * 900 + "}"
    (example / BASE / MANIFEST).write_text(closed)
    refused(run, example, BASE)


def test_a_manifest_too_large_to_be_one_is_not_read(example, run, monkeypatch):
    """A file of a terabyte costs its sender nothing where it is sparse."""
    os.truncate(example / BASE / MANIFEST, 2**40)
    began = time.perf_counter()
    refused(run, example, BASE)
    assert time.perf_counter() - began < 60
    with pytest.raises(ArtifactError, match=f"at most {MAX_MANIFEST:,}"):
        read_artifact(example / BASE)


def test_a_pipe_in_place_of_a_manifest_does_not_hang(example, run):
    (example / BASE / MANIFEST).unlink()
    os.mkfifo(example / BASE / MANIFEST)
    code = (
        "from pathlib import Path; from lora_mnist_cli.registry.artifact import read_artifact;"
        f"read_artifact(Path({str(example / BASE)!r}))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600, check=False)
    assert "it is not a regular file" in ended.stderr
    assert run("runs", "show", BASE).code == 3
    assert run("runs", "list").code == 0


def test_a_pipe_in_place_of_a_weight_file_does_not_hang(example, run):
    (example / BASE / "model.safetensors").unlink()
    os.mkfifo(example / BASE / "model.safetensors")
    outcome = run("evaluate", BASE)
    assert outcome.code == 3
    assert "model.safetensors: it is not a regular file" in outcome.err
    assert run("runs", "verify").code == 3


@pytest.mark.parametrize("what", [BASE, f"{BASE}/{MANIFEST}", f"{BASE}/model.safetensors"])
def test_symbolic_links_are_refused(example, run, tmp_path, what):
    """Even one to the very same content: what it shows can be changed from elsewhere."""
    elsewhere = tmp_path / "elsewhere"
    (example / what).rename(elsewhere)
    (example / what).symlink_to(elsewhere)
    outcome = run("evaluate", BASE)
    assert outcome.code == 3
    assert len(outcome.err.splitlines()) == 1
    assert "symbolic link" in outcome.err
    assert "levels" not in outcome.err
    assert run("evaluate", ADAPTER, "--alpha", "0").code == 3
    if not what.endswith("safetensors"):
        assert run("runs", "show", BASE).code == 3
    assert elsewhere.exists()


def test_a_folder_of_files_that_is_a_symbolic_link_is_refused(example, forge, tmp_path):
    (example / BASE / "tensorboard").mkdir()
    forge(example / BASE, files={"tensorboard/events": b"log"})
    artifact = read_artifact(example / BASE)
    assert artifact.read("tensorboard/events") == b"log"
    (example / BASE / "tensorboard").rename(tmp_path / "elsewhere")
    (example / BASE / "tensorboard").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArtifactError, match="behind a symbolic link"):
        artifact.read("tensorboard/events")


@pytest.mark.parametrize("name", [*NAMES, None, 1, ("a",)])
def test_names_of_files_stay_in_the_folder(name):
    assert not is_file(name)


def test_a_data_set_of_ones_own_is_read_where_its_images_are_not(example, forge):
    forge(example / BASE, put("dataset", to={"name": "own-x", "digest": DIGEST, "classes": ["a", "b"]}))
    shown = Registry(example).get(BASE)
    assert (shown.dataset, shown.classes, str(shown.known_digits)) == ("own-x", ("a", "b"), "0-1")


def test_names_and_digests_that_are_fine():
    assert all(map(is_file, ["a", "model.safetensors", "tensorboard/events.out.1", "ä ö", "a..b"]))
    assert is_digest(DIGEST)
    assert not is_digest(DIGEST + "\n")


def test_nothing_is_published_that_no_reader_would_take(example):
    registry = Registry(example)
    base = registry.get(BASE)
    before = sorted(path.name for path in example.iterdir())

    def publish() -> None:
        with registry.staging("new") as folder:
            (folder / "weights").write_bytes(b"1")
            details = base.details | {"pixel_stats": [0.0, 0.0]}
            registry.publish(
                folder, base.settings, scores=base.scores, details=details, environment={}, wall_seconds=0.0
            )

    with pytest.raises(ArtifactError, match="pixel_stats"):
        publish()
    assert sorted(path.name for path in example.iterdir()) == before


SHOUTING = {
    "note": put("note", to=ESCAPES),
    "details": put("details", ESCAPES, to=ESCAPES),
    "settings": put("config", ESCAPES, to=ESCAPES),
    "device": put("environment", "device", to=ESCAPES),
    "versions": put("environment", "versions", to={ESCAPES: ESCAPES}),
}


@pytest.mark.parametrize("where", SHOUTING)
def test_escape_sequences_do_not_reach_the_terminal(example, forge, run, where):
    forge(example / SWEEP, SHOUTING[where])
    forge(example / BASE, lambda manifest: manifest["environment"].update(versions={}))
    calls = (["runs", "show", SWEEP], ["runs", "list"], ["runs", "diff", SWEEP, BASE], ["runs", "verify"],
             ["runs", "lineage", SWEEP], ["runs", "path", SWEEP])  # fmt: skip
    for call in calls:
        outcome = run(*call)
        assert outcome.code == (3 if where == "settings" and "verify" in call else 0)
        for line in (outcome.out + outcome.err).split("\n"):
            assert line.isprintable()
            assert not line.startswith("error: forged")
    assert "\\x1b]0;owned" in run("runs", "show", SWEEP).out
    assert json.loads(run("runs", "show", SWEEP, "--json").out)["manifest"]


def test_a_list_does_not_steer_the_terminal(capsys):
    words = dict.fromkeys(("name", "kind", "dataset", "digits", "created", "digest"), ESCAPES)
    entry = Entry(**words, rank=1, seed=0, parents=(Parent("base", ESCAPES, ESCAPES),))
    print_tables([runs_table([entry])])
    lines = capsys.readouterr().out.split("\n")
    assert sum("\\x1b]0;owned" in line for line in lines) == 1
    assert all(line.isprintable() for line in lines)


def test_an_error_shows_escape_sequences_escaped(example, forge, run):
    forge(example / BASE, put(ESCAPES, to=1))
    outcome = run("runs", "show", BASE)
    assert outcome.code == 3
    (line,) = outcome.err.split("\n")[:-1]
    assert line.isprintable()
    assert "\\x1b" in line


def test_a_note_is_kept_whatever_is_in_it(example, run):
    note = f"first try, {ESCAPES} ü 🙂"
    made = run("finetune", "--epochs", "0", "--rank", "3", "--note", note, "--quiet")
    assert made.code == 0
    shown = run("runs", "show", "lora-5-9-r3", "--json").json
    assert shown["manifest"]["note"] == note
    (row,) = (row for row in run("runs", "list", "--json").json["artifacts"] if row["name"] == "lora-5-9-r3")
    assert row["note"] == note
    outcome = run("finetune", "--rank", "4", "--note", "x" * 2001)
    assert outcome.code == 2
    assert "2,000 characters at most, not 2,001" in outcome.err
    # A note is no setting: with another one, the same work is still done.
    assert "up to date" in run("finetune", "--epochs", "0", "--rank", "3", "--note", "other").err


ABSURD = """
    import resource, sys
    import lora_mnist_cli.evaluation.logits, lora_mnist_cli.stages.records.loading as models
    from lora_mnist_cli.cli import main

    def construct(sizes):
        print("CONSTRUCTED", sizes)
        raise SystemExit(9)

    models.MNISTModel = construct
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 200 * 2**20,) * 2)
    print(*[main(["evaluate", "base-0-4", "--runs-dir", runs]) for runs in sys.argv[1:]])
"""
SIZES: list[Any] = [[16384] * 60, [16384], [1_000_000, 1_000_000], [2], [0], [-5], "64,64", None, [1] * 65]


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the memory in use comes from /proc")
def test_settings_of_an_absurd_model_are_refused_before_memory_is_taken(example, forge, tmp_path):
    """All digests fit, the layers are those of the settings, and the file has 6 kB."""
    folders = []
    for i, sizes in enumerate(SIZES):

        def change(manifest: Any, sizes: Any = sizes) -> None:
            manifest["config"]["hidden_sizes"] = sizes
            if sizes == [2]:
                manifest["details"]["layers"]["fc1"] = [784, 2**20]
            elif isinstance(sizes, list):
                widths = [784, *sizes, 10]
                layers = {f"fc{i + 1}": [widths[i], widths[i + 1]] for i in range(len(widths) - 1)}
                manifest["details"]["layers"] = layers

        folders.append(shutil.copytree(example, tmp_path / f"runs{i}"))
        forge(folders[-1] / BASE, change)
    command = [sys.executable, "-c", textwrap.dedent(ABSURD), *map(str, folders)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert ended.stdout.split() == ["3"] * len(SIZES), ended.stdout + ended.stderr
    lines = ended.stderr.splitlines()
    assert len(lines) == len(SIZES)
    assert not any("memory" in line for line in lines)


BRACKETS = {
    "empty lists": lambda size: b'{"schema_version": 2, "a": [' + b"[]," * (size // 3) + b"[]]}",
    "empty lists in a sweep": lambda size: b'{"kind": "sweep", "a": [' + b"[]," * (size // 3) + b"[]]}",
    "open brackets": lambda size: b'{"kind": "sweep", "a": ' + b"[" * size,
    "numbers": lambda size: b'{"kind": "sweep", "a": [' + b"1.5," * (size // 4) + b"1]}",
    "objects": lambda size: b'{"kind": "sweep", "a": [' + b'{"":0},' * (size // 7) + b"0]}",
    "wide characters": lambda size: '{"kind": "sweep", "a": "🙂'.encode() + b"x" * size + b'"}',
}  # fmt: skip
LITTLE_MEMORY = """
    import resource, sys
    import lora_mnist_cli.registry.archive
    from lora_mnist_cli.cli import main
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 200 * 2**20,) * 2)
    print(main(["runs", "show", "base-0-4", "--runs-dir", sys.argv[1]]))
    print(main(["runs", "import", sys.argv[2], "--runs-dir", sys.argv[3]]))
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the memory in use comes from /proc")
@pytest.mark.parametrize("what", BRACKETS)
def test_brackets_without_end_do_not_fill_the_memory(example, tmp_path, what):
    """Decoded, 64 MiB of them would take three gigabytes; here there are 200 MiB, for the file as well."""
    content = BRACKETS[what](MAX_MANIFEST - 1000)
    assert 0.9 * MAX_MANIFEST < len(content) <= MAX_MANIFEST
    (example / BASE / MANIFEST).write_bytes(content)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(f"{BASE}/{MANIFEST}", content)
    command = [sys.executable, "-c", textwrap.dedent(LITTLE_MEMORY), str(example), "a.zip", str(tmp_path / "other")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert ended.stdout.split() == ["3", "3"], ended.stdout + ended.stderr
    assert len(ended.stderr.splitlines()) == 2
    assert (
        ended.stderr.count("make sense") + ended.stderr.count("not all ASCII") + ended.stderr.count("only a sweep") == 2
    )


def test_looking_at_the_extent_takes_no_memory_of_its_own():
    manifest = {"rows": [[i, [str(i)]] for i in range(100_000)]}
    tracemalloc.start()
    try:
        check_extent([manifest])
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_the_largest_sweep_there_can_be_has_a_manifest_that_is_read(example):
    """Ten thousand members with the longest names and four digit sets each."""
    manifest = json.loads((example / SWEEP / MANIFEST).read_text())
    row = {"accuracy": 0.12345678901234567, "count": 10_000, "loss": 12.345678901234567}
    subsets = [{"digits": digits, **row} for digits in ("0-4", "5-9", "0-9", "0,2,4,6,8")]
    result = {"rank": 1024, "seed": 2**62, "trainable_parameters": 10**6, "failed": None, "subsets": subsets}
    manifest["details"]["results"] = [{"artifact": "x" * 100, **result}] * 10_000
    manifest["parents"] = [{"role": "member", "name": "x" * 100, "digest": DIGEST}] * 10_000
    assert decode_manifest((json.dumps(manifest, indent=2) + "\n").encode()) == manifest


def test_a_method_without_ranks_has_rank_0(example, forge):
    forge(example / ADAPTER, lambda manifest: manifest["config"].update(method="full", rank=0))
    assert read_artifact(example / ADAPTER).config["rank"] == 0


@pytest.mark.parametrize("field", ["seal", "digest", "fingerprint"])
def test_each_digest_is_computed_anew(example, field):
    """A forger who makes the others fit is caught by any one of them."""
    manifest = json.loads((example / BASE / MANIFEST).read_text())
    manifest[field] = DIGEST
    if field != "seal":
        manifest["seal"] = seal_of(manifest)
    (example / BASE / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match="seal does not fit" if field == "seal" else "its digest is not that of"):
        read_artifact(example / BASE)


@pytest.mark.parametrize(
    "value", [1e-05, 1e16, 1.5e-07, 5e-324, 0.1, -0.0, 2**70, "ü", "\ud800", "\x00\x7f", None, True]
)
def test_both_writers_of_json_give_the_same_digests(value):
    document = {"b": [value], "a": {"z": value, "y": 1}}
    digest = seal_of(document)
    assert has_digest(document, digest)
    assert not has_digest(document | {"c": 1}, digest)


def test_a_note_from_a_shell_with_another_encoding_is_read(example, forge):
    """Python hands undecodable bytes of the command line on as halves of surrogate pairs."""
    forge(example / BASE, put("note", to="caf\udce9"))
    assert read_artifact(example / BASE).note == "caf\udce9"
    text = (example / BASE / MANIFEST).read_text()
    for constant in ("NaN", "Infinity", "1e999"):
        (example / BASE / MANIFEST).write_text(text.replace('"wall_seconds": 1.106', f'"wall_seconds": {constant}'))
        with pytest.raises(ArtifactError, match=r"is not JSON|seal does not fit|not JSON compliant"):
            read_artifact(example / BASE)


@pytest.mark.parametrize("value", [None, 5, [], "9-0", "$\\frac{1$", "a\0b", ESCAPES])
def test_what_a_picture_would_show_is_checked_first(example, forge, run, value):
    forge(example / SWEEP, put("details", "base_digits", to=value))
    forge(example / ADAPTER, put("config", "alpha", to=value if value != 5 else "5"))
    for call in (["plot", "ranks", SWEEP], ["plot", "alpha", ADAPTER]):
        outcome = run(*call)
        assert (outcome.code, len(outcome.err.split("\n"))) == (3, 2)
        assert outcome.err.strip().isprintable()
    forge(example / SWEEP, drop("details", "base_digits"))
    assert run("plot", "ranks", SWEEP).code == 3


def test_figures_that_are_not_there_are_read_as_before(example, forge):
    """As what diverged is published, and digits without images are scored."""
    forge(example / SWEEP, put("details", "results", 0, "subsets", 1, to={**ROW, "accuracy": None, "loss": None}))
    forge(example / ADAPTER, put("scores", "per_digit", 3, to={"digit": 3, "count": 0, "accuracy": None, "loss": None}))
    assert read_artifact(example / SWEEP).details["results"][0]["subsets"][1]["accuracy"] is None
    assert read_artifact(example / ADAPTER).scores["per_digit"][3]["count"] == 0


def test_a_manifest_of_the_present_schema_is_decoded_to_its_types_at_once(
    tmp_path, publish, example, forge, monkeypatch
) -> None:
    """Whatever its kind, and with fields that no type declares and numbers that the two writers of JSON spell apart."""
    publish(Registry(example), "report", kind="report")
    forge(example / ADAPTER, lambda manifest: manifest["environment"].update(rooms=[1, {"tiny": 1.5e-07}]))
    forge(example / BASE, put("scores", "per_digit", 0, "loss", to=1e-05))
    both = {name: parse_manifest(decode_manifest((example / name / MANIFEST).read_bytes()), name) for name in ALL}
    monkeypatch.delattr(manifest_reading, "decode_manifest")
    for name in ALL:
        assert read_manifest(example / name, name) == both[name]


def test_a_whole_number_may_stand_for_a_fraction(example, forge) -> None:
    forge(example / BASE, put("wall_seconds", to=2))
    assert b'"wall_seconds": 2,' in (example / BASE / MANIFEST).read_bytes()
    assert read_artifact(example / BASE).wall_seconds == 2.0


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_every_schema_that_was_ever_written_is_read(version, run, tmp_path):
    runs = Path(shutil.copytree(SCHEMAS / version, tmp_path / "runs"))
    written = json.loads((runs / BASE / MANIFEST).read_text())
    assert written["schema_version"] == int(version[1:])
    registry = Registry(runs)
    assert registry.names() == [BASE, ADAPTER, SWEEP]
    base, adapter = registry.get(BASE), registry.get(ADAPTER)
    assert base.config["hidden_sizes"] == [2]
    assert base.note == {"v1": "", "v2": "made for the tests"}[version]
    assert registry.parent(adapter) == base
    assert [verdict.problems for verdict in verify(registry)] == [[], [], []]
    loaded = load_model(registry, adapter)
    assert loaded.base == base
    assert registry.up_to_date(BASE, base.settings) == base
    outcome = run("evaluate", ADAPTER, "--json")
    assert outcome.code == 0
    for here, recorded in zip(outcome.json["subsets"], adapter.scores["subsets"], strict=True):
        assert here["digits"] == recorded["digits"]
        assert here["accuracy"] == pytest.approx(recorded["accuracy"], abs=1e-3)
        assert here["loss"] == pytest.approx(recorded["loss"], abs=1e-4)
    assert run("runs", "show", BASE).code == 0


def test_there_is_an_example_of_each_schema():
    assert {path.name for path in SCHEMAS.iterdir()} == {f"v{i}" for i in range(1, SCHEMA_VERSION + 1)}


def test_the_same_work_has_one_digest_in_all_schemas():
    for name in (BASE, ADAPTER, SWEEP):
        assert len({read_artifact(SCHEMAS / f"v{i}" / name).digest for i in range(1, SCHEMA_VERSION + 1)}) == 1


@pytest.mark.parametrize("version", [SCHEMA_VERSION + 1, 10**30])
def test_a_newer_schema_is_refused_with_the_cure_wherever_it_is_met(example, run, version):
    manifest = json.loads((example / BASE / MANIFEST).read_text()) | {"schema_version": version, "new": 1}
    (example / BASE / MANIFEST).write_text(json.dumps(manifest | {"seal": seal_of(manifest)}))
    for call in (["evaluate", ADAPTER], ["runs", "show", BASE], ["finetune", "--base", BASE], ["runs", "verify"]):
        outcome = run(*call)
        assert outcome.code == 3
        assert "newer lora-mnist" in outcome.err
    assert "upgrade lora-mnist" in run("runs", "show", BASE).err


@pytest.mark.parametrize("version", [0, -1, True, "1", 1.0, None])
def test_what_is_no_schema_version_is_refused(example, forge, version):
    forge(example / BASE, put("schema_version", to=version))
    with pytest.raises(ArtifactError, match="it has no schema version"):
        read_artifact(example / BASE)
