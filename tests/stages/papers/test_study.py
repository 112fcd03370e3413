"""The study of papers as one stage, on few images: what it prints and leaves, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from recorder import Planned

from lora_mnist_cli.data import sources
from lora_mnist_cli.settings.choices import CLAIMS
from lora_mnist_cli.stages import Workspace, reproduce
from lora_mnist_cli.stages.papers import study
from lora_mnist_cli.stages.papers.claim import UNKNOWN
from lora_mnist_cli.system.errors import UsageError

TWO = ("best-rate", "one-factor")
SMALL = ("--study", "papers", "--seeds", "0-1", "--epochs", "1", "--workers", "1")


@pytest.fixture(autouse=True)
def _few_images(small_images: Callable[..., tuple[Any, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    """MNIST has 200 training and 100 test images, and a grid two rates."""

    def load_few(_dataset: str, split: str, _data_dir: Path) -> tuple[Any, Any]:
        return small_images(200 if split == "train" else 100)

    monkeypatch.setattr(sources, "_load_split", load_few)
    for module in ("grids", "claims.best_rate", "claims.one_factor"):
        monkeypatch.setattr(f"lora_mnist_cli.stages.papers.{module}.RATES", (1e-3, 4e-3), raising=True)
    monkeypatch.setattr("lora_mnist_cli.stages.papers.claims.one_factor.FACTOR_RATES", (1e-3, 4e-3))


def test_the_command_prints_a_row_per_figure_and_leaves_a_report(run, tmp_path):
    where = ("--runs-dir", tmp_path / "runs")
    claims = [word for name in TWO for word in ("--claim", name)]
    shown = run("reproduce", *SMALL, *claims, *where)
    assert shown.code == 0
    for words in (*TWO, UNKNOWN, "best rate, rank 64 to rank 4", "5 to 20 ×", "2 seeds"):
        assert words in shown.out
    document = json.loads(run("reproduce", *SMALL, *claims, *where, "--json").out)
    assert [claim["name"] for claim in document["claims"]] == list(TWO)
    for claim in document["claims"]:
        assert claim["verdict"] == UNKNOWN  # of two seeds
        assert all(len(figure["each"]) == 2 for figure in claim["figures"])
        assert (Path(document["report"]).parent / claim["picture"]).read_bytes().startswith(b"\x89PNG")
    assert [claim["looks"] for claim in document["claims"]] == [0, 6]
    text = Path(document["report"]).read_text(encoding="utf-8")
    for words in ("arXiv:2402.16842", "What would refute it", "6 networks per seed", "99 % interval", "for 5 epochs"):
        assert words in text
    line = run("runs", "command", document["artifact"], *where).out.strip()
    assert line == ("lora-mnist reproduce --study papers --seeds 0-1 --claim best-rate --claim one-factor --epochs 1")
    settings = run("runs", "settings", document["artifact"], *where).out
    assert 'claim = ["best-rate", "one-factor"]' in settings


def test_every_claim_is_measured_and_its_work_is_planned(tmp_path, monkeypatch):
    measured: list[str] = []
    outcomes = {name: study.claim_named(name) for name in CLAIMS}

    def fake(name: str) -> Any:
        claim = outcomes[name]
        figures = {figure.key: 1.0 for figure in claim.figures}
        curves = {panel.key: {"line": [(1.0, 0.5)]} for panel in claim.panels}

        def measure(_runs: Any) -> Any:
            measured.append(name)
            return study.Measured(figures, curves)

        return type(claim)(**{**vars(claim), "measure": measure})

    monkeypatch.setattr(study, "claim_named", fake)
    work = Planned()
    workspace = Workspace(tmp_path / "runs", reporter=work)
    report = reproduce(study="papers", seed=3, epochs=1, workers=1, workspace=workspace)
    assert report.name == "study-papers-seeds-3"
    assert measured == list(CLAIMS)
    assert {f"{name}.png" for name in CLAIMS} < report.files.keys()
    again = reproduce(study="papers", seed=3, epochs=1, workspace=workspace)
    assert again.digest == report.digest
    assert measured == list(CLAIMS)


def test_processes_measure_the_same(pool_in_this_process, tmp_path):
    made = [
        reproduce(
            study="papers",
            claims=["one-factor"],
            seeds=[0, 1],
            epochs=1,
            workers=workers,
            workspace=Workspace(tmp_path / f"with-{workers}"),
        )
        for workers in (1, 2)
    ]
    assert made[0].digest == made[1].digest


@pytest.mark.parametrize(("options", "words"), [
    (["--study", "papers", "--claim", "lora-pluss"], "lora-plus"),
    (["--claim", "lora-plus"], "--study papers"),
    (["--study", "papers", "--epochs", "0"], "at least one epoch"),
    (["--study", "papers", "--ceiling"], "--ceiling"),
    (["--study", "papers", "--baselines"], "--study forgetting"),
    (["--study", "papers", "--workers", "0"], "at least one worker"),
    (["--study", "papers", "--claim", "lora-plus", "--claim", "lora-plus"], "lora-plus"),
])  # fmt: skip
def test_what_means_nothing_is_refused(run, tmp_path, options, words):
    outcome = run("reproduce", *options, "--runs-dir", tmp_path / "runs")
    assert (outcome.code, outcome.out) == (2, "")
    assert words in outcome.err


def test_seeds_are_given_once(tmp_path):
    with pytest.raises(UsageError, match="seeds"):
        reproduce(study="papers", seeds=[1, 1], workspace=Workspace(tmp_path))
