"""``lora-mnist plot``: where pictures go, their formats, and what is refused. How they look is tested elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_artifacts import BASE, R1, SWEEP

from lora_mnist_cli.stages.plotting import KINDS

MAGIC = {".png": b"\x89PNG\r\n\x1a\n", ".svg": b"<?xml", ".pdf": b"%PDF-"}

# Kind → arguments, and the file's name that they lead to.
DEFAULTS = {
    "predictions": (
        [R1, "--digits", "0-4", "--alpha", "0.5"],
        "predictions-lora-fashion-mnist-5-9-r1-on-0-4-alpha-0.5.png",
    ),
    "ranks": ([], "ranks-sweep-fashion-mnist-5-9.png"),
    "alpha": ([R1], "alpha-lora-fashion-mnist-5-9-r1.png"),
    "forgetting": ([], "forgetting-lora-fashion-mnist-5-9-r2.png"),
    "history": ([], "history-lora-fashion-mnist-5-9-r2.png"),
    "learning-rate": (["rates"], "learning-rate-rates.png"),
    "landscape": (["rates"], "landscape-rates.png"),
    "board": (["rates", "--quiet"], "board-rates.png"),
    "spectrum": ([SWEEP], "spectrum-sweep-fashion-mnist-5-9.png"),
    "tradeoff": ([SWEEP], "tradeoff-sweep-fashion-mnist-5-9.png"),
    "confusion": ([BASE], "confusion-base-fashion-mnist-0-4.png"),
}


def _pictures(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != "runs")


def test_every_kind_is_drawn_here():
    assert set(DEFAULTS) == set(KINDS)


@pytest.mark.parametrize("kind", DEFAULTS)
def test_the_default_name_says_what_is_shown(kind, runs, run, tmp_path):
    arguments, file = DEFAULTS[kind]
    if "rates" in arguments:
        assert run("sweep", "--ranks", "3,4", "--lrs", "0.1,0.2", "--epochs", "0", "--name", "rates").code == 0
    before = sorted(runs.rglob("*"))
    outcome = run("plot", kind, *arguments)
    assert (outcome.code, outcome.out) == (0, f"{file}\n")
    assert _pictures(tmp_path) == [file]
    assert (tmp_path / file).read_bytes().startswith(MAGIC[".png"])
    assert (tmp_path / file).stat().st_size > 5_000
    assert sorted(runs.rglob("*")) == before


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf", ".PNG"])
def test_the_suffix_of_the_output_is_the_format(suffix, runs, run, tmp_path):
    output = tmp_path / f"my picture{suffix}"
    outcome = run("plot", "history", BASE, "--output", output, "--json")
    assert (outcome.code, outcome.err) == (0, "")
    assert set(outcome.json) == {"schema_version", "command", "artifact", "kind", "output"}
    assert (outcome.json["artifact"], outcome.json["kind"]) == (BASE, "history")
    assert outcome.json["output"] == str(output)
    assert output.read_bytes().startswith(MAGIC[suffix.lower()])
    assert _pictures(tmp_path) == [output.name]


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["ranks", "--digits", "0-4"], "--digits"),
        (["ranks", "--alpha", "1"], "--alpha"),
        (["alpha", "--count", "5"], "--count"),
        (["alpha", "--alpha", "1"], "--alpha"),
        (["history", "--digits", "0-4"], "--digits"),
        (["confusion", BASE, "--count", "5"], "--count"),
        (["confusion", BASE, "--alpha", "1"], repr(BASE)),
        (["predictions", BASE, "--alpha", "0"], repr(BASE)),
        (["predictions", BASE, "--count", "0"], "0"),
        (["predictions", BASE, "--count", "100000"], "100000"),
        (["predictions", BASE, "--count", "x"], "'x'"),
        (["history", BASE, "--output", "a.gif"], ".gif"),
        (["history", BASE, "--output", "picture"], "picture"),
        (["bogus"], "'bogus'"),
        (["confusoin"], "confusion"),
    ],
)
def test_what_a_kind_has_no_use_for_is_refused(arguments, shown, runs, refused):
    refused(["plot", *arguments], 2, shown)


def test_without_a_kind_the_kinds_are_listed_with_a_line_each(run, tmp_path):
    outcome = run("plot")
    assert (outcome.code, outcome.err) == (0, "")
    for name, kind in KINDS.items():
        (line,) = [line for line in outcome.out.splitlines() if line.split()[:1] == [name]]
        assert kind.about in line
        assert all(artifact in line for artifact in kind.artifacts)
    listed = run("plot", "--json").json
    assert listed["command"] == "plot"
    assert [row["kind"] for row in listed["kinds"]] == list(KINDS)
    assert all(set(row) == {"kind", "about", "artifacts", "options"} for row in listed["kinds"])
    assert list(tmp_path.iterdir()) == []
