"""The records that the plots draw, gathered from artifacts."""

from __future__ import annotations

import csv
import io
import itertools
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from lora_mnist_cli.data.sources import load_split
from lora_mnist_cli.plots import (
    alpha,
    confusion,
    history,
    landscape,
    learning_rate,
    predictions,
    ranks,
    spectrum,
    tradeoff,
)
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.choices import METHODS
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.settings.grid import AXES, METHOD, RANK
from lora_mnist_cli.settings.recipes import recipe
from lora_mnist_cli.settings.runtime import Runtime
from lora_mnist_cli.stages import Workspace, evaluate, finetune, sweep
from lora_mnist_cli.stages.pictures import of_models
from lora_mnist_cli.stages.pictures.subtitles import subtitle_of, title_of, title_of_several
from lora_mnist_cli.stages.plotting import KINDS, PlotOptions, gatherer, plot
from lora_mnist_cli.stages.records.histories import validation_runs
from lora_mnist_cli.system.errors import ArtifactError, UsageError

BASE, ADAPTER, SWEEP = "base-fashion-mnist-0-4", "lora-fashion-mnist-5-9-r2-a0.5", "sweep-fashion-mnist-5-9-a0.5"


def test_a_kind_is_a_row_a_function_and_a_file_of_its_name():
    for kind in KINDS:
        assert callable(gatherer(kind))
        assert callable(import_module(f"lora_mnist_cli.plots.{kind.replace('-', '_')}").draw)


ALPHA, LR = (next(axis for axis in AXES if axis.field == field) for field in ("alpha", "lr"))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the plots were given, instead of a drawing."""
    seen: dict[str, Any] = {}

    def record(module: Any) -> Callable[..., Any]:
        original = module.draw

        def draw(*arguments: Any, **named: Any) -> Any:
            seen["arguments"], seen["named"] = arguments, named
            return original(*arguments, **named)

        return draw

    for module in (alpha, confusion, history, landscape, learning_rate, predictions, ranks, spectrum, tradeoff):
        monkeypatch.setattr(module, "draw", record(module))
    return seen


def test_predictions_shows_the_first_images_of_the_digits(small, drawn):
    plot("predictions", ADAPTER, options=PlotOptions(digits=DigitSet([7]), count=12), workspace=small)
    images, labels, predicted = drawn["arguments"]
    pixels, truth = load_split("fashion-mnist", "test", small.data_dir)
    assert np.array_equal(images, pixels[truth == 7][:12])
    assert labels.tolist() == [7] * 12
    assert len(predicted) == 12


def test_alpha_0_shows_the_bases_predictions(small, drawn):
    old = DigitSet.parse("0-4")
    plot("predictions", BASE, options=PlotOptions(digits=old), workspace=small)
    base = drawn["arguments"][2]
    plot("predictions", ADAPTER, options=PlotOptions(digits=old, alpha=0.0), workspace=small)
    assert np.array_equal(drawn["arguments"][2], base)
    plot("predictions", ADAPTER, options=PlotOptions(digits=old), workspace=small)
    assert not np.array_equal(drawn["arguments"][2], base)


def test_confusion_counts_every_image_once_and_agrees_with_the_scores(small, drawn):
    plot("confusion", ADAPTER, workspace=small)
    (counts,) = drawn["arguments"]
    (evaluation,) = evaluate(ADAPTER, workspace=small)
    for row in evaluation.scores["per_digit"]:
        assert counts[row["digit"]].sum() == row["count"]
        assert counts[row["digit"], row["digit"]] == round(row["accuracy"] * row["count"])


def test_confusion_of_some_digits_has_no_others(small, drawn):
    plot("confusion", BASE, options=PlotOptions(digits=DigitSet([3])), workspace=small)
    (counts,) = drawn["arguments"]
    assert counts[3].sum() == counts.sum() == 20


def test_alpha_goes_from_0_to_above_1_and_has_the_trained_one(small, drawn):
    finetune(AdapterConfig(epochs=0, rank=1, alpha=0.3), workspace=small, name="third")
    plot("alpha", "third", workspace=small)
    (rows,) = drawn["arguments"]
    alphas = [row["alpha"] for row in rows]
    assert alphas == sorted(alphas)
    assert alphas[0] == 0
    assert alphas[-1] > 1
    assert 0.3 in alphas
    assert drawn["named"]["trained_alpha"] == 0.3
    base = {row["digits"]: row["accuracy"] for row in small.registry.get(BASE).scores["subsets"]}
    assert {row["digits"]: row["accuracy"] for row in rows[0]["subsets"]} == base


def test_alpha_is_finer_where_old_and_new_digits_cross(small, drawn, monkeypatch):
    def scored(name: str, *, alphas: Sequence[float], workspace: Workspace) -> list[Any]:
        pairs = {"0-4": lambda a: 1 - 0.7 * a, "5-9": lambda a: 0.6 * a, "0-9": lambda a: 0.5}
        return [
            SimpleNamespace(
                alpha=a, reason=None, scores={"subsets": [{"digits": d, "accuracy": f(a)} for d, f in pairs.items()]}
            )
            for a in alphas
        ]

    monkeypatch.setattr(of_models, "evaluate", scored)
    plot("alpha", ADAPTER, workspace=small)
    alphas = [row["alpha"] for row in drawn["arguments"][0]]
    steps = {later - alpha for alpha, later in itertools.pairwise(alphas) if 0.625 <= alpha < 1}
    assert steps == {1 / 32}
    assert alphas == sorted({*of_models.ALPHAS, *alphas})
    assert len(alphas) == 13 + 9
    assert drawn["named"]["subtitle"].endswith("; 0-4 and 5-9 cross at alpha 0.77, at 46 %")


def test_the_words_below_a_title_say_what_was_drawn(small):
    base = subtitle_of(small.registry.get(BASE))
    assert base == f"{BASE}; fashion-mnist; reference recipe, epochs 2, hidden sizes 16 and 12; seed 0"
    tuned = recipe("tuned").adapter
    made = finetune(replace(tuned, epochs=0, protect=("mask",), alpha=2.0), workspace=small, name="x" * 50)
    assert (title_of(made), title_of(made, 0.5)) == ("LoRA on 5-9, rank 8", "LoRA on 5-9, rank 8 at alpha 0.5")
    name = "x" * 20 + "…" + "x" * 19
    assert subtitle_of(made).startswith(f"{name} on {BASE}; fashion-mnist; tuned recipe, epochs 0, alpha 2; ")
    assert subtitle_of(made).endswith("; protected by mask; seed 0")
    sound = finetune(replace(tuned, epochs=0, rank=2), workspace=small, name="sound")
    assert "; tuned recipe, epochs 0; seed 0" in subtitle_of(sound)
    grid = sweep([1, 2], grid={"lrs": [1e-3, 0.01]}, config=AdapterConfig(epochs=0), workspace=small, name="grid")
    assert title_of_several(grid, {}) == "LoRA on 5-9"
    assert subtitle_of(grid, {"lr": 0.01}) == (
        f"grid on {BASE}; fashion-mnist; lr 0.01; reference recipe, epochs 0; seed 0"
    )


def test_a_single_point_says_in_words_that_a_plot_needs_more(small, drawn, recorder):
    workspace = replace(small, reporter=recorder)
    sweep([2], config=AdapterConfig(epochs=0), workspace=workspace, name="one-rank")
    plot("ranks", "one-rank", workspace=workspace)
    words = "one rank: a single point; a sweep of several ranks draws a line"
    assert words in recorder.all("notice")
    assert drawn["named"]["subtitle"].endswith(words)
    finetune(AdapterConfig(epochs=0, rank=1), workspace=workspace, name="untrained")
    plot("history", "untrained", workspace=workspace)
    assert drawn["named"]["subtitle"].endswith("not trained: a single point; training for some epochs draws a line")
    plot("spectrum", "untrained", workspace=workspace)
    assert "rank 1 has one singular value per layer: a single point" in drawn["named"]["subtitle"]


def test_history_has_a_row_an_epoch_from_0_on(small, drawn):
    plot("history", BASE, workspace=small)
    (rows,) = drawn["arguments"]
    assert [row["epoch"] for row in rows] == [0, 1, 2]
    assert rows[1]["train_loss"] < rows[0]["train_loss"]


def test_ranks_has_the_sweeps_results_and_no_study_beside_another_recipe(small, drawn):
    artifact, path = plot("ranks", workspace=small)
    assert (artifact.name, path.name) == (SWEEP, f"ranks-{SWEEP}.png")
    assert drawn["arguments"][0] == artifact.details["results"]
    assert drawn["named"]["study"] == {}
    (base,) = drawn["named"]["bases"]
    assert base == {row["digits"]: row["accuracy"] for row in small.registry.get(BASE).scores["subsets"]}["0-4"]


def last_val_accuracy(workspace: Workspace, name: str) -> float:
    *_, last = csv.DictReader(io.StringIO((workspace.runs_dir / name / "history.csv").read_text()))
    return float(last["val_accuracy"])


def test_learning_rate_has_the_last_validation_accuracy_of_each_run(small, drawn):
    grid = {"lrs": [1e-3, 1e-2], "alphas": [0.5, 1.0]}
    made = sweep([1, 2], seeds=[0, 3], grid=grid, config=AdapterConfig(epochs=2), workspace=small, name="rates")
    artifact, path = plot("learning-rate", options=PlotOptions(where={"alpha": 0.5}), workspace=small)
    assert (artifact.name, path.name) == ("rates", "learning-rate-rates-alpha-0.5.png")
    (rows,) = drawn["arguments"]
    chosen = [row for row in made.details["results"] if row["alpha"] == 0.5]
    assert [(r["rank"], r["lr"], r["seed"]) for r in rows] == [(r["rank"], r["lr"], r["seed"]) for r in chosen]
    assert len(rows) == 8
    assert [row["accuracy"] for row in rows] == [last_val_accuracy(small, row["artifact"]) for row in chosen]
    assert not any(row["failed"] for row in rows)
    with pytest.raises(UsageError, match="several adapters") as caught:
        plot("learning-rate", workspace=small)
    assert caught.value.hint == "draw one combination: --where alpha=0.5"
    with pytest.raises(UsageError, match="every lr"):
        plot("learning-rate", options=PlotOptions(where={"alpha": 0.5, "lr": 1e-3}), workspace=small)
    shutil.rmtree(small.runs_dir / chosen[0]["artifact"])  # the sweep itself knows the ends of all histories
    plot("learning-rate", options=PlotOptions(where={"alpha": 0.5}), workspace=small)
    assert drawn["arguments"] == (rows,)


def test_an_earlier_sweep_takes_validation_figures_from_its_adapters_histories(small):
    made = sweep([1, 2], config=AdapterConfig(epochs=2), workspace=small, name="early")
    results = [{key: row[key] for key in row if key != "last_epoch"} for row in made.details["results"]]
    early = replace(made, details={**made.details, "results": results})
    found = validation_runs(small.registry, early, results)
    assert found == validation_runs(small.registry, made, made.details["results"])
    assert [run["accuracy"] for run in found] == [last_val_accuracy(small, row["artifact"]) for row in results]
    shutil.rmtree(small.runs_dir / results[0]["artifact"])
    with pytest.raises(ArtifactError, match=f"lists '{results[0]['artifact']}'"):
        validation_runs(small.registry, early, results)


def test_learning_rate_shows_what_diverged_without_a_figure(small, drawn):
    sweep([1], grid={"lrs": [1e-3, 1e30]}, config=AdapterConfig(epochs=1), workspace=small, name="rates")
    plot("learning-rate", workspace=small)
    sound, diverged = drawn["arguments"][0]
    assert (sound["failed"], diverged["failed"], diverged["accuracy"]) == (False, True, None)


def test_landscape_has_the_runs_of_each_cell_and_the_best_is_chosen_on_validation_images(small, drawn):
    grid = {"lrs": [1e-2, 3e-2, 1e30], "alphas": [0.5, 1.0]}
    made = sweep([2, 1], seeds=[0, 3], grid=grid, workspace=small, name="rates", keep="none", epochs=2)
    artifact, path = plot("landscape", "rates", options=PlotOptions(where={"alpha": 1.0}), workspace=small)
    assert (artifact.name, path.name) == ("rates", "landscape-rates-alpha-1.png")
    (cells,) = drawn["arguments"]
    assert drawn["named"]["axes_names"] == ("learning rate", "rank")
    assert drawn["named"]["values"] == (["0.01", "0.03", "1e+30"], ["1", "2"])
    assert {cell.place for cell in cells} == {(x, y) for x in range(3) for y in range(2)}
    for cell in cells:
        lr, rank = grid["lrs"][cell.place[0]], (1, 2)[cell.place[1]]
        runs = [r for r in made.details["results"] if (r["lr"], r["rank"], r["alpha"]) == (lr, rank, 1.0)]
        new = [s["accuracy"] for r in runs for s in r["subsets"] if s["digits"] == "5-9" and s["accuracy"] is not None]
        assert cell.percents == tuple(100 * accuracy for accuracy in new)
        assert cell.diverged == (2 if lr == 1e30 else 0)
        validated = [r["last_epoch"]["val_accuracy"] for r in runs if not r["failed"]]
        assert cell.validation == (None if lr == 1e30 else sum(validated) / 2)
    options = PlotOptions(axes=(RANK, ALPHA), where={"lr": 1e-2}, digits=DigitSet.parse("0-4"))
    assert plot("landscape", "rates", options=options, workspace=small)[1].name == (
        "landscape-rates-on-0-4-by-rank-by-alpha-lr-0.01.png"
    )
    assert drawn["named"]["values"] == (["1", "2"], ["0.5", "1"])
    plot("landscape", "rates", options=PlotOptions(axes=(LR, ALPHA), where={"rank": 2}), workspace=small)
    assert drawn["named"]["values"][1] == ["0.5", "1"]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({}, "several adapters per lr, rank and seed: alphas"),
        ({"where": {"alpha": 1.0, "rank": 1}}, "varies only lr beside what --where holds"),
        ({"where": {"lr": 1e-2, "alpha": 1.0}}, "varies only rank"),
        ({"axes": ("lr", "dropout")}, "does not vary dropout"),
        ({"where": {"alpha": 1.0}, "digits": DigitSet.parse("7")}, "no scores on digits 7"),
    ],
)
def test_landscape_refuses_what_is_no_landscape(small, options, problem):
    sweep(
        [1, 2], grid={"lrs": [1e-2, 3e-2], "alphas": [0.5, 1.0]}, workspace=small, name="rates", keep="none", epochs=0
    )
    axes = tuple(axis for name in options.get("axes", ()) for axis in AXES if axis.field == name)
    with pytest.raises(UsageError, match=problem):
        plot("landscape", "rates", options=PlotOptions(**{**options, "axes": axes}), workspace=small)


def test_landscape_of_a_sweep_without_a_grid_is_refused_with_the_command_of_one(small):
    with pytest.raises(UsageError, match="varies nothing but seeds") as refused:
        plot("landscape", workspace=small)
    assert "--lrs" in refused.value.hint


def test_spectrum_is_that_of_alpha_times_scale_times_the_factors_on_disk(small, drawn):
    config = AdapterConfig(epochs=1, rank=2, alpha=-0.5, scaling="standard", target_layers=("fc1", "fc3"))
    finetune(config, workspace=small, name="one")
    plot("spectrum", "one", workspace=replace(small, data_dir=Path("nowhere")))
    (change,) = drawn["arguments"][0]
    state = load_file(small.runs_dir / "one" / "adapter_model.safetensors")
    assert (change.label, list(change.layers)) == ("rank 2", ["fc1", "fc3"])
    for layer, (left, right) in change.layers.items():
        B, A = (state[f"base_model.model.{layer}.lora_{factor}.weight"] for factor in "BA")
        assert np.allclose(left @ right, -0.25 * (B.astype(float) @ A), rtol=1e-6, atol=0)
    with pytest.raises(UsageError, match="for sweeps"):
        plot("spectrum", "one", options=PlotOptions(where={"lr": 1e-3}), workspace=small)


def test_spectrum_of_a_sweep_has_every_seed_of_each_rank_and_says_what_diverged(small, drawn):
    grid = {"lrs": [1e-3, 1e30]}
    sweep([3, 1], seeds=[7, 2], grid=grid, config=AdapterConfig(epochs=1), workspace=small, name="rates")
    plot("spectrum", "rates", options=PlotOptions(where={"lr": 1e-3}), workspace=small)
    assert [change.label for change in drawn["arguments"][0]] == ["rank 1", "rank 1", "rank 3", "rank 3"]
    assert "2 seeds (2,7)" in drawn["named"]["subtitle"]
    results = [
        row | {"failed": "the loss became nan in epoch 1" if (row["rank"], row["seed"]) == (3, 2) else row["failed"]}
        for row in small.registry.get("rates").details["results"]
    ]
    some = replace(small.registry.get("rates"), details={**small.registry.get("rates").details, "results": results})
    gatherer("spectrum")(small, some, PlotOptions(where={"lr": 1e-3}))
    assert [change.label for change in drawn["arguments"][0]] == ["rank 1", "rank 1", "rank 3"]
    assert "; diverged: rank 3, seed 2" in drawn["named"]["subtitle"]
    with pytest.raises(ArtifactError, match=r"all adapters of 'rates', lr 1e30 diverged"):
        plot("spectrum", "rates", options=PlotOptions(where={"lr": 1e30}), workspace=small)


def test_tradeoff_starts_at_the_base_and_has_the_trained_scores(small, drawn):
    adapter = finetune(AdapterConfig(epochs=1, rank=2, alpha=-0.5), workspace=small, name="one")
    plot("tradeoff", "one", workspace=small)
    (path,) = drawn["arguments"][0]
    points = {point["alpha"]: (point["old"], point["new"]) for point in path["points"]}
    assert len(points) <= 10
    assert max(points) == 0
    assert min(points) < path["trained_alpha"] == -0.5
    for name, at in ((adapter.parents[0].name, 0.0), ("one", -0.5)):
        known = {row["digits"]: row["accuracy"] for row in small.registry.get(name).scores["subsets"]}
        assert points[at] == (known["0-4"], known["5-9"])


def test_tradeoff_of_a_sweep_has_a_path_for_each_adapter(small, drawn, recorder):
    made = sweep([2, 1], seeds=[3, 5], config=AdapterConfig(epochs=1), workspace=small, name="seeds")
    plot("tradeoff", "seeds", workspace=replace(small, reporter=recorder))
    assert recorder.all("notice") == ["scoring 4 adapters at 10 alphas each"]
    paths = drawn["arguments"][0]
    assert [path["label"] for path in paths] == ["rank 1", "rank 1", "rank 2", "rank 2"]
    assert "; 2 seeds (3,5); points at 0.2 to 0.8, 1 and 1.25" in drawn["named"]["subtitle"]
    rows = sorted(made.details["results"], key=lambda row: (row["rank"], row["seed"]))
    for path, row in zip(paths, rows, strict=True):
        known = {score["digits"]: score["accuracy"] for score in row["subsets"]}
        (trained,) = (point for point in path["points"] if point["alpha"] == 1)
        assert (trained["old"], trained["new"]) == (known["0-4"], known["5-9"])


def test_what_pissa_adds_has_no_more_than_twice_its_rank(small, drawn):
    finetune(AdapterConfig(epochs=1, rank=2, method="pissa"), workspace=small, name="principal")
    plot("spectrum", "principal", workspace=small)
    (change,) = drawn["arguments"][0]
    assert "PiSSA's ΔW is a difference of two products of its rank" in drawn["named"]["subtitle"]
    # The difference of two products, in 32 bits: what is beyond their ranks is rounding.
    assert {len(spectrum.singular_values(*factors)) for factors in change.layers.values()} == {4}


def test_tradeoff_of_all_digits_is_on_those_that_are_new(small, drawn):
    finetune(AdapterConfig(epochs=0, digits=DigitSet.parse("3-6"), alpha=0.0), workspace=small, name="some")
    plot("tradeoff", "some", workspace=small)
    assert (drawn["named"]["old_digits"], drawn["named"]["new_digits"]) == ("0-4", "5-6")
    finetune(AdapterConfig(epochs=0, digits=DigitSet.parse("1-4")), workspace=small, name="none")
    with pytest.raises(ArtifactError, match="no digit that its base"):
        plot("tradeoff", "none", workspace=small)


def test_learning_rate_needs_several_rates_and_validation_images(small):
    with pytest.raises(ArtifactError, match="only one learning rate") as caught:
        plot("learning-rate", workspace=small)
    assert "lora-mnist sweep --ranks 2 --lrs " in caught.value.hint
    config = AdapterConfig(epochs=1, val_split=0.0)
    sweep([1], grid={"lrs": [1e-3, 1e-2]}, config=config, workspace=small, name="rates")
    with pytest.raises(ArtifactError, match="without validation images"):
        plot("learning-rate", workspace=small)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("learning-rate", "landscape", "board")])
def test_each_kind_draws_the_newest_artifact_that_fits(small, tmp_path, kind):
    artifact, path = plot(kind, workspace=small)
    assert artifact.name == (SWEEP if kind == "ranks" else ADAPTER)
    assert path.name == f"{kind}-{artifact.name}.png"
    assert (tmp_path / path).read_bytes().startswith(b"\x89PNG")


HEADER = "epoch,train_loss,train_accuracy,val_loss,val_accuracy,lr\n"
ODD = {
    "not UTF-8": b"\xff\xfe" + HEADER.encode(),
    "a huge field": HEADER.encode() + b"0," + b"1" * 200_000 + b",0.5,1,0.5,0.001\n",
    "a column less": b"epoch,train_loss,train_accuracy,val_loss,lr\n0,1,0.5,1,0.001\n",
    "a short line": HEADER.encode() + b"0,1\n",
    "nothing": b"",
    "a word": HEADER.encode() + b"0,much,0.5,1,0.5,0.001\n",
    "an epoch that is none": HEADER.encode() + b"0.5,1,0.5,1,0.5,0.001\n",
    "an epoch below 0": HEADER.encode() + b"-1,1,0.5,1,0.5,0.001\n",
    "an epoch without measure": HEADER.encode() + b"9" * 400 + b",1,0.5,1,0.5,0.001\n",
    "an accuracy without measure": HEADER.encode() + b"0,1,1e308,1,0.5,0.001\n",
    "open quotes": HEADER.encode() + b'0,"1,0.5,1,0.5,0.001\n',
    "a null": HEADER.encode() + b"0,1\0,0.5,1,0.5,0.001\n",
}


@pytest.mark.parametrize("what", ODD)
def test_an_odd_history_is_refused_in_one_line(example, forge, run, what):
    forge(example / "base-0-4", files={"history.csv": ODD[what]})
    outcome = run("plot", "history", "base-0-4")
    assert (outcome.code, len(outcome.err.splitlines())) == (3, 1)
    assert "'base-0-4' has an odd history.csv: " in outcome.err
    assert not list(Path().glob("*.png"))


@pytest.mark.filterwarnings("error")
def test_losses_beyond_all_reason_are_left_out(example, forge, run):
    lines = ("0,1e308,0.5,1e-320,0.5,nan", "1,nan,nan,inf,,1e308", "2,1,0.5,-1,0.5,0.001", "1000000,5,1,-inf,0,inf")
    forge(example / "base-0-4", files={"history.csv": (HEADER + "\n".join(lines)).encode()})
    assert run("plot", "history", "base-0-4").code == 0


def test_full_fine_tuning_is_drawn_beside_ranks_and_spectra(small, drawn):
    brief = AdapterConfig(epochs=1)
    mixed = sweep([2, 3], grid={"methods": "lora,full"}, config=brief, workspace=small, name="mixed")
    plot("ranks", "mixed", options=PlotOptions(where={"method": "lora"}), workspace=small)
    assert drawn["named"]["ceilings"] == {
        "Full fine-tuning": [row for row in mixed.details["results"] if row["method"] == "full"]
    }
    sweep([2, 3], config=brief, workspace=small, name="plain")
    plot("ranks", "plain", workspace=small)
    assert drawn["named"]["ceilings"] == {}
    full = small.registry.get("full-fashion-mnist-5-9")
    beside = PlotOptions(beside=("full-fashion-mnist-5-9",))
    _, picture = plot("ranks", "plain", options=beside, workspace=small)
    assert picture.name == "ranks-plain-and-full-fashion-mnist-5-9.png"
    ((row,),) = drawn["named"]["ceilings"].values()
    assert row["subsets"] == full.scores["subsets"]
    # Another one of the same method has a line of its own: nothing says that they are runs of one recipe.
    plot("ranks", "mixed", options=PlotOptions(where={"method": "lora"}, beside=(full.name,)), workspace=small)
    assert list(drawn["named"]["ceilings"]) == ["Full fine-tuning", f"Full fine-tuning ({full.name})"]
    plot("spectrum", "plain", options=beside, workspace=small)
    changes = drawn["arguments"][0]
    assert [change.label for change in changes] == ["rank 2", "rank 3", "Full fine-tuning on 5-9"]
    base = load_file(small.runs_dir / small.registry.parent(full).name / "model.safetensors")
    kept = load_file(small.runs_dir / full.name / "adapter_model.safetensors")
    for layer, (delta,) in changes[-1].layers.items():
        (key,) = (key for key in kept if layer in key and kept[key].shape == base[f"{layer}.weight"].shape)
        np.testing.assert_allclose(delta, kept[key], atol=1e-7)
    with pytest.raises(UsageError, match="'plain' is no adapter without a rank"):
        plot("ranks", "mixed", options=PlotOptions(where={"method": "lora"}, beside=("plain",)), workspace=small)
    finetune(AdapterConfig(epochs=0, method="full", digits=DigitSet.parse("0-9")), workspace=small, name="other")
    with pytest.raises(UsageError, match="'other' and 'plain' are not adapters of one base on the same digits"):
        plot("ranks", "plain", options=PlotOptions(beside=("other",)), workspace=small)


@pytest.fixture(scope="module")
def methods(tmp_path_factory: pytest.TempPathFactory, small_trained: Path, small_data: Path) -> Workspace:
    """A workspace with a sweep ``methods`` over three methods, two rates and two ranks. Not to be written to."""
    runs = shutil.copytree(small_trained, tmp_path_factory.mktemp("methods") / "runs")
    workspace = Workspace(runs, small_data, runtime=Runtime(accelerator="cpu"))
    grid = {"methods": "full,pissa,lora", "lrs": "1e-3,1e-2"}
    sweep([3, 2], grid=grid, config=AdapterConfig(epochs=1), workspace=workspace, name="methods")
    return workspace


def test_methods_are_drawn_side_by_side_unless_one_is_chosen(methods, drawn):
    names = ["Full fine-tuning", "PiSSA, rank 2", "PiSSA, rank 3", "LoRA, rank 2", "LoRA, rank 3"]
    rate = {"lr": 1e-2}
    plot("spectrum", "methods", options=PlotOptions(where=rate), workspace=methods)
    changes = drawn["arguments"][0]
    assert [change.label for change in changes] == names
    assert all(change.layers for change in changes)
    plot("tradeoff", "methods", options=PlotOptions(where=rate), workspace=methods)
    assert [path["label"] for path in drawn["arguments"][0]] == names
    plot("spectrum", "methods", options=PlotOptions(where=rate | {"method": "lora"}), workspace=methods)
    assert [change.label for change in drawn["arguments"][0]] == ["rank 2", "rank 3"]
    with pytest.raises(UsageError, match=r"several adapters per rank and seed: lrs 0\.001, 0\.01"):
        plot("spectrum", "methods", workspace=methods)


def test_starts_are_drawn_side_by_side_unless_one_is_chosen(small, drawn):
    grid = {"inits": "olora,kaiming"}
    sweep([3, 2], grid=grid, config=AdapterConfig(epochs=0), workspace=small, name="starts")
    plot("spectrum", "starts", workspace=small)
    labels = [f"init {init}, rank {rank}" for init in ("olora", "kaiming") for rank in (2, 3)]
    assert [change.label for change in drawn["arguments"][0]] == labels
    plot("spectrum", "starts", options=PlotOptions(where={"init": "olora"}), workspace=small)
    assert [change.label for change in drawn["arguments"][0]] == ["rank 2", "rank 3"]


def test_a_spectrum_says_why_a_start_adds_values(small, drawn):
    made = finetune(AdapterConfig(rank=2, epochs=0, init="olora"), workspace=small)
    plot("spectrum", made.name, workspace=small)
    assert "product less its start" in drawn["named"]["subtitle"]
    plot("spectrum", ADAPTER, workspace=small)
    assert "less its start" not in drawn["named"]["subtitle"]


def test_what_has_no_rank_is_called_by_its_method(small, methods, drawn):
    head = AdapterConfig(epochs=1, method="head")
    alone = finetune(head, workspace=small)
    for kind in ("spectrum", "tradeoff"):
        plot(kind, alone.name, workspace=small)
        (what,) = drawn["arguments"][0]
        assert (what["label"] if kind == "tradeoff" else what.label) == METHODS["head"].title
    sweep(grid={"lrs": [1e-3, 1e-2]}, config=head, workspace=small, name="rates")
    plot("learning-rate", "rates", workspace=small)
    assert drawn["named"]["unranked"] == METHODS["head"].title
    plot("learning-rate", "methods", options=PlotOptions(where={"method": "full"}), workspace=methods)
    assert drawn["named"]["unranked"] == METHODS["full"].title
    plot("landscape", "methods", options=PlotOptions(axes=(METHOD, RANK), where={"lr": 1e-2}), workspace=methods)
    assert drawn["named"]["values"] == ([METHODS[name].title for name in ("full", "pissa", "lora")], ["2", "3", "none"])
    assert not drawn["named"]["ordered"]
