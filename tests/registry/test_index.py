"""The index decides nothing: without it, or with a wrong one, every answer is the same."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lora_mnist_cli.registry import index
from lora_mnist_cli.registry.artifact import MANIFEST, Artifact, Parent
from lora_mnist_cli.registry.index import INDEX, Entry
from lora_mnist_cli.registry.manifest import KINDS
from lora_mnist_cli.registry.registry import Registry
from lora_mnist_cli.system.errors import ArtifactError

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


COLUMNS = "name, stamp, kind, dataset, digest, created, summary"
FALSE = "name, stamp, 'sweep' AS kind, dataset, 'sha256:' || hex(zeroblob(32)) AS digest, created, summary"
GHOST = "SELECT 'ghost' || n, 'x', 'base', 'mnist', 'sha256:' || lower(hex(zeroblob(32))), '9', '{}' FROM ghosts"


def ghosts(count: str) -> str:
    return f"WITH RECURSIVE ghosts(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM ghosts {count}) {GHOST}"


def journal(path: Path, victim: Path) -> None:
    """Put a journal beside a database that bids SQLite delete another file, as those of several databases can."""
    magic, name = bytes.fromhex("d9d505f920a163d7"), os.fsencode(victim)
    content = path.read_bytes()
    page = int.from_bytes(content[16:18], "big")
    numbers = (0, 1, len(content) // page, 512, page)
    head = magic + b"".join(number.to_bytes(4, "big") for number in numbers)
    tail = (
        (2**30 // page + 1).to_bytes(4, "big") + name + b"".join(n.to_bytes(4, "big") for n in (len(name), sum(name)))
    )
    path.with_name(f"{path.name}-journal").write_bytes(head.ljust(512, b"\0") + tail + magic)


WRONG: dict[str, Callable[[Path], None]] = {
    "with a view that tells other things": sql(
        "ALTER TABLE entries RENAME TO kept", f"CREATE VIEW entries AS SELECT {FALSE} FROM kept"
    ),
    "with columns that compute": sql(
        "CREATE TABLE kept AS SELECT * FROM entries",
        "DROP TABLE entries",
        "CREATE TABLE entries (name TEXT PRIMARY KEY, stamp, kind AS ('base'), dataset, digest, created, summary)",
        "INSERT INTO entries SELECT name, stamp, dataset, digest, created, summary FROM kept",
        "DROP TABLE kept",
    ),
    "with a trigger": sql("CREATE TRIGGER x AFTER INSERT ON entries BEGIN DELETE FROM entries; END"),
    "with another table beside": sql("CREATE TABLE x (a)"),
    "with an index beside": sql("CREATE INDEX x ON entries (stamp)"),
    "with more rows than there are folders": sql(f"INSERT INTO entries {ghosts('LIMIT 5000')}"),
    "with a kind of another world": sql("UPDATE entries SET kind = 'weights'"),
    "with digests that are none": sql("UPDATE entries SET digest = 'sha256:0'"),
    "with a day that is none": sql("UPDATE entries SET created = '2026-99-99T99:99:99.999999+00:00'"),
    "larger than it can be": lambda path: os.truncate(path, 2**40),
    "with a log": lambda path: path.with_name(f"{INDEX}-wal").write_bytes(b"x" * 5000) and None,
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


def is_sound(path: Path) -> bool:
    """Whether an index holds the one table and nothing else, and its rows."""
    made = sqlite3.connect(path)
    found = made.execute("SELECT type, name FROM sqlite_master").fetchall()
    rows = made.execute("SELECT count(*) FROM entries WHERE length(summary) > 20").fetchone()[0]
    made.close()
    return bool(found == [("table", "entries")] and rows >= 3)


@pytest.mark.parametrize("what", [what for what in WRONG if what not in ("gone", "a folder", "of other stamps")])
def test_a_wrong_index_is_begun_anew(registry: Registry, what: str) -> None:
    WRONG[what](registry.root / INDEX)
    registry.scan()
    assert is_sound(registry.root / INDEX)


ENDLESS = {
    "view": ("DROP TABLE entries", f"CREATE VIEW entries ({COLUMNS}) AS {ghosts('')}"),
    "trigger": (
        "UPDATE entries SET stamp = 'x'",
        "CREATE TABLE x (a)",
        "CREATE TRIGGER t BEFORE INSERT ON entries BEGIN"
        " INSERT INTO x WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n; END",
    ),
}


@pytest.mark.parametrize("what", ENDLESS)
def test_an_index_without_end_is_not_run(registry: Registry, what: str) -> None:
    """In a process of its own, which can be ended: SQLite would go on for ever."""
    sql(*ENDLESS[what])(registry.root / INDEX)
    code = (
        "from pathlib import Path; from lora_mnist_cli.registry import index; index.WORTHWHILE = 1; "
        f"print(len(index.entries(Path({str(registry.root)!r}))[0]))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.stdout, ended.stderr) == ("3\n", "")
    assert is_sound(registry.root / INDEX)


def test_a_journal_that_names_another_file_does_not_have_it_deleted(registry: Registry, tmp_path: Path) -> None:
    for victim in (tmp_path / "victim", tmp_path / "control"):
        victim.write_text("precious")
    # SQLite does delete it where nobody looks first.
    control = Path(shutil.copy(registry.root / INDEX, tmp_path / "control.sqlite"))
    journal(control, tmp_path / "control")
    sql("DELETE FROM entries")(control)
    assert not (tmp_path / "control").exists()
    journal(registry.root / INDEX, tmp_path / "victim")
    answers(registry)
    shutil.copytree(registry.root / BASE, registry.root / "copy")
    answers(registry)
    assert (tmp_path / "victim").read_text() == "precious"
    assert is_sound(registry.root / INDEX)


def test_an_entry_of_the_right_stamp_that_makes_no_sense_is_refused_with_the_cure(registry: Registry, run: Run) -> None:
    """Only who may write to the folder itself can make one."""
    for summary in ("{}", "[", "1", '{"failed": 1}'):
        sql(f"UPDATE entries SET summary = '{summary}'")(registry.root / INDEX)
        for command in ("list", "latest"):
            outcome = run("runs", command)
            assert (outcome.code, len(outcome.err.splitlines())) == (3, 1)
            assert f"delete {INDEX}" in outcome.err
    (registry.root / INDEX).unlink()
    assert run("runs", "list").code == 0


def test_no_export_carries_the_index(registry: Registry, run: Run) -> None:
    assert run("runs", "export", SWEEP, "a.zip").code == 0
    with zipfile.ZipFile("a.zip") as archive:
        assert not [name for name in archive.namelist() if "index" in name]


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


def test_an_entry_that_lies_about_a_digest_makes_no_parent(registry: Registry, publish: Publish) -> None:
    base = publish(registry, "base")
    child = publish(registry, "child", kind="adapter", parents=[Parent("base", "base", base.digest)])
    other = publish(registry, "other", config={"seed": 1})
    shutil.rmtree(registry.root / "base")
    entry = Entry.of(other)
    lie = Entry(entry.name, entry.kind, entry.dataset, base.digest, entry.created, entry.summary)
    index._store(registry.root, {"other": (str(index.stamp_of(registry.root, "other")), lie)}, set(), 9, anew=True)
    assert [each.digest for each in registry.scan()[0] if each.name == "other"] == [base.digest]
    with pytest.raises(ArtifactError, match="'child' was made from base 'base'"):
        registry.parent(child)
