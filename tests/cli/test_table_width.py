"""Tables at terminals that are narrower than they are, and in pipes."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from small_artifacts import BASE, R1, R2, SWEEP

from lora_mnist_cli.cli import main
from lora_mnist_cli.cli.board_table import board_tables
from lora_mnist_cli.cli.table_width import fit_columns, fold, wrap
from lora_mnist_cli.cli.tables import sweep_table
from lora_mnist_cli.cli.text_table import Table
from lora_mnist_cli.stages.study_report import report_table

Run = Callable[..., Any]

STYLE = re.compile(r"\x1b\[[0-9;]*m")
SETTINGS = ["--ranks", "1,16", "--epochs", "1"]
SEEDS = ["sweep", *SETTINGS, "--seeds", "0-2", "--name", "seeds", "--quiet"]
GRID = [
    "sweep", *SETTINGS, "--seeds", "0-1", "--scalings", "constant,rslora", "--lrs", "1e-3,3e-3", "--name", "grid",
    "--quiet",
]  # fmt: skip


@pytest.fixture(scope="module")
def grids(trained: Path, small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both sweeps. Not to be written to."""
    runs = Path(shutil.copytree(trained, tmp_path_factory.mktemp("grids") / "runs"))
    for sweep in (SEEDS, GRID):
        assert main([*sweep, "--runs-dir", str(runs), "--data-dir", str(small_data)]) == 0
    return runs


@pytest.fixture
def _there(grids: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORA_MNIST_RUNS", str(grids))


def _shown(text: str) -> list[str]:
    return [line.rstrip() for line in STYLE.sub("", text).replace("\r", "").splitlines()]


# What fits how


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("67.66 ± 2.25", 12, ["67.66 ± 2.25"]),
        ("67.66 ± 2.25", 11, ["67.66", "± 2.25"]),
        ("67.66 ± 2.25", 1, ["67.66", "± 2.25"]),
        ("+3.48 to +16.61", 14, ["+3.48 to", "+16.61"]),
        ("mean ± 95 %", 1, ["mean", "± 95 %"]),
        ("95 % interval", 1, ["95 %", "interval"]),
        ("5-9 acc. %", 1, ["5-9", "acc. %"]),
        ("lora, rank 4 | –, lr 0.003", 12, ["lora,", "rank 4 | –,", "lr 0.003"]),
        ("accuracy on 5-9", 1, ["accuracy", "on 5-9"]),
        ("≥ 0.003", 1, ["≥ 0.003"]),
        ("B − A", 1, ["B − A"]),
        ("lora-fashion-mnist-5-9-r8-lr0.003", 5, ["lora-fashion-mnist-5-9-r8-lr0.003"]),
        ("", 0, [""]),
    ],
)
def test_a_cell_is_folded_where_no_figure_is_broken(text, width, lines):
    assert fold(text, width) == lines


COLUMNS = [("rank", "16"), ("mean", "67.66 ± 2.25"), ("shows", "one two three four"), ("made", "2026-11-25 22:55:44")]


def _total(widths: Sequence[int]) -> int:
    return sum(widths)


@pytest.mark.parametrize(
    ("width", "widths", "dropped"),
    [
        (53, [4, 12, 18, 19], []),
        (52, [4, 12, 13, 19], []),  # the widest that can be folded, to where it breaks
        (47, [4, 12, 10, 19], []),
        (44, [4, 6, 10, 19], []),
        (38, [4, 6, 7, 19], []),
        (34, [4, 6, 5, 19], []),
        (33, [4, 12, 13], [3]),  # what is left has more room again
        (15, [4, 6, 5], [3]),
        (14, [4, 6], [2, 3]),
        (1, [4, 6], [2, 3]),
    ],
)
def test_folding_comes_first_and_then_columns_are_left_out(width, widths, dropped):
    layout = fit_columns(COLUMNS, width, _total, whole=[3], optional=[3, 2])
    assert (layout.widths, layout.dropped, layout.natural) == (widths, dropped, 34)
    assert layout.kept == [place for place in range(4) if place not in dropped]


# Commands at a terminal of 80 columns; that real terminals are asked for their width is tested below


def _words(lines: Sequence[str]) -> set[str]:
    return {word for line in lines for word in line.split() if not set(word) <= {"─"}}


def _check(arguments: Sequence[str], at_terminal: Run, run: Run, *, columns: int = 80, code: int = 0) -> list[str]:
    """Runs a command at a terminal; no line is too wide, and it shows all the words that a pipe gets, but for columns
    that it names. Returns its lines.
    """
    ended, plain = at_terminal(*arguments, columns=columns), run(*arguments)
    assert (ended.code, plain.code) == (code, code)
    lines = _shown(ended.out)
    assert max(map(len, lines)) <= columns
    assert max(map(len, plain.out.splitlines())) > columns
    assert "…" not in ended.out
    left = [line for line in lines if line.startswith("Left out, as ")]
    if not left:
        assert _words(lines) == _words(plain.out.splitlines())
    return lines


@pytest.mark.usefixtures("_there")
def test_a_sweep_over_seeds_stacks_intervals_under_means(at_terminal, run):
    lines = _check([*SEEDS, "--each-seed"], at_terminal, run)
    mean = next(i for i, line in enumerate(lines) if " mean " in line)
    figures = lines[mean].split()[3:]
    assert lines[mean].split()[:3] == ["1", "mean", "n=3"]
    assert lines[mean + 1].split()[:3] == ["±", "95", "%"]
    assert len(figures) in (5, 6)
    assert len(figures) == lines[mean + 1].count("±") - 1


@pytest.mark.usefixtures("_there")
def test_a_sweep_of_many_columns_names_those_that_it_leaves_out(at_terminal, run):
    results = run(*GRID, "--json").json["results"]
    lines = _check(GRID, at_terminal, run)
    (told,) = [i for i, line in enumerate(lines) if line.startswith("Left out, as 80 columns are too few: ")]
    text = " ".join(lines[told:])
    assert re.search(r"few: (0-4 loss, )?(0-9 acc. %, )?0-9 loss\. \d+ are enough; --json has all\.", text)
    enough = int(re.findall(r"(\d+) are enough", text)[0])
    learned = [next(s for s in row["subsets"] if s["digits"] == "5-9") for row in results]
    assert {f"{100 * score['accuracy']:.2f}" for score in learned} <= _words(lines)
    assert {"lr", "scaling", "rslora", "0.003"} <= _words(lines)
    assert "0-9 loss" not in " ".join(lines[:told])
    wider = _shown(at_terminal(*GRID, columns=enough).out)
    assert not any(line.startswith("Left out") for line in wider)
    assert max(map(len, wider)) <= enough
    assert any(line.startswith("Left out") for line in _shown(at_terminal(*GRID, columns=enough - 1).out))


@pytest.mark.usefixtures("_there")
def test_comparisons_fit(at_terminal, run):
    tuned = _check(["compare", "grid", "--tune"], at_terminal, run)
    first = [line.split()[0] for line in tuned if line.startswith("  ") and line.strip()]
    assert first.count("rslora") == 2 * 2  # in both tables, below "scaling", once a rank
    for lines in (tuned, _check(["compare", "grid"], at_terminal, run)):
        assert not any("Left out" in line for line in lines)


@pytest.mark.usefixtures("_there")
def test_gates_fit(at_terminal, run):
    lines = _check(["gate", "grid", "--require", "5-9=0.95"], at_terminal, run, code=1)
    assert "verdict" in _words(lines)
    lines = _check(["gate", "grid", "--require", "5-9=0.95", "--plan"], at_terminal, run)
    assert "margin" in _words(lines)


def test_a_list_of_artifacts_keeps_a_line_each(runs, at_terminal, run):
    lines = _check(["runs", "list"], at_terminal, run)
    (told,) = [line for line in lines if line.startswith("Left out, as 80 columns are too few: ")]
    assert "created (UTC)" in " ".join(lines[lines.index(told) :])
    rows = [line for line in lines if line.startswith("  ")]
    assert [row.split()[0] for row in rows[-4:]] == [BASE, R1, R2, SWEEP]


def test_the_kinds_of_plots_fit(at_terminal, run):
    assert not any("Left out" in line for line in _check(["plot"], at_terminal, run))


def test_a_word_that_is_wider_than_the_terminal_goes_on_in_the_next_line(runs, at_terminal, run):
    digest = run("runs", "show", R1, "--json").json["manifest"]["digest"]
    shown = _shown(at_terminal("runs", "show", R1, columns=60).out)
    assert digest in "".join(line.removeprefix("  digest").strip() for line in shown)
    assert max(map(len, shown)) <= 60


def test_where_nothing_fits_the_terminal_wraps_and_nothing_is_cut(runs, terminal):
    shown = STYLE.sub("", terminal("runs", "list", columns=20).out)
    assert {R1, R2, SWEEP} <= set(shown.split())
    assert "…" not in shown
    assert "Left out" in shown


# Without a process


def _printed(made: Table, width: int | None = None) -> list[str]:
    return [line.text.rstrip() for line in made.lines(width)]


def test_the_studys_table_over_seeds_fits():
    row = {
        "what": "LoRA 5-9, any rank (highest)", "measure": "accuracy", "digits": "0-4", "study": 0.0, "here": 0.0041,
        "low": 0.0011, "high": 0.0071, "prediction_low": 0.0, "prediction_high": 0.0142, "worst": 0.0, "worst_seed": 3,
        "agrees": False, "n": 10,
    }  # fmt: skip
    columns, (cells,) = report_table([row])
    made = Table(columns, text_columns=("what", "measure", columns[-1]))
    made.add_row(*cells)
    lines = _printed(made, 80)
    assert max(map(len, lines)) <= 80
    assert _words(lines) == _words(_printed(made, 200))


def test_a_sweeps_table_over_seeds_has_the_study_beside_it():
    """The row of the worst seeds has no figure of the study's."""
    results = [
        {"rank": 4, "seed": seed, "trainable_parameters": 4200,
         "subsets": [{"digits": "5-9", "count": 4861, "accuracy": 0.95 + seed / 1000, "loss": 0.15}]}
        for seed in range(3)
    ]  # fmt: skip
    made = sweep_table("a sweep", results, ["5-9"], {4: 0.9547}, "5-9", each_seed=True)
    wide, narrow = _printed(made, 200), _printed(made, 60)
    assert [line.split()[-1] for line in wide if "mean ± 95 %" in line] == ["95.47"]
    assert [line.split()[-2:] for line in wide if "worst (seed)" in line] == [["0.1500", "(0)"]]
    assert max(map(len, narrow)) <= 60


def test_a_board_of_long_names_fits():
    figures = {"mean": 0.9069, "low": 0.7395, "high": 1.0, "worst": 0.7, "worst_seed": 0, "n": 10}
    rows = [
        {"setting": {"method": name, "rank": 8}, "described": f"{name}, rank 8", "lr": 0.001, "validation": 0.99,
         "edge": "lowest", "new": figures, "forgetting": figures, "seconds": figures, "parameters": 14592,
         "bytes": 220712, "front": False, "beaten": True, "challenger": "delora, rank 8", "p_holm": 0.039}
        for name in ("randlora", "delora")
    ]  # fmt: skip
    document = {"sweep": "fair", "dataset": "mnist", "new": "5-9", "confidence": 0.95, "tests": 4, "tuned": True}
    made = board_tables(document | {"rows": rows})[0]
    assert isinstance(made, Table)
    narrow = _printed(made, 80)
    assert max(map(len, narrow)) <= 80
    assert not any("rank 8" in line for line in narrow[3:])


def test_text_of_another_script_takes_the_room_that_it_needs():
    made = Table(("image", "digit"), text_columns=("image",))
    made.add_row("図 図 図 図 図", "3")
    assert max(len(line) + line.count("図") for line in _printed(made, 20)) <= 20
    assert len([line for line in _printed(made, 20) if "図" in line]) == 2


def test_a_folded_cell_steers_no_terminal_either():
    made = Table(("what", "value"), text_columns=("what",))
    made.add_row("a\nb \x1b[31m red and more and more", "1")
    text = "\n".join(_printed(made, 24))
    assert "\x1b" not in text
    assert r"a\nb" in text


def test_running_text_is_wrapped_at_blanks_and_long_words_within():
    assert wrap("one two three", 8) == ["one two", "three"]
    assert wrap("a 0123456789abc d", 5) == ["a", "01234", "56789", "abc", "d"]
    assert wrap("", 3) == [""]
    assert wrap("any width will do", None) == ["any width will do"]


# In a pipe


@pytest.mark.parametrize(
    "arguments",
    [
        ["sweep", "--ranks", "1-14", "--seeds", "0-9", "--epochs", "0", "--name", "many", "--dry-run"],
        ["sweep", "--ranks", "1,2", "--epochs", "1"],
        ["runs", "list"],
        ["runs", "show", R1],
        ["runs", "lineage", R1],
        ["runs", "diff", R1, R2],
        ["evaluate"],
        ["plot"],
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_a_pipe_gets_whole_tables_without_blanks_at_their_ends(arguments, runs, run):
    outcome = run(*arguments)
    assert outcome.code == 0
    lines = outcome.out.splitlines()
    assert [line for line in lines if line != line.rstrip()] == []
    assert outcome.out.endswith("\n")
    assert "Left out" not in outcome.out
    assert len(lines) > 2
