"""Unpacking files, on other threads ahead of time or when they are asked for."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lora_mnist_cli.data import sources, unpacking
from lora_mnist_cli.data.sources import SOURCES, forget_splits, load_split, read_ahead
from lora_mnist_cli.system.errors import DataError

VALUES = bytes(range(256)) * 40
SHIPPED = Path(__file__).parents[2] / "data" / "mnist"
CONTENT = bytes([0, 0, 8, 1]) + len(VALUES).to_bytes(4, "big") + VALUES
SUM = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def _nothing_read_before() -> Iterator[None]:
    forget_splits()
    yield
    forget_splits()


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    path = tmp_path / "values.gz"
    path.write_bytes(gzip.compress(CONTENT))
    return path


@pytest.fixture
def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is in a process that has not imported PyTorch yet."""
    monkeypatch.delitem(sys.modules, "torch", raising=False)


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The name of the thread that unpacks, for each file that is unpacked."""
    seen: list[str] = []
    unpack = unpacking._unpack

    def watched(path: Path, sha256: str | None) -> bytes:
        seen.append(threading.current_thread().name)
        return unpack(path, sha256)

    monkeypatch.setattr(unpacking, "_unpack", watched)
    return seen


def test_a_file_is_unpacked_where_its_name_says_so(packed, tmp_path):
    plain = tmp_path / "values"
    plain.write_bytes(CONTENT)
    assert unpacking.unpacked(packed) == unpacking.unpacked(plain, SUM) == CONTENT


@pytest.mark.usefixtures("without_torch")
def test_what_was_begun_is_unpacked_once_and_not_by_the_one_who_asks(packed, threads):
    unpacking.begin({packed: SUM})
    assert unpacking.unpacked(packed, SUM) == CONTENT
    (thread,) = threads
    assert thread != threading.current_thread().name
    assert unpacking.unpacked(packed, SUM) == CONTENT
    assert threads[1:] == [threading.current_thread().name]


def test_once_pytorch_is_loaded_nothing_is_begun(packed, threads, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", sys)
    unpacking.begin({packed: SUM})
    unpacking.unpacked(packed, SUM)
    assert threads == [threading.current_thread().name]


@pytest.mark.usefixtures("without_torch")
@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize(
    ("sha256", "change"),
    [("0" * 64, None), (None, lambda path: path.unlink()), (None, lambda path: path.write_bytes(b"x"))],
)
def test_what_is_wrong_is_told_to_the_one_who_asks(packed, ahead, sha256, change):
    if change is not None:
        change(packed)
    if ahead:
        unpacking.begin({packed: sha256})
    with pytest.raises((OSError, ValueError)):
        unpacking.unpacked(packed, sha256)


def idx_start(*shape: int) -> bytes:
    return bytes([0, 0, 8, len(shape)]) + b"".join(length.to_bytes(4, "big") for length in shape)


def sparse(path: Path, size: int, start: bytes) -> None:
    with path.open("wb") as file:
        file.write(start)
        file.truncate(size)


@pytest.mark.usefixtures("without_torch")
@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize(
    ("name", "write", "why"),
    [
        ("a", lambda path: sparse(path, 3 * 10**9, idx_start(4)), "at most 200,000,000"),
        ("a", lambda path: sparse(path, 50 * 10**9, idx_start(60_000, 28, 28)), "at most 200,000,000"),
        ("a", lambda path: sparse(path, 19 * 10**7, idx_start(4)), "has more"),
        ("a.gz", lambda path: sparse(path, 3 * 10**9, b""), "at most 200,000,000"),
        ("a.gz", lambda path: path.write_bytes(gzip.compress(idx_start(4) + bytes(10**8), 1)), "has more"),
        ("a.gz", lambda path: path.write_bytes(gzip.compress(idx_start(10**6, 28, 28) + bytes(999))), "no data set"),
        ("a.gz", lambda path: path.write_bytes(gzip.compress(CONTENT) + gzip.compress(CONTENT)), "follows its content"),
        ("a.gz", lambda path: path.write_bytes(gzip.compress(CONTENT) + bytes(9) + b"x"), "follows its content"),
    ],
)  # fmt: skip
def test_no_more_is_read_than_a_header_promises_and_a_data_set_has(name, write, why, ahead, tmp_path):
    path = tmp_path / name
    write(path)
    tracemalloc.start()
    try:
        if ahead:
            unpacking.begin({path: None})
        with pytest.raises((OSError, ValueError), match=why):
            unpacking.unpacked(path)
        assert tracemalloc.get_traced_memory()[1] < 10 * 2**20
    finally:
        tracemalloc.stop()


def test_zeros_after_a_gzip_file_are_padding(packed):
    packed.write_bytes(packed.read_bytes() + bytes(1000))
    assert unpacking.unpacked(packed) == CONTENT


@pytest.mark.usefixtures("without_torch")
def test_what_was_begun_and_is_not_wanted_is_dropped(packed, threads):
    unpacking.begin({packed: SUM})
    unpacking.forget()
    unpacking.unpacked(packed)
    assert threads[-1] == threading.current_thread().name


@pytest.mark.usefixtures("without_torch")
def test_a_split_is_read_from_what_was_begun_and_the_other_split_is_left_alone(threads):
    read_ahead("mnist", Path("nowhere"), "test")
    images, labels = load_split("mnist", "test", Path("nowhere"))
    assert (images.shape, labels.shape) == ((10_000, 28, 28), (10_000,))
    assert len(threads) == 2
    assert threading.current_thread().name not in threads


@pytest.mark.usefixtures("without_torch")
@pytest.mark.parametrize("dataset", SOURCES)
def test_nothing_is_fetched_ahead(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "_SHIPPED", ())

    def fetch(*_: object) -> Any:
        raise AssertionError("a download")

    monkeypatch.setattr(sources, "_fetch", fetch)
    read_ahead(dataset, tmp_path, "train", "test")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("without_torch")
def test_a_wrong_size_is_told_before_the_import(tmp_path):
    folder = Path(shutil.copytree(SHIPPED, tmp_path / "mnist"))
    path = folder / "train-images-idx3-ubyte.gz"
    path.rename(folder / "kept")
    for write in (
        lambda: path.write_bytes(gzip.compress(idx_start(60_000, 28, 28) + bytes(10**8), 1)),
        lambda: path.write_bytes(gzip.compress(idx_start(10**6, 28, 28))),
        lambda: sparse(path.with_suffix(""), 50 * 10**9, idx_start(60_000, 28, 28)),
        lambda: sparse(path.with_suffix(""), 10**8, idx_start(60_000, 28, 28)),
    ):
        write()
        with pytest.raises(DataError, match="is damaged"):
            read_ahead("mnist", tmp_path, "train", "test")
    path.with_suffix("").unlink()
    path.write_bytes((folder / "kept").read_bytes() + bytes(100))  # padding leaves it open
    read_ahead("mnist", tmp_path, "train")
    assert len(load_split("mnist", "train", tmp_path)[0]) == 60_000


@pytest.mark.usefixtures("without_torch")
def test_damage_found_ahead_is_the_same_refusal(tmp_path):
    for name in SOURCES["mnist"].names:
        (tmp_path / "mnist").mkdir(exist_ok=True)
        (tmp_path / "mnist" / name).write_bytes(b"\0")

    def refusal(begin: Callable[..., None]) -> str:
        try:
            begin("mnist", tmp_path, "train")
            load_split("mnist", "train", tmp_path)
        except DataError as error:
            return str(error)
        return ""

    assert refusal(read_ahead) == refusal(lambda *_: None) != ""


@pytest.mark.usefixtures("without_torch")
def test_where_no_thread_can_be_started_the_one_who_asks_unpacks(packed, threads, monkeypatch):
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    unpacking.begin({packed: SUM})
    assert unpacking.unpacked(packed, SUM) == CONTENT
    assert threads == [threading.current_thread().name]
