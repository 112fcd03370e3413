"""Names and classes of a user's own data set, and the digits that it has."""

from __future__ import annotations

import pytest

from lora_mnist_cli.settings.config import BaseConfig
from lora_mnist_cli.settings.digits import ALL_DIGITS, DigitSet, reporting_sets
from lora_mnist_cli.settings.own_data import digits_in, halves, is_own, known_digits, own_name, problem_of_classes
from lora_mnist_cli.settings.tasks import parse_tasks
from lora_mnist_cli.system.errors import ConfigError, UsageError

FLOWERS = {"name": "own-flowers", "digest": "", "classes": ["daisy", "rose", "tulip"]}


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("flowers", "own-flowers"), ("My flowers, 2", "own-My-flowers-2"), ("a/../b", "own-a-..-b"), ("-x-", "own-x"),
        ("x" * 41, "own-" + "x" * 40), ("x" * 39 + ".y", "own-" + "x" * 39), ("花", ""), ("..", ""), ("", ""),
    ],
)  # fmt: skip
def test_a_name_is_made_of_a_folders(stem, name):
    assert own_name(stem) == name
    assert is_own(name) == bool(name)


@pytest.mark.parametrize(
    "name", ["own-", "own-x/y", "own-../x", "own-x y", "own-" + "x" * 41, "x", "mnist", None, 1, []]
)
def test_what_is_no_name_of_ones_own(name):
    assert not is_own(name)
    with pytest.raises(ConfigError):
        BaseConfig(dataset="no" if name == "mnist" else name)


def test_a_config_may_have_ones_own():
    assert BaseConfig(dataset="own-x").dataset == "own-x"


@pytest.mark.parametrize(
    ("classes", "problem"),
    [
        (["a", "b"], ""), (list("abcdefghij"), ""), ([], "0 classes"), (["a"], "1 class, not 2 to 10: 'a'"),
        (list("abcdefghijk"), "11 classes"), (["a", ""], "can't be the name"), (["a", "b\n"], "can't be the name"),
        (["a", 1], "can't be the name"), (["a", "x" * 41], "can't be the name"), (["a", "a"], "of one name"),
    ],
)  # fmt: skip
def test_classes_are_two_to_ten_short_names(classes, problem):
    assert problem in problem_of_classes(classes)
    assert bool(problem) == bool(problem_of_classes(classes))
    assert "\n" not in problem_of_classes(classes)


def test_the_digits_of_a_data_set_are_one_per_class():
    assert known_digits({"name": "mnist", "digest": ""}) == ALL_DIGITS
    assert str(known_digits(FLOWERS)) == "0-2"
    assert str(digits_in(FLOWERS, DigitSet.parse("0,2"))) == "0,2"
    assert str(digits_in(FLOWERS, DigitSet.parse("all"))) == "0-2"
    with pytest.raises(UsageError, match=r"has no class 3-4: its classes are 0 daisy, 1 rose, 2 tulip .*--digits 0-1"):
        digits_in(FLOWERS, DigitSet.parse("1-4"))


@pytest.mark.parametrize(
    ("count", "old", "new"), [(10, "0-4", "5-9"), (5, "0-2", "3-4"), (3, "0-1", "2"), (2, "0", "1")]
)
def test_halves_are_those_of_the_study_where_there_are_ten(count, old, new):
    assert [str(half) for half in halves(DigitSet(range(count)))] == [old, new]


def test_score_tables_and_chains_are_of_the_classes_that_there_are():
    known = DigitSet(range(4))
    assert [str(each) for each in reporting_sets(DigitSet([0, 1]), known=known)] == ["0-1", "2-3", "0-3"]
    assert [str(each) for each in reporting_sets(known, DigitSet([2]), known)] == ["0-3", "2"]
    assert [str(task) for task in parse_tasks("0-1,2+3", known)] == ["0-1", "2-3"]
    with pytest.raises(UsageError, match="digit 4 is not in the data set"):
        parse_tasks("0-1,2-4", known)
    with pytest.raises(UsageError, match="digit 3 is in no task"):
        parse_tasks("0-1,2", known)
