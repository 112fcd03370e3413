"""What stands in front of the status line, and what a log says of the time that is left."""

from __future__ import annotations

import io

import pytest

from lora_mnist_cli.cli import basics
from lora_mnist_cli.cli.training_progress import StderrReporter, clock
from lora_mnist_cli.system.work import TRAINING


class Known:
    """A pace that is at a share, with some seconds left."""

    def __init__(self, share: float, left: float | None) -> None:
        self._share, self._left = share, left

    def share_done(self) -> float:
        return self._share

    def seconds_left(self) -> float | None:
        return self._left

    def reached(self, share: float) -> None: ...


def front(share: float, left: float | None, columns: int = 79) -> str:
    reporter = StderrReporter(quiet=False, verbose=False)
    reporter._pace = Known(share, left)  # type: ignore[assignment]
    return reporter._front(columns)


def test_its_width_is_the_same_throughout_and_half_of_a_narrow_terminal_is_left_to_the_text():
    fronts = [front(0.0, None), front(0.004, 9.0), front(0.42, 84.0), front(1.0, 0.2), front(0.5, 3599.0)]
    assert fronts[2] == "━━━━━─────── 42%  1:24 left  "
    assert {len(each) for each in fronts} == {29}
    assert len(front(0.5, 35999.0)) < 35
    assert front(0.42, 84.0, columns=50) == "42%  1:24 left  "


def test_a_terminal_without_lines_gets_an_ascii_bar(monkeypatch):
    monkeypatch.setattr("sys.stderr", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert front(0.42, 84.0) == "#####------- 42%  1:24 left  "


def test_the_share_never_falls_and_is_no_hundred_before_the_end():
    reporter = StderrReporter(quiet=False, verbose=False)
    shown = []
    for share in (0.3, 0.2, 1.0):
        reporter._pace = Known(share, 1.0)  # type: ignore[assignment]
        shown.append(reporter._front(40).split()[0])
    assert shown == ["30%", "30%", "99%"]


@pytest.mark.parametrize(("quiet", "left", "told"), [
    (False, 84.0, "about 84 s left\n"), (False, 19.0, ""), (False, None, ""), (True, 84.0, ""),
])  # fmt: skip
def test_a_log_gets_one_line_about_the_time_that_is_left_where_it_is_worth_one(quiet, left, told, capsys):
    reporter = StderrReporter(quiet=quiet, verbose=False)
    reporter._pace = Known(0.1, left)  # type: ignore[assignment]
    for _ in range(3):
        reporter.reached(0.1)
    assert capsys.readouterr().err == told


def test_all_that_a_reporter_hears_shows_nothing_in_a_pipe_but_the_end_of_a_training(capsys):
    reporter = StderrReporter(quiet=False, verbose=False)
    reporter.plan({TRAINING: 1.0})
    reporter.phase(TRAINING, 1.0)
    reporter.begin("base", 1, 2)
    reporter.advance(2, 1, 0.5)
    reporter.end()
    assert capsys.readouterr().err.startswith("trained base: 1 epoch in ")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0:00"), (7.4, "0:07"), (84, "1:24"), (3599.6, "1:00:00"), (36125, "10:02:05")]
)
def test_a_time_ticks_as_a_clock_does(seconds, text):
    assert clock(seconds) == text


def test_a_line_at_a_terminal_breaks_between_words_and_a_long_one_is_left_to_the_terminal(monkeypatch, capsys):
    text = "time: very roughly 12 s (by 3 adapters on this base, from banks of other sizes) " + 60 * "x"
    monkeypatch.setenv("COLUMNS", "40")
    basics.say(text)
    assert capsys.readouterr().err == f"{text}\n"
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    basics.say(text)
    lines = capsys.readouterr().err.splitlines()
    assert max(map(len, lines[:-1])) <= 40
    assert " ".join(lines) == text
    assert lines[-1] == 60 * "x"
