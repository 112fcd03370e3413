"""How the README is read: commands of a shell, and outputs that may differ in what a machine decides."""

from __future__ import annotations

import pytest
from readme.page import Command, commands, unlike

TABLE = """
  what       accuracy    loss
 ─────────────────────────────
  rank 1     86.24 %    0.498
…
  rank 64    97.88 %   +2.505
"""


def test_a_line_is_one_command_or_several():
    made = list(commands("a --x 1 'b c' > out.json || echo 'no'\nd - < in.png   # why\ne && f"))
    first, line = "a --x 1 'b c' > out.json || echo 'no'", "d - < in.png   # why"
    assert made == [
        Command(("a", "--x", "1", "b c"), first, stdout="out.json", may_fail=True),
        Command(("echo", "no"), first, otherwise=True), Command(("d", "-"), line, stdin="in.png"),
        Command(("e",), "e && f"), Command(("f",), "e && f"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "printed",
    [
        "what accuracy loss\nrank 1 84.30 % 0.502\nrank 64 97.88 % +2.300",
        "what   accuracy loss\n\nrank 1 86.24 % 0.498\nrank 2 93.00 % 0.2\nrank 4 95.00 % 0.1\n rank 64 97.88 % +2.505",
    ],
)
def test_figures_may_differ_as_between_processors_and_lines_may_be_left_out(printed):
    assert unlike(TABLE, printed) == ""


@pytest.mark.parametrize(
    ("printed", "said"),
    [
        ("what accuracy loss\nrank 1 84.20 % 0.498\nrank 64 97.88 % +2.505", "'rank 1 84.20 % 0.498' printed"),
        ("what accuracy loss\nrank 1 86.24 % 1.498\nrank 64 97.88 % +2.505", "printed"),
        ("what accuracy loss\nrank 2 86.24 % 0.498\nrank 64 97.88 % +2.505", "printed"),
        ("what accuracy loss\nrank 1 86.24 % 0.498", "'nothing' printed"),
        ("what accuracy loss\nrank 1 86.24 % 0.498\nrank 64 97.88 % +2.505\nmore", "'more' is printed, and not shown"),
        ("what accuracy\nrank 1 86.24 % 0.498\nrank 64 97.88 % +2.505", "'what accuracy' printed"),
    ],
)
def test_anything_else_is_told(printed, said):
    assert said in unlike(TABLE, printed)


def test_any_text_may_stand_for_dots_in_a_line():
    assert unlike("trained in … s, rank 4", "trained in 3.1 s, rank 4") == ""
    assert unlike("trained in … s, rank 4", "trained in 3.1 s, rank 5") != ""
