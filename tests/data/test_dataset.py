"""Data sets in memory: filter, normalisation, splits and batches."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch

from lora_mnist_cli.data.dataset import BLOCK_STEPS, MNISTDataset, ShuffledBlocks, split_rows
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.system.errors import DataError, UsageError

SHIPPED = Path(__file__).parents[2] / "data" / "mnist"


def numbered(count: int) -> MNISTDataset:
    """Images that are told apart by their first pixel."""
    images = torch.zeros(count, 784)
    images[:, 0] = torch.arange(count)
    return MNISTDataset(images, torch.arange(count) % 10)


def ids(images: torch.Tensor) -> list[int]:
    return [int(value) for value in images[:, 0]]


def test_mnist_digits_are_filtered_and_normalised():
    pixels = np.frombuffer(gzip.decompress((SHIPPED / "t10k-images-idx3-ubyte.gz").read_bytes())[16:], np.uint8)
    labels = np.frombuffer(gzip.decompress((SHIPPED / "t10k-labels-idx1-ubyte.gz").read_bytes())[8:], np.uint8)
    chosen = np.isin(labels, [5, 7, 8, 9])
    dataset = MNISTDataset.load("test", DigitSet.parse("5,7-9"))
    assert len(dataset) == chosen.sum() == 892 + 1028 + 974 + 1009
    assert dataset.labels.tolist() == labels[chosen].tolist()
    expected = (pixels.reshape(-1, 784)[chosen].astype(float) / 255 - 0.1307) / 0.3081
    np.testing.assert_allclose(dataset.images.numpy(), expected, atol=1e-6)
    assert (dataset.images.dtype, dataset.labels.dtype) == (torch.float32, torch.int64)


def test_all_digits_by_default_and_other_statistics_where_they_are_given():
    plain = MNISTDataset.load("test", pixel_stats=(0.0, 1.0))
    assert len(plain) == 10_000
    assert (float(plain.images.min()), float(plain.images.max())) == (0.0, 1.0)
    normal = MNISTDataset.load("test")
    torch.testing.assert_close(normal.images, (plain.images - 0.1307) / 0.3081, atol=1e-6, rtol=0)


def test_digits_that_are_not_there_are_refused(tmp_path, idx, small_images):  # type: ignore[no-untyped-def]
    raw = tmp_path / "KMNIST" / "raw"
    raw.mkdir(parents=True)
    images, _ = small_images(30)
    for part in ("train", "t10k"):
        (raw / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(idx((np.arange(30) % 5).astype(np.uint8)))
    with pytest.raises(DataError, match="the test images of kmnist have none of the digits 7-8"):
        MNISTDataset.load("test", DigitSet.parse("7-8"), dataset="kmnist", data_dir=tmp_path)
    assert len(MNISTDataset.load("train", DigitSet.parse("4-8"), dataset="kmnist", data_dir=tmp_path)) == 6


def test_items_are_images_with_their_labels():
    dataset = numbered(20)
    image, label = dataset[13]
    assert (float(image[0]), int(label)) == (13.0, 3)
    images, labels = dataset[torch.tensor([4, 15])]
    assert ids(images) == [4, 15]
    assert labels.tolist() == [4, 5]


@pytest.mark.parametrize(
    ("images", "labels"), [((3, 784), (4,)), ((3, 1, 784), (3,)), ((3, 784), (3, 1)), ((3, 28, 28), (3,))]
)
def test_shapes_that_do_not_fit_are_refused(images, labels):
    with pytest.raises(ValueError, match="don't fit"):
        MNISTDataset(torch.zeros(images), torch.zeros(labels))


def test_moving_to_another_type_leaves_the_labels():
    dataset = numbered(3).to(torch.device("cpu"), torch.float64)
    assert (dataset.images.dtype, dataset.labels.dtype) == (torch.float64, torch.int64)


def split_dataset(dataset: MNISTDataset, val_split: float, seed: int) -> tuple[MNISTDataset, MNISTDataset | None]:
    train, val = split_rows(len(dataset), val_split, seed)
    return MNISTDataset(*dataset[train]), None if val is None else MNISTDataset(*dataset[val])


def shuffled(dataset: MNISTDataset, batch_size: int, seed: int) -> ShuffledBlocks:
    return ShuffledBlocks(dataset, torch.arange(len(dataset)), batch_size, seed)


@pytest.mark.parametrize(
    ("count", "val_split", "n_train"),
    [(1000, 0.2, 800), (30_596, 0.2, 24_476), (11, 0.5, 5), (3, 0.4, 1), (100, 0.01, 99)],
)
def test_a_split_is_disjoint_complete_and_of_the_right_size(count, val_split, n_train):
    dataset = numbered(count)
    train, val = split_dataset(dataset, val_split, seed=0)
    assert val is not None
    assert len(train) == n_train
    assert sorted(ids(train.images) + ids(val.images)) == list(range(count))
    assert all(label == number % 10 for number, label in zip(ids(val.images), val.labels.tolist(), strict=True))


@pytest.mark.parametrize(("count", "val_split", "n_train"), [(10, 0.9, 1), (5, 0.8, 1), (10, 0.7, 3), (100, 0.58, 42)])
def test_a_split_does_not_lose_an_image_to_rounding(count, val_split, n_train):
    """10 · (1 - 0.9) is a hair below 1 in binary floating point, and still means one image."""
    assert len(split_dataset(numbered(count), val_split, seed=0)[0]) == n_train


def test_a_split_is_random_and_fixed_by_its_seed():
    dataset = numbered(500)
    first, again, other = (ids(split_dataset(dataset, 0.2, seed)[0].images) for seed in (0, 0, 1))
    assert first == again
    assert set(first) != set(other)
    assert 230 < np.mean(first) < 270  # of all numbers, not of the first ones


def test_without_a_validation_split_everything_is_for_training():
    dataset = numbered(7)
    train, val = split_dataset(dataset, 0.0, 0)
    assert val is None
    assert sorted(ids(train.images)) == list(range(7))


@pytest.mark.parametrize(("count", "val_split"), [(1, 0.2), (2, 0.9), (4, 0.8)])
def test_an_empty_part_is_refused(count, val_split):
    with pytest.raises(UsageError, match=f"val-split of {val_split} leaves a part of {count} images empty"):
        split_dataset(numbered(count), val_split, 0)


@pytest.mark.parametrize("count", [1, 63, 64, 640, BLOCK_STEPS * 10, BLOCK_STEPS * 10 + 1, 1999])
@pytest.mark.parametrize("batch_size", [1, 10, 5000])
def test_an_epoch_visits_every_image_once(count, batch_size):
    blocks = shuffled(numbered(count), batch_size, seed=0)
    parts = list(blocks)
    assert len(parts) == len(blocks)
    assert sorted(number for rows in parts for number in rows.tolist()) == list(range(count))
    # Only the epoch's last batch may be short.
    assert all(len(rows) == BLOCK_STEPS * batch_size for rows in parts[:-1])
    batches = [len(batch) for rows in parts for batch in rows.split(batch_size)]
    assert len(batches) == blocks.steps == -(-count // batch_size)
    assert all(size == batch_size for size in batches[:-1])
    assert sum(batches) == count


def test_each_epoch_has_an_order_of_its_own_and_the_seed_fixes_them_all():
    def epochs(seed: int, count: int = 3) -> list[list[int]]:
        blocks = shuffled(numbered(200), 7, seed)
        return [[number for rows in blocks for number in rows.tolist()] for _ in range(count)]

    first = epochs(0)
    assert len({tuple(order) for order in [*first, list(range(200))]}) == 4
    assert epochs(0) == first
    assert epochs(1)[0] != first[0]


def test_order_and_split_are_streams_of_their_own():
    """The same seed for both, and neither says anything of the other; each can be varied with the other held."""
    dataset = numbered(100)
    train, _ = split_dataset(dataset, 0.2, seed=0)
    order = [number for rows in shuffled(dataset, 10, seed=0) for number in rows.tolist()]
    assert order[:80] != ids(train.images)
    for split_seed in (0, 1):
        held = split_dataset(dataset, 0.2, split_seed)[0]
        orders = [[n for rows in shuffled(held, 10, seed) for n in ids(held[rows][0])] for seed in (0, 1)]
        assert orders[0] != orders[1]
        assert sorted(orders[0]) == sorted(orders[1]) == sorted(ids(held.images))


def test_a_batch_size_beyond_all_images_is_one_batch():
    blocks = shuffled(numbered(5), 10**6, seed=0)
    (rows,) = list(blocks)
    assert sorted(rows.tolist()) == [0, 1, 2, 3, 4]
    assert blocks.steps == 1


def test_only_the_rows_that_were_given_are_visited():
    blocks = ShuffledBlocks(numbered(50), torch.tensor([3, 30, 17]), 2, seed=0)
    assert sorted(number for rows in blocks for number in rows.tolist()) == [3, 17, 30]
    assert blocks.steps == 2
