"""What stages say of their work: every piece is named, in its turn, and together they are what was planned."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from recorder import Planned

from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.config import BaseConfig
from lora_mnist_cli.stages import Workspace, chain, evaluate, explore, finetune, forgetting, plot, sweep, train_base
from lora_mnist_cli.stages.chains.run import make_plan
from lora_mnist_cli.stages.chains.strategies import works_of

SMALL = AdapterConfig(epochs=1)
CHAIN: dict[str, Any] = {"rank": 2, "epochs": 1, "dataset": "fashion-mnist", "workers": 1, "name": "three"}


@pytest.fixture
def planned(small: Workspace) -> tuple[Planned, Workspace]:
    reporter = Planned()
    return reporter, dataclasses.replace(small, reporter=reporter)


STAGES: dict[str, tuple[Callable[[Workspace], object], list[str]]] = {
    "base": (
        lambda workspace: train_base(BaseConfig(dataset="fashion-mnist", epochs=1, seed=1), workspace=workspace),
        ["loading", "reading images", "training", "scoring", "statistics"],
    ),
    "adapter": (
        lambda workspace: finetune(SMALL, rank=4, workspace=workspace),
        ["loading", "reading images", "training", "statistics", "scoring"],
    ),
    "sweep": (
        lambda workspace: sweep([4, 5], seeds=[0, 1], config=SMALL, workspace=workspace, name="new"),
        ["loading", "reading images", "training", "statistics 1/2", "statistics 2/2",
         *(f"scoring {number}/4" for number in range(1, 5))],
    ),
    "alone": (
        lambda workspace: sweep(seeds=[0, 1], config=SMALL, method="full", workspace=workspace, name="new"),
        ["loading", "reading images", "training", "statistics 1/2", "statistics 2/2", "scoring 1/2", "scoring 2/2"],
    ),
    "evaluation": (
        lambda workspace: evaluate(alphas=[0.0, 1.0], workspace=workspace),
        ["reading images", "scoring 1/2", "scoring 2/2"],
    ),
    "forgetting": (
        lambda workspace: forgetting(workspace=workspace),
        ["loading", "reading images", "scoring", *(f"fitting probes {number}/3" for number in (1, 2, 3))],
    ),
    "picture": (
        lambda workspace: plot("tradeoff", "sweep-fashion-mnist-5-9-a0.5", workspace=workspace),
        ["scoring 1/1", "drawing"],
    ),
    "page": (
        lambda workspace: explore(["sweep-fashion-mnist-5-9-a0.5"], workspace=workspace),
        ["loading", "reading images", "scoring"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STAGES)
def test_every_piece_is_named_and_together_they_are_what_was_planned(name, planned, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    reporter, workspace = planned
    do, pieces = STAGES[name]
    do(workspace)
    assert reporter.pieces == pieces
    assert reporter.unplanned == []
    reporter.phase("", 0.0)
    assert reporter.rest() == pytest.approx(0.0)


def test_what_is_up_to_date_is_no_work(planned):
    reporter, workspace = planned
    sweep([2], config=AdapterConfig(epochs=2, alpha=0.5), workspace=workspace)
    assert reporter.pieces == []


def test_several_banks_are_one_work(small):
    reporter = Planned()
    runtime = dataclasses.replace(small.runtime, bank_megabytes=1)
    sweep(
        [200, 210], config=SMALL, workspace=dataclasses.replace(small, reporter=reporter, runtime=runtime), name="new"
    )
    one = ["reading images", "training", "statistics", "scoring"]
    assert reporter.pieces == ["loading", *one, *one]
    assert reporter.unplanned == []
    reporter.phase("", 0.0)
    assert reporter.rest() == pytest.approx(0.0)


def test_a_chain_is_one_work_and_so_are_its_strategies(tmp_path, small_data):
    reporter = Planned()
    workspace = Workspace(tmp_path / "runs", small_data, reporter=reporter)
    chain("0-3,4-6,7-9", strategies=["plain", "ewc", "routed"], workspace=workspace, **CHAIN)
    assert reporter.unplanned == []
    assert reporter.pieces.count("training") == 1 + 2 + 2 + 1  # the first task, plain, EWC, and routed after plain
    assert reporter.pieces[-1] == "drawing"
    reporter.phase("", 0.0)
    assert reporter.rest() == pytest.approx(0.0)


def test_what_strategies_share_is_the_work_of_the_first_of_them(small):
    (run,) = make_plan("0-3,4-6,7-9", seeds=[0], epochs=1, dataset="fashion-mnist", workspace=small).chain_runs
    plain, routed = works_of(["plain", "routed"], run)
    assert works_of(["routed"], run) == [plain]
    assert works_of(["joint", "routed"], run)[1] == plain
    assert 0 < sum(routed.values()) < sum(plain.values())
