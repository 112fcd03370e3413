"""The original study's training pipeline, rebuilt from what its notebook does: the baseline of the speed figures.

A data set of images with a transform call a sample, a loader in the main process that collates them one by one,
Lightning's automatic optimisation with a metric and two log calls a step, both shown in Lightning's progress bar and
written by its TensorBoard logger. Nothing here is slowed down on purpose, and nothing is tuned. The notebook asks for
mixed precision, which on a CPU is bfloat16; here it computes in 32-bit floats, as the project does.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytorch_lightning as pl
import torch
from PIL import Image
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, random_split
from torchmetrics import Accuracy, Metric
from torchvision import transforms  # type: ignore[import-untyped]

from lora_mnist_cli.data.sources import Split, load_split

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
        # The notebook compares label by label in Python; it is done once a run, and left as it is.
        kept = [label in digits for label in torch.tensor(labels).long()]
        self.data = torch.tensor(pixels)[kept]
        self.targets = torch.tensor(labels).long()[kept]
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
        self.accuracy: Metric = Accuracy(task="multiclass", num_classes=10)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n × 10) of normalised images (n × 1 × 28 × 28)."""
        return cast(Tensor, self.layers(images))

    def training_step(self, batch: Batch, index: int) -> Tensor:  # noqa: ARG002 - Lightning passes it
        """Loss of a batch; both figures are logged a step and an epoch."""
        return self._score("train", batch)

    def validation_step(self, batch: Batch, index: int) -> None:  # noqa: ARG002 - Lightning passes it
        """Score a validation batch."""
        self._score("val", batch)

    def test_step(self, batch: Batch, index: int) -> None:  # noqa: ARG002 - Lightning passes it
        """Score a test batch."""
        self._score("test", batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam at the study's learning rate."""
        return torch.optim.Adam(self.parameters(), lr=1e-3)

    def _score(self, name: str, batch: Batch) -> Tensor:
        images, labels = batch
        logits = self(images)
        loss = F.cross_entropy(logits, labels)
        how = {"on_step": name == "train", "on_epoch": True, "prog_bar": True}
        self.log(f"{name}_loss", loss, **how)
        self.log(f"{name}_accuracy", self.accuracy(logits, labels), **how)
        return loss


class StudyAdapter(StudyClassifier):
    """A frozen base with a low-rank product beside each linear layer, trained by AdamW with reduce-on-plateau."""

    def __init__(self, base: StudyClassifier, rank: int) -> None:
        super().__init__()
        self.layers.load_state_dict(base.layers.state_dict())
        self.layers.requires_grad_(False)
        for name, layer in list(self.layers.named_children()):
            if isinstance(layer, nn.Linear):
                self.layers.set_submodule(name, LowRank(layer, rank))

    def configure_optimizers(self) -> dict[str, object]:  # type: ignore[override]
        """AdamW over the factors, and the study's schedule."""
        optimizer = torch.optim.AdamW([each for each in self.parameters() if each.requires_grad], lr=1e-3)
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=10)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "monitor": "val_loss"}}


class LowRank(nn.Module):
    """``W x + b + B A x``, with A uniform in ±1/√rank and B zero at the start."""

    def __init__(self, base: nn.Linear, rank: int) -> None:
        super().__init__()
        self.base = base
        self.A = nn.Parameter(torch.empty(rank, base.in_features).uniform_(-(rank**-0.5), rank**-0.5))
        self.B = nn.Parameter(torch.zeros(base.out_features, rank))

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs (n × out) of inputs (n × in)."""
        return cast(Tensor, self.base(inputs)) + inputs @ self.A.t() @ self.B.t()


def train(dataset: Dataset[tuple[Tensor, int]], folder: Path, *, epochs: int = 10, seed: int = 0) -> StudyClassifier:
    """Train a new network on an 80/20 random split of a data set.

    Args:
        folder: where Lightning's logs go.
        seed: of the global generator, which split, initialisation and order are all drawn from.
    """
    torch.manual_seed(seed)
    return fit(StudyClassifier(), dataset, folder, epochs)


def adapt(
    base: StudyClassifier, rank: int, dataset: Dataset[tuple[Tensor, int]], folder: Path, *, epochs: int = 10,
    seed: int = 0,
) -> StudyClassifier:  # fmt: skip
    """Train an adapter of that rank on a base, in the same way."""
    torch.manual_seed(seed)
    return fit(StudyAdapter(base, rank), dataset, folder, epochs)


def fit(model: StudyClassifier, dataset: Dataset[tuple[Tensor, int]], folder: Path, epochs: int) -> StudyClassifier:
    """Train a network, or what of it is not frozen, on an 80/20 random split of a data set."""
    count = len(dataset)  # type: ignore[arg-type]
    n_train = int(TRAIN_SHARE * count)
    train_part, val_part = random_split(dataset, [n_train, count - n_train])
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
    # The summary alone is left out: it would be printed between the results of whoever measures.
    return pl.Trainer(
        max_epochs=epochs,
        logger=TensorBoardLogger(folder),
        enable_checkpointing=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
