"""The original study's training pipeline, rebuilt from its description: the baseline of the speed figures.

It is what a notebook usually does: a dataset of images with a transform call a sample, a loader that collates them
one by one, and a metric and log calls a step. Nothing here is slowed down on purpose, and nothing is tuned.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pytorch_lightning as pl
import torch
from PIL import Image
from pytorch_lightning.loggers import CSVLogger
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, random_split
from torchmetrics import Accuracy, Metric
from torchvision import transforms  # type: ignore[import-untyped]

from lora_mnist_cli.sources import Split, load_split

BATCH_SIZE = 64
TRAIN_SHARE = 0.8

Batch = tuple[Tensor, Tensor]


class DigitImages(Dataset[tuple[Tensor, int]]):
    """The images of some digits, each made a PIL image and transformed when it is asked for.

    That is how ``torchvision.datasets.MNIST`` serves its samples; it is not used itself because the shipped files
    are packed, in another folder than it expects.

    Args:
        split: training or test images.
        digits: which digits to keep.
        data_dir: the folder of data sets; MNIST needs none.
    """

    def __init__(self, split: Split, digits: Sequence[int], data_dir: Path = Path("data")) -> None:
        pixels, labels = load_split("mnist", split, data_dir)
        kept = np.isin(labels, list(digits))
        self.data = torch.tensor(pixels[kept])
        self.targets = torch.tensor(labels[kept]).long()
        self.transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = Image.fromarray(self.data[index].numpy())
        return cast(Tensor, self.transform(image)), int(self.targets[index])


class StudyClassifier(pl.LightningModule):
    """The 784 → 64 → 64 → 10 network with Lightning's automatic optimisation, logging loss and accuracy."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(28 * 28, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)
        )
        self.train_accuracy: Metric = Accuracy(task="multiclass", num_classes=10)
        self.val_accuracy: Metric = Accuracy(task="multiclass", num_classes=10)
        self.test_accuracy: Metric = Accuracy(task="multiclass", num_classes=10)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n × 10) of normalised images (n × 1 × 28 × 28)."""
        return cast(Tensor, self.layers(images))

    def training_step(self, batch: Batch, index: int) -> Tensor:  # noqa: ARG002 - Lightning passes it
        """Loss of a batch; both figures are logged a step and an epoch."""
        images, labels = batch
        logits = self(images)
        loss = F.cross_entropy(logits, labels)
        self.train_accuracy(logits, labels)
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        self.log("train_accuracy", self.train_accuracy, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch: Batch, index: int) -> None:  # noqa: ARG002 - Lightning passes it
        """Score a validation batch."""
        self._score("val", batch, self.val_accuracy)

    def test_step(self, batch: Batch, index: int) -> None:  # noqa: ARG002 - Lightning passes it
        """Score a test batch."""
        self._score("test", batch, self.test_accuracy)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam at the study's learning rate."""
        return torch.optim.Adam(self.parameters(), lr=1e-3)

    def _score(self, name: str, batch: Batch, accuracy: Metric) -> None:
        images, labels = batch
        logits = self(images)
        accuracy.update(logits, labels)
        self.log(f"{name}_loss", F.cross_entropy(logits, labels), on_epoch=True)
        self.log(f"{name}_accuracy", accuracy, on_epoch=True)


def train(dataset: Dataset[tuple[Tensor, int]], folder: Path, *, epochs: int = 10, seed: int = 0) -> StudyClassifier:
    """Train a new network on an 80/20 random split of a data set.

    Args:
        folder: where Lightning's logs and checkpoints go.
        seed: of the global generator, which split, initialisation and order are all drawn from.
    """
    torch.manual_seed(seed)
    count = len(dataset)  # type: ignore[arg-type]
    n_train = int(TRAIN_SHARE * count)
    train_part, val_part = random_split(dataset, [n_train, count - n_train])
    model = StudyClassifier()
    _trainer(folder, epochs).fit(
        model, DataLoader(train_part, batch_size=BATCH_SIZE, shuffle=True), DataLoader(val_part, batch_size=BATCH_SIZE)
    )
    return model


def evaluate(model: StudyClassifier, dataset: Dataset[tuple[Tensor, int]], folder: Path) -> tuple[float, float]:
    """Accuracy and mean cross-entropy of a trained network on test images."""
    loader = DataLoader(dataset, batch_size=BATCH_SIZE)
    (scores,) = _trainer(folder).test(model, loader, verbose=False)
    return scores["test_accuracy"], scores["test_loss"]


def _trainer(folder: Path, epochs: int | None = None) -> pl.Trainer:
    # Bar and summary would be printed between the results of whoever measures; all else is Lightning's default.
    return pl.Trainer(
        max_epochs=epochs, logger=CSVLogger(folder), enable_progress_bar=False, enable_model_summary=False
    )
