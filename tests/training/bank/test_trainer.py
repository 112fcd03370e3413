"""Banks: members against their twins alone, divergence, histories and progress."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from members import assert_equal
from torch import Tensor, nn

from lora_mnist_cli.data.dataset import MNISTDataset
from lora_mnist_cli.data.streams import seeded
from lora_mnist_cli.models import lora
from lora_mnist_cli.models.adapted_linear import adapter_tensors
from lora_mnist_cli.models.mlp import MNISTModel
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.system.progress import Silent
from lora_mnist_cli.training.bank.grouping import cohorts
from lora_mnist_cli.training.bank.trainer import BankTraining, fit_bank
from lora_mnist_cli.training.objective import Objective
from lora_mnist_cli.training.outcomes import Outcome
from lora_mnist_cli.training.trainer import SplitData, fit

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIG = AdapterConfig(epochs=2, batch_size=8, precision="64-true")
MIX = [
    dataclasses.replace(CONFIG, **changes)
    for changes in (
        {"rank": 1}, {"rank": 4, "seed": 1}, {"rank": 4, "alpha": 0.5, "lr": 0.01}, {"rank": 4, "seed": 1, "lr": 0.01},
        {"rank": 2, "batch_size": 16}, {"rank": 2, "optimizer": "sgd"}, {"rank": 3, "val_split": 0.0},
        {"rank": 2, "target_layers": ("fc1",), "scaling": "rslora"}, {"rank": 2, "weight_decay": 0.5},
        {"rank": 2, "schedule": "cosine"}, {"rank": 4, "schedule": "cosine", "lr_power": 0.5, "seed": 1},
        *({"rank": r, "seed": s, "weight_decay": r / 10} for r in (2, 5) for s in (7, 8, 9)),
    )
]  # fmt: skip


@pytest.fixture(scope="module")
def mnist() -> MNISTDataset:
    return MNISTDataset(*MNISTDataset.load("train", DigitSet.parse("5-9"))[:330])


def start(configs: Sequence[AdapterConfig]) -> list[nn.Module]:
    torch.manual_seed(0)
    plain, models = MNISTModel((16, 12)), []
    for config in configs:
        model = copy.deepcopy(plain)
        with seeded(config.seed_of("init"), "init"):
            lora.attach(
                model, config.rank, alpha=config.alpha, scaling=config.scaling, dropout=config.dropout,
                target_layers=config.target_layers,
            )  # fmt: skip
        models.append(model)
    return models


def train(configs: Sequence[AdapterConfig], data: MNISTDataset, **more: Any) -> tuple[list[nn.Module], list[Outcome]]:
    models = start(configs)
    return models, fit_bank(models, data, configs, **more)


def figures(outcome: Outcome) -> list[list[float]]:
    return [[math.nan if v is None else v for v in dataclasses.astuple(record)] for record in outcome.history]


def test_a_member_is_its_twin_alone_and_what_autograd_trains(mnist):
    """Weights come back as float32, so that is what they are compared in."""
    together, outcomes = train(MIX, mnist)
    for config, member, outcome in zip(MIX, together, outcomes, strict=True):
        (alone,), (own,) = train([config], mnist)
        assert_equal(member, alone, 1e-7)
        (reference,) = start([config])
        history = fit(reference, mnist, config)
        assert_equal(member, reference, 1e-7)
        for other in (figures(own), figures(Outcome(history))):
            for row, theirs in zip(figures(outcome), other, strict=True):
                assert row == pytest.approx(theirs, rel=1e-9, nan_ok=True)


def test_dropout_repeats_and_is_the_members_own(mnist):
    configs = [dataclasses.replace(CONFIG, dropout=0.4, rank=r, seed=s) for r, s in ((2, 0), (2, 1), (3, 0))]
    together, _ = train(configs, mnist)
    for config, member in zip(configs, together, strict=True):
        (alone,), _ = train([config], mnist)
        assert_equal(member, alone, 1e-7)


def test_dropout_follows_the_seed(mnist):
    """On copies of one image, orders and splits are all alike: with one start, seeds differ only in what they drop."""
    copies = MNISTDataset(*mnist[torch.zeros(40, dtype=torch.long)])

    def factors(seed: int, dropout: float = 0.4) -> list[Tensor]:
        config = dataclasses.replace(CONFIG, rank=2, dropout=dropout)
        (model,) = start([config])
        fit_bank([model], copies, [dataclasses.replace(config, seed=seed)])
        return list(adapter_tensors(model).values())

    def same(one: list[Tensor], other: list[Tensor]) -> bool:
        return all(map(torch.equal, one, other))

    assert same(factors(1), factors(1))
    assert not same(factors(1), factors(2))
    assert same(factors(1, dropout=0.0), factors(2, dropout=0.0))


def test_what_diverges_is_told_and_disturbs_nobody(mnist):
    good = [dataclasses.replace(CONFIG, rank=r, optimizer="sgd", lr=0.01) for r in (1, 2)]
    bad = dataclasses.replace(good[0], rank=4, lr=1e20)
    together, outcomes = train([good[0], bad, good[1]], mnist)
    assert [outcome.failed is None for outcome in outcomes] == [True, False, True]
    assert str(outcomes[1].failed).startswith("the loss became ")
    assert str(outcomes[1].failed).endswith("in epoch 1")
    assert [record.epoch for record in outcomes[1].history] == [0]
    for i, config in ((0, good[0]), (2, good[1])):
        (alone,), _ = train([config], mnist)
        assert_equal(together[i], alone, 1e-7)


@pytest.mark.parametrize("batch_size", [8, 1000])
def test_where_nobody_is_left_training_ends(mnist, recorder, batch_size):
    config = AdapterConfig(epochs=50, batch_size=batch_size, optimizer="sgd", lr=1e30)
    _, outcomes = train([config, dataclasses.replace(config, rank=2)], mnist, reporter=recorder)
    assert all(outcome.failed for outcome in outcomes)
    assert recorder.all("end") == [()]
    assert len(recorder.all("epoch_done")) < 3


def test_one_bar_over_all_members(mnist, recorder):
    configs = [dataclasses.replace(CONFIG, rank=r, seed=s, val_split=0.2) for r in (1, 2) for s in (0, 1)]
    _, outcomes = train(configs, mnist, reporter=recorder, title="4 adapters")
    # 264 images in batches of 8; both seeds are in the same steps, another batch size is not.
    assert recorder.events[0] == ("begin", "4 adapters", 2, 33)
    for epoch in (1, 2):
        assert sum(steps for steps, at, _ in recorder.all("advance") if at == epoch) == 33
    mean = sum(float(outcome.history[2].val_accuracy or 0) for outcome in outcomes) / 4
    assert recorder.all("epoch_done")[1][2] == pytest.approx(mean)
    assert recorder.events[-1] == ("end",)


def test_who_is_trained_in_the_same_steps():
    def of(*changes: dict[str, Any]) -> list[tuple[list[int], int]]:
        return cohorts([dataclasses.replace(CONFIG, **change) for change in changes])

    grid = [{"rank": rank, "seed": seed} for rank in (4, 1) for seed in (5, 6)]
    assert of(*grid) == [([2, 3, 0, 1], 2)]
    assert of(*grid, {"rank": 2, "seed": 5}) == [([2, 4, 0], 1), ([3, 1], 1)]
    assert of(*({**each, "dropout": 0.1} for each in grid)) == [([2, 0], 1), ([3, 1], 1)]
    assert of(grid[0], {**grid[1], "batch_size": 9}) == [([0], 1), ([1], 1)]
    assert of(grid[0], {**grid[1], "lr": 0.5}) == [([0], 1), ([1], 1)]
    assert [seeds for _, seeds in of(*({"rank": 2, "seed": s} for s in range(20)))] == [16, 4]
    assert [seeds for _, seeds in of(*({"rank": 100, "seed": s} for s in range(3)))] == [2, 1]
    assert [seeds for _, seeds in of(*({"rank": 1000, "seed": s} for s in range(2)))] == [1, 1]


def test_no_epochs_leave_the_start_untouched(mnist):
    configs = [dataclasses.replace(CONFIG, epochs=0, rank=r) for r in (1, 3)]
    members, outcomes = train(configs, mnist)
    for member, untouched, outcome in zip(members, start(configs), outcomes, strict=True):
        assert_equal(member, untouched, 0.0)
        assert [record.epoch for record in outcome.history] == [0]


def test_mixed_precision_is_trained_one_by_one(mnist):
    configs = [AdapterConfig(rank=r, epochs=1, batch_size=32, precision="bf16-mixed") for r in (1, 2)]
    members, outcomes = train(configs, mnist)
    for config, member, outcome in zip(configs, members, outcomes, strict=True):
        (alone,) = start([config])
        assert fit(alone, mnist, config) == outcome.history
        assert_equal(member, alone, 0.0)


def test_other_epochs_are_another_bank(mnist):
    with pytest.raises(ValueError, match="same epochs"):
        train([CONFIG, dataclasses.replace(CONFIG, epochs=3)], mnist)


def seen(configs: Sequence[AdapterConfig], mnist: MNISTDataset) -> dict[int, tuple[list[int], list[int]]]:
    """Seed → rows of the training split, sorted, and the rows of the first pass in their order."""
    training = BankTraining(start(configs), configs, Objective.of(mnist), Silent())
    found = {}
    for data in training.cohort_data:
        for i, member in enumerate(data.members):
            order = data.orders[i % len(data.orders)]
            split = sorted(data.train[i % len(data.orders)].tolist())
            # Each look at an order goes on where the one before it ended.
            fresh = dataclasses.replace(order)
            found[configs[member].seed] = split, torch.cat(list(fresh)).tolist()
    return found


@pytest.mark.parametrize("vary", ["init", "order", "split"])
def test_one_stream_is_varied_and_the_others_are_held(vary, mnist):
    config = dataclasses.replace(CONFIG, vary=vary, held_seed=5)
    (split, order), (other_split, other_order) = (
        seen([dataclasses.replace(config, seed=1), dataclasses.replace(config, seed=2)], mnist)[s] for s in (1, 2)
    )
    assert (split == other_split) is (vary != "split")
    assert (order == other_order) is (vary == "init")
    held = seen([dataclasses.replace(CONFIG, seed=5)], mnist)[5]
    own = seen([dataclasses.replace(CONFIG, seed=1)], mnist)[1]
    assert split == (own if vary == "split" else held)[0]
    assert sorted(order) == split
    if vary == "init":
        assert order == held[1]
    # Alone, as in mixed precision, an adapter sees the very same.
    alone = SplitData(mnist, dataclasses.replace(config, seed=1))
    assert sorted(alone.blocks.rows.tolist()) == split
    assert torch.cat(list(alone.blocks)).tolist() == order


def test_initialisations_that_see_the_same_images_are_trained_in_the_same_steps(mnist):
    configs = [dataclasses.replace(CONFIG, rank=2, seed=s, vary="init", epochs=1) for s in (0, 1, 2)]
    assert cohorts(configs) == [([0, 1, 2], 1)]
    mixed = [*configs, dataclasses.replace(CONFIG, rank=2, seed=1, vary="order", epochs=1)]
    models = start(mixed)
    fit_bank(models, mnist, mixed)
    for config, model in zip(mixed, models, strict=True):
        (alone,) = start([config])
        fit(alone, mnist, config)
        assert_equal(model, alone, 1e-7)
