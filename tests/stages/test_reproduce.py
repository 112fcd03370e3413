"""The whole study as one stage, with untrained models: what it leaves, and that it does nothing twice."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lora_mnist_cli.config import BaseConfig
from lora_mnist_cli.errors import OtherSettingsError
from lora_mnist_cli.stages import Workspace, reproduce, train_base

PICTURES = {
    "alpha-lora-5-9-r64.png",
    "confusion-base-0-4.png",
    "confusion-lora-0-9-r64.png",
    "confusion-lora-5-9-r64.png",
    "history-base-0-4.png",
    "history-lora-5-9-r64.png",
    "predictions-base-0-4-on-0-4.png",
    "predictions-base-0-4-on-5-9.png",
    "predictions-lora-0-9-r64-on-0-9.png",
    "predictions-lora-5-9-r64-on-0-4.png",
    "predictions-lora-5-9-r64-on-5-9.png",
    "ranks-study-5-9.png",
}


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("studied") / "runs"
    reproduce(epochs=0, workspace=Workspace(runs))
    return runs


def test_leaves_exactly_these_files(studied: Path) -> None:
    adapters = [f"lora-5-9-r{rank}" for rank in (1, 2, 4, 8, 16, 32, 64)]
    expected = sorted(["base-0-4", "lora-0-9-r64", "study", "study-5-9", *adapters])
    assert sorted(path.name for path in studied.iterdir()) == expected
    assert {path.name for path in (studied / "study").iterdir()} == PICTURES | {"artifact.json", "report.md"}
    for picture in PICTURES:
        assert (studied / "study" / picture).read_bytes().startswith(b"\x89PNG")


def test_sets_each_figure_beside_the_studys(studied: Path) -> None:
    rows = Workspace(studied).registry.get("study").details["rows"]
    published = [(row["digits"], row["measure"], row["study"]) for row in rows]
    ranks = [("5-9", "accuracy", a) for a in (0.8381, 0.9331, 0.9547, 0.9696, 0.9759, 0.9765, 0.9796)]
    assert published == [
        ("0-4", "accuracy", 0.9909),
        ("0-4", "loss", 0.039),
        ("5-9", "accuracy", 0.0),
        ("5-9", "loss", 15.50),
        *ranks,
        ("0-4", "accuracy", 0.0),
        ("0-4", "accuracy", 0.9909),
        ("0-9", "accuracy", 0.9714),
    ]
    for row in rows:
        assert row["difference"] == pytest.approx(row["here"] - row["study"])


def test_its_figures_are_the_artifacts_own(studied: Path) -> None:
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


def test_the_report_shows_every_picture(studied: Path) -> None:
    text = (studied / "study" / "report.md").read_text(encoding="utf-8")
    assert {line.partition("](")[2][:-1] for line in text.splitlines() if line.startswith("![")} == PICTURES
    assert "| LoRA 5-9, rank 1 | accuracy on 5-9 | 83.81 % |" in text
    assert "equal the base's bit for bit" in text


def test_a_second_run_does_nothing_and_imports_nothing_heavy(studied: Path) -> None:
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


def test_another_base_of_the_same_name_is_refused_with_a_way_out(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "runs")
    train_base(BaseConfig(epochs=0, lr=0.5), workspace=workspace)
    with pytest.raises(OtherSettingsError, match=r"lr 0\.5 there, 0\.001 asked for") as caught:
        reproduce(epochs=0, workspace=workspace)
    assert "--runs-dir" in caught.value.hint


def test_seeds_have_reports_of_their_own(studied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lora_mnist_cli.stages.reproduction._pictures", lambda *_: [])
    report = reproduce(seed=3, epochs=0, workspace=Workspace(studied))
    assert report.name == "study-s3"
    assert {parent.name for parent in report.parents} == {"base-0-4-s3", "study-5-9-s3", "lora-0-9-r64-s3"}
