"""Creation times are in order in a folder, whatever the clock does, and without reading all manifests each time."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lora_mnist_cli.registry import creation
from lora_mnist_cli.registry.artifact import Artifact, read_artifact
from lora_mnist_cli.registry.creation import NEWEST
from lora_mnist_cli.registry.registry import Registry

Publish = Callable[..., Artifact]


class Clock(datetime):
    """A clock that can be set."""

    at = datetime(2026, 6, 1, tzinfo=UTC)

    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return cls.at


@pytest.fixture
def registry(tmp_path: Path, publish: Publish, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A folder of two artifacts, which counts as large, and a clock that stands still."""
    monkeypatch.setattr(creation, "LARGE", 2)
    monkeypatch.setattr(creation, "datetime", Clock)
    monkeypatch.setattr(Clock, "at", Clock.at)
    registry = Registry(tmp_path / "runs")
    for name in ("a", "b", "c"):
        publish(registry, name)
    assert (registry.root / NEWEST).read_text().startswith(registry.get("c").created)
    return registry


def in_order(registry: Registry) -> list[str]:
    """The names, oldest first; all creation times differ."""
    found, errors = registry.scan()
    assert not errors
    assert len({entry.created for entry in found}) == len(found)
    return [entry.name for entry in found]


def back(days: int = 400) -> None:
    """Set the clock back."""
    Clock.at -= timedelta(days=days)


def test_publishing_reads_no_other_manifest(registry, publish, reads):
    for name in ("d", "e", "f"):
        publish(registry, name)
        back()
    assert reads == []
    assert in_order(registry) == ["a", "b", "c", "d", "e", "f"]


def gone(file: Path) -> None:
    file.unlink()


def a_link(file: Path) -> None:
    file.unlink()
    file.symlink_to(file.parent / "a" / "artifact.json")


def a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


WRONG: dict[str, Callable[[Path], object]] = {
    "gone": gone,
    "empty": lambda file: file.write_bytes(b""),
    "cut": lambda file: file.write_bytes(file.read_bytes()[:20]),
    "no text": lambda file: file.write_bytes(b"\xff\xfe\0"),
    "of another day": lambda file: file.write_text("2026-99-99T00:00:00.000000+00:00 9\n"),
    "without end": lambda file: os.truncate(file, 2**40),
    "a link": a_link,
    "a folder": a_folder,
}


@pytest.mark.parametrize("what", WRONG)
def test_a_missing_or_damaged_memory_changes_no_order(registry, publish, what):
    WRONG[what](registry.root / NEWEST)
    before = (registry.root / "a" / "artifact.json").read_bytes()
    back()
    publish(registry, "d")
    publish(registry, "e")
    assert in_order(registry) == ["a", "b", "c", "d", "e"]
    assert (registry.root / "a" / "artifact.json").read_bytes() == before


@pytest.mark.skipif(os.stat("/tmp").st_nlink < 3, reason="this file system does not count folders")
def test_an_artifact_copied_in_from_the_future_is_noticed(registry, publish, forge, tmp_path):
    shutil.copytree(registry.root / "a", tmp_path / "x")
    forge(tmp_path / "x", lambda manifest: manifest.update(created="2031-01-01T00:00:00.000000+00:00"))
    shutil.copytree(tmp_path / "x", registry.root / "x")
    publish(registry, "d")
    assert in_order(registry) == ["a", "b", "c", "x", "d"]


def test_a_copied_folder_goes_on_in_order(registry, publish, tmp_path):
    copy = Registry(Path(shutil.copytree(registry.root, tmp_path / "copy")))
    back()
    publish(copy, "d")
    publish(registry, "e")
    assert (in_order(copy), in_order(registry)) == (["a", "b", "c", "d"], ["a", "b", "c", "e"])


def test_after_a_removal_the_order_holds(registry, publish):
    publish(registry, "d", config={"seed": 1})
    registry.remove("a")
    assert not (registry.root / NEWEST).exists()
    back()
    publish(registry, "e")
    assert in_order(registry) == ["b", "c", "d", "e"]


def test_a_publication_that_was_killed_at_its_end_is_noticed(registry, publish, monkeypatch):
    """The time is written down before the artifact appears."""
    seen = []
    real = os.rename

    def rename(source: Path, target: Path) -> None:
        seen.append((registry.root / NEWEST).read_text().split()[0])
        real(source, target)

    monkeypatch.setattr(os, "rename", rename)
    made = publish(registry, "d")
    assert seen == [made.created]


def test_a_small_folder_has_no_memory_and_an_empty_one_goes(tmp_path, registry, publish):
    for name in ("a", "b", "c"):
        registry.remove(name)
    assert not registry.root.exists()
    small = Registry(tmp_path / "small")
    publish(small, "one")
    assert [path.name for path in small.root.iterdir()] == ["one"]


def test_an_index_of_an_earlier_version_is_harmless_and_goes(registry, publish):
    index = registry.root / ".index.sqlite"
    index.write_bytes(b"SQLite format 3\0 anything")
    assert in_order(registry) == ["a", "b", "c"]
    assert registry.clean() == []
    assert not index.exists()
    victim = registry.root.parent / "victim"
    victim.write_text("precious")
    index.symlink_to(victim)
    assert read_artifact(registry.root / "a").name == "a"
    publish(registry, "d")
    assert not index.is_symlink()
    assert victim.read_text() == "precious"
    index.mkdir()
    publish(registry, "e")
    assert index.is_dir()


def test_the_newest_is_the_one_published_last_though_the_clock_jumps_back(tmp_path, publish, monkeypatch):
    monkeypatch.setattr(creation, "datetime", Clock)
    registry, published = Registry(tmp_path / "runs"), []
    for days in (0, 400, -400, -400, 10):
        monkeypatch.setattr(Clock, "at", datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=days))
        name = f"base-{len(published)}"
        published.append(publish(registry, name, config={"seed": len(published)}))
        assert registry.latest("base").name == name
    created = [artifact.created for artifact in published]
    assert created == sorted(set(created))
    assert [entry.name for entry in registry.scan()[0]] == [artifact.name for artifact in published]


def test_an_artifact_from_the_future_keeps_nothing_else_from_being_the_newest(tmp_path, publish, forge):
    registry = Registry(tmp_path / "runs")
    publish(registry, "future")
    forge(registry.root / "future", lambda manifest: manifest.update(created="2999-12-31T23:59:59.000000+00:00"))
    for name in ("one", "two"):
        publish(registry, name)
        assert registry.latest("base").name == name
    forge(registry.root / "future", lambda manifest: manifest.update(created="2999-12-31T23:59:59.999999+00:00"))
    publish(registry, "three")  # at the end of time there is no later, but there is still a now
    assert registry.get("three").created < "2999"
