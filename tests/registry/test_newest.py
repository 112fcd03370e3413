"""What counts as the newest artifact, what lists leave out, and what is found by its settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from lora_mnist_cli.registry.artifact import Artifact, Parent
from lora_mnist_cli.registry.newest import same_settings
from lora_mnist_cli.registry.registry import Registry
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.stages import finetune, sweep

Publish = Callable[..., Artifact]

MADE_IN = 3600.0
"""Seconds: whatever these tests make was made within them."""


@pytest.fixture
def made(registry: Registry, publish: Publish) -> Callable[..., Artifact]:
    """Publishes an artifact that lists others: ``made("sweep", "member", ["a", "b"])``."""

    def make(name: str, role: str, listed: list[str], *, kind: str, seconds: float = MADE_IN, **more: Any) -> Artifact:
        parents = [Parent(role, each, registry.get(each).digest) for each in listed]
        if kind == "sweep":
            parents.insert(0, registry.get(listed[0]).parents[0])
        return publish(registry, name, kind=kind, parents=parents, seconds=seconds, **more)

    return make


@pytest.fixture
def adapters(registry: Registry, publish: Publish) -> list[str]:
    """A base and three adapters, seeds 1, 0 and 2."""
    base = publish(registry, "base")
    names = []
    for seed in (1, 0, 2):
        names.append(f"lora-s{seed}")
        publish(
            registry, names[-1], kind="adapter", config={"seed": seed}, parents=[Parent("base", "base", base.digest)]
        )
    return names


def test_members_of_a_sweep_are_the_newest_only_where_nothing_else_is(registry, adapters, made, publish):
    assert registry.latest("adapter").name == "lora-s2"
    made("sweep", "member", adapters, kind="sweep")
    assert registry.latest("adapter").name == "lora-s0", "of its members the lowest seed"
    made("later", "member", ["lora-s2"], kind="sweep")
    assert registry.latest("adapter").name == "lora-s2", "of the sweep that was made last"
    base = registry.get("base")
    publish(registry, "own", kind="adapter", config={"seed": 9}, parents=[Parent("base", "base", base.digest)])
    assert registry.latest("adapter").name == "own"


def test_what_was_there_before_a_sweep_took_it_was_made_on_its_own(registry, adapters, made):
    made("sweep", "member", adapters, kind="sweep", seconds=0.0)
    assert registry.latest("adapter").name == "lora-s2"


def test_bases_that_a_study_made_are_the_newest_only_where_nothing_else_is(registry, publish, made):
    for seed in (0, 1):
        publish(registry, f"base-{seed}", config={"seed": seed})
    made("report", "input", ["base-0", "base-1"], kind="report")
    assert registry.latest("base").name == "base-0"
    publish(registry, "base-own", config={"seed": 5})
    assert registry.latest("base").name == "base-own"


def test_a_list_leaves_out_what_a_chain_made_but_for_the_bases(registry, adapters, made, publish, run):
    made("chain", "input", ["base", *adapters], kind="report", config={"cures": ["plain"]})
    listed = run("runs", "list", "--json")
    assert [row["name"] for row in listed.json["artifacts"]] == ["base", "chain"]
    assert "3 parts of chains left out; --all lists them too" in listed.err
    assert len(run("runs", "list", "--json", "--all").json["artifacts"]) == 5
    nothing = run("runs", "list", "--kind", "adapter")
    assert (nothing.out, nothing.code) == ("", 0)
    assert "3 parts of chains left out" in nothing.err
    study = made("study", "input", ["base", *adapters], kind="report", config={})
    assert study.name in [row["name"] for row in run("runs", "list", "--json").json["artifacts"]]


def test_a_person_is_asked_before_a_cascade(registry, adapters, run, monkeypatch):
    asked: list[str] = []

    def answer(question: str, **_: Any) -> None:
        asked.append(question)
        if len(asked) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("typer.confirm", answer)
    assert run("runs", "remove", "base", "--cascade").code == 130
    assert registry.has("lora-s0")
    assert run("runs", "remove", "base", "--cascade", "--json").json["removed"][-1] == "base"
    told = "This also deletes 3 artifacts made from 'base': lora-s1, lora-s0, lora-s2. Delete?"
    assert asked == [told, told]
    assert registry.names() == []


def test_refusals_fit_a_screen(registry, publish, run):
    base = publish(registry, "base")
    for seed in range(40):
        config = {"seed": seed}
        publish(registry, f"l-{seed}", kind="adapter", config=config, parents=[Parent("base", "base", base.digest)])
    refused = run("runs", "remove", "base")
    assert refused.code == 3
    assert "l-0, l-1, l-2, l-3, l-4 and 35 more need it" in refused.err


# The same settings are trained once


CONFIG = AdapterConfig(epochs=1, batch_size=64, rank=3, lr=5e-3)


def test_a_value_by_option_or_by_list_gives_one_name_and_is_trained_once(small, recorder):
    heard = dataclasses.replace(small, reporter=recorder)
    alone = finetune(CONFIG, workspace=small)
    assert alone.name == "lora-fashion-mnist-5-9-r3-lr0.005"
    swept = sweep([3], grid={"lrs": [5e-3, 7e-3]}, config=CONFIG, workspace=heard, name="rates")
    assert [row["artifact"] for row in swept.details["results"]] == [alone.name, "lora-fashion-mnist-5-9-r3-lr0.007"]
    assert f"{alone.name} is up to date" in recorder.all("notice")


def test_the_same_settings_under_another_name_are_copied_and_not_trained(small, recorder):
    mine = finetune(CONFIG, workspace=small, name="mine")
    heard = dataclasses.replace(small, reporter=recorder)
    copy = finetune(CONFIG, workspace=heard)
    assert copy.name == "lora-fashion-mnist-5-9-r3-lr0.005"
    assert (copy.digest, copy.scores, copy.details) == (mine.digest, mine.scores, mine.details)
    assert recorder.all("notice")[-1] == f"{copy.name} has the settings of mine and is a copy of it"
    assert not any(notice.startswith("trained") for notice in recorder.all("notice"))
    assert small.registry.remove("mine") == ["mine"]
    finetune(CONFIG, workspace=heard, name="again")
    assert not any("again has the settings" in notice for notice in recorder.all("notice")), (
        "who gives a name wants it made"
    )


def test_a_diverged_or_damaged_artifact_is_not_copied(registry, adapters, forge):
    mark = registry.get("lora-s0").fingerprint
    assert same_settings(registry.root, "adapter", [mark])[mark].name == "lora-s0"
    assert same_settings(registry.root, "base", [mark]) == {}
    forge(registry.root / "lora-s0", lambda manifest: manifest["details"].update(failed="the loss is not finite"))
    assert same_settings(registry.root, "adapter", [mark]) == {}
