"""Settings that check themselves."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_mnist_cli.registry.artifact import Parent, Settings
from lora_mnist_cli.settings import choices
from lora_mnist_cli.settings.adapter_config import AdapterConfig, with_overrides
from lora_mnist_cli.settings.config import BaseConfig, TrainingConfig
from lora_mnist_cli.settings.digits import ALL_DIGITS, DigitSet
from lora_mnist_cli.settings.grid import marks
from lora_mnist_cli.settings.recipes import recipe
from lora_mnist_cli.settings.runtime import Runtime
from lora_mnist_cli.system.errors import ArtifactError, ConfigError, UsageError


def test_the_reference_recipe_is_the_studys():
    reference = recipe("reference")
    assert reference.base.to_json() == {
        "seed": 0, "epochs": 10, "batch_size": 64, "lr": 1e-3, "optimizer": "adam", "weight_decay": None,
        "schedule": "constant", "val_split": 0.2, "precision": "32-true", "dataset": "mnist", "digits": "0-4",
        "hidden_sizes": [64, 64],
    }  # fmt: skip
    assert reference.adapter.to_json() == {
        "seed": 0, "epochs": 10, "batch_size": 64, "lr": 1e-3, "optimizer": "adamw", "weight_decay": None,
        "schedule": "plateau", "val_split": 0.2, "precision": "32-true", "digits": None, "rank": 8, "alpha": 1.0,
        "scaling": "constant", "init": "reference", "dropout": 0.0, "target_layers": None,
    }  # fmt: skip
    assert (reference.base, reference.adapter) == (BaseConfig(), AdapterConfig())


def test_fingerprints_are_those_of_before_one_stream_could_be_varied():
    """Golden: computed by the code that had no ``vary``. Whatever was trained then is still up to date."""
    dataset = {"name": "mnist", "digest": "sha256:" + 64 * "a"}
    base = (Parent("base", "b", "sha256:" + 64 * "b"),)
    adapter = AdapterConfig(
        rank=4, seed=3, digits=DigitSet.parse("5-9"), target_layers=("fc1", "fc2", "fc3"), vary="all"
    )  # fmt: skip
    assert Settings("adapter", adapter.to_json(), dataset, base, code=2).fingerprint() == (
        "sha256:73c236f0763ea4a67dd9e97073d7a7a538509c311975eb7d409ce895f3f6066f"
    )
    assert Settings("base", BaseConfig().to_json(), dataset, code=2).fingerprint() == (
        "sha256:0e340b10f8d3697dcc25d9b72bc8cb3db6f13a5d2cb94e54f413e1707363acb5"
    )


@pytest.mark.parametrize("vary", choices.VARIED)
def test_a_config_records_which_stream_is_varied_and_what_is_held(vary):
    held = 0 if vary == "all" else 7
    made = AdapterConfig(seed=3, vary=vary, held_seed=held)
    values = made.to_json()
    assert ("vary" in values) is ("held_seed" in values) is (vary != "all")
    assert AdapterConfig.from_json(json.loads(json.dumps(values))) == made
    for stream in ("init", "order", "split", "dropout"):
        assert made.seed_of(stream) == (3 if vary in ("all", stream) else 7)


BAD: list[tuple[type[TrainingConfig], str, Any, str]] = [
    (BaseConfig, "seed", -1, "seed is at least 0, not -1"),
    (BaseConfig, "seed", 2**63, "seed is at most 9223372036854775807, not 9223372036854775808"),
    (BaseConfig, "seed", 1.0, "seed is a whole number, not 1.0"),
    (BaseConfig, "seed", True, "seed is a whole number, not True"),
    (BaseConfig, "epochs", -1, "epochs is at least 0, not -1"),
    (BaseConfig, "epochs", 10**9, "epochs is at most 1000000, not 1000000000"),
    (BaseConfig, "batch_size", 0, "batch size is at least 1, not 0"),
    (BaseConfig, "batch_size", 10**18, "batch size is at most 10000000, not 1000000000000000000"),
    (BaseConfig, "lr", 0.0, "learning rate is a finite number above 0, not 0.0"),
    (BaseConfig, "lr", math.nan, "learning rate is a finite number above 0, not nan"),
    (BaseConfig, "lr", math.inf, "learning rate is a finite number above 0, not inf"),
    (BaseConfig, "optimizer", "adm", "optimizer is one of adam, adamw, sgd, not 'adm', did you mean 'adam'?"),
    (BaseConfig, "weight_decay", -0.1, "weight decay is a finite number of at least 0, not -0.1"),
    (BaseConfig, "schedule", "linear", "schedule is one of constant, plateau, cosine, not 'linear'"),
    (BaseConfig, "val_split", 1.0, "val-split is at least 0 and below 1, not 1.0"),
    (BaseConfig, "val_split", -0.1, "val-split is at least 0 and below 1, not -0.1"),
    (BaseConfig, "val_split", math.nan, "val-split is at least 0 and below 1, not nan"),
    (BaseConfig, "precision", "16", "precision is one of 32-true, 64-true, bf16-mixed, not '16'"),
    (BaseConfig, "dataset", "mnst", "not 'mnst', did you mean 'mnist'?"),
    (BaseConfig, "hidden_sizes", (), "at least one hidden layer is needed"),
    (BaseConfig, "hidden_sizes", (64, 0), "hidden size is at least 1, not 0"),
    (BaseConfig, "hidden_sizes", (10**9,), "hidden size is at most 16384, not 1000000000"),
    (AdapterConfig, "rank", 0, "rank is at least 1, not 0"),
    (AdapterConfig, "rank", -1, "rank is at least 1, not -1"),
    (AdapterConfig, "rank", 10**9, "rank is at most 4096, not 1000000000"),
    (AdapterConfig, "alpha", math.nan, "alpha is a finite number, not nan"),
    (AdapterConfig, "alpha", -math.inf, "alpha is a finite number, not -inf"),
    (AdapterConfig, "alpha", "x", "alpha is a finite number, not x"),
    (AdapterConfig, "alpha", 0.0, "at 0.0 nothing learns"),
    (AdapterConfig, "scaling", "rslra", "did you mean 'rslora'?"),
    (AdapterConfig, "init", "xavier", f"init is one of {', '.join(choices.INITS)}, not 'xavier'"),
    (AdapterConfig, "vary", "inits", "vary is one of all, init, order, split, not 'inits', did you mean 'init'?"),
    (AdapterConfig, "held_seed", 3, "a held seed needs something that is held"),
    (AdapterConfig, "dropout", 1.0, "dropout is at least 0 and below 1, not 1.0"),
    (AdapterConfig, "target_layers", (), "target layers are named once each, and at least one"),
    (AdapterConfig, "target_layers", ("fc1", "fc1"), "target layers are named once each, and at least one"),
    (AdapterConfig, "target_layers", ("fc0",), "a layer is named fc1, fc2, …, not 'fc0'"),
    (AdapterConfig, "target_layers", ("fc1\n",), "a layer is named"),
]


@pytest.mark.parametrize(("kind", "name", "value", "problem"), BAD)
def test_a_value_that_does_not_hold_is_named(kind, name, value, problem):
    with pytest.raises(ConfigError) as caught:
        kind(**{name: value})
    assert len(caught.value.problems) == 1
    assert problem in caught.value.problems[0]
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("name", ["lr", "val_split", "weight_decay", "alpha", "dropout"])
@pytest.mark.parametrize("value", ["x", [], 10**400], ids=["text", "list", "huge"])
def test_a_value_of_another_type_is_a_problem_like_any_other(name, value):
    with pytest.raises(ConfigError):
        AdapterConfig(**{name: value})  # type: ignore[arg-type]


def test_all_problems_are_told_at_once():
    with pytest.raises(ConfigError) as caught:
        AdapterConfig(seed=-1, epochs=-1, lr=-1.0, rank=0, alpha=math.nan, scaling="x", target_layers=("a", "b"))
    assert [problem.split()[0] for problem in caught.value.problems] == [
        "seed", "epochs", "learning", "rank", "alpha", "scaling", "a", "a",
    ]  # fmt: skip


def test_the_limits_themselves_hold():
    BaseConfig(seed=0, epochs=0, batch_size=1, val_split=0.0, weight_decay=0.0, hidden_sizes=(1,))
    BaseConfig(seed=2**63 - 1, epochs=1_000_000, val_split=0.999, hidden_sizes=(16384,))
    AdapterConfig(rank=1, alpha=0.0, epochs=0, dropout=0.0)
    AdapterConfig(rank=4096, alpha=-3.5, dropout=0.99, target_layers=("fc999",))


def test_a_config_does_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        BaseConfig().seed = 1  # type: ignore[misc]


DIGITS = st.lists(st.integers(0, 9), min_size=1).map(DigitSet)
COMMON: dict[str, Any] = {
    "seed": st.integers(0, 2**63 - 1),
    "epochs": st.integers(0, 1000),
    "batch_size": st.integers(1, 10_000),
    "lr": st.floats(1e-12, 1e6),
    "optimizer": st.sampled_from(choices.OPTIMIZERS),
    "weight_decay": st.none() | st.floats(0, 10),
    "schedule": st.sampled_from(choices.SCHEDULES),
    "val_split": st.floats(0, 0.99),
    "precision": st.sampled_from(choices.PRECISIONS),
}
BASES = st.builds(
    BaseConfig,
    **COMMON,
    dataset=st.sampled_from(choices.DATASETS),
    digits=DIGITS,
    hidden_sizes=st.lists(st.integers(1, 512), min_size=1, max_size=4).map(tuple),
)
LAYERS = st.none() | st.lists(st.integers(1, 999), min_size=1, max_size=4, unique=True).map(
    lambda numbers: tuple(f"fc{number}" for number in numbers)
)
ADAPTERS = st.builds(
    AdapterConfig,
    **COMMON,
    digits=st.none() | DIGITS,
    rank=st.integers(1, 4096),
    alpha=st.floats(allow_nan=False, allow_infinity=False).filter(bool),
    scaling=st.sampled_from(choices.SCALINGS),
    init=st.sampled_from(choices.INITS),
    dropout=st.floats(0, 0.99),
    target_layers=LAYERS,
)


@given(BASES | ADAPTERS)
def test_json_round_trips(given_config):
    text = json.dumps(given_config.to_json(), allow_nan=False)
    assert type(given_config).from_json(json.loads(text)) == given_config


def test_digits_are_written_in_canonical_form():
    assert BaseConfig(digits=DigitSet.parse("9,7,8,5")).to_json()["digits"] == "5,7-9"


@pytest.mark.parametrize(
    "change",
    [{"epochs": -1}, {"digits": "5-2"}, {"lr": None}, {"lr": "x"}, {"epochs": "10"}, {"hidden_sizes": 64}, {"new": 1},
     {"hidden_sizes": [64, "x"]}, {"digits": None}, {"lr": 10**400}],
)  # fmt: skip
def test_odd_json_is_a_damaged_artifact(change):
    with pytest.raises(ArtifactError, match="settings don't"):
        BaseConfig.from_json(BaseConfig().to_json() | change)


def test_missing_json_is_a_damaged_artifact():
    values = BaseConfig().to_json()
    del values["lr"]
    with pytest.raises(ArtifactError, match="settings don't fit this version: lr"):
        BaseConfig.from_json(values)


def test_an_unknown_recipe_gets_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'reference'"):
        recipe("refrence")
    with pytest.raises(UsageError, match="recipes: reference, tuned"):
        recipe("zzz")


def test_overrides_are_those_that_are_given():
    assert with_overrides(BaseConfig(), seed=3, epochs=None) == BaseConfig(seed=3)
    assert with_overrides(BaseConfig(), epochs=0).epochs == 0
    with pytest.raises(ConfigError):
        with_overrides(BaseConfig(), epochs=-1)


def test_runtime_checks_itself():
    assert Runtime() == Runtime(accelerator="auto", logger="csv")
    with pytest.raises(ConfigError) as caught:
        Runtime(accelerator="tpu", logger="clearml")
    assert len(caught.value.problems) == 2


def test_every_setting_has_its_help():
    inherited = {field.name for field in dataclasses.fields(BaseConfig)}
    for field in dataclasses.fields(AdapterConfig):
        assert field.metadata.get("help") or field.name in inherited


@pytest.mark.parametrize("layers", [[["fc1"]], [{"a": 1}, "fc1"], {"fc1": 1}, "fc1", 1, [1], [None]])
def test_target_layers_that_are_no_names_are_refused_as_that(layers):
    values = AdapterConfig().to_json() | {"target_layers": layers}
    with pytest.raises(ArtifactError, match=r"a layer is named fc1|target layers are a list of names"):
        AdapterConfig.from_json(values)


def test_small_ranks_take_a_higher_rate_where_that_is_asked_for():
    assert [AdapterConfig(lr=0.02, lr_power=0.5, rank=rank).rate for rank in (1, 4, 64)] == [0.02, 0.01, 0.0025]
    assert AdapterConfig(lr=0.02, rank=64).rate == 0.02
    assert "lr_power" not in AdapterConfig().to_json()  # so that older artifacts keep their fingerprints
    made = AdapterConfig(lr_power=0.5)
    assert AdapterConfig.from_json(made.to_json()) == made
    with pytest.raises(ConfigError, match="learning rate's power is at least -4 and at most 4, not 5"):
        AdapterConfig(lr_power=5)


def test_names_tell_what_was_trained_by_the_tuned_recipe():
    tuned = recipe("tuned").adapter
    assert recipe("tuned").base == recipe("reference").base  # the frozen base is the same
    assert tuned.epochs == recipe("reference").adapter.epochs
    assert marks(dataclasses.replace(tuned, rank=3, seed=5, digits=ALL_DIGITS, epochs=1)) == ["tuned"]
    assert marks(dataclasses.replace(tuned, lr=0.01)) == ["tuned", "lr0.01"]
    assert marks(AdapterConfig(epochs=1, seed=3)) == marks(AdapterConfig(method="full")) == marks(BaseConfig()) == []
    assert marks(AdapterConfig(lr=5e-3, batch_size=32, optimizer="sgd")) == ["lr0.005"]
    assert marks(dataclasses.replace(tuned, weight_decay=None)) == ["tuned", "wddefault"]
    assert marks(dataclasses.replace(tuned, schedule="plateau")) == ["lr0.024", "wd0.03"]
    assert marks(BaseConfig(schedule="cosine", lr=5e-3)) == ["lr0.005"]
