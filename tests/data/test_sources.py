"""Finding, verifying and reading the data files."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision.datasets

from lora_mnist_cli.data import sources
from lora_mnist_cli.data.sources import SOURCES, data_digest, digit_counts, forget_splits, load_split, normalisation
from lora_mnist_cli.system.errors import DataError

SHIPPED = Path(__file__).parents[2] / "data" / "mnist"
OTHERS = ("fashion-mnist", "kmnist", "qmnist", "emnist-digits")
FOLDERS = {"fashion-mnist": "FashionMNIST", "kmnist": "KMNIST", "qmnist": "QMNIST", "emnist-digits": "EMNIST"}
PREFIXES = {
    "qmnist": ("qmnist-train-", "qmnist-test-"),
    "emnist-digits": ("emnist-digits-train-", "emnist-digits-test-"),
}
Idx = Callable[[Any], bytes]


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test asks the network for anything, and none finds what another one read."""
    forget_splits()

    def unreachable(*_: object, **__: object) -> None:
        raise OSError("no network in a test")

    monkeypatch.setattr(torchvision.datasets.mnist, "download_and_extract_archive", unreachable)


def names(dataset: str) -> dict[str, tuple[str, str]]:
    """Image and label file of both splits, as torchvision names them."""
    train, test = PREFIXES.get(dataset, ("train-", "t10k-"))
    labels = "labels-idx2-int" if dataset == "qmnist" else "labels-idx1-ubyte"
    return {part: (f"{p}images-idx3-ubyte", f"{p}{labels}") for part, p in (("train", train), ("test", test))}


@pytest.fixture
def place(tmp_path: Path, idx: Idx) -> Callable[..., tuple[Path, dict[str, Any]]]:
    """Writes a small data set in torchvision's layout; returns the data folder and what is in the files."""

    def write(dataset: str, *, packed: bool = False) -> tuple[Path, dict[str, Any]]:
        generator = np.random.default_rng(len(dataset))
        raw = tmp_path / "data" / FOLDERS[dataset] / "raw"
        raw.mkdir(parents=True)
        written = {}
        for part, count in (("train", 40), ("test", 20)):
            images = generator.integers(0, 256, (count, 28, 28)).astype(np.uint8)
            labels = generator.permutation(np.arange(count) % 10).astype(np.uint8)
            full = labels
            if dataset == "qmnist":
                full = generator.integers(0, 5000, (count, 8)).astype(np.int32)
                full[:, 0] = labels
            for name, values in zip(names(dataset)[part], (images, full), strict=True):
                content = idx(values)
                path = raw / (f"{name}.gz" if packed else name)
                path.write_bytes(gzip.compress(content) if packed else content)
            written[part] = (images, labels)
        return tmp_path / "data", written

    return write


def test_mnist_is_shipped_whole():
    for split, count, first in (("train", 60_000, [5, 0, 4, 1, 9]), ("test", 10_000, [7, 2, 1, 0, 4])):
        images, labels = load_split("mnist", split, Path("nowhere"))  # type: ignore[arg-type]
        assert images.shape == (count, 28, 28)
        assert images.dtype == labels.dtype == np.uint8
        assert labels[:5].tolist() == first
        assert len(np.unique(labels)) == 10
        assert (images.min(), images.max()) == (0, 255)
    # The study's constants, from the pixels themselves.
    images, _ = load_split("mnist", "train", Path("nowhere"))
    assert images.mean() / 255 == pytest.approx(0.1307, abs=5e-5)
    assert images.std() / 255 == pytest.approx(0.3081, abs=5e-5)
    assert not Path("nowhere").exists()


def test_the_canonical_sums_are_those_of_the_unpacked_files():
    sums = {}
    for path in SHIPPED.glob("*.gz"):
        content = gzip.decompress(path.read_bytes())
        assert hashlib.sha256(content).hexdigest() == SOURCES["mnist"].sha256[path.stem]  # type: ignore[index]
        sums[path.stem] = hashlib.sha256(content).hexdigest()
    assert len(sums) == 4
    listing = "".join(f"{sums[name]}  {name}\n" for name in SOURCES["mnist"].names)
    assert data_digest("mnist", Path("nowhere")) == "sha256:" + hashlib.sha256(listing.encode()).hexdigest()


@pytest.mark.parametrize("dataset", OTHERS)
def test_digits_are_counted_by_the_labels_alone(place, dataset):
    data, written = place(dataset)
    images, labels = (data / FOLDERS[dataset] / "raw" / name for name in names(dataset)["train"])
    images.write_bytes(b"never read")
    assert digit_counts(dataset, "train", data) == np.bincount(written["train"][1], minlength=10).tolist()
    labels.write_bytes(labels.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"is damaged"):
        digit_counts(dataset, "train", data)


def test_what_was_read_can_not_be_written_to():
    images, labels = load_split("mnist", "test", Path("nowhere"))
    for array in (images, labels):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def flip(content: bytes) -> bytes:
    changed = bytearray(content)
    changed[len(content) // 2] ^= 0x10
    return bytes(changed)


def other_label(content: bytes) -> bytes:
    values = bytearray(gzip.decompress(content))
    values[100] = (values[100] + 1) % 10
    return gzip.compress(bytes(values))


@pytest.mark.parametrize(
    ("change", "file"),
    [
        (flip, "t10k-images-idx3-ubyte.gz"),
        (flip, "t10k-labels-idx1-ubyte.gz"),
        (lambda content: content[:-100], "t10k-images-idx3-ubyte.gz"),
        (lambda content: content[:5], "t10k-labels-idx1-ubyte.gz"),
        (lambda _: b"", "t10k-images-idx3-ubyte.gz"),
        (lambda _: b"<html>not found</html>", "t10k-images-idx3-ubyte.gz"),
        (lambda _: gzip.compress(b""), "t10k-images-idx3-ubyte.gz"),
        (other_label, "t10k-labels-idx1-ubyte.gz"),
    ],
    ids=["flip", "flip labels", "truncated", "header only", "empty", "a page", "packed nothing", "another label"],
)
def test_a_damaged_mnist_is_refused_with_the_cure(tmp_path, change, file):
    folder = Path(shutil.copytree(SHIPPED, tmp_path / "data" / "mnist"))
    load_split("mnist", "test", tmp_path / "data")
    forget_splits()
    (folder / file).write_bytes(change((folder / file).read_bytes()))
    with pytest.raises(DataError) as caught:
        load_split("mnist", "test", tmp_path / "data")
    assert f"the data file {folder / file} is damaged: " in caught.value.problem
    assert caught.value.hint.startswith("delete it")
    assert caught.value.exit_code == 4
    assert "\n" not in str(caught.value)


def test_a_damaged_package_is_to_be_installed_again(tmp_path, monkeypatch):
    folder = Path(shutil.copytree(SHIPPED, tmp_path / "package" / "_data" / "mnist"))
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(b"x")
    monkeypatch.setattr(sources, "_PACKAGE", tmp_path / "package")
    monkeypatch.setattr(sources, "_SHIPPED", (folder,))
    with pytest.raises(DataError) as caught:
        load_split("mnist", "test", tmp_path / "data")
    assert "pip install --force-reinstall" in caught.value.hint


def test_a_package_without_its_data_says_where_they_go(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "_SHIPPED", ())
    with pytest.raises(DataError, match="installed without its data") as caught:
        load_split("mnist", "test", tmp_path / "data")
    assert str(tmp_path / "data" / "MNIST" / "raw") in caught.value.hint
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dataset", OTHERS)
def test_files_placed_by_hand_are_found_and_read_right(place, dataset, packed):
    data, written = place(dataset, packed=packed)
    for split, (images, labels) in written.items():
        got_images, got_labels = load_split(dataset, split, data)
        expected = images.transpose(0, 2, 1) if dataset == "emnist-digits" else images
        assert np.array_equal(got_images, expected)
        assert np.array_equal(got_labels, labels)
        assert got_images.flags.c_contiguous
    pixels = written["train"][0] / 255
    assert normalisation(dataset, data) == (round(float(pixels.mean()), 4), round(float(pixels.std()), 4))


@pytest.mark.parametrize("dataset", OTHERS)
def test_torchvision_reads_the_same(place, dataset):
    data, _ = place(dataset)
    make: dict[str, Callable[[bool], Any]] = {
        "fashion-mnist": lambda train: torchvision.datasets.FashionMNIST(data, train=train),
        "kmnist": lambda train: torchvision.datasets.KMNIST(data, train=train),
        "qmnist": lambda train: torchvision.datasets.QMNIST(data, what="train" if train else "test", compat=True),
        "emnist-digits": lambda train: torchvision.datasets.EMNIST(data, split="digits", train=train),
    }
    for split in ("train", "test"):
        theirs = make[dataset](split == "train")
        images, labels = load_split(dataset, split, data)  # type: ignore[arg-type]
        # torchvision gives EMNIST's images as they lie in the file: on their side.
        upright = theirs.data.numpy().transpose(0, 2, 1) if dataset == "emnist-digits" else theirs.data.numpy()
        assert np.array_equal(images, upright)
        assert labels.tolist() == [label for _, label in (theirs[i] for i in range(len(theirs)))]


def test_plain_and_packed_files_have_one_digest_that_follows_the_content(place):
    data, _ = place("kmnist")
    raw = data / "KMNIST" / "raw"
    before = data_digest("kmnist", data)
    for path in list(raw.iterdir()):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert data_digest("kmnist", data) == before
    path = raw / "t10k-labels-idx1-ubyte.gz"
    values = bytearray(gzip.decompress(path.read_bytes()))
    values[-1] = (values[-1] + 1) % 10
    path.write_bytes(gzip.compress(bytes(values)))
    assert data_digest("kmnist", data) != before


IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


def header(code: int, *shape: int) -> bytes:
    return bytes([0, 0, code, len(shape)]) + b"".join(length.to_bytes(4, "big") for length in shape)


@pytest.mark.parametrize(
    ("file", "change", "why"),
    [
        (IMAGES, lambda raw: b"\x01" + raw[1:], "does not begin as an IDX file"),
        (IMAGES, lambda raw: raw[:2] + b"\x0d" + raw[3:], "does not begin as an IDX file"),
        (IMAGES, lambda raw: raw[:3] + b"\x09" + raw[4:], "does not begin as an IDX file"),
        (IMAGES, lambda raw: raw[:3] + b"\x00" + raw[4:], "does not begin as an IDX file"),
        (IMAGES, lambda raw: b"", "does not begin as an IDX file"),
        (IMAGES, lambda raw: raw[:3], "does not begin as an IDX file"),
        (IMAGES, lambda raw: raw[:10], "header promises"),
        (IMAGES, lambda raw: raw[:-1], "header promises"),
        (IMAGES, lambda raw: raw + b"\0", "header promises"),
        (IMAGES, lambda raw: raw[:7] + bytes([raw[7] - 1]) + raw[8:], "header promises"),
        (IMAGES, lambda raw: header(8, 40, 28) + raw[16:], "header promises"),
        (IMAGES, lambda raw: header(8, 40, 784) + raw[16:], r"\(40, 784\) values, not n × 28 × 28"),
        (IMAGES, lambda raw: header(8, 40, 56, 14) + raw[16:], r"\(40, 56, 14\) values, not n × 28 × 28"),
        (IMAGES, lambda raw: header(12, 10, 28, 28) + raw[16:], "not n × 28 × 28 bytes"),
        (IMAGES, lambda raw: header(8, *[2**32 - 1] * 3) + raw[16:], "header promises 79228162458924105385300197375"),
        (IMAGES, lambda raw: header(8, 2**31, 2**31, 4) + raw[16:], "header promises"),
        (LABELS, lambda raw: header(8, 39) + raw[9:], r"labels \(39,\) for 40 images"),
        (LABELS, lambda raw: header(8, 0), r"labels \(0,\) for 40 images"),
        (LABELS, lambda raw: raw[:-1] + b"\x0a", "not all from 0 to 9"),
        (LABELS, lambda raw: raw[:-1] + b"\xff", "not all from 0 to 9"),
        (LABELS, lambda raw: header(12, 10) + raw[8:], r"labels \(10,\) for 40 images"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_named_with_the_cure(place, file, change, why):
    data, _ = place("fashion-mnist")
    path = data / "FashionMNIST" / "raw" / file
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError, match=why) as caught:
        load_split("fashion-mnist", "train", data)
    assert caught.value.value == path
    assert str(path) in str(caught.value)
    assert caught.value.hint == "delete it, and the next run fetches it again"


def test_a_file_that_cannot_be_read_is_not_called_damaged(place, monkeypatch):
    data, _ = place("fashion-mnist")

    def refuse(path: Path, _limit: int) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(sources.unpacking, "open_regular", refuse)
    with pytest.raises(DataError, match=rf"can't read .*{IMAGES}: Permission denied") as caught:
        load_split("fashion-mnist", "train", data)
    assert "delete" not in caught.value.hint


@pytest.mark.parametrize("dataset", OTHERS)
def test_files_whose_counts_differ_are_refused(place, dataset):
    """Each file is whole, but the labels are those of the other split."""
    data, _ = place(dataset)
    raw = data / FOLDERS[dataset] / "raw"
    found = names(dataset)
    (raw / found["train"][1]).write_bytes((raw / found["test"][1]).read_bytes())
    with pytest.raises(DataError, match=r"it has labels \(20,\) for 40 images") as caught:
        load_split(dataset, "train", data)
    assert caught.value.value == raw / found["train"][1]


@pytest.mark.parametrize("shape", [(40, 0), (0, 8), (2**32 - 1, 0), (0, 2**31, 2**31)])
def test_labels_with_a_length_of_0_are_refused(place, shape):
    data, _ = place("qmnist")
    (data / "QMNIST" / "raw" / "qmnist-train-labels-idx2-int").write_bytes(header(12, *shape))
    for use in (load_split, digit_counts):
        with pytest.raises(DataError, match="is damaged"):
            use("qmnist", "train", data)


def test_nothing_is_allocated_for_an_absurd_header(place):
    data, _ = place("fashion-mnist")
    path = data / "FashionMNIST" / "raw" / IMAGES
    path.write_bytes(header(8, 2**31 - 1, 28, 28) + bytes(1000))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="header promises"):
            load_split("fashion-mnist", "train", data)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("values", [[10, 0, 1], [-1, 0, 1], [256, 0, 1], [2**31 - 1, 0, 1]])
def test_qmnist_labels_that_are_no_digits_are_refused(place, idx, values):
    data, _ = place("qmnist")
    path = data / "QMNIST" / "raw" / "qmnist-train-labels-idx2-int"
    labels = np.zeros((40, 8), np.int32)
    labels[:3, 0] = values
    path.write_bytes(idx(labels))
    with pytest.raises(DataError, match="not all from 0 to 9"):
        load_split("qmnist", "train", data)


def test_images_without_contrast_have_no_normalisation(place, idx):
    data, _ = place("kmnist")
    (data / "KMNIST" / "raw" / IMAGES).write_bytes(idx(np.full((40, 28, 28), 7, np.uint8)))
    with pytest.raises(DataError, match="all pixels of kmnist's training images are equal"):
        normalisation("kmnist", data)


def test_a_truncated_packed_file_is_refused(place):
    data, _ = place("emnist-digits", packed=True)
    path = data / "EMNIST" / "raw" / "emnist-digits-test-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-20])
    for use in (lambda: load_split("emnist-digits", "test", data), lambda: data_digest("emnist-digits", data)):
        with pytest.raises(DataError, match="is damaged") as caught:
            use()
        assert caught.value.value == path


@pytest.mark.parametrize("folder", ["data", "a/b/data"])
@pytest.mark.parametrize("dataset", OTHERS)
def test_what_can_not_be_had_is_listed_and_no_folder_is_left(tmp_path, dataset, folder):
    with pytest.raises(DataError) as caught:
        load_split(dataset, "train", tmp_path / folder)
    error = caught.value
    assert error.value == [name for part in names(dataset).values() for name in part]
    assert all(name in error.problem for name in error.value)
    assert error.problem.startswith(f"{dataset} is not available (the download failed: ")
    assert error.hint == f"put these files, plain or as .gz, into {tmp_path / folder / FOLDERS[dataset] / 'raw'}"
    assert "\n" not in str(error)
    assert list(tmp_path.iterdir()) == []


def test_only_what_is_missing_is_listed_and_what_is_there_is_kept(place):
    data, _ = place("fashion-mnist")
    raw = data / "FashionMNIST" / "raw"
    (raw / LABELS).unlink()
    before = sorted(path.name for path in raw.iterdir())
    with pytest.raises(DataError, match=rf"missing {LABELS} \(put") as caught:
        load_split("fashion-mnist", "test", data)
    assert caught.value.value == [LABELS]
    assert sorted(path.name for path in raw.iterdir()) == before


def test_what_a_download_brings_is_used_and_nothing_goes_to_stdout(place, tmp_path, monkeypatch, capsys):
    data, written = place("kmnist")
    asked = []

    def download(root: str, *, train: bool, download: bool) -> None:
        asked.append(train)
        print("Downloading")  # noqa: T201
        shutil.copytree(data / "KMNIST", Path(root) / "KMNIST", dirs_exist_ok=True)

    monkeypatch.setattr(torchvision.datasets, "KMNIST", download)
    images, _ = load_split("kmnist", "test", tmp_path / "elsewhere")
    assert np.array_equal(images, written["test"][0])
    assert asked == [True, False]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Downloading" in captured.err


def test_a_full_set_in_the_data_folder_comes_before_the_shipped_one(tmp_path):
    folder = tmp_path / "data" / "mnist"
    folder.mkdir(parents=True)
    (folder / "t10k-images-idx3-ubyte.gz").write_bytes(b"one file is no data set")
    assert len(load_split("mnist", "test", tmp_path / "data")[1]) == 10_000
