"""The whole study on a user's own data set: a folder of pictures, and an ``.npz`` file; and where the data is not."""

from __future__ import annotations

import json
import re
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
from own_data import arrays, write_folder, write_npz

from lora_mnist_cli.cli import main
from lora_mnist_cli.data.sources import forget_splits
from lora_mnist_cli.registry.registry import Registry
from lora_mnist_cli.stages import Workspace, chain, finetune, plot, train_base
from lora_mnist_cli.system.errors import DataError, UsageError

NAMES = ["$x$", "花", "<b>", "a long name of a class, to be cut"]
KNOWN = {"0": "$x$", "1": "<b>", "2": "a long name of a class, to be cut", "3": "花"}


@pytest.fixture(autouse=True)
def _forget() -> None:
    forget_splits()


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``shapes``, ``npz/shapes.npz``, and the study of both in ``a`` and ``b``, without its pictures."""
    root = tmp_path_factory.mktemp("own")
    given = arrays(4, 20, 5)
    folder = write_folder(root / "shapes", given, NAMES)
    (root / "npz").mkdir()
    named = {key: values if key[0] == "x" else [NAMES[label] for label in values] for key, values in given.items()}
    npz = write_npz(root / "npz" / "shapes.npz", named)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lora_mnist_cli.stages.plotting.plot", lambda *_, **__: None)
        for runs, path in (("a", folder), ("b", npz)):
            forget_splits()
            where = ["--runs-dir", str(root / runs), "--data-dir", str(root / f"data-{runs}"), "--quiet"]
            assert main(["reproduce", "--dataset", str(path), "--epochs", "9", *where]) == 0
    return root


def where(studied: Path, data: str = "data-a") -> list[Any]:
    return ["--runs-dir", studied / "a", "--data-dir", studied / data]


def test_a_folder_and_an_npz_file_of_the_same_images_give_the_same_artifacts(studied):
    folder, npz = (
        {name: Registry(studied / runs).get(name) for name in Registry(studied / runs).names()} for runs in "ab"
    )
    adapters = {f"lora-own-shapes-2-3-r{rank}" for rank in (1, 2, 4, 8, 16, 32, 64)}
    others = {"base-own-shapes-0-1", "lora-own-shapes-0-3-r64", "study-own-shapes-2-3", "study-own-shapes"}
    assert folder.keys() == npz.keys() == adapters | others
    for name in adapters | {"base-own-shapes-0-1", "lora-own-shapes-0-3-r64"}:
        assert folder[name].digest == npz[name].digest
    assert folder["study-own-shapes"].settings.dataset["classes"] == list(KNOWN.values())


def test_the_report_is_of_its_classes_and_has_no_figures_of_the_study(studied):
    report = Registry(studied / "a").get("study-own-shapes")
    rows = report.details["rows"]
    assert all(row["study"] is row["difference"] is None and row["here"] is not None for row in rows)
    assert {row["digits"] for row in rows} == {"0-1", "2-3", "0-3"}
    text = report.read("report.md").decode()
    assert text.startswith("# The study on own-shapes\n")
    assert "5-9" not in text
    assert report.details["alpha_0_equals_base_bit_for_bit"] is True


def test_the_page_has_its_classes_and_images(studied):
    page = Registry(studied / "a").get("study-own-shapes").read("explore.html").decode()
    record = json.loads(re.search(r'<script type="application/json"[^>]*>(.*?)</script>', page, re.DOTALL)[1])  # type: ignore[index]
    assert record["classes"] == list(KNOWN.values())
    assert record["counts"] == [5, 5, 5, 5, 0, 0, 0, 0, 0, 0]
    assert sorted(set(record["images"]["labels"])) == [0, 1, 2, 3]
    assert "<b>" not in re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)


def test_tables_have_a_row_per_class(studied, run):
    shown = run("evaluate", "lora-own-shapes-2-3-r8", "--alpha", "0", *where(studied)).out
    cells = [re.split(r" {2,}", line.strip())[:2] for line in shown.splitlines()]
    assert [cell for cell in cells if cell[0][:1].isdigit()] == [
        ["0-1", "10"], ["2-3", "10"], ["0-3", "20"], *([f"{digit} {name}", "5"] for digit, name in KNOWN.items()),
    ]  # fmt: skip
    document = run("evaluate", "lora-own-shapes-2-3-r8", *where(studied), "--json").json
    assert document["classes"] == list(KNOWN.values())
    assert len(document["per_digit"]) == 10


def test_later_stages_take_the_data_set_of_the_base(studied, run, tmp_path):
    runs = shutil.copytree(studied / "a", tmp_path / "runs")
    there = ["--runs-dir", runs, "--data-dir", studied / "data-a", "--quiet", "--json"]
    made = run("finetune", "--rank", "3", "--epochs", "1", *there).json
    assert made["artifact"] == "lora-own-shapes-2-3-r3"
    assert [row["digits"] for row in made["subsets"]] == ["0-1", "2-3", "0-3"]
    assert (
        run("sweep", "--ranks", "1", "--epochs", "1", "--dataset", studied / "shapes", "--name", "s", *there).code == 0
    )
    assert run("merge", "lora-own-shapes-2-3-r8", *there).json["artifact"]
    for name, digits in (("lora-own-shapes-2-3-r8", "0-4"), ("base-own-shapes-0-1", "9")):
        refused = run("finetune", "--base", "base-own-shapes-0-1", "--digits", digits, "--name", f"x-{name}", *there)
        assert refused.code == 2
        assert "own-shapes has no class" in refused.err
        assert "3 花" in refused.err
    train_base(dataset=str(studied / "shapes"), digits="all", epochs=0, workspace=Workspace(runs, tmp_path / "d"))
    with pytest.raises(UsageError, match=r"knows all classes of own-shapes .*--digits 2-3"):
        finetune(base="base-own-shapes-0-3", workspace=Workspace(runs, tmp_path / "d"))


def test_a_base_takes_a_path_from_python_and_refuses_digits_without_a_class(studied, tmp_path):
    workspace = Workspace(tmp_path / "runs", tmp_path / "data")
    base = train_base(dataset=studied / "shapes", digits="0-1", epochs=9, workspace=workspace)
    assert base.digest == Registry(studied / "a").get("base-own-shapes-0-1").digest
    assert train_base(dataset="own-shapes", digits=[0, 1], epochs=9, workspace=workspace).created == base.created
    with pytest.raises(UsageError, match=r"own-shapes has no class 4: .*--digits 0-1"):
        train_base(dataset=studied / "shapes", workspace=workspace)


def test_a_chain_is_of_all_its_classes(studied, tmp_path):
    workspace = Workspace(tmp_path / "runs", studied / "data-a")
    few: dict[str, Any] = {"epochs": 1, "dataset": "own-shapes", "workers": 1, "workspace": workspace}
    report = chain("0-1,2,3", strategies=["plain", "joint"], **few)
    assert report.name == "chain-own-shapes-0-1_2_3-tuned-r16-plain-joint"
    assert {row["digits"] for row in report.details["rows"]} == {"0-3", "0-2", "3"}
    assert "| on 0-3 |" in report.read("report.md").decode()
    assert Registry(tmp_path / "runs").has("base-own-shapes-0-3")
    with pytest.raises(UsageError, match=r"digit 3 is in no task \(scores are over all 4"):
        chain("0-1,2", **few)
    with pytest.raises(UsageError, match=r"digits 4-9 are not in the data set \(its classes are the digits 0-3\)"):
        chain(**few)


def test_the_study_of_forgetting_needs_five_classes(studied, run):
    refused = run("reproduce", "--study", "forgetting", "--dataset", "own-shapes", *where(studied))
    assert refused.code == 2
    assert "needs five classes, and there are 4 (lora-mnist chain --tasks 0-1,2-3)" in refused.err


def test_without_the_data_artifacts_can_be_read_and_used_on_pictures(studied, run, tmp_path):
    there = ["--runs-dir", studied / "a", "--data-dir", tmp_path / "none"]
    picture = next((studied / "shapes" / "test" / "花").iterdir())
    document = run("predict", picture, "--artifact", "lora-own-shapes-0-3-r64", *there, "--json").json
    assert document["classes"] == list(KNOWN.values())
    assert "own-shapes" in run("runs", "list", "--dataset", "own-shapes", *there[:2]).out
    assert run("runs", "verify", *there[:2]).code == 0
    command = run("runs", "command", "study-own-shapes", *there[:2]).out
    assert command == "lora-mnist reproduce --dataset own-shapes --seed 0 --epochs 9\n"
    for words in (
        ["evaluate"],
        ["explore"],
        ["sweep", "--ranks", "3"],
        ["plot", "confusion"],
        ["runs", "rerun", "study-own-shapes"],
    ):
        refused = run(*words, *there)
        assert refused.code == 4, words
        assert re.search(r"own-shapes is not in .*--dataset shapes, or shapes\.npz", refused.err)


def test_other_images_of_the_same_name_are_refused(studied, run, tmp_path):
    other = write_folder(tmp_path / "shapes", arrays(4, 3, 2), NAMES)
    data = tmp_path / "data"
    assert run("train-base", "--dataset", other, "--digits", "0-1", "--epochs", "0", "--data-dir", data).code == 0
    refused = run("evaluate", "base-own-shapes-0-1", "--runs-dir", studied / "a", "--data-dir", data)
    assert refused.code == 4
    assert "has not the files that 'base-own-shapes-0-1' was made with" in refused.err


def test_all_of_a_report_is_made_again_with_equal_bytes(studied, run):
    document = run("runs", "rerun", "lora-own-shapes-2-3-r8", *where(studied), "--json").json
    assert document["same"] is True
    assert {row["artifact"] for row in document["artifacts"]} >= {"base-own-shapes-0-1", "study-own-shapes-2-3"}


def test_an_unknown_name_is_usage_and_a_missing_path_is_data(run):
    misspelt = run("train-base", "--dataset", "fashon-mnist")
    assert (misspelt.code, "did you mean 'fashion-mnist'?" in misspelt.err) == (2, True)
    for name, problem in (
        ("own-x", "own-x is not in"),
        ("x.npz", "no folder or file x.npz"),
        ("a/x", "no folder or file"),
    ):
        missing = run("train-base", "--dataset", name)
        assert (missing.code, problem in missing.err) == (4, True)
    with pytest.raises(DataError, match="own-x is not in"):
        train_base(dataset="own-x")


def test_reading_is_told_at_once_and_step_by_step(studied, tmp_path, monkeypatch):
    from recorder import Recorder

    monkeypatch.setattr("lora_mnist_cli.stages.records.datasets._EVERY", 0.0)
    heard = Recorder()
    train_base(dataset=studied / "shapes", digits="0-1", epochs=0,
               workspace=Workspace(tmp_path / "runs", tmp_path / "data", reporter=heard))  # fmt: skip
    phases = [event for event in heard.events if event[0] == "phase"]
    assert [event[3] for event in phases[:100]] == [f"{done}/100" for done in range(100)]
    assert [event[0] for event in heard.events[:3]] == ["plan", "phase", "reached"]


@pytest.mark.parametrize("kind", ["predictions", "confusion"])
def test_pictures_show_classes_whatever_their_names(kind, studied, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, path = plot(
            kind,
            "lora-own-shapes-0-3-r64",
            output=tmp_path / "x.svg",
            workspace=Workspace(studied / "a", studied / "data-a"),
        )
    text = path.read_text(encoding="utf-8")
    number = {"predictions": ["", "", ""], "confusion": ["0 ", "1 ", "3 "]}[kind]
    for shown in (f"{number[0]}$x$", f"{number[1]}&lt;b&gt;", f"{number[2]}?"):
        assert f"<!-- {shown} -->" in text
    assert "to be cut" not in text
    assert "<!-- 9 -->" not in text


@pytest.mark.slow
def test_the_whole_study_with_its_pictures(studied, run, tmp_path):
    there = ["--runs-dir", tmp_path / "runs", "--data-dir", tmp_path / "data"]
    outcome = run("reproduce", "--dataset", studied / "npz" / "shapes.npz", "--epochs", "1", *there)
    assert outcome.code == 0
    assert "warning" not in outcome.err.lower()
    report = Registry(tmp_path / "runs").get("study-own-shapes")
    assert sum(file.endswith(".png") for file in report.files) == 12
    assert {"explore.html", "report.md"} <= report.files.keys()
    assert run("forgetting", "lora-own-shapes-2-3-r8", *there, "--json").json["all"] == "0-3"
