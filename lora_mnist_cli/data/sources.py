"""Find, verify and read the files of the data sets. No torch.

MNIST is part of the package and needs no network. The other data sets are in ``--data-dir`` in torchvision's layout
(``FashionMNIST/raw/train-images-idx3-ubyte`` …, plain or gzipped); torchvision downloads missing files. A user's own
data set is there too, in files of the same form, as :mod:`~lora_mnist_cli.data.own_import` wrote them.
"""

from __future__ import annotations

import contextlib
import hashlib
import sys
import zlib
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_mnist_cli.data import idx, unpacking
from lora_mnist_cli.data.own_source import GIVE_AGAIN, own_source
from lora_mnist_cli.data.source import SOURCES, Source, Split
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.settings.own_data import is_own
from lora_mnist_cli.system.errors import DataError
from lora_mnist_cli.system.files import missing_folders, remove_empty

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_PACKAGE = Path(__file__).resolve().parents[1]
# In a wheel the files are inside the package; in a checkout they are beside it.
_SHIPPED = (_PACKAGE / "data" / "mnist", _PACKAGE.parent / "data" / "mnist")


def source_of(dataset: str, data_dir: Path) -> Source:
    """Return the files of a data set.

    Raises:
        DataError: where there is no such data set, or it is a user's own and not in the data directory.
    """
    if dataset in SOURCES:
        return SOURCES[dataset]
    if is_own(dataset):
        return own_source(dataset, data_dir)
    raise DataError(f"there is no data set '{dataset}'", hint=f"data sets: {', '.join(SOURCES)}", value=dataset)


def data_digest(dataset: str, data_dir: Path) -> str:
    """Return the SHA-256 over names and SHA-256 of a data set's unpacked files, as ``sha256:…``.

    MNIST's needs no file, and neither does a user's own, because each file is checked against its own SHA-256 whenever
    it is read. The names of a user's own classes count too.

    Raises:
        DataError: where the files are not available or damaged.
    """
    source = source_of(dataset, data_dir)
    if (sums := source.sha256) is None:
        paths = _locate(dataset, data_dir)
        sums = {name: hashlib.sha256(_unpack(path, name, source)).hexdigest() for name, path in paths.items()}
    listing = "".join(f"{sums[name]}  {name}\n" for name in source.names)
    if is_own(dataset):
        listing += "".join(f"{name}\n" for name in source.classes)
    return "sha256:" + hashlib.sha256(listing.encode()).hexdigest()


def load_split(dataset: str, split: Split, data_dir: Path) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Load images (n × 28 × 28, 0 to 255) and labels (n, 0 to 9) of a split, verified and read-only.

    The last two splits are kept, so that the stages of one process unpack each file once.

    Raises:
        DataError: where the files are not available or damaged.
    """
    # The absolute path, because a relative one means another data set in another folder.
    return _load_split(dataset, split, data_dir.absolute())


@lru_cache(maxsize=2)
def _load_split(dataset: str, split: Split, data_dir: Path) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    import numpy as np

    source = source_of(dataset, data_dir)
    paths = _locate(dataset, data_dir)
    image_path, label_path = (paths[name] for name in source.files[split])
    images, labels = (_read(paths[name], name, source) for name in source.files[split])
    labels = _classes(labels)
    if images.ndim != 3 or images.shape[1:] != (28, 28) or images.dtype != np.uint8:
        raise _damaged(image_path, source, f"it holds {images.shape} values, not n × 28 × 28 bytes")
    if labels.ndim != 1 or len(labels) != len(images):
        raise _damaged(label_path, source, f"it has labels {labels.shape} for {len(images)} images")
    if not _are_digits(labels):
        raise _damaged(label_path, source, _NO_DIGITS)
    if source.transposed:
        images = images.transpose(0, 2, 1)
    images, labels = np.ascontiguousarray(images), labels.astype(np.uint8)
    images.flags.writeable = labels.flags.writeable = False
    return images, labels


def digit_counts(dataset: str, split: Split, data_dir: Path) -> list[int]:
    """Count the images of each digit in a split, by its labels alone: the images are not unpacked.

    Raises:
        DataError: where a file of the data set is not available, or the labels are damaged.
    """
    import numpy as np

    source = source_of(dataset, data_dir)
    name = source.files[split][1]
    path = _locate(dataset, data_dir)[name]
    labels = _classes(_read(path, name, source))
    if not _are_digits(labels):
        raise _damaged(path, source, _NO_DIGITS)
    counts: list[int] = np.bincount(labels, minlength=10).tolist()
    return counts


def load_digits(
    dataset: str, split: Split, digits: DigitSet, data_dir: Path
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Load the images and labels of some digits of a split, as :func:`load_split`.

    Raises:
        DataError: where the files are not available or damaged, or hold none of the digits.
    """
    import numpy as np

    pixels, labels = load_split(dataset, split, data_dir)
    if len(digits) < 10:
        chosen = np.isin(labels, digits.members)
        pixels, labels = pixels[chosen], labels[chosen]
    if not len(labels):
        raise DataError(f"the {split} images of {dataset} have none of the digits {digits}", value=str(digits))
    return pixels, labels


def read_ahead(dataset: str, data_dir: Path, *splits: Split) -> None:
    """Begin to unpack the files of some splits beside the import of PyTorch; :func:`load_split` takes them.

    Raises:
        DataError: where the size of a file is wrong; what else is wrong, :func:`load_split` says.
    """
    source = source_of(dataset, data_dir)
    files, sums = _find(source, data_dir.absolute()), source.sha256 or {}
    wanted = [name for split in splits for name in source.files[split] if name in files]
    for path in unpacking.begin({files[name]: sums.get(name) for name in wanted}):
        _unpack(path, path.name.removesuffix(".gz"), source)


def forget_splits() -> None:
    """Drop the splits that :func:`load_split` keeps, so that the next call reads the files again."""
    _load_split.cache_clear()
    unpacking.forget()


def normalisation(dataset: str, data_dir: Path) -> tuple[float, float]:
    """Return mean and standard deviation of the pixels on [0, 1], with which images are normalised.

    MNIST's are the study's constants; those of other data sets are measured on the training images, to four places.
    """
    source = source_of(dataset, data_dir)
    if source.normalisation:
        return source.normalisation
    import numpy as np

    images, _ = load_split(dataset, "train", data_dir)
    # From the histogram: exact, and no float copy of 47 million pixels.
    counts = np.bincount(images.reshape(-1), minlength=256).astype(np.float64)
    levels = np.arange(256) / 255
    mean = float((counts * levels).sum() / counts.sum())
    variance = float((counts * (levels - mean) ** 2).sum() / counts.sum())
    if variance == 0:
        folder = data_dir / source.folder / "raw"
        raise DataError(f"all pixels of {dataset}'s training images are equal", hint=f"the files are in {folder}")
    return round(mean, 4), round(variance**0.5, 4)


def _locate(dataset: str, data_dir: Path) -> dict[str, Path]:
    """Return the path of each file; torchvision downloads missing files where it can."""
    source = source_of(dataset, data_dir)
    if files := _find(source, data_dir):
        return files
    raw = data_dir / source.folder / "raw"
    if source.own:
        raise DataError(f"{dataset} has lost files of {raw}", hint=GIVE_AGAIN, value=dataset)
    reason = _fetch(source, data_dir) if source.fetch else "the package was installed without its data"
    files = _present(raw, source)
    missing = [name for name in source.names if name not in files]
    if not missing:
        return files
    raise DataError(
        f"{dataset} is not available ({reason}): missing {', '.join(missing)}",
        hint=f"put these files, plain or as .gz, into {raw}",
        value=missing,
    )


def _find(source: Source, data_dir: Path) -> dict[str, Path]:
    """Return the path of each file in the first folder that has them all; empty where none has."""
    raw = data_dir / source.folder / "raw"
    folders = (raw,) if source.fetch or source.own else (data_dir / "mnist", raw, *_SHIPPED)
    return next((files for folder in folders if len(files := _present(folder, source)) == len(source.names)), {})


def _present(folder: Path, source: Source) -> dict[str, Path]:
    candidates = {name: (folder / name, folder / f"{name}.gz") for name in source.names}
    return {name: path for name, paths in candidates.items() if (path := next(filter(Path.is_file, paths), None))}


def _fetch(source: Source, data_dir: Path) -> str:
    """Download both splits with torchvision; returns the reason of a failure, or an empty string."""
    assert source.fetch is not None
    new_folders = missing_folders(data_dir / source.folder / "raw")
    import torchvision.datasets  # type: ignore[import-untyped]

    make = getattr(torchvision.datasets, source.folder)
    try:
        # torchvision prints its downloads, and stdout is for results alone.
        with contextlib.redirect_stdout(sys.stderr):
            for train in (True, False):
                make(str(data_dir), download=True, **source.fetch(train))
    except Exception as error:  # noqa: BLE001 - torchvision raises whatever its transport, archive reader or parser raised
        remove_empty(new_folders)
        return f"the download failed: {error}".splitlines()[0].rstrip(" :.")
    return ""


def _read(path: Path, name: str, source: Source) -> npt.NDArray[Any]:
    try:
        return idx.parse(_unpack(path, name, source))
    except ValueError as error:
        raise _damaged(path, source, str(error)) from error


def _unpack(path: Path, name: str, source: Source) -> bytes:
    try:
        return unpacking.unpacked(path, (source.sha256 or {}).get(name))
    except PermissionError as error:
        hint = "make it readable, or name another --data-dir"
        raise DataError(f"can't read {path}: {error.strerror}", hint=hint, value=path) from error
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise _damaged(path, source, getattr(error, "strerror", None) or str(error)) from error


_NO_DIGITS = "its labels are not all from 0 to 9"


def _classes(labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the class of each image; QMNIST has eight numbers per digit, and the first is its class."""
    return labels[:, 0] if labels.ndim == 2 and labels.shape[1] else labels


def _are_digits(labels: npt.NDArray[Any]) -> bool:
    return labels.ndim == 1 and len(labels) > 0 and bool(labels.min() >= 0 and labels.max() <= 9)


def _damaged(path: Path, source: Source, why: str) -> DataError:
    if source.own:
        cure = GIVE_AGAIN
    elif source.fetch:
        cure = "delete it, and the next run fetches it again"
    elif _PACKAGE in path.resolve().parents:
        cure = "install the package again, from its folder: pip install --force-reinstall --no-deps ."
    else:
        cure = "delete it, and the copy that the package ships is used, or restore it: git checkout data/mnist"
    return DataError(f"the data file {path} is damaged: {why}", hint=cure, value=path)
