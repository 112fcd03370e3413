"""Synthetic logits and features of which the figures are known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lora_mnist_cli.evaluation.forgetting import accuracy, accuracy_matrix, calibration, hidden_features, masked
from lora_mnist_cli.evaluation.probe import fit_probe
from lora_mnist_cli.models import lora
from lora_mnist_cli.models.mlp import MNISTModel
from lora_mnist_cli.settings.digits import DigitSet

OLD, NEW = DigitSet(range(5)), DigitSet(range(5, 10))


def outshouted(count: int = 200) -> tuple[Tensor, Tensor]:
    """Logits that have every digit right within its half, and the new digits far above the old ones; and labels."""
    labels = torch.arange(count) % 10
    logits = torch.nn.functional.one_hot(labels, 10).double()
    logits[:, 5:] += 20
    return logits, labels


def test_masking_gives_back_what_is_only_outshouted_and_not_what_is_lost():
    logits, labels = outshouted()
    assert (accuracy(logits, labels, OLD), accuracy(logits, labels, OLD, among=OLD)) == (0, 1)
    assert accuracy(logits, labels, NEW) == accuracy(logits, labels, NEW, among=NEW) == 1
    lost = logits.clone()
    lost[:, :5] = 0  # every old image looks alike: the first of the masked digits is the answer
    assert accuracy(lost, labels, OLD, among=OLD) == pytest.approx(1 / 5)


def test_no_images_have_no_accuracy():
    logits, labels = outshouted()
    assert accuracy(logits, labels, DigitSet([3]), among=DigitSet([3])) == 1
    assert accuracy(logits[labels != 3], labels[labels != 3], DigitSet([3])) is None


def test_masked_probabilities_are_those_of_the_digits_alone():
    logits = torch.randn(7, 10, generator=torch.Generator().manual_seed(0))
    assert torch.equal(masked(logits, DigitSet(range(10))), logits)
    some = masked(logits, DigitSet([1, 4])).softmax(1)
    torch.testing.assert_close(some[:, [1, 4]], logits[:, [1, 4]].softmax(1))
    assert some.sum(1).allclose(torch.ones(7))
    assert bool((some[:, [0, 2, 3, 5, 6, 7, 8, 9]] == 0).all())


def test_the_matrix_has_a_row_a_state_and_a_column_a_task():
    logits, labels = outshouted()
    before = logits.clone()
    before[:, 5:] = -1.0
    assert accuracy_matrix([before, logits], labels, [OLD, NEW], known=False) == [[1, 0], [0, 1]]
    # Equal logits of the new digits: the first of them is the answer.
    assert accuracy_matrix([before, logits], labels, [OLD, NEW], known=True) == [[1, pytest.approx(0.2)], [1, 1]]
    with pytest.raises(ValueError, match="no images"):
        accuracy_matrix([logits[labels < 5]], labels[labels < 5], [NEW], known=True)


def certain(confidence: float, count: int, right: int) -> tuple[Tensor, Tensor]:
    """Logits of two classes with this confidence in the first, for so many images of which so many show it."""
    odds = torch.tensor([confidence, 1 - confidence], dtype=torch.float64).log()
    return odds.repeat(count, 1), torch.cat([torch.zeros(right), torch.ones(count - right)]).long()


def test_a_calibrated_source_has_no_calibration_error_and_others_have_their_gap():
    assert calibration(*certain(0.75, 400, 300)).error == pytest.approx(0, abs=1e-12)
    found = calibration(*certain(0.75, 400, 100), bins=10)
    assert found.error == pytest.approx(0.5)
    assert found.confidence == pytest.approx(0.75)
    (filled,) = [each for each in found.bins if each.count]
    assert (filled.low, filled.high, filled.count) == (0.7, 0.8, 400)
    assert (filled.confidence, filled.accuracy) == (pytest.approx(0.75), 0.25)
    # Two bins, weighted by their images: 300 of 400 with a gap of 0.1, and 100 with one of 0.3.
    parts = certain(0.9, 300, 240), certain(0.6, 100, 90)
    both = (torch.cat(each) for each in zip(*parts, strict=True))
    assert calibration(*both).error == pytest.approx(0.75 * 0.1 + 0.25 * 0.3)


def test_a_random_source_that_says_how_sure_it_is_has_a_small_error():
    generator = torch.Generator().manual_seed(1)
    logits = 2 * torch.randn(50_000, 10, generator=generator, dtype=torch.float64)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    error = calibration(logits, labels).error
    assert error is not None
    assert error < 0.01
    wrong = calibration(3 * logits, labels).error
    assert wrong is not None
    assert wrong > 0.2


def test_the_edges_of_bins_belong_to_the_lower_one_and_certainty_to_the_last():
    edge = torch.tensor([[0.5, 0.5]], dtype=torch.float64).log()
    assert [each.count for each in calibration(edge, torch.tensor([0]), bins=2).bins] == [1, 0]
    sure = torch.tensor([[0.0, -torch.inf]], dtype=torch.float64)
    found = calibration(sure, torch.tensor([0]), bins=2)
    assert ([each.count for each in found.bins], found.error) == ([0, 1], 0)
    nothing = calibration(sure[:0], torch.tensor([], dtype=torch.long))
    assert (nothing.error, nothing.confidence, {each.count for each in nothing.bins}) == (None, None, {0})


def test_hidden_features_are_what_the_last_layer_sees():
    torch.manual_seed(0)
    model, images = MNISTModel((6, 4)), torch.randn(5, 784)
    found = hidden_features(model, images)
    assert {name: tuple(features.shape) for name, features in found.items()} == {"fc1": (5, 6), "fc2": (5, 4)}
    torch.testing.assert_close(model.fc3(found["fc2"]), model(images))  # type: ignore[operator]
    assert all(bool((features >= 0).all()) for features in found.values())
    lora.attach(model, 2)
    for layer in lora.adapted_layers(model).values():
        torch.nn.init.ones_(layer.lora_B)  # type: ignore[arg-type]
    changed = hidden_features(model, images)
    assert not torch.equal(changed["fc1"], found["fc1"])
    torch.testing.assert_close(model.fc3(changed["fc2"]), model(images))  # type: ignore[operator]


def clusters(count: int, apart: float, seed: int) -> tuple[Tensor, Tensor]:
    """Points around ten corners of a cube, and which they belong to."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(10, (count,), generator=generator)
    corners = torch.tensor([[(i >> bit) & 1 for bit in range(4)] for i in range(10)], dtype=torch.float32)
    return apart * corners[labels] + torch.randn(count, 4, generator=generator), labels


def test_a_probe_reads_off_what_is_separable_and_nothing_off_noise():
    probe = fit_probe(*clusters(2000, 12.0, 0))
    unseen, labels = clusters(1000, 12.0, 1)
    assert float((probe.logits(unseen).argmax(1) == labels).double().mean()) > 0.99
    noise = torch.randn(4000, 4, generator=torch.Generator().manual_seed(2))
    fitted, truth = fit_probe(noise[:2000], labels.repeat(2)), labels.repeat(2)
    assert float((fitted.logits(noise[2000:]).argmax(1) == truth).double().mean()) < 0.15


def test_a_probe_is_the_best_of_its_kind_whatever_units_the_features_are_in():
    """Its gradient is zero but for rounding, and stretched, shifted or repeated features change no prediction."""
    features, labels = clusters(3000, 1.5, 0)
    probe = fit_probe(features, labels, penalty=0.0)
    probabilities = probe.logits(features).softmax(1) - torch.nn.functional.one_hot(labels, 10)
    centred = (features - features.mean(0)) / features.std(0)
    assert float((centred.T @ probabilities / len(labels)).abs().max()) < 1e-3
    twice = torch.cat([100 * features - 7, features[:, :1], torch.zeros(len(features), 1)], dim=1)
    other = fit_probe(twice, labels, penalty=0.0)
    torch.testing.assert_close(other.logits(twice).softmax(1), probe.logits(features).softmax(1), atol=5e-3, rtol=0)
    assert torch.equal(fit_probe(features, labels).weight, fit_probe(features, labels).weight)
    constant = fit_probe(torch.ones(100, 3), labels[:100])
    assert constant.logits(torch.ones(1, 3)).softmax(1).allclose(torch.bincount(labels[:100]) / 100, atol=0.01)
