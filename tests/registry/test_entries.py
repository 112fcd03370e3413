"""The entries of a list: what they say, when their manifests are read again, and which folders have none."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lora_mnist_cli.registry import entries
from lora_mnist_cli.registry.artifact import MANIFEST, Artifact, read_artifact
from lora_mnist_cli.registry.digests import seal_of
from lora_mnist_cli.registry.entries import Entry, read_entries
from lora_mnist_cli.registry.registry import Registry
from lora_mnist_cli.system.files import read_stamped

Publish = Callable[..., Artifact]


@pytest.fixture
def root(tmp_path: Path, publish: Publish, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two artifacts, of which nothing is remembered."""
    registry = Registry(tmp_path / "runs")
    for seed, name in enumerate("ab"):
        publish(registry, name, config={"seed": seed})
    monkeypatch.setattr(entries, "_REMEMBERED", {})
    return registry.root


def noted(root: Path) -> dict[str, str]:
    """Return the notes in a list, by name."""
    return {entry.name: entry.note for entry in read_entries(root)[0]}


def test_a_list_says_of_an_artifact_what_reading_it_alone_says(example):
    found, errors = read_entries(example)
    assert not errors
    assert [entry.kind for entry in found] == ["base", "adapter", "sweep"]
    assert found == [Entry.of(read_artifact(example / entry.name)) for entry in found]


@pytest.mark.parametrize("field", ["seal", "fingerprint", "digest"])
def test_a_list_has_no_artifact_that_reading_alone_refuses(root, field):
    file = root / "a" / MANIFEST
    manifest = json.loads(file.read_text()) | {field: "sha256:" + 64 * "0"}
    if field != "seal":
        manifest["seal"] = seal_of(manifest)
    file.write_text(json.dumps(manifest))
    found, (error,) = read_entries(root)
    assert [entry.name for entry in found] == ["b"]
    with pytest.raises(type(error)) as alone:
        read_artifact(root / "a")
    assert (str(error), error.hint) == (str(alone.value), alone.value.hint)


def test_a_manifest_is_read_again_where_it_changed(root, forge, reads):
    for _ in range(2):
        assert noted(root) == {"a": "", "b": ""}
    assert sorted(reads) == ["a", "b"]
    forge(root / "b", lambda manifest: manifest.update(note="new"))
    assert noted(root) == {"a": "", "b": "new"}
    assert sorted(reads) == ["a", "b", "b"]


def test_a_manifest_that_is_replaced_while_it_is_read_is_read_again(root, tmp_path, forge, monkeypatch):
    shutil.copytree(root / "a", tmp_path / "a")
    forge(tmp_path / "a", lambda manifest: manifest.update(note="new"))
    real = entries.manifest_of

    def replaced(name: str, raw: bytes) -> object:
        read = real(name, raw)
        if (tmp_path / name).exists():
            os.replace(tmp_path / name / MANIFEST, root / name / MANIFEST)
            shutil.rmtree(tmp_path / name)
        return read

    monkeypatch.setattr(entries, "manifest_of", replaced)
    assert noted(root)["a"] == ""
    assert noted(root)["a"] == "new"


def test_the_stamp_of_a_file_is_older_than_what_was_read(tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.write_bytes(b"old")
    real, before = os.read, os.stat(file).st_size

    def grown(handle: int, size: int) -> bytes:
        file.write_bytes(b"newer")
        return real(handle, size)

    monkeypatch.setattr(os, "read", grown)
    content, stamp = read_stamped(file, 100)
    assert content.startswith(b"newe")
    assert stamp[2] == before


@pytest.mark.parametrize("what", ["nothing", "a link", "a folder", "a pipe"])
def test_a_folder_without_a_manifest_is_no_artifact(root, what):
    manifest = root / "a" / MANIFEST
    kept = manifest.rename(root / "a" / "kept.json")
    if what == "a link":
        manifest.symlink_to(kept)
    elif what == "a folder":
        manifest.mkdir()
    elif what == "a pipe":
        os.mkfifo(manifest)
    assert (noted(root), read_entries(root)[1]) == ({"b": ""}, [])
