"""Exit codes, and what an error says."""

from __future__ import annotations

import pytest

from lora_mnist_cli.system import errors


@pytest.mark.parametrize(
    ("kind", "code"),
    [(errors.GateError, 1), (errors.UsageError, 2), (errors.ConfigError, 2), (errors.DivergedError, 2),
     (errors.ArtifactError, 3), (errors.OtherSettingsError, 3), (errors.DataError, 4), (errors.MachineError, 5)],
)  # fmt: skip
def test_the_exit_code_of_each_kind(kind, code):
    assert kind.exit_code == code
    assert issubclass(kind, errors.LoraMnistError)


def test_the_other_exit_codes():
    assert (errors.EXIT_DONE, errors.EXIT_INTERRUPTED) == (0, 130)


def test_an_error_keeps_the_value_and_shows_the_hint():
    error = errors.UsageError("rank is 0", hint="try 8", value=0)
    assert str(error) == "rank is 0 (try 8)"
    assert (error.problem, error.hint, error.value) == ("rank is 0", "try 8", 0)
    assert str(errors.UsageError("rank is 0")) == "rank is 0"


def test_a_config_error_tells_all_its_problems_on_one_line():
    error = errors.ConfigError(["one", "two"], hint="three")
    assert error.problems == ("one", "two")
    assert str(error) == "one; two (three)"


@pytest.mark.parametrize(
    ("value", "known", "expected"),
    [
        ("swep", ["base", "sweep"], "did you mean 'sweep'?"),
        ("base-0-5", ["base-0-4", "lora-5-9-r8"], "did you mean 'base-0-4'?"),
        ("zzz", ["base", "sweep"], ""),
        ("x", [], ""),
        ("", ["base"], ""),
    ],
)
def test_the_nearest_word(value, known, expected):
    assert errors.nearest(value, known) == expected
