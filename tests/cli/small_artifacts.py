"""The names of the artifacts that the fixture ``runs`` has here, and the command that makes such a base."""

from pathlib import Path

from lora_mnist_cli.registry.shared_statistics import STORE

BASE = "base-fashion-mnist-0-4"
R1, R2 = "lora-fashion-mnist-5-9-r1", "lora-fashion-mnist-5-9-r2"
SWEEP = "sweep-fashion-mnist-5-9"
NAMES = [BASE, R1, R2, SWEEP]
"""All of them, oldest first."""
TRAIN_BASE = ["train-base", "--dataset", "fashion-mnist", "--hidden-size", "16,12", "--batch-size", "100"]
"""With ``--epochs 1`` the base is up to date."""


def names_in(folder: Path) -> list[str]:
    """What lies in a folder, hidden things too, except shared statistics: a copied folder may lose them."""
    return sorted(path.name for path in folder.iterdir() if path.name != STORE)
