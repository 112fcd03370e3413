"""How much work is left: what stages plan and report, alone, one after the other, and side by side."""

from __future__ import annotations

import pytest

from lora_mnist_cli.system.work import (
    LEARNING,
    LOADING,
    SCORING,
    TRAINING,
    SideBySide,
    WorkLeft,
    duration,
    in_turn,
    piece,
)


def total(left: WorkLeft) -> float:
    return sum(left.left().values())


def test_what_is_left_is_the_plan_without_what_is_done():
    left = WorkLeft()
    left.plan({TRAINING: 10.0, SCORING: 4.0})
    left.phase(TRAINING, 10.0)
    assert total(left) == 14.0
    left.begin("base", 2, 50)
    left.advance(50, 1, 0.5)
    assert left.left() == {TRAINING: 5.0, SCORING: 4.0, "": 0.0}
    for number in (1, 2):
        left.phase(SCORING, 2.0, piece(number, 2))
    assert left.left() == {TRAINING: 0.0, SCORING: 2.0, "": 0.0}
    left.plan({})
    assert total(left) == 0.0


def test_a_piece_may_have_the_steps_of_several_trainings_and_steps_may_be_taken_back():
    left = WorkLeft()
    left.plan({TRAINING: 8.0})
    left.phase(TRAINING, 8.0, "", 40)
    for title in ("one", "two"):
        left.begin(title, 1, 20)
        left.advance(20, 1, 0.5)
        left.advance(-10, 1, 0.5)
    assert total(left) == pytest.approx(4.0)


def test_work_that_was_not_planned_is_none_that_is_left_after_it():
    left = WorkLeft()
    left.phase(SCORING, 3.0)
    left.reached(0.5)
    assert total(left) == 1.5
    left.phase(LOADING, 0.0)
    assert total(left) == 0.0


def test_the_plan_of_a_stage_within_another_counts_what_comes_later(recorder):
    turns = in_turn(recorder, [{TRAINING: 5.0}, {TRAINING: 7.0, SCORING: 1.0}])
    next(turns).plan({TRAINING: 4.0})
    next(turns).plan({SCORING: 1.0})
    assert recorder.all("plan") == [
        {TRAINING: 12.0, SCORING: 1.0}, {TRAINING: 11.0, SCORING: 1.0}, {TRAINING: 7.0, SCORING: 1.0}, {SCORING: 1.0}
    ]  # fmt: skip
    assert list(turns) == []


def test_works_side_by_side_are_one_phase_that_begins_with_the_first_step(recorder):
    together = SideBySide(recorder, LEARNING, [{TRAINING: 20.0}, {TRAINING: 60.0}], 2.0, workers=2)
    together.heard(0, "plan", {TRAINING: 20.0})
    together.heard(0, "phase", TRAINING, 20.0, "", 10)
    assert recorder.events == [("plan", {LOADING: 2.0, LEARNING: 40.0}), ("phase", LOADING, 2.0)]
    recorder.events.clear()
    together.heard(0, "advance", 1, 1, 0.5)
    assert recorder.events[:2] == [("plan", {LEARNING: 39.0}), ("phase", LEARNING, 39.0, "0/2")]
    assert recorder.all("reached") == [0.0, 0.0]
    together.heard(0, "advance", 8, 1, 0.5)
    assert recorder.all("reached")[-1] == pytest.approx(8 / 39)
    together.over(0, done=True)
    assert recorder.events[-3:] == [("plan", {LEARNING: 30.0}), ("phase", LEARNING, 30.0, "1/2"), ("reached", 0.0)]
    assert recorder.all("reached")[-2] == pytest.approx(9 / 39)


def test_a_piece_that_was_up_to_date_is_not_counted_as_done(recorder):
    together = SideBySide(recorder, LEARNING, [{TRAINING: 20.0}, {TRAINING: 60.0}], 2.0, workers=2)
    together.over(1, done=False)
    assert recorder.events[-3:] == [("plan", {LEARNING: 10.0}), ("phase", LEARNING, 10.0, "1/2"), ("reached", 0.0)]


@pytest.mark.parametrize(
    ("seconds", "text"), [(3.04, "3.0 s"), (12.4, "12 s"), (119, "119 s"), (200, "3 min"), (9000, "2.5 h")]
)
def test_a_time_is_told_in_the_unit_that_one_would_say_it_in(seconds, text):
    assert duration(seconds) == text
