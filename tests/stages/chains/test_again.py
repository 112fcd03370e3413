"""``chain --force``: the chain is learned again, and nothing that others need is removed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lora_mnist_cli.stages import Workspace, chain
from lora_mnist_cli.system.errors import OtherSettingsError

TASKS = "0-3,4-6,7-9"
BASE = "base-fashion-mnist-0-3"
ASKED: dict[str, Any] = {
    "strategies": ["plain"], "rank": 2, "epochs": 1, "dataset": "fashion-mnist", "name": "three", "workers": 1,
}  # fmt: skip


def made(workspace: Workspace, *names: str) -> dict[str, str]:
    """When each artifact was made, to the microsecond."""
    return {name: workspace.registry.get(name).created for name in names or workspace.registry.names()}


def test_it_is_learned_again_with_other_settings(small, recorder):
    chain(TASKS, workspace=small, **ASKED)
    before = made(small)
    others = ASKED | {"rank": 3, "epochs": 2}
    with pytest.raises(OtherSettingsError, match="exists with other settings") as caught:
        chain(TASKS, workspace=small, **others)
    assert "--force learns the chain again" in caught.value.hint
    report = chain(TASKS, force=True, workspace=replace(small, reporter=recorder), **others)
    assert (report.config["rank"], report.config["epochs"]) == (3, 2)
    assert small.registry.get(BASE).config["epochs"] == 2
    ours = [name for name in before if name.startswith("three") or name == BASE]
    assert not set(made(small, *ours).items()) & set(before.items())
    untouched = [name for name in before if name not in ours]
    assert made(small, *untouched) == {name: before[name] for name in untouched}
    (told,) = [text for text in recorder.all("notice") if text.startswith("learned again, in the place of ")]
    assert set(told.removeprefix("learned again, in the place of ").split(", ")) == set(ours)


def test_with_the_same_settings_it_gives_the_same_and_keeps_the_shared_base(small):
    first = chain(TASKS, workspace=small, **ASKED)
    before = made(small)
    again = chain(TASKS, force=True, workspace=small, **ASKED)
    assert again.digest == first.digest
    assert made(small, BASE) == {BASE: before[BASE]}
    assert made(small, "three")["three"] != before["three"]


def test_what_another_chain_needs_stays(small):
    """Both chains have the adapters of plain LoRA; one of them learns more strategies."""
    asked = {key: value for key, value in ASKED.items() if key not in ("name", "strategies")}
    both = chain(TASKS, strategies=["plain", "routed"], workspace=small, **asked)
    one = chain(TASKS, strategies=["plain"], workspace=small, **asked)
    before = made(small)
    chain(TASKS, strategies=["plain"], force=True, workspace=small, **asked)
    kept = [name for name in before if name != one.name]
    assert made(small, *kept) == {name: before[name] for name in kept}
    assert both.name in kept


def test_a_base_that_others_need_is_not_replaced(small):
    """The sweep of the small artifacts is on a base of two epochs."""
    asked = ASKED | {"epochs": 1}
    before = made(small)
    with pytest.raises(OtherSettingsError, match="epochs 2 there, 1 asked for"):
        chain("0-4,5-9", force=True, workspace=small, **asked)
    assert made(small) == before


def test_the_command_has_the_option_and_says_why_its_defaults_differ(run):
    text = " ".join(run("chain", "--help").out.replace("│", "").split())
    assert "--force" in text
    assert "where strategies are compared at their best" in text
