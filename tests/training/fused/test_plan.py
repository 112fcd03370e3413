"""Which members share a launch, where their numbers lie, and what the engine refuses."""

from __future__ import annotations

import pytest

from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.config import BaseConfig
from lora_mnist_cli.system.errors import UsageError
from lora_mnist_cli.training.fused.plan import Shape, padded, plan_launches
from lora_mnist_cli.training.fused.support import obstacle, refuse_obstacle
from lora_mnist_cli.training.fused.tuning import WIDE, for_scoring, for_training

SIZES = (784, 64, 64, 10)


def test_sides_are_powers_of_two_from_sixteen_on():
    assert [padded(n) for n in (1, 16, 17, 32, 33, 64, 100, 128)] == [16, 16, 32, 32, 64, 64, 128, 128]


def test_members_share_a_launch_by_padded_rank_batch_and_split_the_largest_rank_first():
    configs = [
        AdapterConfig(rank=1), AdapterConfig(rank=64), AdapterConfig(rank=16, seed=5, lr=0.1, alpha=2.0),
        AdapterConfig(rank=17), AdapterConfig(rank=2, batch_size=100), AdapterConfig(rank=3, val_split=0.5),
    ]  # fmt: skip
    plans = plan_launches(configs, SIZES)
    assert [plan.members for plan in plans] == [[1], [3], [0, 2], [4], [5]]
    assert [(plan.shape.rank, plan.shape.batch, plan.batch_size) for plan in plans] == [
        (64, 64, 64), (32, 64, 64), (16, 64, 64), (16, 128, 100), (16, 64, 64),
    ]  # fmt: skip
    assert {(plan.shape.units, plan.shape.classes, plan.shape.depth) for plan in plans} == {(64, 16, 2)}


@pytest.mark.parametrize("hidden", [(12,), (12, 100), (5, 9, 7)])
def test_factors_lie_one_after_the_other_without_a_gap(hidden):
    shape = plan_launches([AdapterConfig(rank=20)], (30, *hidden, 10))[0].shape
    end = 0
    for layer in range(shape.depth + 1):
        for start, rows, columns in shape.factors(layer):
            assert start == end
            end += rows * columns
    assert end == shape.parameters
    assert shape.factors(0)[0][1:] == (32, 30)
    assert shape.factors(shape.depth)[1][1:] == (16, 32)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (BaseConfig(), "a base"),
        (AdapterConfig(method="dora"), "dora"),
        (AdapterConfig(precision="64-true"), "precision 64-true"),
        (AdapterConfig(optimizer="sgd"), "the optimiser sgd"),
        (AdapterConfig(dropout=0.1), "dropout"),
        (AdapterConfig(train="B"), "B alone"),
        (AdapterConfig(init="olora"), "the start olora"),
        (AdapterConfig(rank_pattern="fc2r4"), "layers of several ranks, fc2r4"),
        (AdapterConfig(protect=("mask",)), "the protection mask"),
        (AdapterConfig(rank=65), "rank 65, above 64"),
        (AdapterConfig(batch_size=129), "a batch of 129 images, above 128"),
    ],
)
def test_what_it_does_not_train_is_said(config, words):
    assert obstacle(config, SIZES) == words
    with pytest.raises(UsageError, match=f"the engine fused does not train {words}"):
        refuse_obstacle(config)


def test_wide_and_deep_networks_are_refused_where_they_are_known():
    assert obstacle(AdapterConfig(), (784, 64, 129, 10)) == "129 units, above 128"
    assert obstacle(AdapterConfig(), (784, 8, 8, 8, 8, 10)) == "4 hidden layers, more than 3"
    assert obstacle(AdapterConfig(), None) is None


@pytest.mark.parametrize(
    "settings",
    [
        {"rank": 64, "batch_size": 128}, {"optimizer": "adam"}, {"schedule": "cosine"}, {"schedule": "constant"},
        {"scaling": "rslora", "init": "gaussian", "alpha": 3.0}, {"init": "orthogonal"}, {"init": "eva"},
        {"target_layers": ("fc2",)}, {"lr_ratio_b": 4.0},
        {"weight_decay": 0.3, "val_split": 0.0}, {"vary": "order", "lr_power": 0.5},
    ],
)  # fmt: skip
def test_what_it_trains(settings):
    assert obstacle(AdapterConfig(**settings), (784, 128, 128, 128, 10)) is None


def test_a_shape_holds_its_own_sizes():
    assert Shape((784, 64, 64, 10), 16, 64, 64, 16).parameters == 16 * (784 + 64 + 2 * 64 + 64 + 16)


def test_a_wide_shape_gets_more_warps_whatever_the_rank():
    shapes = [
        plan_launches([AdapterConfig(rank=4, batch_size=batch)], (784, units, 10))[0].shape
        for units, batch in ((64, 64), (65, 64), (64, 65))
    ]
    assert [for_training(shape) == WIDE for shape in shapes] == [False, True, True]
    assert [for_scoring(shape) == WIDE for shape in shapes] == [False, True, False]
