"""The stages called from Python: the commands' defaults, one fingerprint either way, and rows for a data frame."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import subprocess
import sys
import typing
from collections.abc import Callable
from fractions import Fraction
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer.main

import lora_mnist_cli
from lora_mnist_cli import AdapterConfig, BaseConfig, Runtime, Workspace, evaluate, finetune, sweep, train_base
from lora_mnist_cli.cli import app
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.settings.grid import AXES
from lora_mnist_cli.settings.keywords import AdapterKeywords, BaseKeywords, SweepKeywords, adapter_config
from lora_mnist_cli.stages import check_gates, plan_sweep, plot
from lora_mnist_cli.stages.evaluating import Gate
from lora_mnist_cli.stages.exporting import export_model
from lora_mnist_cli.system.errors import ConfigError, LoraMnistError, UsageError

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "train-base": train_base, "finetune": finetune, "sweep": sweep, "evaluate": evaluate,
}  # fmt: skip
COMMANDS = typer.main.get_command(app.program()).commands  # type: ignore[attr-defined]
# What is printed and how, and what has a function of its own or is a config's name.
PRINTING = {"json_output", "quiet", "verbose", "version"}
APART = {
    "recipe_name": "recipe", "dry_run": "plan_sweep", "min_accuracy": "check_gates", "beside": "the table",
    "route": "evaluate_routed", "route_by": "evaluate_routed", "experts": "evaluate_routed", "each_seed": "the table",
    "settings": "a file of these options",
}  # fmt: skip
# Options whose names are others in Python.
NAMED = {
    "train-base": {"hidden_size": "hidden_sizes"},
    "sweep": {"bank_memory": "bank_megabytes"},
    "evaluate": {"names": "name", "alpha": "alphas", "digits": "digit_sets"},
}


def keywords(function: Callable[..., Any]) -> set[str]:
    """All that a function takes by name, the fields of its config included."""
    parameters = dict(inspect.signature(function).parameters)
    more = {"train_base": BaseKeywords, "finetune": AdapterKeywords, "sweep": SweepKeywords}.get(function.__name__)
    parameters.pop("settings", None)
    return set(parameters) | set(more.__annotations__ if more else ())


@pytest.mark.parametrize("command", FUNCTIONS)
def test_every_option_of_a_command_is_a_keyword_of_its_function(command):
    taken = keywords(FUNCTIONS[command]) | {f.name for each in (Workspace, Runtime) for f in dataclasses.fields(each)}
    taken |= {axis.plural for axis in AXES} if command == "sweep" else set()
    options = {parameter.name for parameter in COMMANDS[command].params} - PRINTING - set(APART)
    assert len(options) >= 5
    assert {NAMED.get(command, {}).get(name, name) for name in options} - taken == set()


@pytest.mark.parametrize("command", FUNCTIONS)
def test_a_function_has_the_defaults_of_its_command(command, run, monkeypatch):
    """What the command passes on where it is given no option at all is what the function does with no argument."""
    function = FUNCTIONS[command]
    passed: dict[str, Any] = {}

    class SeenError(LoraMnistError):
        pass

    def spy(*arguments: Any, **named: Any) -> None:
        passed.update(inspect.signature(function).bind(*arguments, **named).arguments)
        raise SeenError("seen")

    module = importlib.import_module(f"lora_mnist_cli.cli.commands.{command.replace('-', '_')}")
    monkeypatch.setattr(module, function.__name__, spy)
    assert "seen" in run(command).err
    where = passed.pop("workspace")
    assert dataclasses.replace(where, reporter=None) == dataclasses.replace(Workspace(), reporter=None)
    config = passed.pop("config", None)
    expected = {"train-base": BaseConfig(), "finetune": AdapterConfig(), "sweep": AdapterConfig(), "evaluate": None}
    assert config == expected[command]
    if grid := passed.pop("grid", None):
        assert grid.values == {}
    given = passed.pop("settings", {})
    assert given == {name: getattr(config, name) for name in given}
    for name, value in passed.items():
        default = inspect.signature(function).parameters[name].default
        assert value == default or (not value and default is None), name
    assert len(passed) >= 2


def test_the_keywords_are_the_fields_of_the_configs_with_their_types():
    # Of what merging, combining and importing make.
    own = {"merged_alpha", "combined", "combined_weights", "combined_density", "imported"}
    for typed, config in ((BaseKeywords, BaseConfig), (AdapterKeywords, AdapterConfig)):
        hints = typing.get_type_hints(typed)
        fields = typing.get_type_hints(config)
        assert set(hints) == {f.name for f in dataclasses.fields(config)} - own
        wider = {"rank", "dataset", "digits", "hidden_sizes", "target_layers", "protect"}
        assert {name: hints[name] for name in set(hints) - wider} == {name: fields[name] for name in set(hints) - wider}
    assert set(SweepKeywords.__annotations__) == set(AdapterKeywords.__annotations__) - {"rank"}


def test_either_way_is_one_piece_of_work(small_data, run, recorder):
    """What a command made is up to date for the function, and what a function made for the command."""
    workspace = Workspace(data_dir=small_data, reporter=recorder)
    where = ["--data-dir", small_data]
    base = {"dataset": "fashion-mnist", "hidden_sizes": [16, 12], "epochs": 1, "batch_size": 100}
    assert run("train-base", "--dataset", "fashion-mnist", "--hidden-size", "16,12", "--epochs", 1, "--batch-size", 100,
               *where).code == 0  # fmt: skip
    made = train_base(workspace=workspace, **base)
    adapter = finetune(workspace=workspace, rank=2, epochs=1, batch_size=100, target_layers="fc1,fc3", scaling="rslora")
    compared = sweep([1, 2], seeds=[0, 1], grid={"lrs": [1e-3, 1e-2]}, workspace=workspace, epochs=1, batch_size=100,
                     name="grid")  # fmt: skip
    assert recorder.all("notice").count(f"{made.name} is up to date") == 1
    shared = ["--epochs", 1, "--batch-size", 100, *where]
    for name, arguments in (
        (adapter.name, ["finetune", "--rank", 2, "--target-layers", "fc1,fc3", "--scaling", "rslora"]),
        ("grid", ["sweep", "--ranks", "1,2", "--seeds", "0-1", "--lrs", "1e-3,1e-2", "--name", "grid"]),
    ):
        assert f"{name} is up to date" in run(*arguments, *shared).err
    assert compared.settings.fingerprint() == compared.fingerprint
    scores = run("evaluate", adapter.name, "--alpha", "0,0.5", *where, "--json").json["results"]
    for told, each in zip(scores, evaluate(adapter.name, alphas=[0, 0.5], workspace=workspace), strict=True):
        assert [row["accuracy"] for row in told["subsets"]] == [row["accuracy"] for row in each.rows()]


def test_without_any_argument_the_names_and_settings_are_those_of_the_commands(run, recorder, monkeypatch):
    """The real defaults, but for the training itself, which takes its time: the settings are compared before it."""
    monkeypatch.setenv("LORA_MNIST_RUNS", "elsewhere")
    assert run("train-base", "--epochs", "0").code == 0
    assert train_base(epochs=0, workspace=Workspace(reporter=recorder)).path == Path("elsewhere", "base-0-4")
    assert recorder.all("notice") == ["base-0-4 is up to date"]
    plan = run("sweep", "--dry-run", "--json").json
    told = plan_sweep().to_json()
    assert told.keys() <= plan.keys()
    measured = {"seconds", "estimate"}
    assert {key: plan[key] for key in told.keys() - measured} == {key: told[key] for key in told.keys() - measured}


def test_protections_are_a_text_or_names():
    texts = [adapter_config(None, {"protect": protect}) for protect in ("replay,mask", ["mask", "replay"])]
    assert texts[0] == texts[1] == AdapterConfig(protect=("replay", "mask"))
    assert adapter_config(None, {"protect": "none"}) == AdapterConfig()


def test_a_setting_of_its_own_stands_above_the_config(small):
    config = AdapterConfig(rank=3, epochs=0, seed=5)
    made = finetune(config, workspace=small, digits="5,7", rank=1, target_layers=["fc2"])
    assert made.config["digits"] == "5,7"
    assert (made.config["rank"], made.config["seed"], made.config["target_layers"]) == (1, 5, ["fc2"])
    assert finetune(config, workspace=small, digits=DigitSet([5, 7]), rank=1, target_layers="fc2").digest == made.digest
    assert sweep([2], config=config, workspace=small, name="seeded").config["seeds"] == [5]


def test_numbers_of_other_libraries_are_those_of_python(small):
    """Manifests and fingerprints are the same, so each second call finds the work of the first one done."""
    rate = float(np.float32(1e-3))
    made = finetune(rank=2, alpha=0.5, lr=rate, epochs=1, seed=0, workspace=small, name="typed")
    found = finetune(rank=np.int64(2), alpha=torch.tensor(0.5), lr=np.float32(1e-3), epochs=np.array(1),
                     seed=torch.tensor(0), workspace=small, name="typed")  # fmt: skip
    assert found.digest == made.digest
    config = AdapterConfig(rank=np.int64(2), lr=np.float64(1e-3), dropout=np.float16(0.5), alpha=Fraction(1, 2),
                           target_layers=["fc1"])  # fmt: skip
    assert [type(value) for value in (config.rank, config.lr, config.dropout, config.alpha)] == [int, *3 * [float]]
    assert config == AdapterConfig(rank=2, lr=1e-3, dropout=0.5, alpha=0.5, target_layers=("fc1",))
    grid = {"lrs": np.array([1e-3, 3e-3])}
    listed = sweep(np.array([1, 2]), seeds=np.arange(2), grid=grid, epochs=0, workspace=small, name="listed")
    assert (listed.config["ranks"], listed.config["seeds"], listed.config["lrs"]) == ([1, 2], [0, 1], [1e-3, 3e-3])
    scored = evaluate(made.name, alphas=np.linspace(0, 1, 3), workspace=small)
    assert [each.alpha for each in scored] == [0.0, 0.5, 1.0]
    assert {type(each.alpha) for each in scored} == {float}
    assert evaluate(made.name, alphas=torch.linspace(0, 1, 3), workspace=small)[1].scores == scored[1].scores
    gates = [Gate(DigitSet(np.arange(5)), np.float32(0.0))]
    assert json.loads(json.dumps(check_gates(gates, scored[0])))[0]["passed"] is True


def test_a_path_is_a_text_as_well(small, tmp_path):
    workspace = Workspace(str(small.runs_dir), str(small.data_dir))
    assert (workspace.runs_dir, workspace.data_dir) == (small.runs_dir, small.data_dir)
    (base,) = [name for name in workspace.registry.names() if name.startswith("base")]
    assert plot("history", base, output=str(tmp_path / "a.svg"), workspace=workspace)[1].is_file()
    assert Path(export_model(base, "safetensors", output=str(tmp_path / "b"), workspace=workspace)["file"]).is_file()


@pytest.mark.parametrize("value", [np.nan, np.float32("inf"), torch.tensor(float("nan")), np.array([0.1]), np.True_])
def test_what_is_no_number_to_python_is_none_here(value):
    with pytest.raises(ConfigError, match="learning rate is a finite number above 0"):
        AdapterConfig(lr=value)


def test_what_is_no_setting_is_refused(small):
    with pytest.raises(TypeError, match="rnak"):
        finetune(rnak=3, workspace=small)  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match="rank is at least 1"):
        finetune(rank=0, workspace=small)
    with pytest.raises(UsageError, match="not a digit set"):
        finetune(digits="5-x", workspace=small)
    with pytest.raises(UsageError, match=r"several ranks \(ranks="):
        sweep(rank=3, workspace=small)  # type: ignore[call-arg]
    with pytest.raises(UsageError, match="not a digit set"):
        evaluate(digit_sets=["x"], workspace=small)


def test_rows_are_flat_and_alike(small):
    many = sweep([1, 2], seeds=[0, 1], grid={"alphas": [1, 2]}, epochs=0, workspace=small, name="many")
    rows = many.rows()
    assert len(rows) == 2 * 2 * 2 * 3
    assert [row["artifact"] for row in rows[::3]] == [result["artifact"] for result in many.details["results"]]
    one = small.registry.get(many.details["results"][0]["artifact"])
    base = small.registry.parent(one)
    evaluated = [row for each in evaluate(one.name, alphas=[0, 1], workspace=small) for row in each.rows()]
    for found, keys in (
        (rows, {"artifact", "rank", "alpha", "seed", "trainable_parameters", "failed"}),
        (one.rows(), {"artifact", "rank", "seed"}),
        (base.rows(), {"artifact", "seed"}),
        (evaluated, {"artifact", "alpha"}),
    ):
        assert [row["digits"] for row in found[:3]] == ["0-4", "5-9", "0-9"]
        assert all(set(row) == keys | {"digits", "count", "accuracy", "loss"} for row in found)
        assert all(value is None or isinstance(value, (str, int, float)) for row in found for value in row.values())
    assert [row["accuracy"] for row in evaluated[:3]] == [row["accuracy"] for row in base.rows()]


def test_the_package_is_typed_and_light():
    assert files(lora_mnist_cli).joinpath("py.typed").is_file()
    code = (
        "import sys; from lora_mnist_cli import *; from lora_mnist_cli import __all__ as names;"
        "import lora_mnist_cli as package; assert all(callable(getattr(package, name)) for name in names);"
        "heavy = {'torch', 'numpy', 'pytorch_lightning', 'matplotlib', 'scipy', 'safetensors', 'typer', 'rich'};"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=600)
