"""Publication, lineage and what is left when something fails."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec
import pytest
from published import BASE_SETTINGS, SCORES, everything

from lora_mnist_cli.cli.commands.runs.inspect import ancestors
from lora_mnist_cli.registry.artifact import MANIFEST, Artifact, Parent, Settings
from lora_mnist_cli.registry.entries import Entry, children_first, generations
from lora_mnist_cli.registry.registry import STAGING, Registry, machine_errors
from lora_mnist_cli.registry.staging import REPLACED
from lora_mnist_cli.system.errors import ArtifactError, MachineError, OtherSettingsError, UsageError
from lora_mnist_cli.system.platforms import here

Publish = Callable[..., Artifact]
IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
NOWHERE = "sha256:" + 64 * "0"


def settings(seed: int = 0, **config: object) -> Settings:
    return Settings("base", BASE_SETTINGS | {"seed": seed, **config}, {"name": "mnist", "digest": NOWHERE})


def finish(registry: Registry, folder: Path, seed: int = 0) -> Artifact:
    """Publish a staged folder as a base."""
    details = {"layers": {"fc1": [2, 2]}, "pixel_stats": [0.1, 0.3]}
    return registry.publish(folder, settings(seed), scores=SCORES, details=details, environment={}, wall_seconds=0.0)


def test_an_artifact_has_exactly_its_files(registry, publish):
    artifact = publish(registry, "one", files={"weights": b"1234", "tensorboard/events": b"log"})
    assert artifact.path == registry.root / "one"
    assert everything(registry.root) == [
        "one", "one/artifact.json", "one/tensorboard", "one/tensorboard/events", "one/weights",
    ]  # fmt: skip
    assert (artifact.path / "weights").read_bytes() == b"1234"
    assert registry.names() == ["one"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_what_fails_in_the_middle_leaves_nothing(registry, error):
    def work() -> None:
        with registry.staging("one") as folder:
            (folder / "weights").write_bytes(b"12")
            assert folder.parent.parent == registry.root / STAGING
            assert registry.names() == []
            raise error

    with pytest.raises(error):
        work()
    assert not registry.root.exists()


def test_what_fails_leaves_the_neighbours_alone(registry, publish):
    publish(registry, "one")
    before = everything(registry.root)

    def work() -> None:
        with registry.staging("one"):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        work()
    assert everything(registry.root) == before


@pytest.mark.parametrize("call", ["fsync", "rename", "write"])
@pytest.mark.parametrize("existing", [False, True])
def test_a_full_disk_leaves_nothing_and_is_the_machines_fault(registry, publish, monkeypatch, call, existing):
    if existing:
        publish(registry, "old")
    before = everything(registry.root)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def work() -> None:
        with registry.staging("one") as folder:
            (folder / "weights").write_bytes(b"1234")
            if call == "write":
                monkeypatch.setattr(Path, "write_text", full)
            else:
                monkeypatch.setattr(os, call, full)
            finish(registry, folder)

    with pytest.raises(MachineError, match="No space left") as caught:
        work()
    monkeypatch.undo()
    assert "free some space" in caught.value.hint
    assert caught.value.exit_code == 5
    assert registry.root.exists() is existing
    assert everything(registry.root) == before


@pytest.mark.parametrize("call", [1, 2, 3])
def test_a_disk_that_is_full_from_the_start_leaves_nothing(registry, monkeypatch, call):
    """The first, second or third folder that staging makes does not fit any more."""
    real, calls = os.mkdir, 0

    def mkdir(path: str, *args: int, **options: int) -> None:
        nonlocal calls
        if not Path(path).exists():
            calls += 1
            if calls > call:
                raise OSError(errno.ENOSPC, "No space left on device")
        real(path, *args, **options)

    def work() -> None:
        with registry.staging("one"):
            raise AssertionError

    monkeypatch.setattr(os, "mkdir", mkdir)
    with pytest.raises(MachineError, match="No space left"):
        work()
    monkeypatch.undo()
    assert not registry.root.exists()


def test_a_name_that_can_not_be_is_refused_before_anything_is_made(registry):
    for name in ("../x", ".x", "-x", "a/b", "x" * 300, "a\n", ""):
        with pytest.raises(UsageError):
            registry.staging(name).__enter__()
        with pytest.raises(UsageError):
            registry.get(name)
        with pytest.raises(UsageError):
            registry.remove(name)
        with pytest.raises(UsageError):
            registry.up_to_date(name, settings())
    assert not registry.root.exists()


def test_runs_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="is a file") as caught:
        Registry(tmp_path / "file")
    assert caught.value.hint == "choose another --runs-dir"


def test_missing_runs_are_empty_and_made_when_needed(tmp_path, publish):
    registry = Registry(tmp_path / "a" / "b" / "runs")
    assert registry.names() == []
    assert registry.scan() == ([], [])
    with pytest.raises(ArtifactError, match="nothing was made yet; begin with: lora-mnist train-base"):
        registry.get("base-0-4")
    with pytest.raises(ArtifactError, match="first: lora-mnist train-base, then lora-mnist finetune"):
        registry.latest("adapter")
    assert not (tmp_path / "a").exists()
    publish(registry, "one")
    assert registry.names() == ["one"]


def test_what_is_no_artifact_is_not_listed(registry, publish):
    publish(registry, "one")
    (registry.root / "notes").mkdir()
    (registry.root / STAGING).mkdir(exist_ok=True)
    (registry.root / ".hidden").mkdir()
    (registry.root / ".hidden" / MANIFEST).write_text("{}")
    (registry.root / "file").write_text("x")
    assert registry.names() == ["one"]
    found, errors = registry.scan()
    assert ([entry.name for entry in found], errors) == (["one"], [])


def test_get_offers_the_nearest_name_and_checks_the_kind(registry, publish):
    base = publish(registry, "base-0-4")
    lineage = [Parent("base", "base-0-4", base.digest)]
    member = publish(registry, "lora-5-9-r1", kind="adapter", parents=lineage)
    lineage.append(Parent("member", "lora-5-9-r1", member.digest))
    publish(registry, "sweep-5-9", kind="sweep", parents=lineage)
    assert registry.get("base-0-4") == base
    assert registry.get("base-0-4", "adapter", "base") == base
    with pytest.raises(ArtifactError, match=r"no artifact 'bsae-0-4' .*did you mean 'base-0-4'\?"):
        registry.get("bsae-0-4")
    with pytest.raises(ArtifactError, match="lora-mnist runs list"):
        registry.get("zzzzzzzzzz")
    with pytest.raises(ArtifactError, match=r"of kind sweep, not adapter \(it has lora-5-9-r1\)"):
        registry.get("sweep-5-9", "adapter")


def test_the_latest_is_the_newest_of_the_first_kind_there_is(registry, publish):
    gone = publish(registry, "gone")
    publish(registry, "z", kind="adapter", parents=[Parent("base", "gone", gone.digest)])
    shutil.rmtree(registry.root / "gone")
    publish(registry, "b", config={"seed": 1})
    publish(registry, "a", dataset="kmnist")
    assert [artifact.name for artifact in registry.scan()[0]] == ["z", "b", "a"]
    assert registry.latest("base").name == "a"
    assert registry.latest("base", dataset="mnist").name == "b"
    assert registry.latest("adapter", "base").name == "z"
    assert registry.latest("sweep", "base").name == "a"
    with pytest.raises(ArtifactError, match=r"no adapter of kmnist .*\(first: lora-mnist finetune\)"):
        registry.latest("adapter", dataset="kmnist")
    with pytest.raises(ArtifactError, match="first: lora-mnist train-base --dataset qmnist"):
        registry.latest("base", dataset="qmnist")


def test_a_damaged_artifact_hides_no_other(registry, publish):
    publish(registry, "one")
    publish(registry, "two")
    (registry.root / "two" / MANIFEST).write_text("{")
    artifacts, errors = registry.scan()
    assert [artifact.name for artifact in artifacts] == ["one"]
    assert [error.value for error in errors] == ["two"]
    assert registry.latest("base").name == "one"
    with pytest.raises(ArtifactError, match="'two' is damaged"):
        registry.get("two")
    shutil.rmtree(registry.root / "one")
    with pytest.raises(ArtifactError, match="'two' is damaged"):
        registry.latest("base")


def test_up_to_date_other_settings_and_force(registry, publish):
    assert registry.up_to_date("one", settings()) is None
    artifact = publish(registry, "one", config={"seed": 0, "lr": 0.1})
    same, other = settings(lr=0.1), settings(seed=1, lr=0.1)
    assert registry.up_to_date("one", same) == artifact
    assert registry.up_to_date("one", same, force=True) is None
    assert registry.up_to_date("one", other, force=True) is None
    with pytest.raises(OtherSettingsError) as caught:
        registry.up_to_date("one", other)
    assert str(caught.value) == (
        "'one' exists with other settings: seed 0 there, 1 asked for (--name NEW keeps both, --force replaces it)"
    )
    with pytest.raises(OtherSettingsError, match=r"momentum none there, 0\.9 asked for"):
        registry.up_to_date("one", settings(lr=0.1, momentum=0.9))


def test_force_replaces_and_leaves_no_trace_of_the_old(registry, publish):
    publish(registry, "one", files={"weights": b"1", "old": b"2"})
    new = publish(registry, "one", files={"weights": b"3"}, config={"seed": 5}, force=True)
    assert everything(registry.root) == ["one", "one/artifact.json", "one/weights"]
    assert registry.get("one") == new
    assert new.config == BASE_SETTINGS | {"seed": 5}


def test_force_mends_a_damaged_artifact(registry, publish):
    publish(registry, "one")
    (registry.root / "one" / MANIFEST).write_text("{")
    with pytest.raises(ArtifactError, match="damaged"):
        registry.up_to_date("one", settings())
    assert registry.up_to_date("one", settings(), force=True) is None
    assert publish(registry, "one", force=True) == registry.get("one")


def test_force_does_not_take_a_parent_from_its_descendants(registry, publish):
    base = publish(registry, "base")
    publish(registry, "child", kind="adapter", parents=[Parent("base", "base", base.digest)])
    before = everything(registry.root)
    with pytest.raises(ArtifactError, match="'base' can't be replaced: child needs it"):
        registry.up_to_date("base", settings(seed=1), force=True)
    with pytest.raises(ArtifactError, match="'base' can't be replaced: child needs it"):
        publish(registry, "base", files={"weights": b"other"}, force=True)
    assert everything(registry.root) == before
    assert registry.get("base") == base
    publish(registry, "base", force=True)  # the same content again is no loss


def _two_folders(root: Path) -> tuple[Path, Path]:
    first, second = root.with_name("first"), root.with_name("second")
    first.mkdir()
    second.mkdir()
    return first, second


@pytest.mark.parametrize("able", [True, False], ids=["exchange", "two renames"])
def test_an_artifact_is_not_lost_where_its_replacement_fails(registry, publish, monkeypatch, able):
    old = publish(registry, "one")
    real = os.rename

    def exchange(_first: Path, _second: Path) -> bool:
        if able:
            raise OSError(errno.EIO, "Input/output error")
        return False

    def rename(source: Path, target: Path) -> None:
        if Path(target) == registry.root / "one" and Path(source).parent.name != REPLACED:
            raise OSError(errno.EIO, "Input/output error")
        real(source, target)

    monkeypatch.setattr(here, "exchange", exchange)
    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(MachineError):
        publish(registry, "one", files={"weights": b"new"}, force=True)
    monkeypatch.undo()
    assert registry.get("one") == old
    assert registry.get("one").read("weights") == b"1234"
    assert everything(registry.root) == ["one", "one/artifact.json", "one/weights"]


def test_while_it_is_replaced_an_artifact_is_never_away(registry, publish, monkeypatch):
    """Where the system can exchange two folders in one step, no reader finds the name empty."""
    if not (here.exchange(*_two_folders(registry.root))):
        pytest.skip("this file system can't exchange two folders")
    publish(registry, "one")
    real_rename, real_fsync, seen = os.rename, os.fsync, []

    def rename(source: Path, target: Path) -> None:
        real_rename(source, target)
        seen.append(registry.get("one").read("weights"))

    def fsync(handle: int) -> None:
        real_fsync(handle)
        seen.append(registry.get("one").read("weights"))

    monkeypatch.setattr(os, "rename", rename)
    monkeypatch.setattr(os, "fsync", fsync)
    publish(registry, "one", files={"weights": b"new"}, force=True)
    assert seen[0] == b"1234"
    assert seen[-1] == b"new"


def test_a_parent_is_found_by_content_wherever_it_is(registry, publish):
    base = publish(registry, "base")
    child = publish(registry, "child", kind="adapter", parents=[Parent("base", "base", base.digest)])
    assert registry.parent(child) == base
    (registry.root / "base").rename(registry.root / "renamed")
    assert registry.parent(child).name == "renamed"
    publish(registry, "base", files={"weights": b"another"})
    assert registry.parent(child).name == "renamed"


def test_another_base_under_the_parents_name_is_not_the_parent(registry, publish):
    base = publish(registry, "base")
    child = publish(registry, "child", kind="adapter", parents=[Parent("base", "base", base.digest)])
    shutil.rmtree(registry.root / "base")
    with pytest.raises(ArtifactError, match=r"made from base 'base' \(sha256:[0-9a-f]{12}…\), which is not in"):
        registry.parent(child)
    publish(registry, "base", files={"weights": b"another"})
    with pytest.raises(ArtifactError, match="which is not in"):
        registry.parent(child)
    with pytest.raises(ArtifactError, match="'base' has no base"):
        registry.parent(registry.get("base"))


def test_what_others_need_is_not_removed(registry, publish):
    base = publish(registry, "base")
    child = publish(registry, "child", kind="adapter", parents=[Parent("base", "base", base.digest)])
    lineage = [Parent("base", "base", base.digest), Parent("member", "child", child.digest)]
    publish(registry, "sweep", kind="sweep", parents=lineage)
    assert [artifact.name for artifact in registry.descendants("base")] == ["child", "sweep"]
    with pytest.raises(
        ArtifactError, match=r"'base' can't be removed: child, sweep need it \(.* remove base --cascade "
    ):
        registry.remove("base")
    with pytest.raises(ArtifactError, match="'child' can't be removed: sweep needs it"):
        registry.remove("child")
    assert registry.names() == ["base", "child", "sweep"]
    for name in ("sweep", "child", "base"):
        registry.remove(name)
    assert everything(registry.root) == []


def test_one_of_two_equals_can_be_removed(registry, publish):
    base = publish(registry, "base")
    publish(registry, "copy")
    publish(registry, "child", kind="adapter", parents=[Parent("base", "base", base.digest)])
    registry.remove("base")
    with pytest.raises(ArtifactError, match="child needs it"):
        registry.remove("copy")


def test_removing_a_damaged_or_missing_artifact(registry, publish):
    publish(registry, "one")
    (registry.root / "one" / MANIFEST).write_text("{")
    with pytest.raises(ArtifactError, match="no artifact 'two'"):
        registry.remove("two")
    registry.remove("one")
    assert everything(registry.root) == []


def test_a_folder_that_is_no_artifact_is_never_removed(registry, publish):
    publish(registry, "one")
    (registry.root / "mine").mkdir()
    (registry.root / "mine" / "notes").write_text("x")
    with pytest.raises(ArtifactError, match="no artifact 'mine'"):
        registry.remove("mine")
    assert (registry.root / "mine" / "notes").read_text() == "x"


def test_a_folder_that_is_no_artifact_is_never_replaced(registry, publish):
    (registry.root / "mine").mkdir(parents=True)
    (registry.root / "mine" / "notes").write_text("x")
    for force in (False, True):
        with pytest.raises((ArtifactError, MachineError)):
            publish(registry, "mine", force=force)
        assert everything(registry.root) == ["mine", "mine/notes"]


def test_a_name_taken_by_something_else_is_refused_before_the_work(registry):
    (registry.root / "mine").mkdir(parents=True)
    (registry.root / "mine" / "notes").write_text("x")
    with pytest.raises(ArtifactError):
        registry.up_to_date("mine", settings())


def test_of_two_publishers_with_the_same_settings_one_wins_and_both_get_it(registry, publish):
    with registry.staging("one") as folder:
        (folder / "weights").write_bytes(b"slow")
        first = publish(registry, "one", files={"weights": b"fast"})
        ours = finish(registry, folder)
    assert ours == first
    assert (registry.root / "one" / "weights").read_bytes() == b"fast"
    assert everything(registry.root) == ["one", "one/artifact.json", "one/weights"]


def test_of_two_publishers_with_other_settings_the_second_is_refused(registry, publish):
    def second() -> None:
        with registry.staging("one") as folder:
            publish(registry, "one")
            finish(registry, folder, seed=1)

    with pytest.raises(OtherSettingsError, match="seed 0 there, 1 asked for"):
        second()
    assert registry.get("one").config == BASE_SETTINGS
    assert everything(registry.root) == ["one", "one/artifact.json", "one/weights"]


HOLDER = """
    import sys, time
    from pathlib import Path
    from lora_mnist_cli.registry.registry import Registry
    with Registry(Path(sys.argv[1])).staging("held") as folder:
        (folder / "weights").write_bytes(b"12")
        print("ready", flush=True)
        time.sleep(3600)
"""


@pytest.fixture
def holder(registry: Registry) -> Iterator[subprocess.Popen[str]]:
    """Another process in the middle of its work."""
    command = [sys.executable, "-c", textwrap.dedent(HOLDER), str(registry.root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


def test_a_live_staging_folder_is_left_alone_and_a_dead_one_cleared(registry, publish, holder):
    (folder,) = (registry.root / STAGING).iterdir()
    (row,) = registry.clean()
    assert (row["state"], row["removed"], row["pid"], row["files"]) == ("live", False, holder.pid, ["held/weights"])
    publish(registry, "one")
    assert (folder / "held" / "weights").read_bytes() == b"12"
    assert registry.names() == ["one"]
    holder.kill()
    holder.wait()
    assert folder.exists()
    assert registry.names() == ["one"]
    publish(registry, "two")
    assert everything(registry.root) == [
        "one", "one/artifact.json", "one/weights", "two", "two/artifact.json", "two/weights",
    ]  # fmt: skip


def test_what_another_machine_stages_is_left_alone(registry, publish):
    folder = registry.root / STAGING / "one@elsewhere@abc"
    folder.mkdir(parents=True)
    (folder / ".lock").touch()
    publish(registry, "one")
    assert folder.exists()


def test_a_reader_never_sees_a_part(registry, publish, monkeypatch):
    """Whatever step publication is at, the name is either absent or whole."""
    seen = []
    for call in ("fsync", "rename"):
        real = getattr(os, call)

        def spy(*args: object, real: Callable[..., None] = real) -> None:
            real(*args)
            seen.append(registry.names())
            for name in registry.names():
                assert registry.get(name).read("weights") == b"1234"

        monkeypatch.setattr(os, call, spy)
    publish(registry, "one")
    assert seen[0] == []
    assert seen[-1] == ["one"]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="names of open files come from /proc")
def test_everything_is_flushed_before_the_rename(registry, publish, monkeypatch):
    events: list[str] = []
    fsync, rename = os.fsync, os.rename

    def flushed(handle: int) -> None:
        events.append(Path(os.readlink(f"/proc/self/fd/{handle}")).name)
        fsync(handle)

    def renamed(source: Path, target: Path) -> None:
        events.append(f"→ {Path(target).name}")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "rename", renamed)
    publish(registry, "one")
    at = events.index("→ one")
    assert {"weights", MANIFEST, "one"} <= set(events[:at])
    assert "runs" in events[at:]


@pytest.mark.parametrize(
    ("number", "hint"), [(errno.ENOSPC, "space"), (errno.EACCES, "may write"), (errno.EROFS, "may write"), (99, "")]
)
def test_machine_errors_say_what_helps(number, hint):
    def fail() -> None:
        with machine_errors("can't write x"):
            raise OSError(number, "reason")

    with pytest.raises(MachineError, match="can't write x: reason") as caught:
        fail()
    assert hint in caught.value.hint


def test_a_disk_that_is_really_full(mount, publish):
    root = mount("size=64k")
    registry = Registry(root / "runs")
    publish(registry, "small")
    before = everything(root)

    def work() -> None:
        with registry.staging("large") as folder:
            with machine_errors("can't write weights"):
                (folder / "weights").write_bytes(bytes(200_000))
            raise AssertionError

    with pytest.raises(MachineError, match="No space left"):
        work()
    assert everything(root) == before
    filler = root / "filler"
    with pytest.raises(OSError, match="No space left"):
        filler.write_bytes(bytes(200_000))
    with pytest.raises(MachineError, match=r"can't write to .*No space left"):
        publish(registry, "owner", files={})
    filler.unlink()

    def fill_and_publish() -> None:
        with registry.staging("manifest") as folder:
            with pytest.raises(OSError, match="No space left"):
                filler.write_bytes(bytes(200_000))
            finish(registry, folder)

    with pytest.raises(MachineError, match=r"can't publish .*No space left"):
        fill_and_publish()
    filler.unlink()
    assert everything(root) == before
    assert registry.get("small").read("weights") == b"1234"


def test_a_file_system_that_is_read_only(mount, publish):
    root = mount("size=256k")
    registry = Registry(root / "runs")
    publish(registry, "one")
    subprocess.run(["mount", "-o", "remount,ro", str(root)], check=True)
    for work in (lambda: publish(registry, "two"), lambda: registry.remove("one")):
        with pytest.raises(MachineError, match=r"[Rr]ead-only") as caught:
            work()
        assert "may write to" in caught.value.hint
    assert registry.names() == ["one"]
    assert registry.get("one").read("weights") == b"1234"
    with pytest.raises(MachineError, match=r"[Rr]ead-only"):
        publish(Registry(root / "other"), "two")


@pytest.mark.skipif(IS_ROOT, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written(registry, publish):
    registry.root.mkdir()
    registry.root.chmod(0o500)
    with pytest.raises(MachineError, match="Permission denied"):
        publish(registry, "one")
    registry.root.chmod(0o700)
    assert everything(registry.root) == []


def test_creation_times_are_in_order_and_in_utc(registry, publish):
    before = time.time()
    first, second = publish(registry, "b"), publish(registry, "a")
    assert first.created < second.created
    assert json.loads((second.path / MANIFEST).read_text())["created"] == second.created
    from datetime import datetime

    assert before - 1 <= datetime.fromisoformat(first.created).timestamp() <= time.time() + 1


UNREADABLE = {
    "damaged": lambda manifest: manifest.write_text("{"),
    "of a newer version": lambda manifest: manifest.write_text('{"schema_version": 99}'),
}


@pytest.fixture
def family(registry: Registry, publish: Publish) -> Registry:
    """A base, an adapter on it, and a sweep of the two."""
    base = publish(registry, "base")
    lineage = [Parent("base", "base", base.digest)]
    child = publish(registry, "child", kind="adapter", parents=lineage)
    publish(registry, "sweep", kind="sweep", parents=[*lineage, Parent("member", "child", child.digest)])
    return registry


@pytest.mark.parametrize("damage", UNREADABLE.values(), ids=UNREADABLE)
def test_what_others_need_is_kept_though_it_can_not_be_read(family, publish, damage):
    damage(family.root / "base" / MANIFEST)
    before = everything(family.root)
    with pytest.raises(ArtifactError, match="'base' can't be removed: child, sweep need it"):
        family.remove("base")
    with pytest.raises(ArtifactError, match="'base' can't be replaced: child, sweep need it"):
        publish(family, "base", files={"weights": b"other"}, force=True)
    assert everything(family.root) == before
    assert family.remove("base", cascade=True) == ["sweep", "child", "base"]
    assert everything(family.root) == []


def test_what_can_not_be_read_is_replaced_by_the_very_same(family, publish):
    (family.root / "base" / MANIFEST).write_text("{")
    publish(family, "base", force=True)
    assert family.parent(family.get("child")).name == "base"


def test_what_can_not_be_read_can_go_where_its_content_is_elsewhere(family):
    shutil.copytree(family.root / "base", family.root / "copy")
    (family.root / "base" / MANIFEST).write_text("{")
    assert family.remove("base") == ["base"]
    assert family.parent(family.get("child")).name == "copy"


def test_a_removal_that_was_killed_at_its_end_is_finished_by_the_next(registry, publish, monkeypatch):
    for refused in ("one", "two"):
        publish(registry, "one")
        with monkeypatch.context() as patched:
            patched.setattr(shutil, "rmtree", lambda *_args, **_more: None)  # as if it did not come as far as that
            registry.remove("one")
        assert [path.name for path in registry.root.iterdir()] == [STAGING]
        if refused == "one":
            assert registry.remove("one") == ["one"]
        with pytest.raises(ArtifactError, match=f"no artifact '{refused}'"):
            registry.remove(refused)
        assert not registry.root.exists()


def test_of_two_that_remove_the_same_one_finds_nothing(registry, publish, monkeypatch):
    publish(registry, "one")
    publish(registry, "two", config={"seed": 1})
    waiting = Registry(registry.root)
    lock = waiting._lock

    def late(doing: str) -> AbstractContextManager[None]:
        registry.remove("one")
        return lock(doing)

    monkeypatch.setattr(waiting, "_lock", late)
    with pytest.raises(ArtifactError, match="no artifact 'one'"):
        waiting.remove("one")


def _report(name: str, digest: str, *parents: Parent) -> Entry:
    return Entry(name=name, kind="report", created=digest, digest=digest, dataset="mnist", parents=parents)


def _chain(length: int, width: int = 1) -> list[Entry]:
    """Reports, each made from all of the generation before."""
    made: list[Entry] = []
    for i in range(length):
        above = [entry for entry in made if entry.name.startswith(f"r{i - 1}-")]
        parents = tuple(Parent("input", entry.name, entry.digest) for entry in above)
        made += [_report(f"r{i}-{j}", f"{i}-{j}", *parents) for j in range(width)]
    return made


@pytest.mark.parametrize(("length", "width"), [(3000, 1), (40, 2)])
def test_neither_a_long_line_of_descent_nor_a_maze_is_too_much(length, width):
    made = _chain(length, width)
    ordered = children_first(made)
    assert [int(name[1:].partition("-")[0]) for name in ordered] == sorted(
        (i for i in range(length) for _ in range(width)), reverse=True
    )
    rows = ancestors(made[-1], {entry.digest: entry for entry in made})
    seen, deepest, level = 0, 0, rows
    while level:
        seen, deepest, level = seen + len(level), deepest + 1, [row for each in level for row in each["made_from"]]
    assert deepest == min(length - 1, 50)
    assert seen <= 2 * width * length


def test_a_circle_ends():
    """No digest fits one, but members are no part of a digest."""
    one = _report("one", "1", Parent("input", "two", "2"))
    two = _report("two", "2", Parent("input", "one", "1"))
    assert sorted(children_first([one, two])) == ["one", "two"]
    (row,) = ancestors(one, {"1": one, "2": two})
    assert (row["name"], [(each["name"], each["followed"]) for each in row["made_from"]]) == ("two", [("one", False)])


class _Digest(str):
    """A digest that counts how often a dict is asked for it: a search without end fails, and does not hang."""

    lookups = 0

    def __hash__(self) -> int:
        _Digest.lookups += 1
        assert _Digest.lookups < 2000, "the search has no end"
        return super().__hash__()


def test_each_descendant_is_looked_at_once():
    """A maze of 20 generations has a million ways through it, and a circle has no end."""
    circle = [_report(name, name, Parent("input", other, other)) for name, other in (("one", "two"), ("two", "one"))]
    for entries, oldest in ((_chain(20, 2), 2), (circle, 1)):
        counted = [msgspec.structs.replace(entry, digest=_Digest(entry.digest)) for entry in entries]
        _Digest.lookups = 0
        found = generations(counted, counted[:oldest])
        assert sorted(entry.name for entry in found) == sorted(entry.name for entry in entries)


@pytest.mark.parametrize("vanishing", ["runs", ".staging"])
def test_a_folder_that_another_process_takes_away_meanwhile_is_made_again(vanishing, tmp_path, monkeypatch):
    registry, real, taken = Registry(tmp_path / "runs"), os.mkdir, []
    folder = registry.root if vanishing == "runs" else registry.root / vanishing
    folder.mkdir(parents=True)

    def there_and_gone(path, *arguments, **keywords):
        try:
            real(path, *arguments, **keywords)
        except FileExistsError:
            if not taken and Path(path) == folder:
                taken.append(folder)
                folder.rmdir()
            raise

    monkeypatch.setattr(os, "mkdir", there_and_gone)
    with registry.staging("a"):
        assert taken == [folder]
