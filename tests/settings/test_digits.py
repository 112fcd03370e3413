"""Digit sets."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.digits import ALL_DIGITS, DigitSet, reporting_sets
from lora_mnist_cli.system.errors import ConfigError, UsageError

ALL_SETS = [
    DigitSet(members) for size in range(1, 11) for members in itertools.combinations(range(10), size)
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "members", "canonical"),
    [
        ("0-4", (0, 1, 2, 3, 4), "0-4"),
        ("5,7-9", (5, 7, 8, 9), "5,7-9"),
        ("all", tuple(range(10)), "0-9"),
        (" ALL ", tuple(range(10)), "0-9"),
        ("0-9", tuple(range(10)), "0-9"),
        ("7", (7,), "7"),
        ("9,0", (0, 9), "0,9"),
        ("3,3,3", (3,), "3"),
        ("3-3", (3,), "3"),
        ("1,2,3", (1, 2, 3), "1-3"),
        ("0-4,3-6", tuple(range(7)), "0-6"),
        ("1,0", (0, 1), "0-1"),
        (" 1 , 3 - 5".replace(" - ", "-"), (1, 3, 4, 5), "1,3-5"),
    ],
)
def test_parse(text, members, canonical):
    digits = DigitSet.parse(text)
    assert digits.members == members
    assert str(digits) == canonical


@pytest.mark.parametrize(
    "text",
    ["", " ", ",", "5-2", "0-12", "a", "10", "-1", "1-", "-", "1--2", "1,,2", "1,", ",1", "0-4-6", "1.5", "٣", "1 2",
     "0–4", "al", "0x1", "1e0", "+1", "0-4;5", "\n", "1\n2"],
)  # fmt: skip
def test_what_is_no_digit_set_is_refused(text):
    with pytest.raises(UsageError) as caught:
        DigitSet.parse(text)
    assert caught.value.value == text
    assert caught.value.hint
    assert caught.value.exit_code == 2


def test_the_refusal_names_the_part_and_the_way_out():
    with pytest.raises(UsageError, match=r"'x' in '1,x,3' is not a digit set \(write digits as 0-4, 5,7-9 or all\)"):
        DigitSet.parse("1,x,3")
    with pytest.raises(UsageError, match=r"the range '5-2' runs backwards \(did you mean 2-5\?\)"):
        DigitSet.parse("1,5-2")


@pytest.mark.parametrize("members", [[], [10], [-1], [0, 10], [5.5], ["a"], [True]])
def test_members_that_are_no_digits_are_refused(members):
    with pytest.raises(UsageError):
        DigitSet(members)


@pytest.mark.parametrize("digits", ["5-6", [5, 6], range(5, 7), {6, 5}, np.array([5, 6]), DigitSet([5, 6])])
def test_a_set_of_whatever_says_which_digits(digits):
    assert DigitSet.of(digits) == AdapterConfig(digits=digits).digits == DigitSet([5, 6])
    assert DigitSet.of(np.int64(5)) == DigitSet.of(5) == DigitSet([5])


@pytest.mark.parametrize("digits", ["x", 2.5, {"a"}, np.array(["a"])])
def test_what_says_no_digits_is_told_what_does(digits):
    with pytest.raises(UsageError):
        DigitSet.of(digits)
    with pytest.raises(ConfigError, match=r"such as '5-9' or \[5, 6\], not"):
        AdapterConfig(digits=digits)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30))
def test_the_canonical_form_round_trips(members):
    digits = DigitSet(members)
    assert DigitSet.parse(str(digits)) == digits
    assert list(digits) == sorted(set(members))
    assert len(digits) == len(set(members))
    assert all((digit in digits) == (digit in members) for digit in range(10))


@given(st.text(max_size=8))
def test_any_text_is_a_digit_set_or_a_usage_error(text):
    try:
        digits = DigitSet.parse(text)
    except UsageError:
        return
    assert DigitSet.parse(str(digits)) == digits


def test_equal_sets_are_equal_and_hash_alike_however_they_were_written():
    assert DigitSet.parse("1,2,0") == DigitSet([2, 1, 0, 0]) == DigitSet.parse("0-2")
    assert len({DigitSet.parse("0-2"), DigitSet([2, 1, 0])}) == 1


def test_the_canonical_forms_of_all_sets_are_distinct():
    assert len(ALL_SETS) == len({str(digits) for digits in ALL_SETS}) == 1023


@pytest.mark.parametrize("digits", ALL_SETS[::41])
def test_all_digits_without_some_are_the_others(digits):
    rest = ALL_DIGITS.without(digits)
    assert rest is not None
    assert sorted([*digits, *rest]) == list(range(10))


def test_nothing_is_left_without_all_digits():
    assert ALL_DIGITS.without(ALL_DIGITS) is None
    assert list(ALL_DIGITS) == list(range(10))


@pytest.mark.parametrize(
    ("base", "learned", "expected"),
    [
        ("0-4", None, ["0-4", "5-9", "0-9"]),
        ("0-4", "5-9", ["0-4", "5-9", "0-9"]),
        ("0-4", "all", ["0-4", "5-9", "0-9"]),
        ("0-4", "3-7", ["0-4", "5-9", "0-9", "3-7"]),
        ("all", None, ["0-9"]),
        ("all", "5", ["0-9", "5"]),
    ],
)
def test_the_rows_of_a_score_table(base, learned, expected):
    sets = reporting_sets(DigitSet.parse(base), DigitSet.parse(learned) if learned else None)
    assert [str(digits) for digits in sets] == expected
