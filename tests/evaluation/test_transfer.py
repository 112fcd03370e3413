"""GEM's measures on matrices that were worked out by hand."""

from __future__ import annotations

from dataclasses import astuple

import pytest

from lora_mnist_cli.evaluation.transfer import transfer

NAN = float("nan")


def test_three_tasks_by_hand():
    R = [
        [0.9, 0.2, 0.1],
        [0.6, 0.8, 0.4],
        [0.3, 0.7, 1.0],
    ]
    found = transfer(R, [0.1, 0.1, 0.2])
    assert found.accuracy == pytest.approx((0.3 + 0.7 + 1.0) / 3)
    assert found.backward == pytest.approx(((0.3 - 0.9) + (0.7 - 0.8)) / 2)
    assert found.forward == pytest.approx(((0.2 - 0.1) + (0.4 - 0.2)) / 2)
    assert found.forgetting == pytest.approx(((0.9 - 0.3) + (0.8 - 0.7)) / 2)
    assert found.so_far == pytest.approx((0.9, (0.6 + 0.8) / 2, (0.3 + 0.7 + 1.0) / 3))


def test_forgetting_looks_at_the_best_that_was_ever_reached_and_backward_transfer_at_the_tasks_own_turn():
    R = [
        [0.5, 0.9, 0.0],
        [0.8, 0.7, 0.0],
        [0.6, 0.6, 0.5],
    ]
    found = transfer(R, [0.0, 0.0, 0.0])
    assert found.backward == pytest.approx(((0.6 - 0.5) + (0.6 - 0.7)) / 2)
    assert found.forgetting == pytest.approx(((0.8 - 0.6) + (0.9 - 0.6)) / 2)


def test_what_only_ever_improves_has_forgotten_less_than_nothing():
    found = transfer([[0.5, 0.1], [0.7, 0.9]], [0.1, 0.1])
    assert (found.backward, found.forgetting) == (pytest.approx(0.2), pytest.approx(-0.2))


def test_of_a_single_task_only_the_accuracy_is_told():
    assert astuple(transfer([[0.9]], [0.1])) == (0.9, None, None, None, (0.9,))


@pytest.mark.parametrize(
    ("R", "untrained"),
    [([], []), ([[0.1, 0.2]], [0.1]), ([[0.1, 0.2], [0.3]], [0.1, 0.1]), ([[0.1]], []), ([[NAN]], [0.1]),
     ([[0.1]], [NAN])],
)  # fmt: skip
def test_what_is_no_chain_is_refused(R, untrained):
    with pytest.raises(ValueError, match="accurac"):
        transfer(R, untrained)
