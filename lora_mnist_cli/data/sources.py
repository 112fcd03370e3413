"""Where the images come from: finding, verifying and reading the IDX files. No torch.

MNIST travels with the package, so it needs no network. The other data sets lie in ``--data-dir`` in torchvision's
layout (``FashionMNIST/raw/train-images-idx3-ubyte`` …, plain or gzipped); torchvision fetches what is not there.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.system.errors import DataError
from lora_mnist_cli.system.files import missing_folders, remove_empty

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Split = Literal["train", "test"]

_PACKAGE = Path(__file__).resolve().parents[1]
# In a wheel the files are inside the package; in a checkout they are beside it.
_SHIPPED = (_PACKAGE / "data" / "mnist", _PACKAGE.parent / "data" / "mnist")

_IDX_TYPES = {0x08: "u1", 0x0C: ">i4"}
"""The type bytes of IDX that these data sets use, as NumPy writes them: bytes and big-endian 32-bit integers."""


@dataclass(frozen=True)
class Source:
    """One data set: its files, and how its images differ from MNIST's.

    Args:
        folder: torchvision's folder under the data directory.
        files: for each split, the names of the unpacked image and label file.
        normalisation: mean and standard deviation of the pixels on [0, 1], or None: measured on the training images.
        sha256: of the unpacked files, where they are known.
        transposed: whether rows and columns of an image are swapped in the file.
        fetch: torchvision's class and its arguments for a split; None for what the package ships.
        classes: what the digits 0 to 9 stand for, where they are no digits.
    """

    folder: str
    files: dict[Split, tuple[str, str]]
    normalisation: tuple[float, float] | None = None
    sha256: dict[str, str] | None = None
    transposed: bool = False
    fetch: tuple[str, Callable[[bool], dict[str, Any]]] | None = None
    classes: tuple[str, ...] = ()

    def names(self) -> list[str]:
        """All file names, training files first."""
        return [*self.files["train"], *self.files["test"]]


_MNIST_FILES: dict[Split, tuple[str, str]] = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


def _train(train: bool) -> dict[str, Any]:
    return {"train": train}


SOURCES: dict[str, Source] = {
    "mnist": Source(
        "MNIST",
        _MNIST_FILES,
        normalisation=(0.1307, 0.3081),
        sha256={
            "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        },
    ),
    # Class names as the data sets' authors give them: Xiao et al. 2017, table 2; Clanuwat et al. 2018, figure 1.
    "fashion-mnist": Source(
        "FashionMNIST",
        _MNIST_FILES,
        fetch=("FashionMNIST", _train),
        classes=(
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
    ),
    "kmnist": Source(
        "KMNIST",
        _MNIST_FILES,
        fetch=("KMNIST", _train),
        classes=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
    ),
    "qmnist": Source(
        "QMNIST",
        {
            "train": ("qmnist-train-images-idx3-ubyte", "qmnist-train-labels-idx2-int"),
            "test": ("qmnist-test-images-idx3-ubyte", "qmnist-test-labels-idx2-int"),
        },
        fetch=("QMNIST", lambda train: {"what": "train" if train else "test"}),
    ),
    "emnist-digits": Source(
        "EMNIST",
        {
            "train": ("emnist-digits-train-images-idx3-ubyte", "emnist-digits-train-labels-idx1-ubyte"),
            "test": ("emnist-digits-test-images-idx3-ubyte", "emnist-digits-test-labels-idx1-ubyte"),
        },
        transposed=True,
        fetch=("EMNIST", lambda train: {"split": "digits", "train": train}),
    ),
}


def class_names(dataset: str) -> tuple[str, ...]:
    """What the digits 0 to 9 of a data set stand for; nothing where they are digits, or the data set is not known."""
    return SOURCES[dataset].classes if dataset in SOURCES else ()


def data_digest(dataset: str, data_dir: Path) -> str:
    """SHA-256 over names and SHA-256 of a data set's unpacked files, as ``sha256:…``.

    MNIST's is known without reading a file, because each file is checked against it whenever it is read.

    Raises:
        DataError: where the files can't be had or are damaged.
    """
    if dataset not in SOURCES:
        raise DataError(f"there is no data set '{dataset}'", hint=f"data sets: {', '.join(SOURCES)}", value=dataset)
    source = SOURCES[dataset]
    if source.sha256 is not None:
        sums = source.sha256
    else:
        paths = _locate(dataset, data_dir)
        sums = {name: hashlib.sha256(_unpack(paths[name], dataset)).hexdigest() for name in source.names()}
    listing = "".join(f"{sums[name]}  {name}\n" for name in source.names())
    return "sha256:" + hashlib.sha256(listing.encode()).hexdigest()


def load_split(dataset: str, split: Split, data_dir: Path) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Images (n × 28 × 28, 0 to 255) and labels (n, 0 to 9) of a split, verified, read-only.

    The last two splits are kept, so that the stages of one process unpack each file once.

    Raises:
        DataError: where the files can't be had or are damaged.
    """
    # By its absolute path, so that the same words in another folder are another data set.
    return _load_split(dataset, split, data_dir.absolute())


@lru_cache(maxsize=2)
def _load_split(dataset: str, split: Split, data_dir: Path) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    import numpy as np

    source = SOURCES[dataset]
    paths = _locate(dataset, data_dir)
    image_name, label_name = source.files[split]
    images = _read_idx(paths[image_name], image_name, dataset)
    labels = _read_idx(paths[label_name], label_name, dataset)
    if labels.ndim == 2:  # QMNIST keeps eight numbers a digit; the first is its class
        labels = labels[:, 0]
    if images.ndim != 3 or images.shape[1:] != (28, 28) or images.dtype != np.uint8:
        raise _damaged(paths[image_name], dataset, f"it holds {images.shape} values, not n × 28 × 28 bytes")
    if labels.ndim != 1 or len(labels) != len(images):
        raise _damaged(paths[label_name], dataset, f"it has labels {labels.shape} for {len(images)} images")
    if not len(labels) or labels.min() < 0 or labels.max() > 9:
        raise _damaged(paths[label_name], dataset, "its labels are not all from 0 to 9")
    if source.transposed:
        images = images.transpose(0, 2, 1)
    images, labels = np.ascontiguousarray(images), labels.astype(np.uint8)
    images.flags.writeable = labels.flags.writeable = False
    return images, labels


def digit_counts(dataset: str, split: Split, data_dir: Path) -> list[int]:
    """How many images of each digit a split has.

    Raises:
        DataError: as :func:`load_split`.
    """
    import numpy as np

    counts: list[int] = np.bincount(load_split(dataset, split, data_dir)[1], minlength=10).tolist()
    return counts


def load_digits(
    dataset: str, split: Split, digits: DigitSet, data_dir: Path
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Images and labels of a split, as :func:`load_split` gives them, that are of some digits.

    Raises:
        DataError: where the files can't be had or are damaged, or hold none of the digits.
    """
    import numpy as np

    pixels, labels = load_split(dataset, split, data_dir)
    if len(digits) < 10:
        chosen = np.isin(labels, digits.members)
        pixels, labels = pixels[chosen], labels[chosen]
    if not len(labels):
        raise DataError(f"the {split} images of {dataset} have none of the digits {digits}", value=str(digits))
    return pixels, labels


def forget_splits() -> None:
    """Forget the splits that :func:`load_split` keeps, so that the next one is read from its files again."""
    _load_split.cache_clear()


def normalisation(dataset: str, data_dir: Path) -> tuple[float, float]:
    """Mean and standard deviation of the pixels on [0, 1], which a base trained on the data set divides out.

    MNIST's are the study's constants; any other set's are measured on its training images, to four places.
    """
    known = SOURCES[dataset].normalisation
    if known is not None:
        return known
    import numpy as np

    images, _ = load_split(dataset, "train", data_dir)
    # From the histogram: exact, and no float copy of 47 million pixels.
    counts = np.bincount(images.reshape(-1), minlength=256).astype(np.float64)
    levels = np.arange(256) / 255
    mean = float((counts * levels).sum() / counts.sum())
    variance = float((counts * (levels - mean) ** 2).sum() / counts.sum())
    if variance == 0:
        raise DataError(f"all pixels of {dataset}'s training images are equal", hint=_where(dataset, data_dir))
    return round(mean, 4), round(variance**0.5, 4)


def _locate(dataset: str, data_dir: Path) -> dict[str, Path]:
    """The path of each file, fetched by torchvision where needed and possible."""
    source = SOURCES[dataset]
    folders = [data_dir / source.folder / "raw"]
    if source.fetch is None:
        folders = [data_dir / "mnist", *folders, *_SHIPPED]
    for folder in folders:
        found = _present(folder, source)
        if len(found) == len(source.names()):
            return found
    raw = data_dir / source.folder / "raw"
    reason = "the package was installed without its data"
    if source.fetch is not None:
        reason = _fetch(source, data_dir)
        found = _present(raw, source)
        if len(found) == len(source.names()):
            return found
    missing = [name for name in source.names() if name not in _present(raw, source)]
    raise DataError(
        f"{dataset} can't be had ({reason}): missing {', '.join(missing)}",
        hint=f"put these files, plain or as .gz, into {raw}",
        value=missing,
    )


def _present(folder: Path, source: Source) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for name in source.names():
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                found[name] = path
                break
    return found


def _fetch(source: Source, data_dir: Path) -> str:
    """Let torchvision fetch both splits; returns why it could not, or an empty string."""
    assert source.fetch is not None
    made = missing_folders(data_dir / source.folder / "raw")
    import torchvision.datasets  # type: ignore[import-untyped]

    class_name, arguments = source.fetch
    make = getattr(torchvision.datasets, class_name)
    try:
        with _stdout_to_stderr():
            for train in (True, False):
                make(str(data_dir), download=True, **arguments(train))
    except Exception as error:  # noqa: BLE001 - torchvision raises whatever its transport, archive reader or parser raised
        remove_empty(made)
        return f"the download failed: {error}".splitlines()[0].rstrip(" :.")
    return ""


@contextlib.contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """torchvision prints what it downloads; stdout is for results alone."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


def _unpack(path: Path, dataset: str) -> bytes:
    try:
        raw = path.read_bytes()
        return gzip.decompress(raw) if path.suffix == ".gz" else raw
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(path, dataset, str(error)) from error


def _read_idx(path: Path, name: str, dataset: str) -> npt.NDArray[Any]:
    """An IDX file as an array: two zero bytes, a type byte, the number of axes, their lengths, the values."""
    import numpy as np

    raw = _unpack(path, dataset)
    expected = (SOURCES[dataset].sha256 or {}).get(name)
    if expected is not None and hashlib.sha256(raw).hexdigest() != expected:
        raise _damaged(path, dataset, "its SHA-256 is not the canonical one")
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] not in _IDX_TYPES or not 1 <= raw[3] <= 3:
        raise _damaged(path, dataset, "it does not begin as an IDX file does")
    dtype, axes = np.dtype(_IDX_TYPES[raw[2]]), raw[3]
    header = 4 + 4 * axes
    shape = [int.from_bytes(raw[start : start + 4], "big") for start in range(4, header, 4)]
    # Python's integers don't overflow, so an absurd shape is refused here and nothing is allocated for it.
    size = dtype.itemsize
    for length in shape:
        size *= length
    if len(raw) - header != size:
        raise _damaged(path, dataset, f"its header promises {size} bytes of values and it has {len(raw) - header}")
    return np.frombuffer(raw, dtype=dtype, offset=header).reshape(shape)


def _damaged(path: Path, dataset: str, why: str) -> DataError:
    cure = "delete it, and the next run fetches it again"
    if SOURCES[dataset].fetch is None:
        if _PACKAGE in path.resolve().parents:
            cure = "install the package again, from its folder: pip install --force-reinstall --no-deps ."
        else:
            cure = "delete it, and the copy that the package ships is used, or restore it: git checkout data/mnist"
    return DataError(f"the data file {path} is damaged: {why}", hint=cure, value=path)


def _where(dataset: str, data_dir: Path) -> str:
    return f"the files are in {data_dir / SOURCES[dataset].folder / 'raw'}"
