"""The whole study as one stage, untrained on few images: what it leaves, and that it does nothing twice."""

from __future__ import annotations

import json
import math
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import scipy.stats
from recorder import Planned

from lora_mnist_cli.data import sources
from lora_mnist_cli.registry.shared_statistics import STORE
from lora_mnist_cli.settings.config import BaseConfig
from lora_mnist_cli.settings.lists import as_ranges
from lora_mnist_cli.stages import Workspace, reproduce, train_base
from lora_mnist_cli.stages.study_report import over_seeds
from lora_mnist_cli.system.errors import OtherSettingsError, UsageError

PICTURES = {
    "alpha-lora-5-9-r64.png", "confusion-base-0-4.png", "confusion-lora-0-9-r64.png", "confusion-lora-5-9-r64.png",
    "history-base-0-4.png", "history-lora-5-9-r64.png", "ranks-study-5-9.png",
    *(f"predictions-{shown}.png" for shown in ("base-0-4-on-0-4", "base-0-4-on-5-9", "lora-0-9-r64-on-0-9",
                                               "lora-5-9-r64-on-0-4", "lora-5-9-r64-on-5-9")),
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _few_images(small_images: Callable[..., tuple[Any, Any]]) -> Iterator[None]:
    """In this module MNIST has 300 training and 200 test images."""

    def load_few(_dataset: str, split: str, _data_dir: Path) -> tuple[Any, Any]:
        return small_images(300 if split == "train" else 200)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "_load_split", load_few)
        yield


@pytest.fixture(scope="module")
def work() -> Planned:
    return Planned()


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory, work: Planned) -> Path:
    runs = tmp_path_factory.mktemp("studied") / "runs"
    reproduce(epochs=0, workspace=Workspace(runs, reporter=work))
    return runs


def test_every_piece_is_planned_and_the_page_is_the_last(studied, work):
    assert work.unplanned == []
    assert work.pieces[-2:] == ["pictures 12/12", "making the page"]
    work.phase("", 0.0)
    assert work.rest() == pytest.approx(0.0)


def test_leaves_exactly_these_files(studied):
    adapters = [f"lora-5-9-r{rank}" for rank in (1, 2, 4, 8, 16, 32, 64)]
    expected = sorted(["base-0-4", "lora-0-9-r64", "study", "study-5-9", *adapters])
    assert sorted(path.name for path in studied.iterdir() if path.name != STORE) == expected
    assert {path.name for path in (studied / "study").iterdir()} == PICTURES | {
        "artifact.json",
        "report.md",
        "explore.html",
    }
    for picture in PICTURES:
        assert (studied / "study" / picture).read_bytes().startswith(b"\x89PNG")


def test_sets_each_figure_beside_the_studys(studied):
    rows = Workspace(studied).registry.get("study").details["rows"]
    published = [(row["digits"], row["measure"], row["study"]) for row in rows]
    ranks = [("5-9", "accuracy", a) for a in (0.8381, 0.9331, 0.9547, 0.9696, 0.9759, 0.9765, 0.9796)]
    assert published == [
        ("0-4", "accuracy", 0.9909), ("0-4", "loss", 0.039), ("5-9", "accuracy", 0.0), ("5-9", "loss", 15.50), *ranks,
        ("0-4", "accuracy", 0.0), ("0-4", "accuracy", 0.9909), ("0-9", "accuracy", 0.9714),
    ]  # fmt: skip
    for row in rows:
        assert row["difference"] == pytest.approx(row["here"] - row["study"])


def test_its_figures_are_the_artifacts_own(studied):
    registry = Workspace(studied).registry
    rows = {(row["what"], row["measure"], row["digits"]): row["here"] for row in registry.get("study").details["rows"]}
    base = {row["digits"]: row for row in registry.get("base-0-4").scores["subsets"]}
    assert rows["base", "accuracy", "0-4"] == base["0-4"]["accuracy"]
    assert rows["base", "loss", "5-9"] == base["5-9"]["loss"]
    new = {row["digits"]: row for row in registry.get("lora-5-9-r4").scores["subsets"]}
    assert rows["LoRA 5-9, rank 4", "accuracy", "5-9"] == new["5-9"]["accuracy"]
    assert rows["LoRA 5-9, rank 64, alpha 0", "accuracy", "0-4"] == base["0-4"]["accuracy"]
    everything = {row["digits"]: row for row in registry.get("lora-0-9-r64").scores["subsets"]}
    assert rows["LoRA 0-9, rank 64", "accuracy", "0-9"] == everything["0-9"]["accuracy"]
    assert registry.get("study").details["alpha_0_equals_base_bit_for_bit"] is True


def test_the_report_shows_every_picture(studied):
    text = (studied / "study" / "report.md").read_text(encoding="utf-8")
    assert {line.partition("](")[2][:-1] for line in text.splitlines() if line.startswith("![")} == PICTURES
    assert "| LoRA 5-9, rank 1 | accuracy on 5-9 | 83.81 % |" in text
    assert "equal the base's bit for bit" in text


def test_a_second_run_does_nothing_and_imports_nothing_heavy(studied):
    before = {path: path.stat().st_mtime_ns for path in studied.rglob("*")}
    program = (
        "import sys; from lora_mnist_cli.cli import main; code = main(sys.argv[1:]);"
        "heavy = {'torch', 'pytorch_lightning', 'matplotlib', 'numpy'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else code)"
    )
    arguments = ["reproduce", "--epochs", "0", "--json", "--runs-dir", str(studied)]
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["artifact"] == "study"
    assert {path: path.stat().st_mtime_ns for path in studied.rglob("*")} == before


def test_another_base_of_the_same_name_is_refused_with_a_way_out(tmp_path):
    workspace = Workspace(tmp_path / "runs")
    train_base(BaseConfig(epochs=0, val_split=0.5), workspace=workspace)
    with pytest.raises(OtherSettingsError, match=r"val_split 0\.5 there, 0\.2 asked for") as caught:
        reproduce(epochs=0, workspace=workspace)
    assert "--runs-dir" in caught.value.hint


def test_seeds_have_reports_of_their_own(seeds):
    report = Workspace(seeds).registry.get("study-s3")
    assert report.name == "study-s3"
    assert {parent.name for parent in report.parents} == {"base-0-4-s3", "study-5-9-s3", "lora-0-9-r64-s3"}


# Several seeds


@pytest.fixture(scope="module")
def seeds(studied: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = Path(shutil.copytree(studied, tmp_path_factory.mktemp("seeds") / "runs"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lora_mnist_cli.stages.reproducing._pictures", lambda *_: [])
        for seed in (3, 4, 5):
            reproduce(seed=seed, epochs=0, workspace=Workspace(runs))
    reproduce(seeds=[3, 4, 5], epochs=0, workspace=Workspace(runs))
    return runs


def test_the_report_over_seeds_has_the_spread_of_the_reports_of_each(seeds):
    registry = Workspace(seeds).registry
    report = registry.get("study-seeds-3-5")
    singles = [registry.get(f"study-s{seed}").details["rows"] for seed in (3, 4, 5)]
    assert report.config == {"seeds": [3, 4, 5], "epochs": 0}
    assert {path.name for path in report.path.iterdir()} == {"artifact.json", "report.md", "ranks.png", "explore.html"}
    for row, *figures in zip(report.details["rows"], *singles, strict=True):
        here = [figure["here"] for figure in figures]
        assert {row["what"]} == {figure["what"] for figure in figures}
        assert row["study"] == figures[0]["study"]
        assert row["here"] == pytest.approx(statistics.fmean(here))
        assert row["difference"] == pytest.approx(row["here"] - row["study"])
        assert row["n"] == 3
        worst = (max if row["measure"] == "loss" else min)(here)
        assert (row["worst"], row["worst_seed"]) == (worst, 3 + here.index(worst))
        # t(2) leaves 2.5 % above 4.302653, by any table.
        reach = 4.302653 * statistics.stdev(here)
        top = 1.0 if row["measure"] == "accuracy" else math.inf
        assert row["low"] == pytest.approx(max(0, row["here"] - reach / 3**0.5), abs=1e-6)
        assert row["high"] == pytest.approx(min(top, row["here"] + reach / 3**0.5), abs=1e-6)
        assert row["prediction_low"] == pytest.approx(max(0, row["here"] - reach * (4 / 3) ** 0.5), abs=1e-6)
        assert row["prediction_high"] == pytest.approx(min(top, row["here"] + reach * (4 / 3) ** 0.5), abs=1e-6)
    assert report.details["alpha_0_equals_base_bit_for_bit"] is True


def test_an_untrained_study_does_not_agree_and_that_is_shown(seeds, run):
    outcome = run("reproduce", "--seeds", "3-5", "--epochs", "0", "--runs-dir", seeds)
    assert outcome.code == 0
    assert "study-seeds-3-5 is up to date" in outcome.err
    rows = Workspace(seeds).registry.get("study-seeds-3-5").details["rows"]
    outside = [row for row in rows if row["agrees"] is False]
    assert len(outside) > 7
    text = (seeds / "study-seeds-3-5" / "report.md").read_text(encoding="utf-8")
    for shown in (outcome.out, text):
        assert shown.count("OUT OF RANGE") == len(outside)
        assert f"In {len(rows) - len(outside)} of {len(rows)} rows" in shown
        assert "The study trains for 10 epochs, and these runs for 0." in shown
    as_json = run("reproduce", "--seeds", "3-5", "--epochs", "0", "--json", "--runs-dir", seeds).json
    assert as_json["rows"] == rows


def test_the_ceiling_is_a_row_that_the_study_has_not(seeds, run, monkeypatch):
    asked = {}

    def plot(kind: str, name: str, *, options: Any, **_: Any) -> None:
        asked[kind, name] = options

    monkeypatch.setattr("lora_mnist_cli.stages.plotting.plot", plot)
    workspace = Workspace(seeds)
    one = reproduce(epochs=0, ceiling=True, workspace=workspace)
    assert (one.name, one.config) == ("study-ceiling", {"seed": 0, "epochs": 0, "ceiling": True})
    assert one.parents[-1].name == "full-5-9"
    assert asked["ranks", "study-5-9"].beside == ("full-5-9",)
    assert {options.beside for (kind, _), options in asked.items() if kind != "ranks"} == {()}
    plain = workspace.registry.get("study").details["rows"]
    (added,) = (row for row in one.details["rows"] if row not in plain)
    (score,) = (s for s in workspace.registry.get("full-5-9").scores["subsets"] if s["digits"] == "5-9")
    assert added == {
        "what": "Full fine-tuning 5-9", "digits": "5-9", "measure": "accuracy", "study": None,
        "here": score["accuracy"], "difference": None,
    }  # fmt: skip
    assert [row for row in one.details["rows"] if row in plain] == plain
    assert "| Full fine-tuning 5-9 | accuracy on 5-9 | – |" in (one.path / "report.md").read_text(encoding="utf-8")

    several = run("reproduce", "--seeds", "3-5", "--epochs", "0", "--ceiling", "--json", "--runs-dir", seeds).json
    assert several["artifact"] == "study-ceiling-seeds-3-5"
    (row,) = (row for row in several["rows"] if row["study"] is None)
    full = [workspace.registry.get(f"full-5-9-s{seed}") for seed in (3, 4, 5)]
    here = [s["accuracy"] for each in full for s in each.scores["subsets"] if s["digits"] == "5-9"]
    assert (row["n"], row["agrees"], row["difference"]) == (3, None, None)
    assert row["here"] == pytest.approx(statistics.mean(here))
    assert row["prediction_low"] < row["here"] < row["prediction_high"]
    shown = run("reproduce", "--seeds", "3-5", "--epochs", "0", "--ceiling", "--runs-dir", seeds)
    assert re.search(r"Full fine-tuning 5-9 +accuracy on 5-9 +– .* –\n", shown.out)
    assert f" of {len(several['rows']) - 1} rows the study's one run lies in the range" in shown.out


def row_of(study: float, here: list[float], measure: str = "accuracy") -> dict[str, Any]:
    figures = [{"what": "x", "digits": "5-9", "measure": measure, "study": study, "here": value} for value in here]
    return over_seeds(figures, range(len(here)))


def test_a_single_run_is_held_against_the_range_of_single_runs_and_not_of_the_mean():
    here = [0.95, 0.96, 0.955, 0.965, 0.95, 0.96, 0.955, 0.965]
    low, high = (scipy.stats.ttest_1samp(here, 0).confidence_interval()[i] for i in (0, 1))
    inside = row_of(0.968, here)
    assert not low <= 0.968 <= high
    assert inside["agrees"] is True
    reach = float(high - low) / 2 * 9**0.5
    for study, agrees in ((reach * 0.99, True), (reach * 1.01 + 1e-4, False)):
        for sign in (1, -1):
            assert row_of(statistics.fmean(here) + sign * study, here)["agrees"] is agrees


def test_the_studys_rounding_is_not_held_against_it():
    assert row_of(0.9909, [0.99086, 0.99086, 0.99086])["agrees"] is True
    assert row_of(0.9909, [0.9908, 0.9908, 0.9908])["agrees"] is False
    assert row_of(0.0, [0.0, 0.0])["agrees"] is True
    assert row_of(0.039, [0.0393, 0.0393], "loss")["agrees"] is True


def test_one_seed_is_a_report_as_ever_and_none_or_one_twice_is_refused(studied, monkeypatch, run):
    monkeypatch.setattr("lora_mnist_cli.stages.reproducing._pictures", lambda *_: [])
    assert reproduce(seeds=[0], epochs=0, workspace=Workspace(studied)).name == "study"
    for seeds in ([], [1, 1]):
        with pytest.raises(UsageError, match="once each"):
            reproduce(seeds=seeds, epochs=0, workspace=Workspace(studied))
    refused = run("reproduce", "--seed", "1", "--seeds", "0-2", "--runs-dir", studied)
    assert (refused.code, "--seeds 0-2 is enough" in refused.err) == (2, True)


def test_seeds_as_names_have_them():
    assert [as_ranges(seeds) for seeds in ([0, 1, 2], [2, 0, 1], [5], [0, 2, 3, 9])] == ["0-2", "0-2", "5", "0,2-3,9"]
    many = as_ranges(range(0, 400, 2))
    assert many.startswith("200-")
    assert len(many) < 20
