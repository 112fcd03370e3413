"""Reading many files: their content or their errors in order, several before anything is done with the first."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from lora_mnist_cli.system import files
from lora_mnist_cli.system.files import make_folder, read_ahead, read_stamped


def written(folder: Path, count: int, size: int) -> list[str]:
    """Write files of some bytes each; give their paths."""
    paths = [folder / f"{i}" for i in range(count)]
    for i, path in enumerate(paths):
        path.write_bytes(bytes([i]) * size)
    return [str(path) for path in paths]


def test_files_that_are_read_ahead_are_as_each_alone(tmp_path: Path) -> None:
    paths = written(tmp_path, 5, 30_000)
    Path(paths[1]).unlink()
    Path(paths[3]).write_bytes(bytes(40_000))
    found = list(read_ahead(paths, 30_000))
    assert [found[i] for i in (0, 2, 4)] == [read_stamped(paths[i], 30_000) for i in (0, 2, 4)]
    assert [getattr(found[i], "errno", None) for i in (1, 3)] == [errno.ENOENT, errno.EFBIG]


@pytest.mark.parametrize(("size", "ahead"), [(1000, 50), (30_000, 3), (100_000, 1)])
def test_many_small_files_are_read_before_the_first_is_used_and_few_large_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, ahead: int
) -> None:
    paths, read = written(tmp_path, 50, size), list[str]()
    real = read_stamped
    monkeypatch.setattr(files, "read_stamped", lambda path, limit: read.append(path) or real(path, limit))
    next(read_ahead(paths, 2**20))
    assert read == paths[:ahead]


def test_what_is_no_folder_is_not_taken_for_one(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    for name in ("file", "dangling"):
        with pytest.raises(FileExistsError):
            make_folder(tmp_path / name)
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
