"""What goes to stdout and what to stderr, in a pipe and at a terminal; the tables and the JSON of the stages."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest
from small_artifacts import BASE, R1, R2, SWEEP, TRAIN_BASE

from lora_mnist_cli.cli import main
from lora_mnist_cli.cli.tables import sweep_table
from lora_mnist_cli.cli.text_table import Table
from lora_mnist_cli.data import sources
from lora_mnist_cli.data.source import class_names
from lora_mnist_cli.evaluation import original_study
from lora_mnist_cli.evaluation.seeds import summarise
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.config import BaseConfig
from lora_mnist_cli.settings.digits import DigitSet

COLOUR = re.compile(r"\x1b\[(?:[0-9;]*;)?(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])(?:;[0-9;]*)?m")
COUNTS = {"0-4": 100, "5-9": 100, "0-9": 200}
PER_DIGIT = (20,) * 10
CLASSES = class_names("fashion-mnist")
SCORE_KEYS = {"count", "accuracy", "accuracy_low", "accuracy_high", "loss"}


def _rows(printed: str) -> list[list[str]]:
    """The cells of a printed table's lines, its header among them."""
    lines = [line for line in printed.splitlines() if line.startswith("  ") and line.strip()]
    return [re.split(r"\s{2,}", line.strip()) for line in lines]


def _table_rows(table: Table) -> list[list[str]]:
    return _rows("\n".join(line.text for line in table.lines()))


def _percent(accuracy: float) -> str:
    return f"{100 * accuracy:.2f}"


def _loss(loss: float) -> str:
    return f"{loss:.4f}"


def _check_scores(document: dict[str, Any], digit_sets: list[str]) -> None:
    """Shape and arithmetic of subset scores: a subset's figures are its digits' figures, weighted by their counts."""
    assert [row["digits"] for row in document["subsets"]] == digit_sets
    assert all(set(row) == {"digits", *SCORE_KEYS} for row in document["subsets"])
    assert [row["digit"] for row in document["per_digit"]] == list(range(10))
    assert tuple(row["count"] for row in document["per_digit"]) == PER_DIGIT
    assert all(set(row) == {"digit", *SCORE_KEYS} for row in document["per_digit"])
    for row in document["subsets"]:
        members = [document["per_digit"][digit] for digit in DigitSet.parse(row["digits"])]
        assert row["count"] == sum(member["count"] for member in members)
        for figure in ("accuracy", "loss"):
            expected = sum(member["count"] * member[figure] for member in members) / row["count"]
            assert row[figure] == pytest.approx(expected, rel=1e-9, abs=1e-12)


def _expected_rows(document: dict[str, Any]) -> list[list[str]]:
    rows = [[row["digits"], *_figures(row)] for row in document["subsets"]]
    return rows + [[f"{row['digit']} {CLASSES[row['digit']]}", *_figures(row)] for row in document["per_digit"]]


def _figures(row: dict[str, Any]) -> list[str]:
    interval = f"{_percent(row['accuracy_low'])} to {_percent(row['accuracy_high'])}"
    return [f"{row['count']:,}", _percent(row["accuracy"]), interval, _loss(row["loss"])]


# Tables and JSON


@pytest.mark.parametrize(
    ("arguments", "keys", "alpha"),
    [
        ([*TRAIN_BASE, "--epochs", "1"], set(), None),
        (["finetune", "--rank", "2", "--epochs", "1"], {"trainable_parameters"}, 1.0),
        (["evaluate", BASE], set(), None),
        (["evaluate", R2], set(), 1.0),
        (["evaluate", R2, "--alpha", "0.5"], set(), 0.5),
    ],
)
def test_scores_of_the_bases_digits_the_others_all_and_each(arguments, keys, alpha, runs, run):
    document = run(*arguments, "--json").json
    assert set(document) == {"schema_version", "command", "artifact", "alpha", "classes", "subsets", "per_digit"} | keys
    assert document["alpha"] == alpha
    assert document["artifact"] in (BASE, R2)
    _check_scores(document, ["0-4", "5-9", "0-9"])
    assert {row["digits"]: row["count"] for row in document["subsets"]} == COUNTS

    plain = run(*arguments)
    assert document["artifact"] in plain.out.splitlines()[0]
    assert _rows(plain.out) == [["digits", "images", "accuracy %", "95 % interval", "loss"], *_expected_rows(document)]


@pytest.mark.parametrize(
    ("digits", "digit_sets"), [("7,5,8-9", ["5,7-9", "0-4,6", "0-9"]), ("all", ["0-9"]), ("3", ["3", "0-2,4-9", "0-9"])]
)
def test_the_rows_follow_the_bases_digits(digits, digit_sets, data, run):
    document = run(*TRAIN_BASE, "--digits", digits, "--epochs", "0", "--json").json
    assert document["artifact"] == f"base-fashion-mnist-{digit_sets[0]}"
    _check_scores(document, digit_sets)


def test_what_an_adapter_learned_has_a_row_of_its_own(runs, run):
    document = run("finetune", "--digits", "4-6", "--epochs", "0", "--json").json
    assert document["artifact"] == "lora-fashion-mnist-4-6-r8"
    _check_scores(document, ["0-4", "5-9", "0-9", "4-6"])


def test_several_alphas_are_one_table(runs, run):
    document = run("evaluate", "--alpha", "0,0.25,1", "--json").json
    assert set(document) == {"schema_version", "command", "artifact", "classes", "results"}
    assert [row["alpha"] for row in document["results"]] == [0.0, 0.25, 1.0]
    for row in document["results"]:
        assert set(row) == {"alpha", "subsets", "per_digit"}
        _check_scores(row, ["0-4", "5-9", "0-9"])

    header, *rows = _rows(run("evaluate", "--alpha", "0,0.25,1").out)
    assert header == ["alpha", *(f"{digits} {what}" for digits in COUNTS for what in ("acc. %", "loss"))]
    expected = [
        [f"{row['alpha']:g}", *(t for s in row["subsets"] for t in (_percent(s["accuracy"]), _loss(s["loss"])))]
        for row in document["results"]
    ]
    assert rows == expected


def test_a_sweep_has_a_row_a_rank(runs, run):
    document = run("sweep", "--ranks", "1,2", "--epochs", "1", "--json").json
    assert set(document) == {"schema_version", "command", "artifact", "digits", "results", "summary"}
    assert (document["artifact"], document["digits"]) == (SWEEP, "5-9")
    assert [(row["artifact"], row["rank"], row["seed"]) for row in document["results"]] == [
        (R1, 1, 0), (R2, 2, 0),
    ]  # fmt: skip
    for row in document["results"]:
        # The study's figure stands only beside results of its own recipe.
        assert set(row) == {
                "artifact", "rank", "seed", "trainable_parameters", "failed", "subsets", "last_epoch",
            }  # fmt: skip
        assert row["failed"] is None
        assert row["trainable_parameters"] == row["rank"] * (784 + 16 + 16 + 12 + 12 + 10)
        assert {s["digits"]: s["count"] for s in row["subsets"]} == COUNTS

    header, *rows = _rows(run("sweep", "--ranks", "1,2", "--epochs", "1").out)
    order = ["5-9", "0-4", "0-9"]
    assert header == ["rank", "parameters", *(f"{d} {what}" for d in order for what in ("acc. %", "loss"))]
    for cells, row in zip(rows, document["results"], strict=True):
        by_digits = {s["digits"]: s for s in row["subsets"]}
        figures = [t for d in order for t in (_percent(by_digits[d]["accuracy"]), _loss(by_digits[d]["loss"]))]
        assert cells == [str(row["rank"]), f"{row['trainable_parameters']:,}", *figures]


T_3 = 4.302653  # t(2) leaves 2.5 % above it, by any table


def test_a_sweep_over_seeds_closes_each_rank_with_mean_interval_worst_seed_and_n(runs, run):
    arguments = ["sweep", "--ranks", "1,4", "--seeds", "1-3", "--epochs", "1", "--name", "seeds"]
    outcome = run(*arguments, "--json")
    document = outcome.json
    assert [(row["rank"], row["seed"]) for row in document["results"]] == [(r, s) for r in (1, 4) for s in (1, 2, 3)]
    assert [row["artifact"] for row in document["results"][:2]] == [
        "lora-fashion-mnist-5-9-r1-s1",
        "lora-fashion-mnist-5-9-r1-s2",
    ]
    assert "trained 6 adapters on 5-9: 1 epoch in " in outcome.err

    header, *rows = _rows(run(*arguments, "--each-seed").out)
    assert header[:3] == ["rank", "parameters", "seed"]
    assert len(rows) == 10
    assert [(row["rank"], row["n"], row["failed"]) for row in document["summary"]] == [(1, 3, 0), (4, 3, 0)]
    for summary, closing, worst in zip(document["summary"], (rows[3], rows[8]), (rows[4], rows[9]), strict=True):
        rank = str(summary["rank"])
        assert closing[:3] == [rank, "mean ± 95 %", "n=3"]
        assert worst[:2] == [rank, "worst (seed)"]
        results = [row for row in document["results"] if row["rank"] == summary["rank"]]
        means, worsts = [], []
        for digits in ("5-9", "0-4", "0-9"):
            scores = [next(s for s in row["subsets"] if s["digits"] == digits) for row in results]
            told = next(s for s in summary["subsets"] if s["digits"] == digits)
            assert told["count"] == COUNTS[digits]
            for what, factor, places, of in (("accuracy", 100, 2, min), ("loss", 1, 4, max)):
                figures = [score[what] for score in scores]
                half = T_3 * stdev(figures) / 3**0.5
                means.append(f"{factor * mean(figures):.{places}f} ± {factor * half:.{places}f}")
                seed = 1 + figures.index(of(figures))
                worsts.append(f"{factor * of(figures):.{places}f} ({seed})")
                assert told[what] == {
                    "n": 3, "mean": pytest.approx(mean(figures)), "sd": pytest.approx(stdev(figures)),
                    "low": pytest.approx(mean(figures) - half, abs=1e-6), "worst": of(figures), "worst_seed": seed,
                    "high": pytest.approx(mean(figures) + half, abs=1e-6),
                }  # fmt: skip
        assert closing[3:] == means
        assert worst[2:] == worsts
        assert stdev(figures) > 0


def test_one_stream_is_varied_with_the_others_held_at_the_seed_that_is_given(runs, run, refused):
    arguments = ["sweep", "--ranks", "1", "--seeds", "1-2", "--epochs", "0", "--vary", "order", "--seed", "7"]
    document = run(*arguments, "--json").json
    assert document["artifact"] == "sweep-fashion-mnist-5-9-order-h7"
    config = run("runs", "show", document["results"][0]["artifact"], "--json").json["manifest"]["config"]
    assert (config["seed"], config["vary"], config["held_seed"]) == (1, "order", 7)
    for vary in ([], ["--vary", "all"]):
        refused(["sweep", "--seeds", "1-2", "--seed", "7", *vary], 2, "--seeds 1-2 is enough")


def test_a_seed_that_failed_is_the_worst_and_is_counted_as_failed():
    def result(seed: int, accuracy: float | None) -> dict[str, Any]:
        subsets = [{"digits": "5-9", "count": 100, "accuracy": accuracy, "loss": accuracy and 1 - accuracy}]
        failed = None if accuracy else "the loss became nan in epoch 1"
        return {"rank": 1, "seed": seed, "trainable_parameters": 1050, "failed": failed, "subsets": subsets}

    results = [result(0, 0.9), result(1, None), result(2, 0.8)]
    *_, mean_row, worst_row = _table_rows(sweep_table("a sweep", results, ["5-9"], {}, "5-9", each_seed=True))
    # t(1) leaves 2.5 % above 12.706: half a width of 12.706 · 7.0711 / √2, cut where no figure can be.
    assert mean_row == ["1", "mean ± 95 %", "n=2, 1 failed", "85.00 (21.47 to 100.00)", "0.1500 (0.0000 to 0.7853)"]
    assert worst_row == ["1", "worst (seed)", "– (1)", "– (1)"]
    (row,) = summarise(results)
    accuracy = row["subsets"][0]["accuracy"]
    assert (row["n"], row["failed"], accuracy["n"]) == (3, 1, 2)
    assert (accuracy["worst"], accuracy["worst_seed"]) == (None, 1)
    (alone,) = summarise(results[1:2])
    nothing = {"n": 0, "mean": None, "sd": None, "low": None, "high": None, "worst": None, "worst_seed": 1}
    assert alone["subsets"][0]["accuracy"] == nothing


# The study's figures


@pytest.mark.parametrize(
    ("base", "adapter", "is_comparable"),
    [
        ({"seed": 3}, {}, True),
        ({"dataset": "kmnist"}, {}, False),
        ({"digits": DigitSet.parse("0-5")}, {}, False),
        ({"hidden_sizes": (64, 32)}, {}, False),
        ({}, {}, True),
        ({}, {"rank": 64, "seed": 7, "target_layers": ("fc1", "fc2", "fc3")}, True),
        ({}, {"target_layers": ("fc1",)}, False),
        ({}, {"epochs": 1}, False),
        ({}, {"alpha": 2.0}, False),
        ({}, {"scaling": "standard"}, False),
        ({}, {"init": "kaiming"}, False),
        ({}, {"lr": 1e-2}, False),
        ({"epochs": 1}, {}, False),
    ],
)
def test_only_the_studys_own_recipe_data_and_digits_are_comparable(base, adapter, is_comparable):
    adapter_config = AdapterConfig(**{"digits": DigitSet.parse("5-9"), **adapter})
    assert original_study.comparable(BaseConfig(**base), adapter_config) is is_comparable


def test_the_study_has_figures_for_its_own_digits_and_ranks_alone():
    assert original_study.adapter_accuracy(DigitSet.parse("5-9"), 8) == 0.9696
    assert original_study.adapter_accuracy(DigitSet.parse("5-9"), 3) is None
    assert original_study.adapter_accuracy(DigitSet.parse("5-8"), 8) is None
    assert original_study.adapter_accuracy(DigitSet.parse("all"), 64) == 0.9714


def test_the_studys_figure_stands_beside_ours_where_it_has_one():
    subsets = [{"digits": "5-9", "count": 4861, "accuracy": 0.5, "loss": 1.0}]
    results = [{"rank": rank, "seed": 0, "trainable_parameters": 1050 * rank, "subsets": subsets} for rank in (1, 3)]
    header, first, second = _table_rows(sweep_table("a sweep", results, ["5-9"], {1: 0.8381}, "5-9"))
    assert header[-1] == "study 5-9 %"
    assert first[-1] == "83.81"
    assert second[-1] == "–"


def test_methods_without_a_rank_close_the_table_of_a_sweep():
    subsets = [{"digits": "5-9", "count": 4861, "accuracy": 0.5, "loss": 1.0}]
    results = [{"rank": rank, "seed": 0, "trainable_parameters": 9, "subsets": subsets} for rank in (1, 0, 3)]
    _, *rows = _table_rows(sweep_table("a sweep", results, ["5-9"], {}, "5-9"))
    assert [row[0] for row in rows] == ["1", "3", "–"]


# Off a terminal


@pytest.mark.parametrize(
    ("arguments", "forced"),
    [
        (["runs", "list"], "GITHUB_ACTIONS"),
        (["runs", "show", R1], "FORCE_COLOR"),
        (["evaluate", "--alpha", "0,0.5,1", "--min-accuracy", "0-9=0"], "TTY_COMPATIBLE"),
        (["sweep", "--ranks", "1,2", "--epochs", "1"], "GITHUB_ACTIONS"),
        ([*TRAIN_BASE, "--epochs", "1"], "FORCE_COLOR"),
    ],
    ids=["list", "show", "evaluate", "sweep", "train-base"],
)
def test_no_table_is_cut_or_coloured_in_a_narrow_pipe(arguments, forced, runs, run, monkeypatch):
    plain = run(*arguments)
    for name, value in {"COLUMNS": "40", "LINES": "5", forced: "true"}.items():
        monkeypatch.setenv(name, value)
    narrow = run(*arguments)
    assert (narrow.out, narrow.err) == (plain.out, plain.err)
    assert "\x1b" not in narrow.out + narrow.err
    assert "…" not in narrow.out.replace("sha256:", "")
    assert max(map(len, narrow.out.splitlines())) > 60


@pytest.mark.usefixtures("data")
def test_training_off_a_terminal_leaves_a_line_and_no_animation(run, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    outcome = run(*TRAIN_BASE, "--epochs", "1", "--json")
    assert outcome.json["artifact"] == BASE
    assert re.fullmatch(
        r"trained base-fashion-mnist-0-4: 1 epoch in [0-9.]+ s, val\. accuracy [0-9.]+ %\n", outcome.err
    )


@pytest.mark.usefixtures("data")
def test_verbose_gives_a_line_per_epoch(run):
    outcome = run(*TRAIN_BASE, "--epochs", "2", "--verbose", "--json")
    assert outcome.json["artifact"] == BASE
    first, *epochs, last = outcome.err.splitlines()
    assert first == "training base-fashion-mnist-0-4: engine plain"
    for number, line in enumerate(epochs, start=1):
        figures = r"val\. loss [0-9.]+, val\. accuracy [0-9.]+ %"
        assert re.fullmatch(rf"base-fashion-mnist-0-4: epoch {number}/2, {figures}", line)
    assert len(epochs) == 2
    assert last.startswith("trained base-fashion-mnist-0-4: 2 epochs in ")


def test_quiet_silences_all_but_warnings(runs, run):
    assert run("finetune", "--rank", "64", "--epochs", "0", "--quiet").err == ""
    assert run("sweep", "--ranks", "3,4", "--lrs", "0.1,0.2", "--epochs", "0", "--name", "new", "--quiet").err == ""
    assert "rank 32 is more than fc3" in run("sweep", "--ranks", "32", "--epochs", "0", "--name", "loud").err
    (runs / "damaged").mkdir()
    (runs / "damaged" / "artifact.json").write_text("{}")
    assert run("runs", "list", "--quiet").err.startswith("warning: 'damaged' is damaged")
    assert run("evaluate", "nothing", "--quiet").err.startswith("error: ")


def test_verbose_shows_where_an_error_came_from(runs, run):
    brief, long = run("evaluate", "nothing"), run("evaluate", "nothing", "--verbose")
    assert "Traceback" not in brief.err
    assert "Traceback" in long.err
    assert long.err.endswith(brief.err)
    assert (brief.code, brief.out) == (long.code, long.out) == (3, "")


def test_a_defect_is_one_line_too(runs, run, monkeypatch):
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a slip")

    monkeypatch.setattr("lora_mnist_cli.registry.registry.Registry.scan", broken)
    outcome = run("runs", "list")
    assert (outcome.code, outcome.out) == (5, "")
    assert re.fullmatch(r"error: .*ZeroDivisionError: a slip.*--verbose.*\n", outcome.err)


@pytest.mark.parametrize(("encoding", "sign"), [("ascii", r"\xb1"), ("cp1252", "±")])
def test_a_stream_that_can_not_show_a_sign_still_shows_the_figures(runs, run, encoding, sign):
    arguments = ["sweep", "--ranks", "3", "--seeds", "1,2", "--epochs", "0", "--name", "seeds", "--each-seed"]
    assert "mean ± 95 %" in run(*arguments).out
    for call in (arguments, ["sweep", "--help"], ["runs", "list"], ["evaluate", "nope"], ["compare", "--help"]):
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2))
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            assert main(call) == (3 if "nope" in call else 0)
        if call is arguments:
            out.flush()
            shown = out.buffer.getvalue().decode(encoding)
            assert f"mean {sign} 95 %" in shown
            assert "n=2" in shown


# At a terminal


@pytest.mark.usefixtures("data")
def test_a_terminal_gets_a_bar_on_stderr_with_epoch_loss_and_accuracy(terminal):
    ended = terminal(*TRAIN_BASE, "--epochs", "900")
    assert ended.code == 0
    figures = r"val\. [0-9.]+ %, loss 0\.[0-9]{4}"
    assert re.search(rf"━+─* *[0-9]+% .*training base-fashion-mnist-0-4, epoch [0-9]+/900, {figures}", ended.err)
    assert re.search(r"% +[0-9]:[0-9]{2} left  ", ended.err), "no time left"
    assert not COLOUR.search(ended.err)
    assert "trained base-fashion-mnist-0-4: 900 epochs in" in ended.err
    assert "epoch" not in ended.out
    assert "\x1b[1m" in ended.out


def test_help_at_a_terminal_is_coloured_unless_no_color(terminal):
    assert COLOUR.search(terminal("evaluate", "--help").out)
    assert not COLOUR.search(terminal("evaluate", "--help", env={"NO_COLOR": "1"}).out)


@pytest.mark.parametrize("no_color", [True, False])
@pytest.mark.usefixtures("data")
def test_no_color_is_obeyed_at_a_terminal(no_color, at_terminal, monkeypatch):
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    ended = at_terminal(*TRAIN_BASE, "--epochs", "1")
    assert ended.code == 0
    assert "epoch 0/1" in ended.err
    assert not COLOUR.search(ended.err)
    assert not COLOUR.search(ended.out) or not no_color


@pytest.mark.usefixtures("data")
def test_quiet_means_no_bar_at_a_terminal_either(at_terminal):
    ended = at_terminal(*TRAIN_BASE, "--epochs", "1", "--quiet")
    assert (ended.code, ended.err) == (0, "")
    assert "95 % interval" in ended.out


# Pipes that break


@pytest.fixture
def broken_pipe() -> Any:
    """A pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@pytest.mark.parametrize(
    ("arguments", "unbuffered"),
    [(["runs", "list"], "1"), (["runs", "show", BASE, "--json"], ""), (["evaluate", "--help"], ""),
     (["--version"], "")],
)  # fmt: skip
def test_a_reader_that_leaves_early_gets_the_shells_code_and_no_traceback(
    arguments, unbuffered, broken_pipe, runs, program
):
    ended = program(*arguments, stdout=broken_pipe, env={"PYTHONUNBUFFERED": unbuffered})
    assert (ended.code, ended.err) == (141, "")


def _closed(stream: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The program where the shell has closed a stream, as some daemons do."""
    command = ["sh", "-c", f'exec "$@" {stream}', "sh", sys.executable, "-m", "lora_mnist_cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_without_stderr_stdout_still_has_the_result_alone(runs):
    ended = _closed("2>&-", *TRAIN_BASE, "--epochs", "1", "--json")
    assert ended.returncode == 0
    assert json.loads(ended.stdout)["artifact"] == BASE


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a stream that takes nothing")
def test_a_stderr_that_takes_nothing_changes_neither_the_work_nor_the_exit_code(runs):
    done = _closed("2>/dev/full", *TRAIN_BASE, "--epochs", "1", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["artifact"] == BASE
    assert _closed("2>/dev/full", "evaluate", "nope").returncode == 3


def test_without_stdout_there_is_no_traceback(runs):
    assert "Traceback" not in _closed(">&-", "runs", "list").stderr


# Where things are: option, then environment, then default


def _names(outcome: Any) -> list[str]:
    assert outcome.code == 0
    return [artifact["name"] for artifact in outcome.json["artifacts"]]


def test_the_runs_folder_is_the_options_then_the_environments_then_runs(runs, run, monkeypatch, tmp_path):
    for folder, name in (("from-option", R1), ("from-environment", R2)):
        (tmp_path / folder).mkdir()
        (runs / name).rename(tmp_path / folder / name)
    assert _names(run("runs", "list", "--json")) == [BASE, SWEEP]
    monkeypatch.setenv("LORA_MNIST_RUNS", "from-environment")
    assert _names(run("runs", "list", "--json")) == [R2]
    assert _names(run("runs", "list", "--json", "--runs-dir", "from-option")) == [R1]
    assert run("runs", "path", R2).out == f"{Path('from-environment', 'lora-fashion-mnist-5-9-r2')}\n"
    monkeypatch.setenv("LORA_MNIST_RUNS", "")
    assert _names(run("runs", "list", "--json")) == [BASE, SWEEP]


def test_the_data_folder_is_the_options_then_the_environments_then_data(example, run, monkeypatch, tmp_path):
    shipped = Path(__file__).resolve().parents[2] / "data" / "mnist"
    for folder in ("data", "from-environment", "from-option"):
        (tmp_path / folder / "mnist").mkdir(parents=True)
        for path in shipped.glob("*.gz"):
            (tmp_path / folder / "mnist" / path.name).symlink_to(path)
        # The damage tells which folder was read.
        (tmp_path / folder / "mnist" / "t10k-images-idx3-ubyte").write_text(folder)

    def read(*option: str) -> str:
        sources.forget_splits()
        outcome = run("evaluate", "base-0-4", *option)
        assert outcome.code == 4
        return str(outcome.err)

    assert str(Path("data", "mnist", "t10k-images-idx3-ubyte")) in read()
    monkeypatch.setenv("LORA_MNIST_DATA", "from-environment")
    assert str(Path("from-environment", "mnist")) in read()
    assert str(Path("from-option", "mnist")) in read("--data-dir", "from-option")


def test_json_is_one_document_with_plain_numbers(runs, run):
    def no_constant(name: str) -> None:
        pytest.fail(f"{name} is no JSON")

    for arguments in (["evaluate"], ["runs", "list"], ["runs", "show", SWEEP]):
        json.loads(run(*arguments, "--json").out, parse_constant=no_constant)
