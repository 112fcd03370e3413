"""Chains of tasks as they are written, and what is refused."""

from __future__ import annotations

import pytest

from lora_mnist_cli.evaluation.literature import FIVE_TASKS, TWO_TASKS, literature_results
from lora_mnist_cli.settings.tasks import check_tasks, parse_tasks, tasks_text
from lora_mnist_cli.system.errors import UsageError


@pytest.mark.parametrize(
    ("text", "members"),
    [
        ("0-4,5-9", [(0, 1, 2, 3, 4), (5, 6, 7, 8, 9)]),
        (" 0-4 , 5-9 ", [(0, 1, 2, 3, 4), (5, 6, 7, 8, 9)]),
        ("0-1,2-3,4-5,6-7,8-9", [(0, 1), (2, 3), (4, 5), (6, 7), (8, 9)]),
        ("9,0+3,1-2+5,4,6-8", [(9,), (0, 3), (1, 2, 5), (4,), (6, 7, 8)]),
    ],
)
def test_tasks_are_read_in_their_order(text, members):
    tasks = parse_tasks(text)
    assert [task.members for task in tasks] == members
    assert parse_tasks(tasks_text(tasks)) == tasks


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0-4,4-9", "digit 4 is in two tasks"),
        ("0-4,6-9", "digit 5 is in no task"),
        ("0-1,2-3", "digits 4-9 are in no task"),
        ("0-9", "one task is no chain"),
        ("all", "one task is no chain"),
        ("0-4,", "'' in --tasks '0-4,' is not a task"),
        ("0-4;5-9", "'0-4;5-9' in --tasks"),
        ("4-0,5-9", "'4-0' in --tasks"),
        ("", "'' in --tasks"),
    ],
)
def test_what_is_no_chain_is_refused_with_its_part(text, said):
    with pytest.raises(UsageError) as caught:
        parse_tasks(text)
    assert said in caught.value.problem
    assert caught.value.hint


def test_no_tasks_at_all_are_refused():
    with pytest.raises(UsageError, match="no chain"):
        check_tasks([])


def test_published_figures_are_those_of_their_tasks_on_mnist_alone():
    assert [row["what"] for row in literature_results(TWO_TASKS)] == ["CAB", "OWM", "OWM"]
    assert {row["what"]: row["accuracy"] for row in literature_results(FIVE_TASKS)}["DGR"] == 0.908
    assert literature_results(FIVE_TASKS, "fashion-mnist") == literature_results(FIVE_TASKS[::-1]) == []
    assert all(row["setup"] and row["source"] for tasks in (TWO_TASKS, FIVE_TASKS) for row in literature_results(tasks))
