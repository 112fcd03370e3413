"""How far a command is and how long the rest takes, by a clock that the tests turn."""

from __future__ import annotations

import pytest

from lora_mnist_cli.cli.pace import Pace
from lora_mnist_cli.system.work import LOADING, SCORING, STATISTICS, TRAINING, in_turn


class Clock:
    """Says what it was set to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pace(clock: Clock) -> Pace:
    return Pace(clock)


def train(pace: Pace, clock: Clock, seconds: float, steps: int, of: int) -> None:
    """Do some steps of a training, in some seconds."""
    pace.phase(TRAINING, 10.0, "", of)
    for _ in range(steps):
        clock.now += seconds / steps
        pace.advance(1, 1, 0.5)


def test_no_time_is_told_before_anything_was_measured_and_loading_packages_measures_nothing(pace, clock):
    pace.plan({LOADING: 2.0, TRAINING: 10.0})
    pace.phase(LOADING, 2.0)
    clock.now += 20
    pace.phase(TRAINING, 10.0, "", 100)
    clock.now += 0.1
    pace.advance(1, 1, 0.5)
    assert pace.seconds_left() is None
    clock.now += 0.9
    pace.advance(9, 1, 0.5)
    assert pace.seconds_left() == pytest.approx(9.0)


@pytest.mark.parametrize("slower", [0.1, 1.0, 8.0])
def test_the_time_left_is_right_on_a_machine_of_any_speed(pace, clock, slower):
    pace.plan({TRAINING: 10.0, STATISTICS: 4.0, SCORING: 1.0})
    train(pace, clock, 5 * slower, 50, 100)
    left = 5 * slower + 5 * slower
    assert left / 1.5 < pace.seconds_left() < 1.5 * left
    clock.now += 5 * slower
    pace.phase(STATISTICS, 4.0)
    clock.now += 4 * slower
    pace.phase(SCORING, 1.0)
    assert pace.seconds_left() == pytest.approx(slower, rel=0.9)


def test_a_phase_has_the_speed_that_was_measured_for_it_and_not_that_of_others(pace, clock):
    pace.plan({TRAINING: 20.0, STATISTICS: 8.0})
    train(pace, clock, 2.0, 100, 100)  # five times as fast as an ordinary machine
    pace.phase(STATISTICS, 4.0)
    clock.now += 12.0  # three times as slow
    train(pace, clock, 0.0, 1, 1000)
    assert pace.seconds_left() == pytest.approx(10 * 0.2 + 4 * 3, rel=0.06)


def test_a_few_slow_first_steps_do_not_tell_the_speed_of_a_training(pace, clock):
    pace.plan({TRAINING: 10.0})
    train(pace, clock, 1.0, 1, 100)
    clock.now += 0.5
    assert 10 < pace.seconds_left() < 30  # and not 150


def test_a_training_has_its_own_speed_as_soon_as_that_is_known(pace, clock):
    pace.plan({TRAINING: 20.0})
    train(pace, clock, 10.0, 100, 100)
    train(pace, clock, 6.0, 20, 100)
    assert pace.seconds_left() == pytest.approx(24.0)


def test_what_is_loaded_before_a_training_begins_tells_nothing_of_its_speed(pace, clock):
    pace.plan({TRAINING: 10.0})
    pace.phase(TRAINING, 10.0)
    clock.now += 30
    pace.begin("base", 1, 100)
    clock.now += 2
    pace.advance(20, 1, 0.5)
    assert pace.seconds_left() == pytest.approx(8.0)


def test_while_nobody_knows_how_much_of_a_piece_is_done_its_time_runs_but_never_to_the_end(pace, clock):
    pace.plan({TRAINING: 10.0, STATISTICS: 5.0})
    train(pace, clock, 10.0, 100, 100)
    pace.phase(STATISTICS, 5.0)
    shares, times = [], []
    for _ in range(10):
        clock.now += 1
        shares.append(pace.share_done())
        times.append(pace.seconds_left())
    assert times[:4] == pytest.approx([4.0, 3.0, 2.0, 1.0])
    assert min(times) == pytest.approx(0.5)
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(14.5 / 15)


def test_the_share_is_that_of_the_work_and_work_that_is_dropped_counts_no_more(pace, clock):
    pace.plan({TRAINING: 10.0, STATISTICS: 10.0})
    train(pace, clock, 3.0, 50, 100)
    assert pace.share_done() == pytest.approx(0.25)
    pace.plan({STATISTICS: 5.0})
    assert pace.share_done() == pytest.approx(0.5)


def test_a_piece_that_was_dropped_as_soon_as_it_began_tells_nothing(pace, clock):
    pace.plan({TRAINING: 100.0})
    pace.phase(TRAINING, 100.0)
    pace.reached(0.0)
    clock.now += 0.6
    pace.plan({TRAINING: 80.0})
    train(pace, clock, 2.0, 20, 100)
    assert pace.seconds_left() > 60


def test_a_short_piece_alone_tells_little_of_the_rest(pace, clock):
    """It was six times as slow as it was planned, as the first of its kind may be."""
    pace.plan({SCORING: 0.1, STATISTICS: 10.0})
    pace.phase(SCORING, 0.1)
    clock.now += 0.6
    pace.phase(STATISTICS, 10.0)
    assert 10 < pace.seconds_left() < 20


def test_stages_within_a_stage_are_one_work(pace, clock):
    first, second = {TRAINING: 10.0}, {TRAINING: 10.0, SCORING: 2.0}
    turns = in_turn(pace, [first, second])
    next(turns).plan(first)
    train(pace, clock, 10.0, 100, 100)
    assert pace.seconds_left() == pytest.approx(12.0, rel=0.1)
    reporter = next(turns)
    reporter.plan(second)
    assert pace.seconds_left() == pytest.approx(12.0, rel=0.1)
    train(pace, clock, 10.0, 100, 100)
    reporter.phase(SCORING, 2.0)
    assert pace.seconds_left() == pytest.approx(2.0, rel=0.1)
