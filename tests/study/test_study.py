"""The study's table, for real: a whole run of the program against the published figures and our own spread.

``docs/spread.json`` has mean and standard deviation of each row over thirty seeds, 0 to 29. The run here has another
seed, so that it is no member of the sample that it is compared with.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.study

SPREAD = Path(__file__).parents[2] / "docs" / "spread.json"
NEW_SEED = 30
DEVIATIONS = 3


def key(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["what"], row["measure"], row["digits"]


@pytest.fixture(scope="module")
def spread() -> dict[tuple[str, str, str], dict[str, Any]]:
    return {key(row): row for row in json.loads(SPREAD.read_text(encoding="utf-8"))}


@pytest.fixture(scope="module")
def document(make_once: Callable[..., Path]) -> dict[str, Any]:
    def make(folder: Path) -> None:
        command = [sys.executable, "-m", "lora_mnist_cli", "reproduce", "--json", "--quiet", "--seed", str(NEW_SEED)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        (folder / "document.json").write_text(done.stdout)

    folder = make_once("study", make)
    made: dict[str, Any] = json.loads((folder / "document.json").read_text())
    return made | {"folder": folder}


def test_the_page_of_the_seven_ranks_is_small(document):
    assert (document["folder"] / document["page"]).stat().st_size <= 1_000_000


def test_the_spread_is_of_at_least_five_seeds(spread):
    assert all(row["n"] >= 5 for row in spread.values())


@pytest.mark.parametrize("whose", ["study", "here"])
def test_the_studys_run_and_a_new_one_lie_within_our_spread(whose, document, spread):
    away = {}
    for row in document["rows"]:
        known = spread[key(row)]
        away[key(row)] = abs(row[whose] - known["mean"]) - DEVIATIONS * known["sd"]
    assert {row: excess for row, excess in away.items() if excess > 0} == {}
    assert len(away) == len(spread)


def test_alpha_0_gives_the_base_back_bit_for_bit(document):
    assert document["alpha_0_equals_base_bit_for_bit"] is True
