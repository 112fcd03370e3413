"""Handing artifacts on: a file with the whole lineage, and nothing published of one that is not sound."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import stat
import sys
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from durability import small

from lora_mnist_cli.registry.archive import export_artifact, import_artifacts
from lora_mnist_cli.registry.artifact import MANIFEST
from lora_mnist_cli.registry.registry import Registry
from lora_mnist_cli.registry.verification import verify
from lora_mnist_cli.system.errors import ArtifactError, MachineError
from lora_mnist_cli.system.files import whole_file

Entries = list[tuple[zipfile.ZipInfo, bytes]]
BASE, ADAPTER, SWEEP = "base-0-4", "lora-5-9-r1", "sweep-5-9"


@pytest.fixture
def archive(example: Path, tmp_path: Path) -> Path:
    """The sweep with all that it was made from, in a file."""
    export_artifact(Registry(example), SWEEP, tmp_path / "sweep.zip")
    return tmp_path / "sweep.zip"


@pytest.fixture
def other(tmp_path: Path) -> Registry:
    """A folder that is not there yet."""
    return Registry(tmp_path / "other" / "runs")


def digests(registry: Registry) -> dict[str, str]:
    return {entry.name: entry.digest for entry in registry.scan()[0]}


def read(file: Path) -> Entries:
    with zipfile.ZipFile(file) as opened:
        return [(info, opened.read(info)) for info in opened.infolist()]


def write(file: Path, entries: Entries) -> None:
    with zipfile.ZipFile(file, "w") as opened, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a name that comes twice is what some of these are about
        for info, content in entries:
            opened.writestr(info, content)


def entry(name: str, kind: int = stat.S_IFREG) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = (kind | 0o644) << 16
    return info


def test_what_was_exported_can_be_imported_elsewhere(example, archive, other, run):
    outcome = run("runs", "import", archive, "--runs-dir", other.root, "--json")
    assert outcome.code == 0
    assert outcome.json["artifacts"] == outcome.json["new"] == [BASE, ADAPTER, SWEEP]
    assert digests(other) == digests(Registry(example))
    assert not any(verdict.problems for verdict in verify(other))
    assert sorted(path.name for path in other.root.iterdir()) == [BASE, ADAPTER, SWEEP]
    for path in example.rglob("*"):
        if path.is_file():
            assert (other.root / path.relative_to(example)).read_bytes() == path.read_bytes()
    assert run("evaluate", ADAPTER, "--runs-dir", other.root).code == 0


def test_the_lineage_goes_along_and_nothing_else(example, other, run):
    outcome = run("runs", "export", ADAPTER, "a.zip", "--json")
    assert outcome.json["artifacts"] == [BASE, ADAPTER]
    assert (outcome.json["artifact"], outcome.json["file"]) == (ADAPTER, "a.zip")
    import_artifacts(other, Path("a.zip"))
    assert other.names() == [BASE, ADAPTER]


def test_a_renamed_parent_goes_along_under_its_new_name(example, other):
    (example / BASE).rename(example / "renamed")
    export_artifact(Registry(example), ADAPTER, Path("a.zip"))
    import_artifacts(other, Path("a.zip"))
    assert other.names() == [ADAPTER, "renamed"]
    assert other.parent(other.get(ADAPTER)).name == "renamed"


def test_the_same_artifacts_make_the_same_file(example, archive, run):
    (example / BASE / MANIFEST).touch()
    assert run("runs", "export", SWEEP, "again.zip").code == 0
    assert Path("again.zip").read_bytes() == archive.read_bytes()
    elsewhere = Path(shutil.copytree(example, "elsewhere"))
    export_artifact(Registry(elsewhere), SWEEP, Path("third.zip"))
    assert Path("third.zip").read_bytes() == archive.read_bytes()


def test_a_file_that_is_there_is_kept(example, run):
    Path("mine.zip").write_text("mine")
    outcome = run("runs", "export", BASE, "mine.zip")
    assert (outcome.code, Path("mine.zip").read_text()) == (2, "mine")
    assert "--force" in outcome.err
    assert run("runs", "export", BASE, "mine.zip", "--force").code == 0
    assert zipfile.is_zipfile("mine.zip")
    Path("folder").mkdir()
    assert run("runs", "export", BASE, "folder", "--force").code == 2
    outcome = run("runs", "export", BASE, "missing/a.zip")
    assert (outcome.code, len(outcome.err.splitlines())) == (5, 1)


def test_what_a_killed_export_left_is_taken_away_by_the_next_and_nothing_else(example, run):
    dead = Path(f".{'0123456789abcdef' * 2}.new")
    mine = [Path(name) for name in (".mine.new", "mine.new", f".{'g' * 32}.new", f".{'a' * 32}.new.txt")]
    for path in (dead, *mine):
        path.write_text("x")
    Path("there").mkdir()
    Path(f".{'b' * 32}.new").symlink_to("there")
    assert run("runs", "export", BASE, "a.zip").code == 0
    assert not dead.exists()
    assert all(path.read_text() == "x" for path in mine)
    assert Path(f".{'b' * 32}.new").is_symlink()


def test_an_export_that_goes_on_is_not_taken_for_a_dead_one(example, run):
    with whole_file(Path("slow.zip")) as file:
        assert run("runs", "export", BASE, "quick.zip").code == 0
        assert run("runs", "export", BASE, "slow.zip").code == 0
        file.write(b"slow")
    assert Path("slow.zip").read_bytes() == b"slow"
    assert zipfile.is_zipfile("quick.zip")
    assert not list(Path().glob(".*.new"))


@pytest.mark.parametrize(
    "damaged", [f"{BASE}/model.safetensors", f"{ADAPTER}/history.csv", f"{SWEEP}/{MANIFEST}", BASE]
)
def test_what_is_not_sound_is_not_handed_on(example, run, damaged):
    if (example / damaged).is_dir():
        shutil.rmtree(example / damaged)
    else:
        (example / damaged).write_bytes(b"x")
    outcome = run("runs", "export", SWEEP, "a.zip")
    assert (outcome.code, outcome.out) == (3, "")
    assert not list(Path.cwd().glob("*.zip"))
    assert not list(Path.cwd().glob(".*.new"))


@pytest.mark.parametrize("fate", ["removed", "replaced"])
def test_an_artifact_that_another_process_takes_away_meanwhile_is_named(example, run, monkeypatch, fate):
    def parents_first(artifacts: list[Any]) -> list[Any]:
        if fate == "removed":
            shutil.rmtree(example / BASE)
        else:
            shutil.copy(example / ADAPTER / MANIFEST, example / BASE / MANIFEST)
        return artifacts

    monkeypatch.setattr("lora_mnist_cli.registry.archive._parents_first", parents_first)
    Path("mine.zip").write_text("mine")
    outcome = run("runs", "export", BASE, "mine.zip", "--force")
    assert (outcome.code, outcome.err) == (3, f"error: '{BASE}' was {fate} while it was read (run it again)\n")
    assert [path.read_text() for path in Path().glob("*.zip")] == ["mine"]


def test_importing_twice_is_nothing_new(archive, other, run):
    import_artifacts(other, archive)
    stamps = {path: path.stat().st_mtime_ns for path in other.root.rglob("*")}
    outcome = run("runs", "import", archive, "--runs-dir", other.root)
    assert outcome.code == 0
    assert outcome.out.splitlines() == [f"{name}: was here already" for name in (BASE, ADAPTER, SWEEP)]
    assert {path: path.stat().st_mtime_ns for path in other.root.rglob("*")} == stamps


def test_what_is_lacking_is_added(archive, other):
    import_artifacts(other, archive)
    other.remove(SWEEP)
    every, fresh = import_artifacts(other, archive)
    assert [artifact.name for artifact in every] == [BASE, ADAPTER, SWEEP]
    assert [artifact.name for artifact in fresh] == [SWEEP]


def test_a_parent_may_be_here_under_another_name(archive, other):
    import_artifacts(other, archive)
    other.remove(ADAPTER, cascade=True)
    (other.root / BASE).rename(other.root / "renamed")
    write(archive, [(info, content) for info, content in read(archive) if not info.filename.startswith(BASE)])
    _, fresh = import_artifacts(other, archive)
    assert [artifact.name for artifact in fresh] == [ADAPTER, SWEEP]
    assert not any(verdict.problems for verdict in verify(other))


def test_a_name_that_is_taken_by_other_content_is_refused(archive, other, publish, run):
    publish(other, SWEEP)
    outcome = run("runs", "import", archive, "--runs-dir", other.root)
    assert outcome.code == 3
    assert f"'{SWEEP}' is in {other.root} already, with other content" in outcome.err
    assert other.names() == [SWEEP]


def test_a_name_that_is_taken_by_something_else_is_refused(archive, other):
    (other.root / ADAPTER).mkdir(parents=True)
    (other.root / ADAPTER / "mine").write_text("x")
    with pytest.raises(ArtifactError, match="is no artifact"):
        import_artifacts(other, archive)
    assert (other.root / ADAPTER / "mine").read_text() == "x"
    assert other.names() == []


def without(*starts: str) -> Callable[[Entries], Entries]:
    return lambda entries: [(info, content) for info, content in entries if not info.filename.startswith(starts)]


def with_more(*names: str, kind: int = stat.S_IFREG) -> Callable[[Entries], Entries]:
    return lambda entries: [*entries, *((entry(name, kind), b"/etc/passwd") for name in names)]


def changed(name: str, change: Callable[[bytes], bytes]) -> Callable[[Entries], Entries]:
    return lambda entries: [(info, change(content) if info.filename == name else content) for info, content in entries]


def twice(name: str) -> Callable[[Entries], Entries]:
    return lambda entries: [*entries, *((entry(name), content) for info, content in entries if info.filename == name)]


def linked(entries: Entries) -> Entries:
    return [
        (entry(info.filename, stat.S_IFLNK) if info.filename.endswith("history.csv") else info, content)
        for info, content in entries
    ]


def resealed(content: bytes) -> bytes:
    from lora_mnist_cli.registry.digests import seal_of

    manifest = json.loads(content)
    manifest["files"]["../../victim"] = manifest["files"]["history.csv"]
    return json.dumps(manifest | {"seal": seal_of(manifest)}).encode()


EVIL: dict[str, Callable[[Entries], Entries]] = {
    "a way out": with_more("../victim"),
    "a way out of an artifact": with_more(f"{BASE}/../victim"),
    "an absolute path": with_more("/victim"),
    "a drive": with_more("C:\\victim"),
    "a backslash": with_more(f"{BASE}\\..\\victim"),
    "a hidden file": with_more(f"{BASE}/.hidden"),
    "a hidden folder": with_more(".staging/x"),
    "a registry's own": with_more(".tags/best"),
    "a file of no artifact": with_more("victim"),
    "too deep": with_more(f"{BASE}/a/b/c"),
    "a terminal's language": with_more(f"{BASE}/\x1b[2J"),
    "a symbolic link": with_more(f"{BASE}/link", kind=stat.S_IFLNK),
    "a device": with_more(f"{BASE}/device", kind=stat.S_IFCHR),
    "a file that became a link": linked,
    "a file that is not listed": with_more(f"{BASE}/more.txt"),
    "a listed file lacking": without(f"{BASE}/history.csv"),
    "two of one name": twice(f"{BASE}/history.csv"),
    "two manifests": twice(f"{BASE}/{MANIFEST}"),
    "no manifest": without(f"{ADAPTER}/{MANIFEST}"),
    "nothing at all": lambda _entries: [],
    "a parent lacking": without(BASE),
    "a flipped byte": changed(f"{ADAPTER}/history.csv", lambda content: bytes([content[0] ^ 1]) + content[1:]),
    "flipped weights": changed(f"{BASE}/model.safetensors", lambda content: content[:-1] + bytes([content[-1] ^ 1])),
    "a byte more": changed(f"{SWEEP}/results.csv", lambda content: content + b"x"),
    "a byte less": changed(f"{SWEEP}/results.csv", lambda content: content[:-1]),
    "an edited manifest": changed(f"{BASE}/{MANIFEST}", lambda content: content.replace(b'"seed": 0', b'"seed": 1')),
    "no JSON": changed(f"{SWEEP}/{MANIFEST}", lambda _content: b"{"),
    "nesting without end": changed(f"{SWEEP}/{MANIFEST}", lambda _content: b"[" * 100_000),
    "a sealed manifest with a way out": changed(f"{BASE}/{MANIFEST}", resealed),
}


@pytest.mark.parametrize("what", EVIL)
def test_nothing_is_published_of_a_file_that_is_not_sound(archive, other, run, tmp_path, what):
    write(Path("evil.zip"), EVIL[what](read(archive)))
    before = sorted(tmp_path.rglob("*"))
    outcome = run("runs", "import", "evil.zip", "--runs-dir", other.root)
    assert (outcome.code, outcome.out) == (3, "")
    (line,) = outcome.err.splitlines()
    assert line.isprintable()
    assert "defect" not in line
    assert sorted(tmp_path.rglob("*")) == before


def test_an_unforged_copy_of_the_file_is_taken(archive, other):
    """What the tests above refuse is refused for what they changed."""
    write(Path("copy.zip"), read(archive))
    assert len(import_artifacts(other, Path("copy.zip"))[1]) == 3


def test_weights_that_do_not_fit_are_refused_though_all_digests_do(example, other, forge):
    weights = (example / ADAPTER / "adapter_model.safetensors").read_bytes()
    forge(example / ADAPTER, files={"adapter_model.safetensors": weights.replace(b"fc1.lora_A", b"fc1.lora_X")})
    export_artifact(Registry(example), ADAPTER, Path("a.zip"))
    with pytest.raises(ArtifactError, match=r"adapter .* lacks base_model.model.fc1.lora_A.weight"):
        import_artifacts(other, Path("a.zip"))
    assert not other.root.exists()


def test_a_bomb_is_refused_before_it_goes_off(archive, other, run):
    """A file of kilobytes may unpack to terabytes; what it says of itself is believed where it is bad enough."""
    entries = read(archive)
    with zipfile.ZipFile("bomb.zip", "w", zipfile.ZIP_DEFLATED) as opened:
        for info, content in entries:
            opened.writestr(info, content)
    raw = bytearray(Path("bomb.zip").read_bytes())
    at = raw.index(b"PK\x01\x02")
    raw[at + 24 : at + 28] = (2**32 - 2).to_bytes(4, "little")
    Path("bomb.zip").write_bytes(raw)
    assert run("runs", "import", "bomb.zip", "--runs-dir", other.root).code in (3, 5)
    # And where it lies: what unpacks to more than it says is not unpacked.
    big = io.BytesIO()
    with zipfile.ZipFile(big, "w", zipfile.ZIP_DEFLATED) as opened:
        for info, content in entries:
            is_one = info.filename == f"{BASE}/history.csv"
            opened.writestr(info.filename, bytes(50_000_000) if is_one else content, zipfile.ZIP_DEFLATED)
    raw = bytearray(big.getvalue())
    true = next(content for info, content in entries if info.filename == f"{BASE}/history.csv")
    position = 0
    while (position := raw.find((50_000_000).to_bytes(4, "little"), position)) >= 0:
        raw[position : position + 4] = len(true).to_bytes(4, "little")
    Path("liar.zip").write_bytes(raw)
    assert len(raw) < 200_000
    outcome = run("runs", "import", "liar.zip", "--runs-dir", other.root)
    assert outcome.code == 3
    assert not other.root.exists()


def test_more_entries_than_make_sense_are_refused(archive, other, run, monkeypatch):
    entries = len(read(archive))
    monkeypatch.setattr("lora_mnist_cli.registry.archive_reading._MAX_ENTRIES", entries - 1)
    outcome = run("runs", "import", archive, "--runs-dir", other.root)
    assert outcome.code == 3
    assert f"has {entries:,} entries, {entries - 1:,} at most" in outcome.err
    assert not other.root.exists()
    monkeypatch.setattr("lora_mnist_cli.registry.archive_reading._MAX_ENTRIES", entries)
    assert run("runs", "import", archive, "--runs-dir", other.root).code == 0


def test_more_than_there_is_room_for_is_the_machines_fault(archive, other, run, monkeypatch):
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1000, 0, 1000))
    outcome = run("runs", "import", archive, "--runs-dir", other.root)
    assert outcome.code == 5
    assert "1,000 are free" in outcome.err
    assert not other.root.exists()


@pytest.mark.parametrize("content", [b"", b"x", b"PK\x03\x04", b"PK\x05\x06" + bytes(18), b"\0" * 1000])
def test_what_is_no_zip_file_is_refused(other, run, content):
    Path("a.zip").write_bytes(content)
    outcome = run("runs", "import", "a.zip", "--runs-dir", other.root)
    assert (outcome.code, len(outcome.err.splitlines())) == (3, 1)
    assert not other.root.exists()
    assert run("runs", "import", "missing.zip").code == 3
    assert run("runs", "import", ".").code == 3


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_file_packed_in_another_way_is_refused(archive, other, run, method):
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile("packed.zip", "w", method) as target:
        for info in source.infolist():
            target.writestr(info.filename, source.read(info), method)
    outcome = run("runs", "import", "packed.zip", "--runs-dir", other.root)
    assert (outcome.code, len(outcome.err.splitlines())) == (3, 1)
    assert not other.root.exists()


def test_a_file_damaged_anywhere_is_refused_or_gives_the_very_same(archive, other):
    """A flip in a time or a comment of the zip format is harmless; any other is refused, and nothing is published."""
    whole, expected = archive.read_bytes(), None
    generator = random.Random(0)
    refused = 0
    for _ in range(120):
        content = bytearray(whole)
        at = generator.randrange(len(content))
        if generator.random() < 0.2:
            del content[at:]
        else:
            content[at] ^= 1 << generator.randrange(8)
        archive.write_bytes(content)
        try:
            import_artifacts(other, archive)
        except (ArtifactError, MachineError):
            assert not other.root.exists()
            refused += 1
            continue
        expected = digests(other) if expected is None else expected
        assert digests(other) == expected
        assert not any(verdict.problems for verdict in verify(other))
        shutil.rmtree(other.root)
    assert refused > 60


def test_a_forged_lineage_is_refused(example, tmp_path, other, forge, run):
    """An adapter whose base is a sweep: every digest fits, and yet nothing can be made of it."""
    sweep = json.loads((example / SWEEP / MANIFEST).read_text())

    def change(manifest: Any) -> None:
        manifest["parents"] = [{"role": "base", "name": SWEEP, "digest": sweep["digest"]}]

    shutil.copytree(example / ADAPTER, example / "forged")
    forge(example / "forged", change)
    entries = [
        (entry(f"{folder.name}/{path.name}"), path.read_bytes())
        for folder in (example / each for each in (BASE, ADAPTER, SWEEP, "forged"))
        for path in sorted(folder.iterdir())
    ]
    write(tmp_path / "forged.zip", entries)
    outcome = run("runs", "import", tmp_path / "forged.zip", "--runs-dir", other.root)
    assert outcome.code == 3
    assert f"'forged' names '{SWEEP}' as its base, which is of kind sweep" in outcome.err
    assert not other.root.exists()


@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("fails", [1, 2])
def test_an_import_that_fails_in_the_middle_publishes_nothing(archive, other, monkeypatch, fails, fault):
    rename, calls = os.rename, iter(range(9))

    def failing(source: Any, target: Any) -> None:
        if next(calls) == fails:
            raise fault
        rename(source, target)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises((MachineError, KeyboardInterrupt)):
        import_artifacts(other, archive)
    assert not other.root.exists()
    monkeypatch.undo()
    assert len(import_artifacts(other, archive)[1]) == 3


def many(file: Path, folder: Path, count: int) -> None:
    """Write copies of an artifact under other names to a zip file."""
    from lora_mnist_cli.registry.digests import seal_of

    manifest = json.loads((folder / MANIFEST).read_text())
    parts = [(part, (folder / part).read_bytes()) for part in manifest["files"]]
    with zipfile.ZipFile(file, "w") as opened:
        for i in range(count):
            manifest["name"] = f"copy-{i}"
            manifest["seal"] = seal_of(manifest)
            for part, content in [(MANIFEST, json.dumps(manifest).encode()), *parts]:
                opened.writestr(entry(f"copy-{i}/{part}"), content)


@pytest.fixture
def report(tmp_path: Path) -> Path:
    """The folder of an artifact of a few bytes."""
    return small.report(Registry(tmp_path / "small"), "one").path


def counted(patched: pytest.MonkeyPatch, *functions: tuple[Any, str]) -> Counter[str]:
    """Count the calls of functions, each given by its module or class and its name."""
    calls: Counter[str] = Counter()
    for module, name in functions:
        real = getattr(module, name)

        def counting(*arguments: Any, name: str = name, real: Any = real, **options: Any) -> Any:
            calls[name] += 1
            return real(*arguments, **options)

        patched.setattr(module, name, counting)
    return calls


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere each file is flushed")
def test_many_artifacts_are_flushed_at_once_and_no_folder_is_listed_for_each(report, other, tmp_path):
    counts = []
    other.root.parent.mkdir()
    for count in (100, 200):
        many(tmp_path / "many.zip", report, count)
        with pytest.MonkeyPatch.context() as patched:
            calls = counted(patched, (os, "fsync"), (os, "scandir"), (Registry, "scan"))
            assert len(import_artifacts(other, tmp_path / "many.zip")[1]) == count
        counts.append(calls)
        shutil.rmtree(other.root)
    assert counts[0] == counts[1]
    assert counts[0]["fsync"] < 10


@pytest.mark.parametrize("length", [1, 65_535])
def test_a_comment_of_the_zip_file_is_let_alone(archive, other, length):
    with zipfile.ZipFile(archive, "a") as opened:
        opened.comment = b"c" * length
    assert len(import_artifacts(other, archive)[1]) == 3


def headers(content: bytes) -> list[int]:
    """Where each header of a zip file begins."""
    return [at for at in range(len(content)) if content[at : at + 4] in (b"PK\1\2", b"PK\3\4", b"PK\5\6")]


def test_whatever_the_headers_say_it_is_told_in_a_line(report, other, tmp_path, monkeypatch):
    """Names that are empty or no text, sizes and places out of the file, methods and flags that nobody knows."""
    monkeypatch.setattr(os, "fsync", lambda _handle: None)  # most of the time
    file, generator, told = tmp_path / "two.zip", random.Random(3), []
    many(file, report, 2)
    whole = file.read_bytes()
    places, values = headers(whole), [b"\0", b"\x80", b"\xff\xff", bytes(4), b"\xff" * 4, b"\xff\xff\xff\x7f"]
    for _ in range(100):
        content = bytearray(whole)
        for _ in range(generator.choice((1, 1, 2, 4))):
            at, value = generator.choice(places) + generator.randrange(4, 60), generator.choice(values)
            content[at : at + len(value)] = value
        file.write_bytes(content)
        try:
            import_artifacts(other, file)
        except ArtifactError as error:
            told.append(str(error))
            assert not other.root.exists()
        else:
            shutil.rmtree(other.root)
    assert len(told) > 40
    assert all(len(text.splitlines()) == 1 for text in told)


@pytest.mark.parametrize("name", [b"", b"\xff\xfe", b"\0", b"/", b"/" + MANIFEST.encode()])
def test_an_entry_whose_name_is_broken_is_refused(archive, other, run, name):
    """In the directory at the end, where the names are read first."""
    content = bytearray(archive.read_bytes())
    at = content.index(b"PK\1\2")
    length = int.from_bytes(content[at + 28 : at + 30], "little")
    content[at + 9] |= 8  # its names are UTF-8
    content[at + 28 : at + 30] = len(name).to_bytes(2, "little")
    # What the name no longer takes is a field that nobody knows.
    content[at + 30 : at + 32] = (length - len(name)).to_bytes(2, "little")
    content[at + 46 : at + 46 + length] = name.ljust(length, b"\0")
    archive.write_bytes(content)
    outcome = run("runs", "import", archive, "--runs-dir", other.root)
    assert (outcome.code, outcome.out, len(outcome.err.splitlines())) == (3, "", 1)
    assert not other.root.exists()


UNSOUND: dict[str, tuple[str, Callable[[Any], Any], float]] = {
    "an unknown setting": (BASE, lambda manifest: manifest["config"].update(momentum=0.9), 1),
    "digits that are not its base's": (SWEEP, lambda manifest: manifest["details"].update(base_digits="0-3"), 1),
    "a weight that is no number": (BASE, lambda _: None, float("nan")),
    "an infinite weight": (BASE, lambda _: None, float("inf")),
}


@pytest.mark.parametrize("what", UNSOUND)
def test_import_publishes_nothing_that_verify_refuses(example, other, forge, tmp_path, what):
    """It asks what ``verify`` asks, and tells the same."""
    name, change, factor = UNSOUND[what]
    for descendant in {ADAPTER, SWEEP} - {name}:
        if name == BASE:
            shutil.rmtree(example / descendant)
    files = {}
    if factor != 1:
        tensors = safetensors.numpy.load_file(example / name / "model.safetensors")
        changed = {key: np.full_like(tensor, factor) for key, tensor in tensors.items()}
        files["model.safetensors"] = safetensors.numpy.save(changed)
    forge(example / name, change, files)
    (verdict,) = (verdict for verdict in verify(Registry(example)) if verdict.name == name)
    archive = tmp_path / "forged.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        for part in sorted(example.glob("*/*")):
            opened.write(part, part.relative_to(example).as_posix())
    with pytest.raises(ArtifactError) as caught:
        import_artifacts(other, archive)
    ((file, problem),) = verdict.problems
    assert caught.value.problem == f"'{name}' is not sound: {file}: {problem}"
    assert other.names() == []
