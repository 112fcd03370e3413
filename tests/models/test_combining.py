"""Ways to combine changes of weights, on matrices of which the outcome is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lora_mnist_cli.models.combining import combiner_named
from lora_mnist_cli.models.combining.products import Product, relative_residual, side_by_side, truncated


def product(rank: int, seed: int, fan_in: int = 7, fan_out: int = 5) -> Product:
    generator = np.random.default_rng(seed)
    return Product(generator.normal(size=(fan_out, rank)), generator.normal(size=(rank, fan_in)))


def wanted(name: str, changes: list[Any], weights: list[float], density: float = 1.0) -> Any:
    draws = [np.random.default_rng(seed) for seed in range(len(changes))]
    return combiner_named(name).wanted(changes, weights, density=density, draws=draws)


def test_products_side_by_side_are_the_weighted_sum_of_the_products_and_not_of_the_factors():
    one, two = product(2, 0), product(2, 1)
    both = side_by_side([one, two], [0.5, -2.0])
    assert both.rank == 4
    np.testing.assert_allclose(both.matrix(), 0.5 * one.matrix() - 2 * two.matrix(), atol=1e-12)
    assert relative_residual(both.matrix(), (0.5 * one.B - 2 * two.B) @ (0.5 * one.A - 2 * two.A)) > 0.5
    np.testing.assert_allclose(both.padded(9).matrix(), both.matrix(), rtol=1e-12)
    assert both.padded(9).rank == 9


@pytest.mark.parametrize("rank", [1, 2, 3, 5, 8])
def test_what_a_rank_leaves_out_is_the_tail_of_the_singular_values(rank):
    """Eckart and Young: the residual is the root of their squares, and no other product of that rank has a smaller."""
    matrix = product(5, 3).matrix()
    singular = np.linalg.svd(matrix, compute_uv=False)
    held = truncated(matrix, rank)
    assert (held.B.shape, held.A.shape) == ((5, rank), (rank, 7))
    tail = float(np.sqrt((singular[rank:] ** 2).sum()))
    assert relative_residual(matrix, held.matrix()) == pytest.approx(tail / np.linalg.norm(matrix), abs=1e-12)
    nudged = Product(held.B + 1e-3 * product(rank, 4).B, held.A)
    assert relative_residual(matrix, nudged.matrix()) > relative_residual(matrix, held.matrix())


def test_a_residual_is_relative_and_zero_where_there_is_nothing():
    ones = np.ones((2, 3))
    assert relative_residual(ones, 0.9 * ones) == pytest.approx(0.1)
    assert relative_residual(0 * ones, 0 * ones) == 0


@pytest.mark.parametrize("name", ["linear", "svd"])
def test_the_sum_is_weighted_layer_by_layer(name):
    changes = [{"fc1": np.full((2, 2), 1.0), "fc2": np.eye(2)}, {"fc1": np.full((2, 2), 10.0), "fc2": np.eye(2)}]
    found = wanted(name, changes, [2.0, 0.5])
    np.testing.assert_allclose(found["fc1"], np.full((2, 2), 7.0))
    np.testing.assert_allclose(found["fc2"], 2.5 * np.eye(2))


def test_ties_trims_elects_a_sign_and_averages_what_agrees():
    one, two, three = ([[4.0, -3.0, 0.1, 2.0]], [[2.0, 1.0, -0.2, -3.0]], [[0.0, -1.0, 5.0, -4.0]])
    changes = [{"fc1": np.array(each)} for each in (one, two, three)]
    # Kept of four: the two largest of each: (4, -3, ., .), (2, ., ., -3), (., ., 5, -4).
    np.testing.assert_allclose(wanted("ties", changes, [1, 1, 1], 0.5)["fc1"], [[3.0, -3.0, 5.0, -3.5]])
    # All kept: signs by the sums 6, -3, 4.9, -5; then means of those that agree.
    np.testing.assert_allclose(
        wanted("ties", changes, [1, 1, 1], 1.0)["fc1"], [[3.0, -2.0, (0.1 + 5.0) / 2, -3.5]], atol=1e-12
    )
    # Equal weights are the paper's λ, and others have a say in the vote.
    np.testing.assert_allclose(wanted("ties", changes, [2, 2, 2], 0.5)["fc1"], [[6.0, -6.0, 10.0, -7.0]])
    np.testing.assert_allclose(wanted("ties", changes, [5, 1, 1], 1.0)["fc1"][0, 3], 10.0)


def test_ties_trims_over_all_layers_together():
    change = {"fc1": np.array([[10.0, 9.0]]), "fc2": np.array([[1.0, 2.0]])}
    found = wanted("ties", [change], [1], 0.5)
    np.testing.assert_allclose(found["fc1"], [[10.0, 9.0]])
    np.testing.assert_allclose(found["fc2"], [[0.0, 0.0]])


def test_dare_drops_a_share_and_keeps_the_expectation():
    change = {"fc1": np.ones((200, 200))}
    found = wanted("dare", [change], [1.0], 0.25)["fc1"]
    assert set(np.unique(found)) == {0.0, 4.0}
    assert float((found != 0).mean()) == pytest.approx(0.25, abs=0.01)
    assert float(found.mean()) == pytest.approx(1.0, abs=0.04)
    np.testing.assert_array_equal(wanted("dare", [change, change], [1.0, 2.0], 1.0)["fc1"], np.full((200, 200), 3.0))
    apart = wanted("dare", [change, change], [1.0, 1.0], 0.25)["fc1"]
    assert set(np.unique(apart)) == {0.0, 4.0, 8.0}
