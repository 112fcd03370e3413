"""Shared statistics: one file for all artifacts of the same images; nothing depends on it, and nothing of it stays."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from durability import small

from lora_mnist_cli.registry import creation, shared_statistics
from lora_mnist_cli.registry.archive import export_artifact, import_artifacts
from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.registry.file_names import STATISTICS_FILE
from lora_mnist_cli.registry.registry import Registry
from lora_mnist_cli.registry.shared_statistics import (
    STORE,
    find_statistics,
    statistics_recipe,
    unused_statistics,
    write_linked,
    write_shared,
)
from lora_mnist_cli.registry.staging import STAGING
from lora_mnist_cli.registry.verification import verify
from lora_mnist_cli.system.errors import MachineError
from lora_mnist_cli.system.locks import HOST

OTHER = 64 * "2"


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """A base and two adapters on it, which share their statistics."""
    made = Registry(tmp_path / "runs")
    small.base(made)
    for seed, name in enumerate(("one", "two")):
        small.adapter(made, name, "base", seed, shares=True)
    return made


def file_of(artifact: Artifact) -> Path:
    return artifact.path / STATISTICS_FILE


def shared(registry: Registry) -> list[Path]:
    folder = registry.root / STORE
    return sorted(folder.iterdir()) if folder.is_dir() else []


def sound(registry: Registry) -> bool:
    return not any(verdict.problems for verdict in verify(registry))


def test_artifacts_of_one_recipe_have_one_file_on_the_disk(registry):
    one, two = registry.get("one"), registry.get("two")
    (kept,) = shared(registry)
    assert os.path.samefile(file_of(one), file_of(two))
    assert os.path.samefile(file_of(one), kept)
    assert one.files[STATISTICS_FILE] == two.files[STATISTICS_FILE]
    assert one.read(STATISTICS_FILE) == small.statistics()
    assert find_statistics(registry.root, small.RECIPE) == small.statistics()
    assert find_statistics(registry.root, OTHER) is None
    assert sound(registry)


def test_the_folder_may_be_deleted_and_the_next_artifact_begins_a_new_one(registry):
    shutil.rmtree(registry.root / STORE)
    assert sound(registry)
    assert find_statistics(registry.root, small.RECIPE) is None
    third = small.adapter(registry, "third", "base", 3, shares=True)
    assert os.path.samefile(file_of(third), *shared(registry))
    assert sound(registry)


def test_removing_the_last_artifact_removes_the_file_and_the_folder(registry):
    registry.remove("one")
    assert len(shared(registry)) == 1
    assert unused_statistics(registry.root) == []
    registry.remove("base", cascade=True)
    assert not registry.root.exists()


def test_replacing_the_last_artifact_removes_the_file(registry):
    registry.remove("two")
    small.adapter(registry, "one", "base", 7, force=True)
    assert shared(registry) == []
    assert not (registry.root / STORE).exists()


def test_without_the_folder_the_count_of_folders_is_taken_again(registry, monkeypatch):
    monkeypatch.setattr(creation, "LARGE", 2)
    registry.remove("two")
    small.report(registry, "report")
    assert (registry.root / creation.NEWEST).exists()
    small.adapter(registry, "one", "base", 7, force=True)
    assert not (registry.root / creation.NEWEST).exists()


@pytest.mark.parametrize("shares", [True, False])
def test_what_a_killed_process_left_is_cleaned_up(registry, shares):
    """It had a link, or had just removed the last artifact and not yet the file."""
    staged = registry.root / STAGING / f"x@{HOST}@1" / "x"
    staged.mkdir(parents=True)
    write_shared(small.statistics(6), OTHER, staged / STATISTICS_FILE, registry.root)
    if not shares:
        shutil.rmtree(registry.root / STAGING)
    assert len(shared(registry)) == 2
    before = sorted(registry.root.rglob("*"))
    registry.clean(dry_run=True)
    assert sorted(registry.root.rglob("*")) == before
    registry.clean()
    assert len(shared(registry)) == 1
    assert sorted(path.name for path in registry.root.iterdir()) == [STORE, "base", "one", "two"]


def test_a_stage_that_publishes_nothing_leaves_nothing(tmp_path):
    registry = Registry(tmp_path / "runs")
    with registry.staging("x") as folder:
        write_shared(small.statistics(), small.RECIPE, folder / STATISTICS_FILE, registry.root)
        assert len(shared(registry)) == 1
    assert not registry.root.exists()


def test_a_damaged_file_is_removed_and_made_again_and_its_artifacts_are_reported(registry):
    (kept,) = shared(registry)
    content = bytearray(kept.read_bytes())
    content[-1] ^= 1
    kept.write_bytes(content)
    assert {verdict.name for verdict in verify(registry) if verdict.problems} == {"one", "two"}
    assert find_statistics(registry.root, small.RECIPE) is None
    assert shared(registry) == []
    third = small.adapter(registry, "third", "base", 3, shares=True)
    assert third.read(STATISTICS_FILE) == small.statistics()
    assert find_statistics(registry.root, small.RECIPE) == small.statistics()


def test_a_file_that_was_damaged_after_it_was_found_is_not_linked(registry):
    (kept,) = shared(registry)
    kept.write_bytes(b"other")
    target = registry.root / "target"
    write_shared(small.statistics(), small.RECIPE, target, registry.root)
    assert target.read_bytes() == small.statistics()
    assert target.stat().st_nlink == 1


def test_a_file_that_is_what_its_name_says_and_no_statistics_is_refused(registry):
    write_shared(b"planted", OTHER, registry.root / "target", registry.root)
    assert len(shared(registry)) == 2
    assert find_statistics(registry.root, OTHER) is None
    assert len(shared(registry)) == 1


@pytest.mark.parametrize("kind", ["link", "folder", "fifo"])
def test_what_was_planted_in_the_place_of_a_file_is_never_followed(registry, tmp_path, monkeypatch, kind):
    (kept,) = shared(registry)
    outside = tmp_path / "outside"
    outside.write_bytes(small.statistics())
    kept.unlink()
    link = os.link

    def following(source: Path, target: Path, *, follow_symlinks: bool = True) -> None:
        """As macOS does it; Linux never follows."""
        link(source.resolve() if follow_symlinks else source, target, follow_symlinks=False)

    monkeypatch.setattr(shared_statistics.os, "link", following)
    {"link": lambda: kept.symlink_to(outside), "folder": kept.mkdir, "fifo": lambda: os.mkfifo(kept)}[kind]()
    target = registry.root / "target"
    write_shared(small.statistics(), small.RECIPE, target, registry.root)
    assert not target.is_symlink()
    assert not os.path.samefile(target, outside)
    assert target.read_bytes() == small.statistics()
    assert find_statistics(registry.root, small.RECIPE) is None
    assert outside.stat().st_nlink == 1
    registry.remove("base", cascade=True)
    assert outside.read_bytes() == small.statistics()


def test_a_symbolic_link_in_the_place_of_the_folder_is_never_followed(registry, tmp_path):
    outside = Path(shutil.move(registry.root / STORE, tmp_path / "outside"))
    (registry.root / STORE).symlink_to(outside)
    before = [(path, path.stat().st_nlink) for path in outside.iterdir()]
    assert find_statistics(registry.root, small.RECIPE) is None
    small.adapter(registry, "third", "base", 3, shares=True)
    assert [(path, path.stat().st_nlink) for path in outside.iterdir()] == before
    registry.remove("base", cascade=True)
    assert [path.name for path in outside.iterdir()] == [path.name for path, _ in before]


def test_files_of_others_in_the_folder_stay(registry):
    note = registry.root / STORE / "note"
    note.write_text("mine")
    registry.remove("base", cascade=True)
    assert shared(registry) == [note]


@pytest.mark.parametrize("number", [errno.EPERM, errno.EXDEV, errno.EMLINK, errno.ENOTSUP, errno.EACCES, errno.EROFS])
def test_without_hard_links_artifacts_have_copies_and_are_the_same(tmp_path, registry, monkeypatch, number):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(shared_statistics.os, "link", refuse)
    other = Registry(tmp_path / "other")
    small.base(other)
    for seed, name in enumerate(("one", "two")):
        made = small.adapter(other, name, "base", seed, shares=True)
        assert made.digest == registry.get(name).digest
        assert file_of(made).stat().st_nlink == 1
    assert shared(other) == []
    assert not (other.root / STORE).exists()
    assert sound(other)


def test_a_full_disk_is_told(registry, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shared_statistics.os, "link", refuse)
    with pytest.raises(MachineError, match=r"can't write statistics\.safetensors: No space left"):
        small.adapter(registry, "third", "base", 3, shares=True)
    assert registry.names() == ["base", "one", "two"]


def test_an_export_has_copies_and_its_import_is_the_same(registry, tmp_path):
    export_artifact(registry, "one", tmp_path / "one.zip")
    other = Registry(tmp_path / "other")
    import_artifacts(other, tmp_path / "one.zip")
    assert other.get("one").digest == registry.get("one").digest
    assert file_of(other.get("one")).read_bytes() == small.statistics()
    assert not (other.root / STORE).exists()
    assert sound(other)


def test_a_copy_of_the_whole_folder_is_sound_and_shares_again(registry, tmp_path):
    """Most programs that copy make a file of each link."""
    copy = Registry(Path(shutil.copytree(registry.root, tmp_path / "copy")))
    assert sound(copy)
    third = small.adapter(copy, "third", "base", 3, shares=True)
    assert os.path.samefile(file_of(third), *shared(copy))
    assert not os.path.samefile(file_of(third), file_of(registry.get("one")))


def test_a_link_is_made_to_a_file_of_the_same_content_alone(registry, tmp_path):
    source, same, other = (tmp_path / name for name in ("source", "same", "other"))
    source.write_bytes(b"content")
    write_linked(b"content", source, same)
    write_linked(b"Content", source, other)
    assert os.path.samefile(source, same)
    assert (source.read_bytes(), other.read_bytes()) == (b"content", b"Content")


def test_a_recipe_has_everything_that_the_bytes_depend_on():
    usual: dict[str, object] = {
        "dataset": small.DATASET, "digits": "5-9", "pixel_stats": (0.1, 0.3), "split": (0.2, 0), "made_by": "this",
    }  # fmt: skip
    others: dict[str, object] = {
        "dataset": {**small.DATASET, "name": "other"}, "digits": "5-8", "pixel_stats": (0.1, 0.4), "split": (0.2, 1),
        "made_by": "that", "like": b"basis",
    }  # fmt: skip
    make: Callable[..., str] = statistics_recipe
    recipes = {make(**usual), *(make(**{**usual, key: value}) for key, value in others.items())}
    assert len(recipes) == 1 + len(others)
    assert make(**usual) == make(**usual)
