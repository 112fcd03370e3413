"""A board of settings: figures against those of the adapters, the front, and verdicts by tests over seeds."""

from __future__ import annotations

import itertools
import statistics
from typing import Any

import pytest

from lora_mnist_cli.plots import board as board_picture
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.stages import board, compare, plot, sweep
from lora_mnist_cli.stages.method_board import judge
from lora_mnist_cli.system.errors import UsageError

CONFIG = AdapterConfig(epochs=1, batch_size=16)
GRID = {"methods": "lora,bitfit,ia3", "lrs": "1e-3,3e-2"}


def row(name: str, new: list[float], forgetting: list[float], parameters: int, validation: float = 0.5) -> Any:
    per_seed = {"new": dict(enumerate(new)), "forgetting": dict(enumerate(forgetting))}
    means = {key: {"mean": statistics.fmean(figures.values())} for key, figures in per_seed.items()}
    return {"described": name, "per_seed": per_seed, "parameters": parameters, "validation": validation, **means}


def by_signs(differences: list[float]) -> float:
    """The share of all sign changes whose sum is at least as far from 0."""
    sums = [
        sum(s * d for s, d in zip(signs, differences, strict=True))
        for signs in itertools.product((1, -1), repeat=len(differences))
    ]
    return sum(abs(total) >= abs(sum(differences)) - 1e-12 for total in sums) / len(sums)


def test_the_front_and_what_the_data_can_tell():
    wobble = [0.001 * (seed % 3) for seed in range(10)]
    best = row("best", [0.9 + w for w in wobble], [0.5] * 10, 100, validation=0.9)
    worse = row("worse", [0.8 - w for w in wobble], [0.5] * 10, 100)
    alike = row("alike", [0.9 + w - (0.01 if seed == 4 else 0) for seed, w in enumerate(wobble)], [0.5] * 10, 120)
    small = row("small", [0.7] * 10, [0.6] * 10, 5)
    gentle = row("gentle", [0.6] * 10, [0.1] * 10, 300)
    rows = [best, worse, alike, small, gentle]
    assert judge(rows, 0.95) == 4
    assert [each["front"] for each in rows] == [True, False, False, True, True]
    assert [each["beaten"] for each in rows] == [False, True, False, False, False]
    assert worse["challenger"] == alike["challenger"] == "best"
    tests = [by_signs([a - b for a, b in zip(best["per_seed"]["new"].values(), worse["per_seed"]["new"].values(),
             strict=True)]), 1.0, 1.0, 1.0]  # fmt: skip
    assert tests[0] == 2 / 2**10
    assert worse["p_holm"] == pytest.approx(4 * tests[0])
    assert alike["p_holm"] == 1.0


def test_less_forgetting_alone_beats_and_the_challenger_is_not_chosen_on_test_images():
    gentle = row("gentle", [0.8] * 10, [0.1 + 0.001 * s for s in range(10)], 10, validation=0.79)
    lucky = row("lucky", [0.85] * 10, [0.5] * 10, 10, validation=0.7)
    harsh = row("harsh", [0.8] * 10, [0.6] * 10, 10)
    assert judge([gentle, lucky, harsh], 0.95) == 2
    assert harsh["challenger"] == "gentle"
    assert harsh["beaten"]
    assert gentle["front"]
    assert lucky["front"]


def test_a_difference_that_may_be_chance_saves_nothing():
    """Without the test, a setting would be on the front for a hair's breadth of luck in what it forgot."""
    forgot = [0.99 + (0.001 if seed % 2 else -0.00099) for seed in range(10)]
    strong = row("strong", [0.9 + 0.001 * s for s in range(10)], forgot, 10, validation=0.9)
    weak = row("weak", [0.8] * 10, [0.99] * 10, 20)
    assert statistics.fmean(forgot) > 0.99
    judge([strong, weak], 0.95)
    assert weak["beaten"]
    assert strong["front"]


def test_few_seeds_beat_nothing():
    better, worse = (row(name, [new] * 3, [0.5] * 3, 10) for name, new in (("better", 0.9), ("worse", 0.1)))
    judge([better, worse], 0.95)
    assert worse["challenger"] == "better"
    assert not worse["beaten"]


def test_the_figures_are_those_of_the_adapters_at_the_rates_that_validation_chose(small):
    sweep([2], seeds=[0, 1, 2], grid=GRID, config=CONFIG, workspace=small, name="methods")
    document = board("methods", workspace=small)
    base = small.registry.parent(small.registry.get("methods"))
    (known,) = [score["accuracy"] for score in base.scores["subsets"] if score["digits"] == "0-4"]
    assert {each["described"] for each in document["rows"]} == {"lora, rank 2", "bitfit", "ia3"}
    means = [each["new"]["mean"] for each in document["rows"]]
    assert means == sorted(means, reverse=True)
    chosen = {each["setting"]["method"]: each["lr"] for each in compare("methods", tune=True, workspace=small)["tuned"]}
    for each in document["rows"]:
        assert each["lr"] == chosen[each["setting"]["method"]]
        adapters = [
            small.registry.get(result["artifact"])
            for result in small.registry.get("methods").details["results"]
            if (result["method"], result["lr"]) == (each["setting"]["method"], each["lr"])
        ]
        scores = [{s["digits"]: s["accuracy"] for s in adapter.scores["subsets"]} for adapter in adapters]
        assert each["new"]["mean"] == pytest.approx(statistics.fmean(score["5-9"] for score in scores))
        assert each["forgetting"]["mean"] == pytest.approx(known - statistics.fmean(score["0-4"] for score in scores))
        assert each["forgetting"]["worst"] == pytest.approx(known - min(score["0-4"] for score in scores))
        assert each["parameters"] == adapters[0].details["trainable_parameters"]
        assert each["bytes"] == (adapters[0].path / "adapter_model.safetensors").stat().st_size
        assert each["seconds"]["mean"] == pytest.approx(statistics.fmean(a.wall_seconds for a in adapters))


def test_the_table_names_every_setting(small, run):
    sweep([1, 2], seeds=[0, 1], grid={"methods": "lora,bitfit"}, config=CONFIG, workspace=small, name="methods")
    outcome = run("compare", "methods", "--board", "--runs-dir", small.runs_dir)
    for setting in ("lora, rank 1", "lora, rank 2", "bitfit"):
        assert sum(line.strip().startswith(f"{setting} ") for line in outcome.out.splitlines()) == 1
    assert "after Holm's adjustment" in outcome.out
    assert outcome.out.startswith("methods: on test images")
    sweep([2], seeds=[0, 1], grid={"methods": "lora,bitfit"}, config=CONFIG, workspace=small, name="one-rank")
    outcome = run("compare", "one-rank", "--board", "--runs-dir", small.runs_dir)
    assert outcome.out.startswith("one-rank, rank 2: on test images")
    assert any(line.startswith("  lora  ") for line in outcome.out.splitlines())
    assert run("compare", "methods", "--board", "--json", "--runs-dir", small.runs_dir).json["sweep"] == "methods"


def test_a_challenger_is_chosen_on_validation_images_where_no_rate_is_too(small):
    sweep([1, 2, 4], seeds=[0, 1], config=CONFIG, workspace=small, name="ranks")
    document = board("ranks", workspace=small)
    assert not document["tuned"]
    runs = small.registry.get("ranks").details["results"]
    for each in document["rows"]:
        found = [run["last_epoch"]["val_accuracy"] for run in runs if run["rank"] == each["setting"]["rank"]]
        assert each["validation"] == pytest.approx(statistics.fmean(found))


def test_the_picture_names_methods_by_their_titles_and_hides_no_point(small, monkeypatch):
    seen: list[Any] = []
    draw = board_picture.draw
    monkeypatch.setattr(board_picture, "draw", lambda rows, **more: seen.append(draw(rows, **more)) or seen[-1])
    sweep([2], grid={"methods": "lora,pissa,ia3"}, config=CONFIG, workspace=small, name="methods")
    plot("board", "methods", workspace=small)
    named = [text.get_text() for text in seen[0].axes[1].get_legend().get_texts()]
    assert set(named[:3]) == {"LoRA, rank 2", "PiSSA, rank 2", "(IA)³"}
    places = [float(line.get_xdata()[0]) for line in seen[0].axes[0].lines if line.get_marker() in "oXs"]
    assert len(set(places)) == 3


def test_what_is_no_board_is_refused(small, refused):
    sweep([2], config=CONFIG, workspace=small, name="one")
    with pytest.raises(UsageError, match="'one' has one setting, and a board several"):
        board("one", workspace=small)
    refused(["compare", "one", "one", "--board", "--runs-dir", str(small.runs_dir)], 2, "--board ranks one sweep")
    sweep([1, 2], config=AdapterConfig(digits=DigitSet.parse("0-3"), epochs=0), workspace=small, name="again")
    with pytest.raises(UsageError, match="learned no digit that its base, on 0-4, did not know"):
        board("again", workspace=small)


def test_a_picture_is_of_the_newest_sweep_with_several_settings(small):
    sweep([1, 2], config=AdapterConfig(epochs=0), workspace=small, name="two")
    sweep([1], grid={"lrs": "0.1,0.2"}, config=AdapterConfig(epochs=0), workspace=small, name="rates")
    assert plot("board", workspace=small)[0].name == "two"
