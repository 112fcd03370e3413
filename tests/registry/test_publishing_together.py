"""Many artifacts are published under one flush, in their order, and none of them where one can't be."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from lora_mnist_cli.registry.artifact import Artifact, Settings
from lora_mnist_cli.registry.registry import Registry
from lora_mnist_cli.registry.staged import Staged
from lora_mnist_cli.system import files
from lora_mnist_cli.system.errors import ArtifactError, MachineError
from lora_mnist_cli.system.platforms import here

DATASET = {"name": "mnist", "digest": f"sha256:{'0' * 64}"}


def _together(registry: Registry, names: list[str], seed: int = 0, *, force: bool = False) -> list[Artifact]:
    with registry.staging_all(names) as folders:
        staged = []
        for number, folder in enumerate(folders):
            (folder / "text").write_bytes(b"%d" % (seed + number))
            settings = Settings("report", {"seed": seed + number}, DATASET)
            staged.append(Staged(folder, settings, {}, {"rows": []}, {}, 1.0))
        return registry.publish_all(staged, force=force)


def test_they_are_all_there_in_their_order(tmp_path):
    registry, names = Registry(tmp_path / "runs"), ["c", "a", "b"]
    made = _together(registry, names)
    assert [artifact.name for artifact in made] == names
    assert [entry.name for entry in registry.scan()[0]] == names
    assert len({artifact.created for artifact in made}) == 3
    assert sorted(path.name for path in registry.root.iterdir()) == ["a", "b", "c"]
    (later,) = _together(registry, ["d"], seed=9)
    assert later.created > made[-1].created


def test_many_are_flushed_by_two_calls_for_the_file_system(tmp_path, monkeypatch):
    """One before the lock, and one for the manifests; then one of the folder, that they appeared in it."""
    calls: list[str] = []

    def whole(_: Path) -> bool:
        calls.append("file system")
        return True

    monkeypatch.setattr(here, "flush_file_system", whole)
    monkeypatch.setattr(here, "flush", lambda path: calls.append(path.name))
    registry = Registry(tmp_path / "runs")
    _together(registry, [f"r{number}" for number in range(files._MANY)])
    assert calls[-3:] == ["file system", "file system", "runs"]
    assert len(calls) < 8


def test_where_one_cannot_be_put_in_its_place_none_is_there(tmp_path, monkeypatch):
    registry, real = Registry(tmp_path / "runs"), here.rename
    _together(registry, ["old"])
    before = registry.get("old")

    def rename(source: Any, target: Any) -> None:
        if Path(target) == registry.root / "c":
            raise OSError(errno.EIO, "Input/output error")
        real(source, target)

    monkeypatch.setattr(here, "rename", rename)
    with pytest.raises(MachineError, match="Input/output error"):
        _together(registry, ["old", "b", "c"], seed=5, force=True)
    monkeypatch.undo()
    assert registry.names() == ["old"]
    assert registry.get("old") == before
    assert [artifact.name for artifact in _together(registry, ["old", "b", "c"], seed=5, force=True)] == [
        "old",
        "b",
        "c",
    ]
    assert registry.get("old").digest != before.digest


def test_one_that_another_process_has_published_is_taken_and_another_of_its_name_stops_all(tmp_path):
    registry = Registry(tmp_path / "runs")
    (first,) = _together(registry, ["a"])
    assert _together(registry, ["a", "b"])[0] == first
    with pytest.raises(ArtifactError, match="'a' exists with other settings"):
        _together(registry, ["c", "a"], seed=7)
    assert registry.names() == ["a", "b"]


def test_without_an_exchange_each_goes_back_to_its_place(tmp_path, monkeypatch):
    registry, real = Registry(tmp_path / "runs"), here.rename
    names = ["replaced", "b"]
    before = _together(registry, names)
    monkeypatch.setattr(here, "exchange", lambda *_: False)

    def rename(source: Any, target: Any) -> None:
        if Path(target) == registry.root / "b" and Path(source).parent.name != ".replaced":
            raise OSError(errno.EIO, "Input/output error")
        real(source, target)

    monkeypatch.setattr(here, "rename", rename)
    with pytest.raises(MachineError):
        _together(registry, names, seed=5, force=True)
    monkeypatch.undo()
    assert [registry.get(name) for name in names] == before
    assert sorted(path.name for path in registry.root.iterdir()) == sorted(names)
