"""Grids: lists from options and files, their combinations, and the names that these give."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from lora_mnist_cli.registry.artifact import check_name
from lora_mnist_cli.settings import grid as module
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.grid import MAX_ADAPTERS, grid_of, marks, parse_where, read_grid, short
from lora_mnist_cli.system.errors import ConfigError, UsageError


def test_every_combination_is_there_once_with_the_seed_innermost():
    grid = grid_of({"seeds": "0-1", "scalings": ["constant", "rslora"], "ranks": [4, 1], "lrs": "1e-3,3e-3"})
    members = grid.members(AdapterConfig(alpha=2, epochs=3))
    assert [(m.rank, m.lr, m.scaling, m.seed) for m in members] == [
        (rank, lr, scaling, seed)
        for rank in (4, 1) for lr in (0.001, 0.003) for scaling in ("constant", "rslora") for seed in (0, 1)
    ]  # fmt: skip
    assert {(m.alpha, m.epochs) for m in members} == {(2.0, 3)}
    assert [axis.field for axis in grid.varying] == ["lr", "scaling"]
    assert grid.lists() == {
        "ranks": [4, 1], "seeds": [0, 1], "lrs": [0.001, 0.003], "scalings": ["constant", "rslora"],
    }  # fmt: skip


def test_an_axis_with_one_value_is_a_plain_setting():
    grid = grid_of({"ranks": [4], "seeds": [0], "lrs": [0.003], "weight-decays": "0.1"})
    assert grid.varying == ()
    assert grid.lists() == {"ranks": [4], "seeds": [0]}
    assert grid.members(AdapterConfig()) == [AdapterConfig(rank=4, lr=0.003, weight_decay=0.1)]


def test_numbers_of_numpy_are_numbers():
    import numpy as np

    grid = grid_of({"ranks": np.array([1, 2]), "seeds": range(2), "lrs": np.array([0.25, 0.5])})
    assert json.loads(json.dumps(grid.lists())) == {"ranks": [1, 2], "seeds": [0, 1], "lrs": [0.25, 0.5]}
    assert marks(grid.members(AdapterConfig())[0]) == ["lr0.25"]


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({"rank": [1]}, "did you mean 'ranks'"),
        ({"epochs": [1]}, "epochs is no axis of a grid .--epochs gives it to all adapters"),
        ({"target-layers": [1]}, "target layers is no axis of a grid .--target-layers"),
        (
            {"zzz": [1]},
            "axes: ranks, methods, lrs, alphas, scalings, inits, weight_decays, dropouts, lr_ratio_bs, trains, "
            "rank_patterns, seeds",
        ),
        ({"ranks": []}, "at least one"),
        ({"ranks": [1, 1]}, "once each, and at least one: 1, 1"),
        ({"alphas": [1, 1.0]}, "alphas are given once each"),
        ({"weight_decays": [1], "weight-decays": [1]}, "given twice"),
        ({"seeds": 10}, "seeds are a list or a text, not 10"),
        ({"ranks": [True]}, "True in ranks is not a whole number"),
        ({"ranks": [1.5]}, "1.5 in ranks is not a whole number"),
        ({"lrs": ["1e-3"]}, "'1e-3' in lrs is not a number"),
        ({"lrs": [10**400]}, "in lrs is not a number"),
        ({"inits": [1]}, "1 in inits is not a word"),
        ({"inits": "kaiming,,"}, "inits 'kaiming,,' has an empty part"),
        ({"seeds": "3-1"}, "runs backwards"),
        ({"seeds": {"a": 1}}, "seeds are a list or a text"),
    ],
)
def test_what_is_no_list_of_an_axis_is_refused(given, shown):
    with pytest.raises(UsageError, match=shown):
        grid_of(given)


def test_every_value_that_does_not_hold_is_told_at_once():
    grid = grid_of({"ranks": [1, 0], "scalings": ["constant", "rslor"], "dropouts": [0, 1]})
    with pytest.raises(ConfigError) as caught:
        grid.members(AdapterConfig())
    assert caught.value.problems == (
        "rank is at least 1, not 0",
        "scaling is one of constant, standard, rslora, not 'rslor', did you mean 'rslora'?",
        "dropout is at least 0 and below 1, not 1.0",
    )


def test_there_is_a_limit_to_a_grid():
    assert len(grid_of({"ranks": "1-100", "seeds": "0-99"}).members(AdapterConfig())) == MAX_ADAPTERS
    with pytest.raises(UsageError, match="101 ranks × 100 seeds are 10,100 adapters, and a sweep has at most 10,000"):
        grid_of({"ranks": "1-101", "seeds": "0-99", "lrs": [0.1]}).members(AdapterConfig())
    # Nothing is made of it before it is refused.
    huge = {
        axis.plural: "0-9999" if axis.kind is int else list(range(9999)) for axis in module.AXES if axis.kind is not str
    }
    with pytest.raises(UsageError, match="at most 10,000"):
        grid_of(huge).members(AdapterConfig())


def test_names_say_what_differs_from_the_reference_recipe():
    config = AdapterConfig(lr=0.003, alpha=2, scaling="rslora", init="kaiming", weight_decay=0.1, dropout=0.1)
    assert marks(config) == ["lr0.003", "a2", "rslora", "kaiming", "wd0.1", "d0.1"]
    assert marks(AdapterConfig()) == []
    assert marks(AdapterConfig(weight_decay=0)) == ["wd0"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.003, "0.003"), (2.0, "2"), (1e-5, "1e-05"), (1e16, "1e16"), (-0.5, "-0.5"), (0.1 + 0.2, "0.30000000000000004"),
     ("rslora", "rslora"), (64, "64")],
)  # fmt: skip
def test_a_value_in_a_name_is_brief_and_no_other(value, text):
    assert short(value) == text
    assert check_name(f"x-{text}") == f"x-{text}"
    assert type(value)(text) == value


def test_a_file_has_lists_and_texts(tmp_path):
    file = tmp_path / "grid.toml"
    text = '\ufeff# a grid\r\nseeds = "0-2"\nlrs = [1e-3, 3]\nscalings = ["rslora"]\nweight-decays = "0,0.1"\n'
    file.write_text(text, encoding="utf-8")
    assert read_grid(file) == {
        "seeds": (0, 1, 2), "lrs": (0.001, 3.0), "scalings": ("rslora",), "weight_decays": (0.0, 0.1),
    }  # fmt: skip


BAD_FILES = {
    "empty": (b"", "has no axis"),
    "only a remark": (b"# ranks = [1]\n", "has no axis"),
    "no TOML": (b"ranks: [1]\n", "is not TOML"),
    "a key twice": (b"ranks = [1]\nranks = [2]\n", "is not TOML"),
    "no text": (b"\xff\xfe", "is not TOML"),
    "nested": (b"ranks = " + b"[" * 5000, "is not TOML"),
    "too many figures": (b"ranks = [" + b"9" * 5000 + b"]", "is not TOML"),
    "a table": (b"[grid]\nranks = [1]\n", "there is no axis 'grid'"),
    "misspelt": (b"rnaks = [1]\n", "did you mean 'ranks'"),
    "a number": (b"ranks = 8\n", "list or a text, not 8"),
    "a date": (b"ranks = 2020-01-01\n", "list or a text"),
    "mixed": (b'ranks = [1, "2"]\n', "'2' in ranks is not a whole number"),
    "a truth": (b"seeds = [true]\n", "True in seeds is not a whole number"),
    "a bad range": (b'seeds = "9-0"\n', "runs backwards"),
    "twice": (b"lrs = [0.1, 1e-1]\n", "once each"),
    "a list of lists": (b"lrs = [[0.1]]\n", "is not a number"),
    "huge": (b"#" * (2**20 + 1), "larger than a megabyte"),
}


@pytest.mark.parametrize("what", BAD_FILES)
def test_a_file_that_is_no_grid_is_refused_by_name(what, tmp_path):
    content, shown = BAD_FILES[what]
    file = tmp_path / "grid.toml"
    file.write_bytes(content)
    with pytest.raises(UsageError, match=r"the grid file '.*grid\.toml'") as caught:
        read_grid(file)
    assert shown in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_file_that_can_not_be_read_is_refused(tmp_path):
    for path, reason in ((tmp_path / "none.toml", "No such file"), (tmp_path, "directory"), (Path("a\0b"), "null")):
        with pytest.raises(UsageError, match=f"can't read the grid file .*{reason}"):
            read_grid(path)
    assert os.listdir(tmp_path) == []


def test_a_choice_among_combinations():
    assert parse_where(["lr=3e-3", "weight-decay=0", "scaling=rslora"]) == {
        "lr": 0.003, "weight_decay": 0.0, "scaling": "rslora",
    }  # fmt: skip
    for text, shown in (("lr", "no value"), ("lrr=1", "did you mean 'lr'"), ("lr=1,2", "one value"), ("lr=x", "'x'")):
        with pytest.raises(UsageError, match=shown):
            parse_where([text])
    with pytest.raises(UsageError, match="one value of lr"):
        parse_where(["lr=1", "lr=2"])
