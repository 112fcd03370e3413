"""Classifiers in closed form, against the same written out on all images at once."""

from __future__ import annotations

import pkgutil

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from lora_mnist_cli.data.dataset import MNISTDataset
from lora_mnist_cli.models import closed_form
from lora_mnist_cli.models.closed_form import ClosedForm, closed_form_named
from lora_mnist_cli.models.closed_form.random_features import RIDGE
from lora_mnist_cli.models.closed_form.streaming_lda import SHRINKAGE
from lora_mnist_cli.models.features import features

IMAGES, LABELS = MNISTDataset.load("test")[:900]
SHOWN = IMAGES[:100]
TASKS = ((7, 2), (0, 1, 9), (4,), (3, 5, 6))
KNOWN = sorted(digit for task in TASKS for digit in task)
WIDTH = 60


def made(name: str, *, of_features: bool = False) -> ClosedForm:
    more = {"width": WIDTH, "generator": torch.Generator().manual_seed(3)} if name == "random_features" else {}
    return closed_form_named(name, **more, **({"of_features": True} if of_features else {}))


def rows_of(*digits: int) -> Tensor:
    return torch.isin(LABELS, torch.tensor(digits))


def learned(name: str, tasks: tuple[tuple[int, ...], ...], *, of_features: bool = False) -> Tensor:
    """Logits of the images shown, after these tasks."""
    classifier, kept = made(name, of_features=of_features), {}
    for task in tasks:
        kept = classifier.with_task(kept, IMAGES[rows_of(*task)], LABELS[rows_of(*task)])
    assert {key: tuple(tensor.shape) for key, tensor in kept.items()} == classifier.shapes
    return classifier.answer(kept, SHOWN)


ALL = [("nearest_mean", False), ("streaming_lda", False), ("streaming_lda", True), ("random_features", False),
       ("random_features", True)]  # fmt: skip


def test_every_classifier_is_tried():
    assert {name for name, _ in ALL} == {module.name for module in pkgutil.iter_modules(closed_form.__path__)}


@pytest.mark.parametrize(("name", "of_features"), ALL)
def test_neither_order_nor_number_of_tasks_matters_and_a_digit_not_seen_is_never_answered(name, of_features):
    in_turn = learned(name, TASKS, of_features=of_features)
    at_once = learned(name, (tuple(KNOWN),), of_features=of_features)
    torch.testing.assert_close(in_turn, at_once, rtol=1e-2, atol=1e-2)
    assert set(in_turn.argmax(1).tolist()) <= set(KNOWN)
    assert in_turn.isfinite().all()


def test_the_nearest_mean_is_the_least_distance():
    means = torch.stack([IMAGES[rows_of(digit)].mean(0) for digit in KNOWN])
    assert torch.equal(learned("nearest_mean", TASKS)[:, KNOWN].argmax(1), torch.cdist(SHOWN, means).argmin(1))


@pytest.mark.parametrize("of_features", [False, True])
def test_streaming_lda_is_the_likeliest_gaussian_of_one_covariance(of_features):
    known = rows_of(*KNOWN)
    points = (features(IMAGES) if of_features else IMAGES).double()
    shown = points[: len(SHOWN)]
    means = {digit: points[rows_of(digit)].mean(0) for digit in KNOWN}
    centred = points[known] - torch.stack([means[int(label)] for label in LABELS[known]])
    covariance = centred.T @ centred / known.sum()
    share, variance = SHRINKAGE[of_features], covariance.diagonal().mean()
    covariance = (1 - share) * covariance + share * variance * torch.eye(len(covariance))
    expected = torch.stack([MultivariateNormal(means[digit], covariance).log_prob(shown) for digit in KNOWN], dim=1)
    found = learned("streaming_lda", TASKS, of_features=of_features)[:, KNOWN].double()
    torch.testing.assert_close(found.log_softmax(1), expected.log_softmax(1), rtol=5e-2, atol=0.2)
    assert (found.argmax(1) == expected.argmax(1)).double().mean() >= 0.99


def test_ridge_regression_is_the_least_squares_fit_with_a_row_per_coordinate_more():
    known, classifier = rows_of(*KNOWN), made("random_features")
    points = classifier.points(IMAGES[known]).double()
    targets = torch.nn.functional.one_hot(LABELS[known], 10).double()
    weight = (RIDGE * points.square().sum(0).mean()).sqrt()
    more = torch.cat([points, weight * torch.eye(WIDTH)]), torch.cat([targets, torch.zeros(WIDTH, 10)])
    expected = classifier.points(SHOWN).double() @ torch.linalg.lstsq(*more).solution
    torch.testing.assert_close(
        learned("random_features", TASKS)[:, KNOWN].double(), expected[:, KNOWN], rtol=1e-3, atol=1e-3
    )


def test_a_product_is_computed_once_and_in_blocks(monkeypatch):
    monkeypatch.setattr(closed_form, "_BLOCK", 17)
    monkeypatch.setattr(closed_form, "_BATCH", 100)
    classifier = made("random_features")
    kept = classifier.with_task({}, IMAGES, LABELS)
    points = classifier.points(IMAGES)
    triangle = (points.T @ points)[*torch.triu_indices(WIDTH, WIDTH)]
    torch.testing.assert_close(kept["products"], triangle, rtol=1e-3, atol=1e-2)
    assert kept["counts"].sum() == len(IMAGES)
