"""``sweep`` over a grid: its options, its file, its plan, and what it prints."""

from __future__ import annotations

import re
from statistics import mean, stdev

import pytest
from small_artifacts import BASE, R1, R2, SWEEP

NEW = ["sweep", "--epochs", "0", "--name", "new"]


def _rows(text: str) -> list[list[str]]:
    return [re.split(r"\s{2,}", line.strip()) for line in text.splitlines() if re.match(r"\s{2,}\S", line)]


@pytest.mark.parametrize(
    ("option", "value", "values"),
    [("lr", "0.1", "0.1,0.2"), ("alpha", "1", "1,2"), ("scaling", "rslora", "constant,rslora"),
     ("init", "kaiming", "kaiming,gaussian"), ("weight-decay", "0", "0,0.1"), ("dropout", "0", "0,0.1"),
     ("seed", "1", "0-2")],
)  # fmt: skip
def test_an_option_for_one_value_and_one_for_a_list_are_refused_together(option, value, values, runs, refused):
    said = f"--{option} and --{option}s can't be given both (--{option}s {values} is enough)"
    refused([*NEW, f"--{option}", value, f"--{option}s", values], 2, said)


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["--lrs", "1e-3,x"], "'x' in --lrs '1e-3,x' is not a number"),
        (["--lrs", "1e-3,0"], "learning rate is a finite number above 0, not 0.0"),
        (["--lrs", "1e-3,nan"], "not nan"),
        (["--alphas", "1,1.0"], "alphas are given once each, and at least one: 1.0, 1.0"),
        (["--scalings", "constant,rslor"], "did you mean 'rslora'"),
        (["--inits", "kaiming,"], "--inits 'kaiming,' has an empty part"),
        (["--dropouts", "0,1"], "dropout is at least 0 and below 1, not 1.0"),
        (["--weight-decays", "0,-1"], "weight decay is a finite number of at least 0, not -1.0"),
        (["--ranks", "1-200", "--seeds", "0-50"], "200 ranks × 51 seeds are 10,200 adapters"),
        (["--bank-memory", "0"], "bank memory in MB is at least 1, not 0"),
        (["--bank-memory", "much"], "'much' is not a whole number"),
        (["--grid", "none.toml"], "can't read the grid file 'none.toml': No such file"),
        (["--epochs", "1", "--alphas", "0,1"], "alpha is another number than 0"),
    ],
)
def test_odd_grids_are_refused_in_one_line(arguments, shown, runs, refused):
    refused([*NEW, *arguments], 2, shown)


def test_a_file_of_a_grid_and_options_above_it(runs, run, tmp_path):
    file = tmp_path / "grid.toml"
    file.write_text('ranks = [3]\nseeds = "1-3"\nlrs = [1e-3, 3e-3]\nscalings = "constant,rslora"\n')
    whole = run(*NEW, "--grid", file, "--dry-run", "--json").json
    assert whole["grid"] == {
        "ranks": [3], "seeds": [1, 2, 3], "lrs": [0.001, 0.003], "scalings": ["constant", "rslora"],
    }  # fmt: skip
    assert whole["adapters"] == len(whole["missing"]) == 12
    less = run(*NEW, "--grid", file, "--lr", "0.01", "--seeds", "5", "--dry-run", "--json").json
    assert less["grid"] == {"ranks": [3], "seeds": [5], "scalings": ["constant", "rslora"]}
    file.write_text("lrz = [1]")
    outcome = run(*NEW, "--grid", file)
    assert outcome.code == 2
    assert "did you mean 'lrs'" in outcome.err


def test_a_dry_run_tells_and_does_nothing(runs, run):
    arguments = ["sweep", "--ranks", "1,2", "--seeds", "0,1", "--epochs", "1", "--name", "new", "--dry-run"]
    before = sorted(path.name for path in runs.rglob("*"))
    outcome = run(*arguments)
    assert outcome.code == 0
    told = dict(_rows(outcome.out)[1:8])
    assert told["base"] == BASE
    assert (told["ranks"], told["seeds"], told["adapters"]) == ("1, 2", "0, 1", "4")
    assert told["there already"] == "2: lora-fashion-mnist-5-9-r1, lora-fashion-mnist-5-9-r2"
    assert told["to train"] == "2: lora-fashion-mnist-5-9-r1-s1, lora-fashion-mnist-5-9-r2-s1"
    assert re.fullmatch(r"about .+ \(.+ to .+, by 2 adapters on this base\)", told["time"])
    document = run(*arguments, "--json").json
    assert document["command"] == "sweep"
    assert (document["dry_run"], document["up_to_date"], document["artifact"]) == (True, False, "new")
    assert [bank["adapters"] for bank in document["banks"]] == [[f"{R1}-s1", f"{R2}-s1"]]
    assert document["estimate"]["samples"] == 2
    split = run("sweep", "--ranks", "200,210", "--name", "new", "--dry-run", "--bank-memory", "1", "--json").json
    names = [f"lora-fashion-mnist-5-9-r{rank}" for rank in (200, 210)]
    assert [bank["adapters"] for bank in split["banks"]] == [[name] for name in names]
    assert sorted(path.name for path in runs.rglob("*")) == before
    there = run("sweep", "--ranks", "1,2", "--epochs", "1", "--dry-run", "--json").json
    assert (there["up_to_date"], there["missing"], there["banks"], there["estimate"]) == (True, [], [], None)


def test_a_grid_has_a_column_an_axis_and_closes_each_combination(runs, run):
    arguments = [
        "sweep", "--ranks", "1", "--seeds", "1,2", "--lrs", "1e-3,3e-3", "--scalings", "constant,rslora", "--epochs",
        "1", "--batch-size", "512", "--name", "grid",
    ]  # fmt: skip
    outcome = run(*arguments, "--json")
    assert outcome.code == 0
    assert "plan for grid: 8 adapters, 8 to train in 1 bank\n" in outcome.err
    results = outcome.json["results"]
    assert [(row["lr"], row["scaling"], row["seed"]) for row in results] == [
        (lr, scaling, seed) for lr in (0.001, 0.003) for scaling in ("constant", "rslora") for seed in (1, 2)
    ]
    header, *rows = _rows(run(*arguments, "--quiet", "--each-seed").out)
    assert header[:5] == ["rank", "lr", "scaling", "parameters", "seed"]
    closing = rows[2::4]
    assert [row[:5] for row in closing] == [
        ["1", lr, scaling, "mean ± 95 %", "n=2"] for lr in ("0.001", "0.003") for scaling in ("constant", "rslora")
    ]
    for cells, pair in zip(closing, (results[i : i + 2] for i in range(0, 8, 2)), strict=True):
        accuracies = [100 * s["accuracy"] for row in pair for s in row["subsets"] if s["digits"] == "5-9"]
        # t(1) leaves 2.5 % above 12.7062, by any table.
        assert cells[5] == f"{mean(accuracies):.2f} ± {12.7062 * stdev(accuracies) / 2**0.5:.2f}"
    assert [(row["lr"], row["scaling"], row["n"]) for row in outcome.json["summary"]] == [
        (lr, scaling, 2) for lr in (0.001, 0.003) for scaling in ("constant", "rslora")
    ]


def test_ranks_of_a_grid_are_drawn_of_one_combination(runs, run, tmp_path):
    assert run("sweep", "--ranks", "3", "--lrs", "0.1,0.2", "--epochs", "0", "--name", "new").code == 0
    assert run("plot", "ranks", "new").code == 2
    outcome = run("plot", "ranks", "new", "--where", "lr=0.2")
    assert (outcome.code, outcome.out) == (0, "ranks-new-lr-0.2.png\n")
    assert (tmp_path / "ranks-new-lr-0.2.png").exists()


def test_several_banks_are_one_training_at_a_terminal(runs, at_terminal):
    options = ["--epochs", "2", "--bank-memory", "1", "--name", "new", "--verbose"]
    ended = at_terminal("sweep", "--ranks", "200,210", *options)
    assert ended.code == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", ended.err)
    assert "2 adapters on 5-9, part 1/2: epoch 2/2" in text
    assert "2 adapters on 5-9, part 2/2: epoch 2/2" in text
    assert text.count("trained 2 adapters on 5-9: 2 epochs in ") == 1
    assert "trained lora" not in text


def test_a_method_without_ranks_has_a_table_of_its_own(runs, run):
    outcome = run("sweep", "--method", "full", "--seeds", "0,1", "--epochs", "0", "--name", "ceiling")
    assert outcome.code == 0
    header, first, *_ = _rows(outcome.out)
    assert (header[0], first[0]) == ("rank", "–")
    assert "study" not in " ".join(header)


def test_full_fine_tuning_of_another_sweep_closes_the_table(runs, run):
    ceiling = run("sweep", "--method", "full", "--seeds", "0,1", "--epochs", "0", "--name", "ceiling", "--json").json
    asked = ["sweep", "--ranks", "1,2", "--epochs", "1", "--beside", "ceiling"]
    document = run(*asked, "--json").json
    (beside,) = document["beside"]
    assert (beside["artifact"], beside["method"]) == ("ceiling", "full")
    assert (beside["results"], beside["summary"]) == (ceiling["results"], ceiling["summary"])
    assert [row["rank"] for row in document["results"]] == [1, 2]
    header, *rows = _rows(run(*asked, "--each-seed").out)
    assert header[:3] == ["rank", "parameters", "seed"]
    assert [row[0] for row in rows] == ["1", "2", "full", "full", "full", "full"]
    assert [row[1] for row in rows[:2]] == ["850", "1,700"]  # one seed each: no mean of them
    assert rows[-2][1:3] == ["mean ± 95 %", "n=2"]
    (told,) = (s for s in beside["summary"][0]["subsets"] if s["digits"] == "5-9")
    half = (told["accuracy"]["high"] - told["accuracy"]["low"]) / 2
    assert rows[-2][3] == f"{100 * told['accuracy']['mean']:.2f} ± {100 * half:.2f}"


def test_one_run_of_full_fine_tuning_is_a_row(runs, run):
    assert run("finetune", "--method", "full", "--epochs", "0").code == 0
    header, *rows = _rows(run("sweep", "--ranks", "1,2", "--epochs", "1", "--beside", "full-fashion-mnist-5-9").out)
    assert (header[:2], header[2]) == (["rank", "parameters"], "5-9 acc. %")
    assert [row[0] for row in rows] == ["1", "2", "full"]


def test_what_can_not_stand_beside_a_sweep_is_refused(runs, run, refused):
    new = ["sweep", "--ranks", "3", "--epochs", "0", "--name", "new", "--beside"]
    assert run("finetune", "--method", "full", "--epochs", "0").code == 0
    for arguments, code, shown in (
        (["full-fashion-mnist-5-8"], 3, "did you mean 'full-fashion-mnist-5-9'"),
        ([BASE], 3, "'base-fashion-mnist-0-4' is of kind base"),
        (["full-fashion-mnist-5-9", "--dry-run"], 2, "--dry-run shows no figures"),
    ):
        refused([*new, *arguments], code, shown)  # and nothing has been trained for a table that can't be shown
    assert run("finetune", "--method", "full", "--digits", "0-9", "--epochs", "0").code == 0
    for name, shown in (
        (R1, "'lora-fashion-mnist-5-9-r1' is no adapter without a rank"),
        (SWEEP, "'sweep-fashion-mnist-5-9' is no adapter without a rank"),
        ("full-fashion-mnist-0-9", "'full-fashion-mnist-0-9' and 'new' are not adapters of one base"),
    ):
        outcome = run(*new, name)
        assert (outcome.code, outcome.out) == (2, "")
        assert shown in outcome.err
    twice = run(*new, "full-fashion-mnist-5-9", "--beside", "full-fashion-mnist-5-9")
    assert (twice.code, "'full-fashion-mnist-5-9' is named twice" in twice.err) == (2, True)


SEEDS = [
    "sweep", "--ranks", "1,2", "--seeds", "0-2", "--name", "seeds", "--epochs", "4", "--batch-size", "16",
    "--lr", "3e-3",
]  # fmt: skip


def test_a_table_over_seeds_has_a_row_of_means_per_setting(runs, run):
    document = run(*SEEDS, "--json").json
    outcome = run(*SEEDS)
    header, *rows = _rows(outcome.out)
    assert header[:3] == ["rank", "parameters", "n"]
    assert header[-1] == "5-9 worst (seed)"
    assert "means over seeds ± 95 %, --each-seed shows all" in outcome.out.splitlines()[0]
    for cells, summary in zip(rows, document["summary"], strict=True):
        accuracy = next(s["accuracy"] for s in summary["subsets"] if s["digits"] == "5-9")
        mean, low, high = (100 * accuracy[key] for key in ("mean", "low", "high"))
        cut = low == 0 or high == 100
        shown = f"{mean:.2f} ({low:.2f} to {high:.2f})" if cut else f"{mean:.2f} ± {(high - low) / 2:.2f}"
        assert cells[:4] == [str(summary["rank"]), f"{850 * summary['rank']:,}", "3", shown]
        assert cells[-1] == f"{100 * accuracy['worst']:.2f} ({accuracy['worst_seed']})"


def test_the_best_setting_is_the_one_with_the_highest_mean_on_validation_images(runs, run):
    results = run(*SEEDS, "--json").json["results"]
    validation = {1: [], 2: []}
    for row in results:
        last = (runs / row["artifact"] / "history.csv").read_text().splitlines()[-1]
        validation[row["rank"]].append(float(last.split(",")[4]))
    rank = max(validation, key=lambda rank: mean(validation[rank]))
    line = run(*SEEDS).out.splitlines()[-1]
    assert line.startswith(
        f"best setting: rank {rank}, chosen by its accuracy on validation images "
        f"({100 * mean(validation[rank]):.2f} %, the highest mean of 3 seeds); on the test images of 5-9: "
    )
    assert "best setting" not in run("sweep", "--ranks", "1", "--epochs", "1", "--name", "one").out


def test_no_setting_is_the_best_where_nothing_may_choose_it(runs, run):
    unsplit = run("sweep", "--ranks", "1,3", "--epochs", "0", "--val-split", "0", "--name", "unsplit").out
    assert "best setting: not known, as 'unsplit' was trained without validation images" in unsplit
    diverging = ["--lr", "1e20", "--optimizer", "sgd", "--epochs", "1", "--name", "diverged"]
    assert (
        "best setting: not known, as a run of every setting diverged" in run("sweep", "--ranks", "1,3", *diverging).out
    )
