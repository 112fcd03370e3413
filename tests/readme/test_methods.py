"""The documentation has a row for each method and start, with what the code says of it."""

from __future__ import annotations

import re

import pytest
from readme.page import ROOT

from lora_mnist_cli.models.methods import Method, method_named, trainable_parameters
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.choices import METHODS, STARTS

LAYERS = {"fc1": (784, 64), "fc2": (64, 64), "fc3": (64, 10)}
MENTIONED = [
    *[(page, name) for page in ("README.md", "docs/statistics.md", "docs/interchange.md") for name in METHODS],
    *[("docs/lora.md", name) for name in STARTS],
]


def rows(page: str) -> list[list[str]]:
    """Return the cells of every row of a page's tables."""
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]


@pytest.mark.parametrize(("page", "name"), MENTIONED)
def test_a_table_of_the_page_has_the_name(page, name):
    assert any(f"`{name}`" in row[0] for row in rows(page)), f"add a row for `{name}` to {page}"


@pytest.mark.parametrize("name", METHODS)
def test_the_table_of_methods_says_what_the_code_does(name):
    row = next((row for row in rows("README.md") if row[0] == f"`{name}`" and len(row) == 7), None)
    assert row, f"add `{name}` to the table below 'Methods side by side' in README.md"
    method, choice = method_named(name), METHODS[name]
    layers = {"fc3": LAYERS["fc3"]} if choice.last_layer_only else LAYERS
    trained = trainable_parameters(AdapterConfig(method=name, rank=8 if choice.ranked else 0), layers)
    by_export = type(method).random_for_peft is not Method.random_for_peft
    in_peft = "by `export`" if by_export else "no" if method.not_in_peft else "yes"
    assert row[3:] == ["yes" if choice.ranked else "no", f"{trained:,}", in_peft, "yes" if choice.in_banks else "no"]
    assert re.search(r"\[.+ \d{4}\]\(https://arxiv\.org/abs/\d{4}\.\d{5}\)", row[2])
