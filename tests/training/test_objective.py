"""What adapters learn from under each protection, against small references written here."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from lora_mnist_cli.data.dataset import MNISTDataset, split_rows
from lora_mnist_cli.models.densities import ClassStatistics
from lora_mnist_cli.models.mlp import MNISTModel
from lora_mnist_cli.settings.config import AdapterConfig
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.training.objective import Lesson, Situation, make_lesson
from lora_mnist_cli.training.protections.nullspace import dominant

pytestmark = pytest.mark.usefixtures("one_thread")

MEAN, STD = 0.1307, 0.3081
NEW = DigitSet.parse("5-9")
CONFIG = AdapterConfig(digits=NEW)


def load(digits: str, count: int) -> MNISTDataset:
    return MNISTDataset(*MNISTDataset.load("train", DigitSet.parse(digits), pixel_stats=(MEAN, STD))[:count])


@pytest.fixture(scope="module")
def situation() -> Situation:
    torch.manual_seed(0)
    old = load("0-4", 400)
    statistics = ClassStatistics.fit(old.images, old.labels)
    return Situation(MNISTModel((16, 12)), DigitSet.parse("0-4"), CONFIG, load("5-9", 300), (MEAN, STD), statistics)


def protected(situation: Situation, *names: str, **settings: float) -> Lesson:
    config = dataclasses.replace(situation.config, protect=names, **settings)
    return make_lesson(dataclasses.replace(situation, config=config))


def logits(situation: Situation, images: Tensor) -> Tensor:
    with torch.no_grad():
        return situation.base(images)


def test_without_a_protection_it_is_images_and_their_digits(situation: Situation) -> None:
    lesson = protected(situation)
    assert not lesson.protected
    assert lesson.data is situation.images
    assert torch.equal(lesson.main.targets.argmax(1), situation.images.labels)
    for seed in (0, 3):
        config = dataclasses.replace(CONFIG, seed=seed)
        for mine, plain in zip(lesson.split(config), split_rows(300, 0.2, seed), strict=True):
            assert torch.equal(mine, plain)  # type: ignore[arg-type]


def test_replay_adds_samples_of_old_digits_as_the_base_sees_them_and_of_new_ones(situation: Situation) -> None:
    lesson = protected(situation, "replay", replay_old=1.5, replay_new=0.5)
    assert lesson.protected
    assert (lesson.images, len(lesson.data)) == (300, 300 + 450 + 150)
    assert torch.equal(lesson.data.images[:300], situation.images.images)
    old, new = slice(300, 750), slice(750, 900)
    pixels = lesson.data.images[300:] * STD + MEAN
    assert pixels.min() >= -1e-6
    assert pixels.max() <= 1 + 1e-6
    answers = torch.softmax(logits(situation, lesson.data.images[old])[:, :5], 1)
    torch.testing.assert_close(lesson.main.targets[old, :5], answers)
    assert not lesson.main.targets[old, 5:].any()
    assert torch.equal(lesson.labels[old], answers.argmax(1))
    assert set(lesson.labels[new].tolist()) == set(range(5, 10))
    assert torch.equal(lesson.main.targets[new].argmax(1), lesson.labels[new])
    assert lesson.main.hidden is None


def test_samples_look_like_their_digits(situation: Situation) -> None:
    """By the nearest mean of real images; chance is a fifth."""
    lesson = protected(situation, "replay")
    means = torch.stack([situation.images.images[situation.images.labels == digit].mean(0) for digit in NEW])
    new = slice(600, 900)
    nearest = torch.cdist(lesson.data.images[new], means).argmin(1) + 5
    assert (nearest == lesson.labels[new]).double().mean() > 0.7


def test_old_digits_that_are_learned_again_are_not_replayed(situation: Situation) -> None:
    config = dataclasses.replace(CONFIG, digits=DigitSet.parse("3-9"), protect=("replay",), replay_new=0.0)
    images = load("3-9", 210)
    lesson = make_lesson(dataclasses.replace(situation, config=config, images=images))
    assert len(lesson.data) - 210 == 90  # three digits of samples for seven of images
    stream = torch.Generator().manual_seed(4)
    _, digits = dataclasses.replace(situation, config=config).old_samples(500, stream)
    assert set(digits.tolist()) == {0, 1, 2}


def test_the_same_samples_come_each_time_and_no_seed_changes_them(situation: Situation) -> None:
    one, other = (
        make_lesson(dataclasses.replace(situation, config=dataclasses.replace(CONFIG, protect=("replay",), seed=seed)))
        for seed in (0, 1)
    )
    assert torch.equal(one.data.images, other.data.images)


def test_the_threads_of_who_asks_change_no_sample(situation: Situation) -> None:
    many = dataclasses.replace(situation, images=load("5-9", 3000))
    one = protected(many, "replay", "distill")
    torch.set_num_threads(2)  # the fixture sets it back
    two = protected(many, "replay", "distill")
    assert torch.get_num_threads() == 2
    assert torch.equal(one.data.images, two.data.images)
    assert all(torch.equal(a.targets, b.targets) for a, b in zip(one.terms, two.terms, strict=True))


def test_a_seed_splits_images_as_ever_and_samples_in_the_same_ratio(situation: Situation) -> None:
    lesson = protected(situation, "replay")
    seen = []
    for seed in (0, 1):
        config = dataclasses.replace(CONFIG, protect=("replay",), seed=seed)
        train, val = lesson.split(config)
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
    train, val = lesson.split(dataclasses.replace(CONFIG, val_split=0.0))
    assert (len(train), val) == (900, None)


def test_the_mask_hides_the_old_logits_from_images_and_not_from_samples(situation: Situation) -> None:
    alone, both = protected(situation, "mask"), protected(situation, "mask", "replay")
    for lesson in (alone, both):
        assert lesson.main.hidden is not None
        assert torch.equal(lesson.main.hidden[:300, 5:], torch.zeros(300, 5))
        assert bool((lesson.main.hidden[:300, :5] == -math.inf).all())
        assert not lesson.main.hidden[300:].any()
        assert lesson.main.hidden.shape == (len(lesson.data), 10)
    assert len(alone.data) == 300


def test_distillation_keeps_the_bases_answers_among_the_old_digits(situation: Situation) -> None:
    for names in (("distill",), ("replay", "distill")):
        lesson = protected(situation, *names, distill_weight=0.25)
        (term,) = lesson.more
        wanted = torch.softmax(logits(situation, lesson.data.images)[:, :5] / 2, 1)
        torch.testing.assert_close(term.targets[:, :5], 0.25 * 2 * wanted)
        assert not term.targets[:, 5:].any()
        assert (term.weight, term.temperature) == (0.5, 2.0)
        assert term.hidden is not None
        assert torch.equal(term.hidden == 0, (torch.arange(10) < 5).expand(len(lesson.data), 10))


def test_the_null_space_holds_the_asked_share_of_the_old_inputs_energy_and_no_more(situation: Situation) -> None:
    lesson = protected(situation, "nullspace", nullspace_energy=0.9)
    assert [len(U) for U in lesson.avoided] == [784, 16, 12]
    images, _ = situation.old_samples(3000, torch.Generator().manual_seed(5))
    hidden = images
    for U, layer in zip(lesson.avoided, situation.base.children(), strict=True):
        torch.testing.assert_close(U.mT @ U, torch.eye(U.shape[1]), atol=1e-5, rtol=0)
        share = (hidden @ U).square().sum() / hidden.square().sum()
        assert share > 0.88
        assert U.shape[1] < len(U) / 2
        with torch.no_grad():
            hidden = layer(hidden).relu()


def test_as_few_directions_as_reach_the_share() -> None:
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


def test_something_is_always_left_to_learn_in() -> None:
    assert dominant(torch.eye(4), 0.999).shape == (4, 3)


def test_protections_are_applied_in_the_tables_order(situation: Situation) -> None:
    one, other = protected(situation, "mask", "distill", "replay"), protected(situation, "replay", "mask", "distill")
    for mine, theirs in zip(one.terms, other.terms, strict=True):
        assert torch.equal(mine.targets, theirs.targets)
        assert torch.equal(mine.hidden, theirs.hidden)  # type: ignore[arg-type]


def test_statistics_of_none_of_the_old_digits_are_refused(situation: Situation) -> None:
    wrong = ClassStatistics.fit(situation.images.images, situation.images.labels)
    with pytest.raises(ValueError, match="none of 0-4"):
        make_lesson(
            dataclasses.replace(situation, statistics=wrong, config=dataclasses.replace(CONFIG, protect=("replay",)))
        )
