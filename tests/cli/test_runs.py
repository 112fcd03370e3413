"""``lora-mnist runs``: list, show, path and remove."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from small_artifacts import BASE, NAMES, R1, R2, SWEEP, names_in

from lora_mnist_cli.registry.artifact import read_artifact


def test_the_list_has_a_row_an_artifact_oldest_first_with_its_lineage(runs, run):
    document = run("runs", "list", "--json").json
    assert set(document) == {"schema_version", "command", "artifacts"}
    artifacts = {artifact["name"]: artifact for artifact in document["artifacts"]}
    assert list(artifacts) == NAMES
    assert [artifact["kind"] for artifact in artifacts.values()] == ["base", "adapter", "adapter", "sweep"]
    created = [artifact["created"] for artifact in artifacts.values()]
    assert created == sorted(created)
    base = artifacts[BASE]
    assert (base["dataset"], base["digits"], base["rank"], base["seed"]) == ("fashion-mnist", "0-4", None, 0)
    assert (base["parents"], base["subsets"]) == ([], read_artifact(runs / BASE).scores["subsets"])
    lineage = {"role": "base", "name": BASE, "digest": base["digest"]}
    assert (artifacts[R2]["rank"], artifacts[R2]["parents"]) == (2, [lineage])
    members = [{"role": "member", "name": name, "digest": artifacts[name]["digest"]} for name in NAMES[1:3]]
    assert artifacts[SWEEP]["parents"] == [lineage, *members]
    for name, artifact in artifacts.items():
        sizes = [path.stat().st_size for path in (runs / name).iterdir() if path.name != "artifact.json"]
        assert artifact["bytes"] == sum(sizes)

    lines = run("runs", "list").out.splitlines()
    assert [line.split()[0] for line in lines if line.split() and line.split()[0] in NAMES] == NAMES
    (row,) = [line.split() for line in lines if R1 in line]
    accuracy = next(s["accuracy"] for s in artifacts[R1]["subsets"] if s["digits"] == "5-9")
    assert row[:8] == [R1, "adapter", "fashion-mnist", "5-9", "1", "0", BASE, f"{100 * accuracy:.2f}"]


def test_nothing_there_is_no_error(run, tmp_path):
    outcome = run("runs", "list")
    assert (outcome.code, outcome.out) == (0, "")
    assert "lora-mnist train-base" in outcome.err
    assert run("runs", "list", "--json").json["artifacts"] == []
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_artifact_is_a_warning_and_the_others_are_listed(runs, run):
    manifest = json.loads((runs / R1 / "artifact.json").read_text())
    manifest["scores"]["subsets"][0]["accuracy"] = 1.0
    (runs / R1 / "artifact.json").write_text(json.dumps(manifest))
    outcome = run("runs", "list", "--json")
    assert outcome.code == 0
    assert [artifact["name"] for artifact in outcome.json["artifacts"]] == [n for n in NAMES if n != R1]
    (line,) = outcome.err.splitlines()
    assert line.startswith("warning: 'lora-fashion-mnist-5-9-r1' is damaged")
    assert "lora-mnist runs remove lora-fashion-mnist-5-9-r1" in line


def test_show_tells_all_that_is_recorded(runs, run):
    document = run("runs", "show", BASE, "--json").json
    assert set(document) == {"schema_version", "command", "artifact", "manifest", "needed_by", "aliases"}
    assert document["manifest"] == json.loads((runs / BASE / "artifact.json").read_text())
    assert (document["needed_by"], document["aliases"]) == (NAMES[1:], [])
    printed = run("runs", "show", BASE).out
    for shown in (document["manifest"]["digest"], "epochs", "wall time", "torch", "history.csv", *NAMES[1:]):
        assert shown in printed
    assert "base-fashion-mnist-0-4 (base)" in run("runs", "show", R2).out


def test_path_is_the_folder_and_nothing_else(runs, run, tmp_path):
    outcome = run("runs", "path", BASE)
    assert (outcome.out, outcome.err) == (f"{Path('runs', 'base-fashion-mnist-0-4')}\n", "")
    document = run("runs", "path", BASE, "--runs-dir", runs, "--json").json
    assert document["path"] == str(runs / BASE)
    assert document["artifact"] == BASE


def test_a_long_path_is_one_line(trained, run, tmp_path):
    deep = tmp_path.joinpath(*["a folder with a rather long name"] * 8)
    deep.parent.mkdir(parents=True)
    deep.symlink_to(trained)
    assert run("runs", "path", BASE, "--runs-dir", deep).out == f"{deep / 'base-fashion-mnist-0-4'}\n"


@pytest.mark.parametrize(("name", "needed_by"), [(BASE, f"{R1}, {R2}, {SWEEP}"), (R1, SWEEP)])
def test_what_others_descend_from_is_not_removed_and_they_are_named(name, needed_by, runs, run):
    outcome = run("runs", "remove", name)
    assert (outcome.code, outcome.out) == (3, "")
    (line,) = outcome.err.splitlines()
    assert line.startswith(f"error: '{name}' can't be removed: {needed_by} need")
    assert "lora-mnist runs remove" in line
    assert names_in(runs) == NAMES


def test_in_the_right_order_all_can_be_removed(runs, run):
    for name in reversed(NAMES):
        outcome = run("runs", "remove", name)
        assert (outcome.code, outcome.out, outcome.err) == (0, f"removed {name}\n", "")
        assert not (runs / name).exists()
    assert not runs.exists() or not list(runs.iterdir())


def test_what_is_recorded_is_shown_without_a_sign_of_json(runs, run):
    """Of every kind of artifact; the forms of JSON are for programs."""
    assert run("merge", R1).code == 0
    merged = f"merged-{R1}"
    printed = [run("runs", "show", name).out for name in (*NAMES, merged)]
    printed += [run("runs", "diff", R1, R2).out, run("runs", "diff", BASE, merged).out]
    printed.append(run("finetune", "--rank", "1", "--epochs", "1", "--target-layers", "fc1").err)
    assert "target_layers fc1, fc2, fc3 there, fc1 asked for" in printed[-1]
    for text in printed:
        assert text
        assert not re.search(r"[\[\]{}\"]|(?<![-\w])(null|true|false|None|True|False)\b", text), text
