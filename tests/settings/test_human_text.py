"""Recorded values as people read them."""

from __future__ import annotations

import pytest

from lora_mnist_cli.settings.human_text import human


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "none"), ("", "none"), ([], "none"), ({}, "none"), (True, "yes"), (False, "no"), (0, "0"),
        (4861, "4861"), (0.001, "0.001"), (1.0, "1"), ("plateau", "plateau"), (["fc1", "fc3"], "fc1, fc3"),
        ([1, 2], "1, 2"), ({"fc1": [784, 64], "fc2": None}, "fc1: 784, 64; fc2: none"),
        ({"layers": {"fc1": 0.5}, "alpha": 2.0}, "layers (fc1: 0.5); alpha: 2"),
        ([{"rank": 1}, {"rank": 2}], "2 rows, which --json shows"),
    ],
)  # fmt: skip
def test_values_have_no_sign_of_json(value, text):
    assert human(value) == text


def test_figures_are_short_and_have_a_comma_in_the_thousands():
    value = {"parameters": 55050, "sizes": [1000], "residual": 0.26068930782870225}
    assert human(value, figures=True) == "parameters: 55,050; sizes: 1,000; residual: 0.2607"
