"""The fused engine: members against a bank's, by Triton's interpreter, or by a GPU where there is one."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from members import adapted, assert_equal, base
from torch import nn
from torch.nn import functional as F

from lora_mnist_cli.data.dataset import MNISTDataset
from lora_mnist_cli.models.adapted_linear import adapter_tensors
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.runtime import Runtime
from lora_mnist_cli.system.errors import UsageError
from lora_mnist_cli.training import optimizers
from lora_mnist_cli.training.bank.trainer import fit_bank
from lora_mnist_cli.training.fused import tuning
from lora_mnist_cli.training.outcomes import Outcome
from lora_mnist_cli.training.trainer import EpochRecord

pytest.importorskip("triton")
pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    # Numbers that diverge.
    pytest.mark.filterwarnings("ignore:.*encountered in.*:RuntimeWarning", "ignore:All-NaN.*:RuntimeWarning"),
]

CONFIG = AdapterConfig(epochs=2, batch_size=16)
FUSED = Runtime(engine="fused")


@pytest.fixture(autouse=True)
def _simplest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the interpreter runs the kernels, products are formed in the way that it is quickest with."""
    if not torch.cuda.is_available():
        use(monkeypatch, "ieee")


def use(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    for rank, chosen in tuning.TRAINING.items():
        monkeypatch.setitem(tuning.TRAINING, rank, dataclasses.replace(chosen, way=way))
    monkeypatch.setattr(tuning, "SCORING", dataclasses.replace(tuning.SCORING, way=way))


@pytest.fixture
def data() -> MNISTDataset:
    """Images of 30 whole numbers, which are what the kernel splits: 32 for training in two batches, or three."""
    draw = np.random.default_rng(0)
    made = MNISTDataset.from_pixels(
        draw.integers(0, 256, (40, 5, 6)).astype(np.uint8), (np.arange(40) % 10).astype(np.uint8), (0.3, 0.4)
    )
    return MNISTDataset(made.images, made.labels, made.pixel_stats)


def train(
    configs: Sequence[AdapterConfig], data: MNISTDataset, hidden: Sequence[int] = (12, 9), **more: Any
) -> tuple[list[nn.Module], list[Outcome]]:
    plain = base(hidden, torch.float32)
    models = [adapted(plain, config) for config in configs]
    return models, fit_bank(models, data, configs, **more)


def figures(record: EpochRecord) -> list[float]:
    return [math.nan if value is None else value for value in dataclasses.astuple(record)]


def assert_like_the_bank(configs: Sequence[AdapterConfig], data: MNISTDataset, hidden: Sequence[int] = (12, 9)) -> None:
    fused, outcomes = train(configs, data, hidden, runtime=FUSED)
    bank, expected = train(configs, data, hidden, runtime=Runtime(accelerator="cpu"))
    for one, other, outcome, theirs in zip(fused, bank, outcomes, expected, strict=True):
        assert_equal(one, other, 1e-5)
        assert len(outcome.history) == len(theirs.history) == configs[0].epochs + 1
        for record, reference in zip(outcome.history, theirs.history, strict=True):
            assert figures(record) == pytest.approx(figures(reference), rel=1e-5, abs=1e-5, nan_ok=True)


def test_members_of_any_settings_are_those_of_a_bank(data):
    changes = (
        {"rank": 1, "schedule": "constant"},
        {"rank": 3, "seed": 1, "alpha": 2.0, "scaling": "rslora", "lr": 0.02, "schedule": "cosine"},
        {"rank": 20, "optimizer": "adam", "weight_decay": 0.1, "lr_ratio_b": 4.0},
        {"rank": 2, "target_layers": ("fc1", "fc3"), "init": "kaiming", "weight_decay": 0.5},
        {"rank": 2, "target_layers": ("fc2",), "vary": "order", "seed": 4},
    )
    assert_like_the_bank([dataclasses.replace(CONFIG, **each) for each in changes], data)


@pytest.mark.parametrize("hidden", [(20,), (5, 9, 7)])
def test_networks_of_one_and_of_three_hidden_layers(data, hidden):
    assert_like_the_bank([dataclasses.replace(CONFIG, epochs=1, rank=3)], data, hidden)


def test_a_short_last_batch_and_no_validation(data):
    """40 images in batches of 17 leave 6; the rate of a plateau watches the training loss then."""
    assert_like_the_bank([dataclasses.replace(CONFIG, epochs=1, batch_size=17, val_split=0.0)], data)


def test_images_that_are_no_whole_numbers(data):
    data = MNISTDataset(data.images + 1e-3, data.labels)
    assert_like_the_bank([dataclasses.replace(CONFIG, epochs=1)], data)


@pytest.mark.parametrize("way", ["bf16x6", "tf32x3"])
def test_products_on_tensor_cores_are_as_exact(data, way, monkeypatch):
    use(monkeypatch, way)
    assert_like_the_bank([dataclasses.replace(CONFIG, epochs=1)], data)


def test_a_rate_falls_for_the_member_whose_loss_stalls(data, monkeypatch):
    """The third epoch is the second that is no better than the first; the next has the new rate."""
    monkeypatch.setattr(optimizers, "PLATEAU_PATIENCE", 1)
    few = MNISTDataset(*data[:8], data.pixel_stats)
    configs = [dataclasses.replace(CONFIG, epochs=4, val_split=0.0, rank=2, lr=lr) for lr in (1e-7, 1e-3)]
    _, outcomes = train(configs, few, runtime=FUSED)
    assert [record.lr for record in outcomes[0].history] == pytest.approx([1e-7] * 4 + [1e-8])
    assert [record.lr for record in outcomes[1].history] == [1e-3] * 5


def test_what_diverges_is_told_and_disturbs_nobody(data):
    good = [dataclasses.replace(CONFIG, epochs=1, rank=rank, schedule="constant") for rank in (1, 2)]
    bad = dataclasses.replace(good[0], rank=4, lr=1e30)
    together, outcomes = train([good[0], bad, good[1]], data, runtime=FUSED)
    assert [outcome.failed is None for outcome in outcomes] == [True, False, True]
    assert str(outcomes[1].failed).startswith("the loss became ")
    assert str(outcomes[1].failed).endswith("in epoch 1")
    assert [record.epoch for record in outcomes[1].history] == [0]
    for place, config in ((0, good[0]), (2, good[1])):
        (alone,), _ = train([config], data, runtime=FUSED)
        for name, tensor in adapter_tensors(alone).items():
            assert torch.equal(tensor, adapter_tensors(together[place])[name])


def test_where_nobody_is_left_training_ends(data, recorder):
    configs = [dataclasses.replace(CONFIG, epochs=9, lr=1e30, rank=rank) for rank in (1, 2)]
    _, outcomes = train(configs, data, runtime=FUSED, reporter=recorder)
    assert all(outcome.failed for outcome in outcomes)
    assert recorder.all("end") == [()]
    assert len(recorder.all("epoch_done")) < 3


def test_progress_adds_up_over_the_launches(data, recorder):
    configs = [dataclasses.replace(CONFIG, rank=rank) for rank in (1, 20)]
    train(configs, data, runtime=FUSED, reporter=recorder, title="2 adapters")
    assert recorder.events[0] == ("begin", "2 adapters", 2, 4)
    for epoch in (1, 2):
        assert sum(steps for steps, at, _ in recorder.all("advance") if at == epoch) == 4
    assert all(math.isfinite(loss) for _, _, loss in recorder.all("advance"))


def test_test_images_are_scored_by_class_at_the_end(data):
    models, outcomes = train([CONFIG, dataclasses.replace(CONFIG, seed=1)], data, runtime=FUSED, test=data)
    for model, outcome in zip(models, outcomes, strict=True):
        logits = model(data.images)
        losses = F.cross_entropy(logits, data.labels, reduction="none")
        hits = logits.argmax(1) == data.labels
        assert outcome.test is not None
        for label in range(10):
            own = data.labels == label
            assert outcome.test.losses[label] == pytest.approx(losses[own].sum().item(), rel=1e-5)
            assert outcome.test.hits[label] == hits[own].sum().item()


def test_no_epochs_leave_the_start(data):
    config = dataclasses.replace(CONFIG, epochs=0)
    (model,), (outcome,) = train([config], data, runtime=FUSED)
    assert_equal(model, adapted(base(dtype=torch.float32), config), 0)
    assert len(outcome.history) == 1


def test_whether_this_machine_has_compiled_is_seen_in_tritons_cache(tmp_path, monkeypatch):
    from lora_mnist_cli.training.fused.launch import compiled_before

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    assert not compiled_before()
    (tmp_path / "KEY").mkdir()
    (tmp_path / "KEY" / "train_epoch.cubin").touch()
    assert compiled_before()


def test_without_a_gpu_it_says_what_it_needs(data, monkeypatch):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    monkeypatch.delenv("TRITON_INTERPRET")
    with pytest.raises(UsageError, match=r"needs a GPU: PyTorch finds no CUDA device .*--engine auto"):
        train([CONFIG], data, runtime=FUSED)


def test_what_it_does_not_know_it_refuses(data):
    with pytest.raises(UsageError, match="does not train dropout"):
        train([dataclasses.replace(CONFIG, dropout=0.1)], data, runtime=FUSED)


def test_a_shape_that_no_block_of_the_gpu_has_room_for_is_refused(data, monkeypatch):
    from lora_mnist_cli.training.fused import launch

    class Full:
        def __getitem__(self, grid: object) -> Any:
            def call(*_: object, **__: object) -> None:
                raise launch.OutOfResources(356352, 232448, "shared memory")

            return call

    monkeypatch.setattr(launch, "train_epoch", Full())
    with pytest.raises(UsageError, match=r"too little memory for rank 16, 16 images and 16 units .*--batch-size"):
        train([CONFIG], data, runtime=FUSED)
