"""The data sets by name: which files each has, and how its images differ from MNIST's. No torch, no NumPy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = ("train", "test")


@dataclass(frozen=True)
class Source:
    """A data set: its files, and how its images differ from MNIST's.

    Args:
        folder: torchvision's folder under the data directory.
        files: for each split, the names of the unpacked image and label file.
        normalisation: mean and standard deviation of the pixels on [0, 1], or None: measured on the training images.
        sha256: SHA-256 of each unpacked file, where they are known.
        transposed: whether rows and columns of an image are swapped in the file.
        fetch: the arguments of torchvision's class, which has the folder's name, for the training images or the test
            images; None for the data set that the package contains.
        classes: names of the classes 0 to 9, where they are not digits; of a user's own data set always, up to ten.
        own: whether it is a user's own.
    """

    folder: str
    files: dict[Split, tuple[str, str]]
    normalisation: tuple[float, float] | None = None
    sha256: dict[str, str] | None = None
    transposed: bool = False
    fetch: Callable[[bool], dict[str, Any]] | None = None
    classes: tuple[str, ...] = ()
    own: bool = False

    @property
    def names(self) -> list[str]:
        """All file names, training files first."""
        return [*self.files["train"], *self.files["test"]]


MNIST_FILES: dict[Split, tuple[str, str]] = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}

SOURCES: dict[str, Source] = {
    "mnist": Source(
        "MNIST",
        MNIST_FILES,
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
        MNIST_FILES,
        fetch=lambda train: {"train": train},
        classes=(
            "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
        ),
    ),
    "kmnist": Source(
        "KMNIST",
        MNIST_FILES,
        fetch=lambda train: {"train": train},
        classes=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
    ),
    "qmnist": Source(
        "QMNIST",
        {
            "train": ("qmnist-train-images-idx3-ubyte", "qmnist-train-labels-idx2-int"),
            "test": ("qmnist-test-images-idx3-ubyte", "qmnist-test-labels-idx2-int"),
        },
        fetch=lambda train: {"what": "train" if train else "test"},
    ),
    "emnist-digits": Source(
        "EMNIST",
        {
            "train": ("emnist-digits-train-images-idx3-ubyte", "emnist-digits-train-labels-idx1-ubyte"),
            "test": ("emnist-digits-test-images-idx3-ubyte", "emnist-digits-test-labels-idx1-ubyte"),
        },
        transposed=True,
        fetch=lambda train: {"split": "digits", "train": train},
    ),
}  # fmt: skip


def class_names(dataset: str) -> tuple[str, ...]:
    """Return the names of a data set's classes 0 to 9; empty for digits, and for one that this program has not."""
    return SOURCES[dataset].classes if dataset in SOURCES else ()
