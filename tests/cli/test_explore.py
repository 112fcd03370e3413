"""The command of the page to explore, on small data."""

import json
from pathlib import Path

import pytest
from small_artifacts import BASE, R1, R2, SWEEP


def test_says_where_the_page_is_and_what_is_on_it(runs, run):
    outcome = run("explore", "--json")
    assert (outcome.code, f"taking the newest sweep: {SWEEP}" in outcome.err) == (0, True)
    assert outcome.json == {
        "schema_version": 1, "command": "explore", "artifact": R1, "base": BASE, "adapters": [R1, R2],
        "output": "explore.html", "bytes": Path("explore.html").stat().st_size,
    }  # fmt: skip
    assert f"the page shows {BASE} and 2 adapters; --open opens it in the browser" in outcome.err
    alone = run("explore", R2, "--output", "other.html")
    assert alone.out == "other.html\n"
    assert f"the page shows {BASE} and 1 adapter;" in alone.err


def test_opens_the_page_where_that_is_asked_for(runs, run, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    run("explore", R1)
    assert opened == []
    assert "--open" not in run("explore", R1, "--open").err
    assert opened == [Path("explore.html").resolve().as_uri()]


@pytest.mark.parametrize(
    ("arguments", "code", "shown"),
    [
        (["nothing"], 3, "nothing"), ([BASE], 3, "kind base"), ([R1, R1], 2, "named twice"),
        ([R1, "--output", "page.png"], 2, "page.png"), ([R1, "--output", "no/page.html"], 5, "no/page.html"),
    ],
)  # fmt: skip
def test_refusals(runs, refused, arguments, code, shown):
    refused(["explore", *arguments], code, shown)


def test_weights_that_are_not_finite_are_refused(runs, refused, forge):
    import numpy as np
    import safetensors.numpy

    file = runs / R1 / "adapter_model.safetensors"
    tensors = safetensors.numpy.load(file.read_bytes())
    first = next(iter(tensors))
    tensors[first] = np.full_like(tensors[first], np.inf)
    forge(runs / R1, files={file.name: safetensors.numpy.save(tensors, metadata={"format": "pt"})})
    refused(["explore", R1], 3, "not finite")


def test_reproduce_writes_the_page_beside_its_report_and_says_so(data, run, monkeypatch):
    monkeypatch.setattr("lora_mnist_cli.stages.reproducing._pictures", lambda *_: [])  # they are drawn elsewhere
    outcome = run("reproduce", "--dataset", "fashion-mnist", "--epochs", "0", "--runs-dir", "study", "--json")
    page = Path("study/study-fashion-mnist/explore.html")
    assert json.loads(outcome.out)["page"] == str(page)
    assert f"a page to play with: {page}" in outcome.err
    assert "](explore.html)" in (page.parent / "report.md").read_text(encoding="utf-8")
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
