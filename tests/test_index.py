"""The index decides nothing: without it, or with a wrong one, every answer is the same."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lora_mnist_cli import index
from lora_mnist_cli.artifact import MANIFEST, Artifact
from lora_mnist_cli.errors import ArtifactError
from lora_mnist_cli.index import INDEX
from lora_mnist_cli.manifest import KINDS
from lora_mnist_cli.registry import Registry

Publish = Callable[..., Artifact]
Forge = Callable[..., None]
Run = Callable[..., Any]
BASE, ADAPTER, SWEEP = "base-0-4", "lora-5-9-r1", "sweep-5-9"


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even three artifacts are worth an index."""
    monkeypatch.setattr(index, "WORTHWHILE", 1)


@pytest.fixture
def registry(example: Path, eager: None) -> Registry:
    """The small folder with its index."""
    found = Registry(example)
    found.scan()
    assert (example / INDEX).is_file()
    return found


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the artifacts whose manifests the index read."""
    seen: list[str] = []
    real = index.read_artifact

    def read(path: Path) -> Artifact:
        seen.append(path.name)
        return real(path)

    monkeypatch.setattr(index, "read_artifact", read)
    return seen


def answers(registry: Registry) -> Any:
    """All that is asked of a registry; it is the same as from its folders alone."""
    bare = shutil.copytree(
        registry.root, registry.root.with_name("bare"), symlinks=True, ignore=shutil.ignore_patterns(".*")
    )
    found, expected = _ask(registry), _ask(Registry(Path(bare)))
    shutil.rmtree(bare)
    assert found == expected
    return found


def _ask(registry: Registry) -> Any:
    def newest(kind: str) -> str:
        try:
            return registry.latest(kind).name
        except ArtifactError as error:
            return str(error).replace(str(registry.root), "…")

    entries, errors = registry.scan()
    told = sorted(str(error).replace(str(registry.root), "…") for error in errors)
    return [entry.to_json() for entry in entries], told, [newest(kind) for kind in KINDS]


def test_a_second_look_reads_no_manifest(registry: Registry, reads: list[str]) -> None:
    entries, errors = registry.scan()
    assert [entry.name for entry in entries] == [BASE, ADAPTER, SWEEP]
    assert (errors, reads) == ([], [])
    answers(registry)


def test_the_newest_is_told_from_the_index_alone(registry: Registry, reads: list[str]) -> None:
    assert registry.latest("adapter").name == ADAPTER
    assert registry.latest("base", dataset="mnist").name == BASE
    assert reads == []


def renamed(runs: Path) -> None:
    (runs / BASE).rename(runs / "other")


def removed(runs: Path) -> None:
    shutil.rmtree(runs / SWEEP)


def swapped(runs: Path) -> None:
    (runs / BASE).rename(runs / "x")
    (runs / ADAPTER).rename(runs / BASE)
    (runs / "x").rename(runs / ADAPTER)


def copied(runs: Path) -> None:
    shutil.copytree(runs / BASE, runs / "copy")


def damaged(runs: Path) -> None:
    (runs / ADAPTER / MANIFEST).write_text("{")


def damaged_in_secret(runs: Path) -> None:
    """One bit, with size and time of change put back as they were."""
    path = runs / ADAPTER / MANIFEST
    before, content = path.stat(), path.read_bytes()
    with path.open("r+b") as file:
        file.write(content.replace(b'"seed": 0', b'"seed": 1'))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def emptied(runs: Path) -> None:
    (runs / SWEEP / MANIFEST).unlink()


def linked(runs: Path) -> None:
    (runs / SWEEP).rename(runs.with_name("elsewhere"))
    (runs / SWEEP).symlink_to(runs.with_name("elsewhere"))


@pytest.mark.parametrize(
    "change", [renamed, removed, swapped, copied, damaged, damaged_in_secret, emptied, linked], ids=lambda c: c.__name__
)
def test_whatever_changed_outside_is_noticed(registry: Registry, change: Callable[[Path], None]) -> None:
    before = answers(registry)
    change(registry.root)
    after = answers(registry)
    assert after != before
    assert answers(registry) == after


def test_replacement_removal_and_publication_are_noticed(registry: Registry, publish: Publish, forge: Forge) -> None:
    publish(registry, "new")
    assert registry.latest("base").name == "new"
    publish(registry, "new", files={"weights": b"other"}, force=True)
    (entry,) = (entry for entry in registry.scan()[0] if entry.name == "new")
    assert entry.digest == registry.get("new").digest
    registry.remove("new")
    assert registry.latest("base").name == BASE
    forge(registry.root / BASE, lambda manifest: manifest.update(note="edited"))
    assert registry.scan()[0][0].to_json()["note"] == "edited"
    answers(registry)


def gone(path: Path) -> None:
    path.unlink()


def overwritten(path: Path) -> None:
    path.write_bytes(b"no database" * 1000)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def blank(path: Path) -> None:
    path.write_bytes(b"")


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "x").touch()


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def sql(*statements: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        made = sqlite3.connect(path)
        for statement in statements:
            made.execute(statement)
        made.commit()
        made.close()

    return change


WRONG: dict[str, Callable[[Path], None]] = {
    "gone": gone,
    "overwritten": overwritten,
    "cut": cut,
    "blank": blank,
    "a folder": folder,
    "a pipe": pipe,
    "of another version": sql("PRAGMA user_version = 99"),
    "without a table": sql("DROP TABLE entries"),
    "with another table": sql("DROP TABLE entries", "CREATE TABLE entries (a, b)"),
    "without rows": sql("DELETE FROM entries"),
    "with a row less": sql(f"DELETE FROM entries WHERE name = '{ADAPTER}'"),
    "with rows of nothing": sql(
        "INSERT INTO entries VALUES ('ghost', NULL, 'base', NULL, NULL, NULL, NULL)",
        "INSERT INTO entries VALUES ('spook', 'x', 'base', 'mnist', 1, 2, x'ff')",
    ),
    "with ghosts": sql("INSERT INTO entries VALUES ('ghost', 'x', 'base', 'mnist', 'sha256:0', '9999', '{}')"),
    "of other stamps": sql("UPDATE entries SET stamp = 'x', kind = 'sweep', digest = 'sha256:0'"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_index_changes_no_answer(registry: Registry, publish: Publish, run: Run, what: str) -> None:
    before = answers(registry)
    WRONG[what](registry.root / INDEX)
    assert registry.latest("base").name == BASE
    assert answers(registry) == before
    assert answers(registry) == before
    outcome = run("runs", "list")
    assert (outcome.code, outcome.err) == (0, "")
    publish(registry, "new")
    assert registry.latest("base").name == "new"
    for name in ("new", SWEEP, ADAPTER, BASE):
        assert run("runs", "remove", name).code == 0
    assert registry.names() == []


@pytest.mark.parametrize("content", [b"precious" * 1000, b""], ids=["full", "empty"])
@pytest.mark.parametrize("suffix", ["", "-journal", "-wal", "-shm"])
def test_nothing_is_written_through_a_symbolic_link(
    example: Path, eager: None, tmp_path: Path, publish: Publish, suffix: str, content: bytes
) -> None:
    registry = Registry(example)
    if suffix:
        registry.scan()
    victim = tmp_path / "victim"
    victim.write_bytes(content)
    (example / f"{INDEX}{suffix}").symlink_to(victim)
    publish(registry, "new")
    assert [entry.name for entry in registry.scan()[0]] == [BASE, ADAPTER, SWEEP, "new"]
    assert victim.read_bytes() == content


def test_a_small_registry_has_none(example: Path, run: Run) -> None:
    for call in (["list"], ["latest"], ["verify"], ["show", BASE]):
        assert run("runs", *call).code == 0
    assert not (example / INDEX).exists()


def test_a_large_one_has_one_that_goes_with_the_last_artifact(registry: Registry, run: Run) -> None:
    assert run("runs", "remove", BASE, "--cascade").code == 0
    assert not registry.root.exists()


@pytest.fixture
def unwritable(example: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder as if it was mounted read-only, for the index at least: root may write to any folder."""
    real = index._connection

    def connect(path: Path, mode: str) -> Any:
        return real(path, "ro")

    monkeypatch.setattr(index, "_connection", connect)
    example.chmod(0o555)
    yield example
    example.chmod(0o755)


def test_a_folder_that_can_not_be_written_is_listed_all_the_same(unwritable: Path, eager: None, run: Run) -> None:
    for _ in range(2):
        outcome = run("runs", "list", "--json")
        assert (outcome.code, outcome.err) == (0, "")
        assert len(outcome.json["artifacts"]) == 3
        assert run("runs", "latest").out == f"{ADAPTER}\n"
    assert not (unwritable / INDEX).exists()


def test_an_index_that_is_being_written_keeps_nobody_waiting_for_long(registry: Registry, publish: Publish) -> None:
    writer = sqlite3.connect(registry.root / INDEX, isolation_level=None)
    writer.execute("BEGIN EXCLUSIVE")
    shutil.copytree(registry.root / BASE, registry.root / "copy")
    assert [entry.name for entry in registry.scan()[0]] == [BASE, "copy", ADAPTER, SWEEP]
    writer.execute("ROLLBACK")
    writer.close()
