"""Reporters that pass on what they are told, whole or in part."""

from __future__ import annotations

import inspect

import pytest

from lora_mnist_cli.system.progress import Forwarding, Inside, Reporter, Silent, WithoutNotices, as_one

METHODS = {
    name: tuple(inspect.signature(method).parameters)[1:]
    for name, method in vars(Reporter).items()
    if inspect.isfunction(method) and not name.startswith("_")
}


WORK = {"plan", "phase", "reached"}


@pytest.mark.parametrize(
    ("kind", "dropped"), [(Forwarding, set()), (Inside, WORK), (WithoutNotices, WORK | {"notice"})]
)
def test_everything_is_passed_on_but_what_is_left_out(kind, dropped, recorder):
    reporter = kind(recorder)
    for name, parameters in METHODS.items():
        getattr(reporter, name)(*parameters)
    passed_on = [event for event in METHODS if event not in dropped]
    assert recorder.events == [(name, *METHODS[name]) for name in passed_on]


def test_a_warning_that_was_given_is_not_given_again(recorder):
    reporter = WithoutNotices(recorder, {"old"})
    reporter.warn("old")
    reporter.warn("new")
    assert recorder.events == [("warn", "new")]


def test_the_silent_one_can_be_told_everything():
    for name, parameters in METHODS.items():
        assert getattr(Silent(), name)(*parameters) is None


def test_trainings_that_follow_each_other_are_parts_of_one(recorder):
    with as_one(recorder, "both", [3, 4]) as reporter:
        for title, steps in (("first", 3), ("second", 4)):
            reporter.begin(title, 2, steps)
            reporter.advance(steps, 1, 0.5)
            reporter.end()
    assert recorder.events == [
        ("begin", "both", 2, 7), ("part", 1, 2), ("advance", 3, 1, 0.5), ("part", 2, 2), ("advance", 4, 1, 0.5),
        ("end",),
    ]  # fmt: skip


def test_what_never_began_does_not_end(recorder):
    with as_one(recorder, "both", [3, 4]):
        pass
    assert recorder.events == []
