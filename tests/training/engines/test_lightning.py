"""A Trainer of one's own, with the package's data module and Lightning module."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from lora_mnist_cli import AdapterConfig, BaseConfig, DigitSet, MNISTDataModule, MNISTLightningModule
from lora_mnist_cli.models.adapted_linear import attach
from lora_mnist_cli.models.mlp import MNISTModel
from lora_mnist_cli.system.errors import UsageError
from lora_mnist_cli.training.optimizers import cosine_share

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers:UserWarning", "ignore:.*LeafSpec:FutureWarning"),
]


def trainer(folder: Path, **options: Any) -> pl.Trainer:
    return pl.Trainer(
        default_root_dir=folder, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False, logger=False,
        **options,
    )  # fmt: skip


@pytest.fixture
def data(small_data: Path) -> MNISTDataModule:
    return MNISTDataModule(BaseConfig(dataset="fashion-mnist", batch_size=20), data_dir=small_data)


def test_a_base_with_checkpoints_and_callbacks(data, tmp_path):
    config = BaseConfig(dataset="fashion-mnist", epochs=4, batch_size=20, lr=0.01)
    module, best = MNISTLightningModule(config), ModelCheckpoint(tmp_path / "best", monitor="val_accuracy", mode="max")
    mine = trainer(tmp_path, max_epochs=config.epochs, callbacks=[best])
    mine.fit(module, data)
    assert module.automatic_optimization
    assert mine.global_step == 4 * 10  # 250 images of the digits 0-4, four fifths of which are trained on
    assert list((tmp_path / "best").glob("*.ckpt"))
    (tested,) = mine.test(module, data, verbose=False)
    assert tested["test_accuracy"] > 0.9
    assert module(data.test.images[:3]).shape == (3, 10)


def test_an_adapter_leaves_the_base_as_it_is(data, tmp_path):
    config = AdapterConfig(rank=2, batch_size=20, epochs=1, digits=DigitSet.parse("5-9"), lr_ratio_b=4.0)
    model = attach(MNISTModel((16, 12)), config)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    module = MNISTLightningModule(config, model)
    mine = MNISTDataModule(config, dataset="fashion-mnist", data_dir=data.data_dir)
    trainer(tmp_path, max_epochs=1, enable_checkpointing=False).fit(module, mine)
    assert set(mine.test.labels.tolist()) == {5, 6, 7, 8, 9}
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]) is ("base" in name), name
    optimizer = module.trainer.optimizers[0]
    assert [group["lr"] for group in optimizer.param_groups] == [config.rate, 4 * config.rate]


@pytest.mark.parametrize("schedule", ["constant", "plateau", "cosine"])
def test_the_schedule_is_the_configs(schedule, data, tmp_path):
    config = BaseConfig(dataset="fashion-mnist", epochs=2, batch_size=20, lr=0.01, schedule=schedule)
    rates: list[float] = []

    class Rates(pl.Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, *_: object) -> None:
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    mine = trainer(tmp_path, max_epochs=2, callbacks=[Rates()], enable_checkpointing=False)
    mine.fit(MNISTLightningModule(config), data)
    expected = [0.01 * cosine_share(step / 20) if schedule == "cosine" else 0.01 for step in range(20)]
    assert rates == pytest.approx(expected)


@pytest.mark.filterwarnings("ignore:Total length of `list` across ranks is zero:UserWarning")
def test_without_validation_images_the_plateau_is_one_of_the_training_loss(small_data, tmp_path):
    config = BaseConfig(dataset="fashion-mnist", epochs=1, batch_size=20, schedule="plateau", val_split=0)
    mine = trainer(tmp_path, max_epochs=1, enable_checkpointing=False)
    mine.fit(MNISTLightningModule(config), MNISTDataModule(config, data_dir=small_data))
    assert mine.lr_scheduler_configs[0].monitor == "train_loss"
    assert mine.lr_scheduler_configs[0].scheduler.last_epoch == 1


def test_a_cosine_without_an_end_is_refused(data, tmp_path):
    config = BaseConfig(dataset="fashion-mnist", batch_size=20, schedule="cosine")
    with pytest.raises(UsageError, match="a cosine schedule needs to know the end"):
        trainer(tmp_path, max_epochs=-1, enable_checkpointing=False).fit(MNISTLightningModule(config), data)


def test_the_start_and_the_split_are_those_of_the_stages(data, small_data):
    from lora_mnist_cli.data.dataset import MNISTDataset
    from lora_mnist_cli.stages.records.loading import untrained_base
    from lora_mnist_cli.training.trainer import SplitData

    config = BaseConfig(dataset="fashion-mnist", batch_size=20)
    ours, theirs = untrained_base(config).state_dict(), MNISTLightningModule(config).model.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    data.setup()
    whole = MNISTDataset.load("train", config.digits, dataset="fashion-mnist", data_dir=small_data)
    split = SplitData(whole, config)
    assert split.val is not None
    ((images, labels),) = data.val_dataloader()
    assert torch.equal(images, split.val.images)
    assert torch.equal(labels, split.val.labels)
