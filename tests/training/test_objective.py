"""What adapters learn from under each protection, against small references written here."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from old_and_new import MEAN, STD, context_of, load
from torch import Tensor

from lora_mnist_cli.data.dataset import split_rows
from lora_mnist_cli.models.densities import ClassStatistics
from lora_mnist_cli.models.mlp import MNISTModel
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.training.objective import Objective, ProtectionContext
from lora_mnist_cli.training.protections import make_objective
from lora_mnist_cli.training.protections.nullspace import dominant

pytestmark = pytest.mark.usefixtures("one_thread")

NEW = DigitSet.parse("5-9")
CONFIG = AdapterConfig(digits=NEW)


@pytest.fixture(scope="module")
def context() -> ProtectionContext:
    torch.manual_seed(0)
    return context_of(MNISTModel((16, 12)), CONFIG)


def protected(context: ProtectionContext, *names: str, **settings: float) -> Objective:
    config = dataclasses.replace(context.config, protect=names, **settings)
    return make_objective(dataclasses.replace(context, config=config))


def logits(context: ProtectionContext, images: Tensor) -> Tensor:
    with torch.no_grad():
        return context.base(images)


def test_without_a_protection_it_is_images_and_their_digits(context):
    objective = protected(context)
    assert not objective.protected
    assert objective.data is context.images
    assert torch.equal(objective.main.targets.argmax(1), context.images.labels)
    for seed in (0, 3):
        config = dataclasses.replace(CONFIG, seed=seed)
        for mine, plain in zip(objective.split(config), split_rows(300, 0.2, seed), strict=True):
            assert torch.equal(mine, plain)  # type: ignore[arg-type]


def test_replay_adds_samples_of_old_digits_as_the_base_sees_them_and_of_new_ones(context):
    objective = protected(context, "replay", replay_old=1.5, replay_new=0.5)
    assert objective.protected
    assert (objective.images, len(objective.data)) == (300, 300 + 450 + 150)
    assert torch.equal(objective.data.images[:300], context.images.images)
    old, new = slice(300, 750), slice(750, 900)
    pixels = objective.data.images[300:] * STD + MEAN
    assert pixels.min() >= -1e-6
    assert pixels.max() <= 1 + 1e-6
    answers = torch.softmax(logits(context, objective.data.images[old])[:, :5], 1)
    torch.testing.assert_close(objective.main.targets[old, :5], answers)
    assert not objective.main.targets[old, 5:].any()
    assert torch.equal(objective.data.labels[old], answers.argmax(1))
    assert set(objective.data.labels[new].tolist()) == set(range(5, 10))
    assert torch.equal(objective.main.targets[new].argmax(1), objective.data.labels[new])
    assert objective.main.hidden is None


def test_samples_look_like_their_digits(context):
    """By the nearest mean of real images; chance is a fifth."""
    objective = protected(context, "replay")
    means = torch.stack([context.images.images[context.images.labels == digit].mean(0) for digit in NEW])
    new = slice(600, 900)
    nearest = torch.cdist(objective.data.images[new], means).argmin(1) + 5
    assert (nearest == objective.data.labels[new]).double().mean() > 0.7


def test_old_digits_that_are_learned_again_are_not_replayed(context):
    config = dataclasses.replace(CONFIG, digits=DigitSet.parse("3-9"), protect=("replay",), replay_new=0.0)
    images = load("3-9", 210)
    objective = make_objective(dataclasses.replace(context, config=config, images=images))
    assert len(objective.data) - 210 == 90  # three digits of samples for seven of images
    stream = torch.Generator().manual_seed(4)
    _, digits = dataclasses.replace(context, config=config).old_samples(500, stream)
    assert set(digits.tolist()) == {0, 1, 2}


def test_the_same_samples_come_each_time_and_no_seed_changes_them(context):
    one, other = (
        make_objective(dataclasses.replace(context, config=dataclasses.replace(CONFIG, protect=("replay",), seed=seed)))
        for seed in (0, 1)
    )
    assert torch.equal(one.data.images, other.data.images)


def test_the_threads_of_who_asks_change_no_sample(context):
    many = dataclasses.replace(context, images=load("5-9", 3000))
    one = protected(many, "replay", "distill")
    torch.set_num_threads(2)  # the fixture sets it back
    two = protected(many, "replay", "distill")
    assert torch.get_num_threads() == 2
    assert torch.equal(one.data.images, two.data.images)
    assert all(torch.equal(a.targets, b.targets) for a, b in zip(one.terms, two.terms, strict=True))


def test_a_seed_splits_images_as_ever_and_samples_in_the_same_ratio(context):
    objective = protected(context, "replay")
    seen = []
    for seed in (0, 1):
        config = dataclasses.replace(CONFIG, protect=("replay",), seed=seed)
        train, val = objective.split(config)
        assert val is not None
        assert sorted(torch.cat([train, val]).tolist()) == list(range(900))
        plain_train, plain_val = split_rows(300, 0.2, seed)
        for mine, plain, samples in ((train, plain_train, 480), (val, plain_val, 120)):
            assert set(mine[mine < 300].tolist()) == set(plain.tolist())  # type: ignore[union-attr]
            assert int((mine >= 300).sum()) == samples
        # What an epoch is scored on are the first rows: images and samples in like shares.
        assert 60 < int((train[:240] < 300).sum()) < 100
        seen.append(set(train.tolist()))
    assert seen[0] != seen[1]
    train, val = objective.split(dataclasses.replace(CONFIG, val_split=0.0))
    assert (len(train), val) == (900, None)


def test_the_mask_hides_the_old_logits_from_images_and_not_from_samples(context):
    alone, both = protected(context, "mask"), protected(context, "mask", "replay")
    for objective in (alone, both):
        assert objective.main.hidden is not None
        assert torch.equal(objective.main.hidden[:300, 5:], torch.zeros(300, 5))
        assert bool((objective.main.hidden[:300, :5] == -math.inf).all())
        assert not objective.main.hidden[300:].any()
        assert objective.main.hidden.shape == (len(objective.data), 10)
    assert len(alone.data) == 300


def test_distillation_keeps_the_bases_answers_among_the_old_digits(context):
    for names in (("distill",), ("replay", "distill")):
        objective = protected(context, *names, distill_weight=0.25)
        (term,) = objective.more
        wanted = torch.softmax(logits(context, objective.data.images)[:, :5] / 2, 1)
        torch.testing.assert_close(term.targets[:, :5], 0.25 * 2 * wanted)
        assert not term.targets[:, 5:].any()
        assert (term.weight, term.temperature) == (0.5, 2.0)
        assert term.hidden is not None
        assert torch.equal(term.hidden == 0, (torch.arange(10) < 5).expand(len(objective.data), 10))


def test_the_null_space_holds_the_asked_share_of_the_old_inputs_energy_and_no_more(context):
    objective = protected(context, "nullspace", nullspace_energy=0.9)
    assert [len(U) for U in objective.avoided] == [784, 16, 12]
    images, _ = context.old_samples(3000, torch.Generator().manual_seed(5))
    hidden = images
    for U, layer in zip(objective.avoided, context.base.children(), strict=True):
        torch.testing.assert_close(U.mT @ U, torch.eye(U.shape[1]), atol=1e-5, rtol=0)
        share = (hidden @ U).square().sum() / hidden.square().sum()
        assert share > 0.88
        assert U.shape[1] < len(U) / 2
        with torch.no_grad():
            hidden = layer(hidden).relu()


def test_as_few_directions_as_reach_the_share():
    draw = torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(6, 6, generator=draw, dtype=torch.float64))[0]
    inputs = torch.diag(torch.tensor([10.0, 5.0, 2.0, 1.0, 0.1, 0.0], dtype=torch.float64)) @ turn.mT
    energies = [100, 25, 4, 1, 0.01]
    for share in (0.5, 0.95, 0.99, 0.9999999):
        U = dominant(inputs, share)
        reached = [sum(energies[:count]) / sum(energies) for count in range(1, 6)]
        count = next((i + 1 for i, each in enumerate(reached) if each >= share), 5)
        assert U.shape == (6, count)
        torch.testing.assert_close(U @ U.mT, turn[:, :count] @ turn[:, :count].mT)


def test_something_is_always_left_to_learn_in():
    assert dominant(torch.eye(4), 0.999).shape == (4, 3)


def test_protections_are_applied_in_the_tables_order(context):
    one, other = protected(context, "mask", "distill", "replay"), protected(context, "replay", "mask", "distill")
    for mine, theirs in zip(one.terms, other.terms, strict=True):
        assert torch.equal(mine.targets, theirs.targets)
        assert torch.equal(mine.hidden, theirs.hidden)  # type: ignore[arg-type]


def test_statistics_of_none_of_the_old_digits_are_refused(context):
    wrong = ClassStatistics.fit(context.images.images, context.images.labels)
    with pytest.raises(ValueError, match="none of 0-4"):
        make_objective(
            dataclasses.replace(context, statistics=wrong, config=dataclasses.replace(CONFIG, protect=("replay",)))
        )
