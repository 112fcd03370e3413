"""``runs verify``: what is sound is called sound, and each kind of damage is named with all that descends from it."""

from __future__ import annotations

import json
import os
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lora_mnist_cli.registry.artifact import MANIFEST
from lora_mnist_cli.registry.registry import Registry
from lora_mnist_cli.registry.verification import Verdict, verify
from lora_mnist_cli.system.errors import ArtifactError

BASE, ADAPTER, SWEEP = "base-0-4", "lora-5-9-r1", "sweep-5-9"


def by_name(runs: Path, name: str | None = None) -> dict[str, Verdict]:
    return {verdict.name: verdict for verdict in verify(Registry(runs), name)}


def flip(path: Path, at: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_what_is_sound_is_called_sound(example, run):
    document = run("runs", "verify", "--json").json
    assert document["sound"] is True
    assert [row["artifact"] for row in document["artifacts"]] == [BASE, ADAPTER, SWEEP]
    for row in document["artifacts"]:
        assert (row["sound"], row["problems"], row["descendants"]) == (True, [], [])
        files = [path for path in (example / row["artifact"]).iterdir() if path.name != MANIFEST]
        assert (row["files"], row["bytes"]) == (len(files), sum(path.stat().st_size for path in files))
    outcome = run("runs", "verify")
    assert (outcome.code, outcome.err) == (0, "")
    assert "3 of 3 artifacts are undamaged." in outcome.out


def test_each_artifact_is_a_piece_of_the_work(example, recorder):
    verify(Registry(example), reporter=recorder)
    (plan,) = recorder.all("plan")
    assert [(name, part) for name, _, part in recorder.all("phase")] == [
        ("verifying", f"{number}/3") for number in (1, 2, 3)
    ]
    assert plan == {"verifying": pytest.approx(sum(seconds for _, seconds, _ in recorder.all("phase")))}


def test_nothing_checked_is_no_success(run):
    outcome = run("runs", "verify", "--runs-dir", "rusn")
    assert (outcome.code, outcome.out) == (3, "0 of 0 artifacts are undamaged.\n")
    assert "there is nothing to verify in rusn (is --runs-dir the right folder?)" in outcome.err
    assert run("runs", "verify", "--json").json["sound"] is False


def test_artifacts_behind_links_are_named_and_no_advice_removes_them(example, tmp_path, run):
    (base, *_) = sorted(path.name for path in example.iterdir() if (path / "artifact.json").is_file())
    (example / base).rename(tmp_path / "elsewhere")
    (example / base).symlink_to(tmp_path / "elsewhere")
    listed, verified = run("runs", "list"), run("runs", "verify")
    assert f"'{base}' is left out: it is a symbolic link" in listed.err
    assert verified.code == 3
    assert f"{base}: not checked, it is a symbolic link" in verified.err
    assert "remove" not in verified.err


def test_a_path_in_the_folder_of_artifacts_is_a_name(example, run):
    (name, *_) = sorted(path.name for path in example.iterdir() if (path / "artifact.json").is_file())
    for written in (f"runs/{name}", f"runs/{name}/", f"./runs/{name}", str(example / name)):
        assert run("runs", "path", written).out == run("runs", "path", name).out
    for written in (f"elsewhere/{name}", f"runs/x/{name}", f"../runs/{name}", "/"):
        assert run("runs", "path", written).code == 2


def test_one_is_verified_with_all_that_it_was_made_from_and_nothing_else(example):
    assert set(by_name(example, SWEEP)) == {BASE, ADAPTER, SWEEP}
    assert set(by_name(example, ADAPTER)) == {BASE, ADAPTER}
    assert set(by_name(example, BASE)) == {BASE}
    flip(example / SWEEP / "results.csv")
    assert by_name(example, ADAPTER)[ADAPTER].problems == []
    with pytest.raises(ArtifactError, match="no artifact 'other'"):
        verify(Registry(example), "other")


DAMAGE: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "a flipped bit": (lambda folder: flip(folder / "model.safetensors", -1), "model.safetensors", "digest"),
    "a flipped bit of a record": (lambda folder: flip(folder / "history.csv"), "history.csv", "digest"),
    "cut short": (lambda folder: os.truncate(folder / "history.csv", 10), "history.csv", "digest"),
    "grown": (lambda folder: os.truncate(folder / "history.csv", 10_000), "history.csv", "make sense"),
    "emptied": (lambda folder: os.truncate(folder / "model.safetensors", 0), "model.safetensors", "digest"),
    "a missing file": (lambda folder: (folder / "history.csv").unlink(), "history.csv", "No such file"),
    "a file more": (lambda folder: (folder / "notes.txt").write_text("x"), "notes.txt", "no part of what"),
    "a link more": (lambda folder: (folder / "link").symlink_to("/etc"), "link", "symbolic link"),
    "a folder in a file's place": (
        lambda folder: [(folder / "history.csv").unlink(), (folder / "history.csv").mkdir()], "history.csv", "regular",
    ),
    "an edited manifest": (
        lambda folder: flip(folder / MANIFEST, (folder / MANIFEST).read_text().index('"seed": 0') + 8),
        MANIFEST, "seal",
    ),
    "an emptied manifest": (lambda folder: (folder / MANIFEST).write_text(""), MANIFEST, "not JSON"),
}  # fmt: skip


@pytest.mark.parametrize("what", DAMAGE)
def test_each_damage_is_named_with_all_that_descends_from_it(example, run, what):
    damage, file, reason = DAMAGE[what]
    damage(example / BASE)
    outcome = run("runs", "verify", "--json")
    assert outcome.code == 3
    document = json.loads(outcome.out)
    assert document["sound"] is False
    (bad,) = (row for row in document["artifacts"] if row["artifact"] == BASE)
    assert bad["sound"] is False
    ((named, problem),) = ((row["file"], row["problem"]) for row in bad["problems"])
    assert named == file
    assert reason in problem
    assert sorted(bad["descendants"]) == [ADAPTER, SWEEP]
    (line,) = outcome.err.splitlines()
    for word in (f"{Path('runs', BASE)}: {file}: ", f"made from it: {ADAPTER}, {SWEEP}", "--cascade"):
        assert word in line
    # Verifying a descendant finds it as well: its lineage goes up to the base.
    assert run("runs", "verify", SWEEP).code == 3
    assert "DAMAGED" in run("runs", "verify").out


def test_a_hidden_file_of_the_system_is_no_damage(example):
    """A desktop or a network file system puts such files anywhere, and nothing here ever reads them."""
    for name in (".DS_Store", "._model.safetensors", ".nfs000000000abc", ".fuse_hidden0000a1", ".directory"):
        (example / BASE / name).write_text("x")
    assert by_name(example)[BASE].problems == []


@pytest.mark.parametrize("name", [".evil", ".evil/x", ".DS_Store.so", ".nfs", "tensorboard/.evil", ".git/config"])
def test_any_other_hidden_file_is_no_part_of_what_was_published(example, run, name):
    (example / BASE / name).parent.mkdir(exist_ok=True)
    (example / BASE / name).write_text("x")
    assert by_name(example)[BASE].problems == [(name, "it is no part of what was published")]
    assert run("runs", "verify").code == 3


def test_a_missing_parent_is_a_problem_of_its_children(example, run):
    shutil.rmtree(example / BASE)
    verdicts = by_name(example)
    ((file, problem),) = verdicts[ADAPTER].problems
    assert file == MANIFEST
    assert problem.startswith(f"its base '{BASE}' (sha256:")
    assert problem.endswith("is missing")
    assert verdicts[ADAPTER].descendants == [SWEEP]
    assert run("runs", "verify").code == 3


def test_a_renamed_parent_is_not_missing(example):
    (example / BASE).rename(example / "renamed")
    assert set(by_name(example, SWEEP)) == {"renamed", ADAPTER, SWEEP}
    assert not any(verdict.problems for verdict in by_name(example).values())


def test_weights_that_do_not_fit_the_settings_are_found_though_all_digests_do(example, forge):
    weights = (example / ADAPTER / "adapter_model.safetensors").read_bytes()
    forge(example / ADAPTER, files={"adapter_model.safetensors": weights.replace(b"fc2.lora_B", b"fc2.lora_C")})
    ((file, problem),) = by_name(example)[ADAPTER].problems
    assert file == "weights"
    assert problem.startswith(f"adapter '{ADAPTER}' does not fit: it lacks base_model.model.fc2.lora_B.weight")


def test_verification_writes_nothing(example, run):
    before = {path: path.stat().st_mtime_ns for path in example.rglob("*")}
    run("runs", "verify")
    assert {path: path.stat().st_mtime_ns for path in example.rglob("*")} == before


def _let_it_descend_from(role: str, parent: Path) -> Callable[[Any], None]:
    """A forger's change: the parent of that role is another artifact."""
    digest = json.loads((parent / MANIFEST).read_text())["digest"]

    def change(manifest: Any) -> None:
        for each in manifest["parents"]:
            if each["role"] == role:
                each.update(name=parent.name, digest=digest)

    return change


@pytest.mark.parametrize(("child", "role", "parent"), [(ADAPTER, "base", SWEEP), (SWEEP, "member", BASE)])
def test_a_parent_of_a_kind_that_can_be_none_is_found(example, forge, run, child, role, parent):
    forge(example / child, _let_it_descend_from(role, example / parent))
    kind = by_name(example)[parent].kind
    assert by_name(example)[child].problems == [
        (MANIFEST, f"'{child}' names '{parent}' as its {role}, which is of kind {kind}")
    ]
    for command in ("verify", "lineage", "show"):
        assert run("runs", command, child).code == (3 if command == "verify" else 0)
    if child == ADAPTER:
        for call in (["evaluate", ADAPTER], ["runs", "diff", ADAPTER, ADAPTER], ["plot", "alpha", ADAPTER]):
            outcome = run(*call)
            assert outcome.code == 3
            assert f"'{ADAPTER}' names '{SWEEP}' as its base, which is of kind sweep" in outcome.err


NAN = b"\x00\x00\xc0\x7f"


@pytest.mark.parametrize(("name", "file"), [(BASE, "model.safetensors"), (ADAPTER, "adapter_model.safetensors")])
def test_weights_that_are_no_numbers_are_found_though_all_digests_fit(example, forge, name, file):
    forge(example / name, files={file: (example / name / file).read_bytes()[:-4] + NAN})
    ((where, problem),) = by_name(example, name)[name].problems
    assert where == "weights"
    assert "has values that are no finite numbers in " in problem


SENSELESS: dict[str, tuple[str, Callable[[Any], object], str]] = {
    "a data set that is none": (BASE, lambda m: m["dataset"].update(name="mnist-2"), "no data set 'mnist-2'"),
    "a base without settings": (BASE, lambda m: m["config"].pop("lr"), "lr"),
    "a rate below zero": (ADAPTER, lambda m: m["config"].update(lr=-1.0), "learning rate"),
    "a sweep without settings": (SWEEP, lambda m: m["config"].pop("lr"), "lr"),
    "a rank of no adapter": (SWEEP, lambda m: m["config"].update(ranks=[1, 5000]), "rank is at most"),
}


@pytest.mark.parametrize("what", SENSELESS)
def test_settings_that_make_no_sense_are_found_though_the_seal_fits(example, forge, what):
    name, change, words = SENSELESS[what]
    forge(example / name, change)
    assert any(words in problem for _, problem in by_name(example)[name].problems)


def test_what_a_newer_version_wrote_asks_for_that_version(example, run):
    (example / SWEEP / MANIFEST).write_text('{"schema_version": 99}')
    outcome = run("runs", "verify")
    assert outcome.code == 3
    assert outcome.err.rstrip().endswith("(upgrade lora-mnist)")
    assert ("NEWER" in outcome.out, "DAMAGED" in outcome.out) == (True, False)
    flip(example / BASE / "history.csv")
    assert "--cascade, then make them again; upgrade lora-mnist" in run("runs", "verify").err


def test_a_file_is_checked_without_holding_all_of_it_in_memory(example, forge):
    """A sparse file costs its sender nothing; a pickle of zeros of any size would fill the memory of who reads it."""
    size = 64 * 2**20
    forge(example / BASE, files={"more": b""})
    os.truncate(example / BASE / "more", size)
    forge(example / BASE, lambda manifest: manifest["files"]["more"].update(bytes=size))
    tracemalloc.start()
    try:
        ((file, problem),) = by_name(example, BASE)[BASE].problems
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (file, problem) == ("more", "its digest is not the one it was published with")
    assert peak < size / 4


def test_a_size_that_is_not_the_files_is_found_though_its_digest_fits(example, forge):
    forge(example / BASE, lambda manifest: manifest["files"]["history.csv"].update(bytes=100_000))
    ((file, problem),) = by_name(example, BASE)[BASE].problems
    assert (file, problem) == ("history.csv", "its size is not the one it was published with")


@pytest.mark.parametrize(
    ("name", "field", "value", "told"),
    [
        (ADAPTER, "trainable_parameters", 7, "details.trainable_parameters is 7, and its settings give "),
        (ADAPTER, "base_digits", "0-3", f"details.base_digits is '0-3', and those of its base '{BASE}' are '0-4'"),
        (SWEEP, "base_digits", "0-3", f"details.base_digits is '0-3', and those of its base '{BASE}' are '0-4'"),
    ],
)
def test_what_an_artifact_says_of_its_base_is_compared_with_it(example, forge, name, field, value, told):
    forge(example / name, lambda manifest: manifest["details"].update({field: value}))
    (verdict,) = (verdict for verdict in verify(Registry(example)) if verdict.name == name)
    assert any(told in problem for _, problem in verdict.problems), verdict.problems
