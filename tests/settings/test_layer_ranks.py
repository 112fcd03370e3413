"""Ranks of layers: as options take them, as settings hold them, and what is refused."""

from __future__ import annotations

import json

import pytest

from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.grid import grid_of, marks
from lora_mnist_cli.settings.keywords import adapter_config
from lora_mnist_cli.settings.layer_ranks import parse_rank, pattern_of, ranks_in
from lora_mnist_cli.system.errors import ConfigError, UsageError


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("8", {"rank": 8}),
        (" 8 ", {"rank": 8}),
        ("fc1=8,fc2=4,fc3=2", {"rank": 8, "rank_pattern": "fc2r4-fc3r2", "target_layers": ("fc1", "fc2", "fc3")}),
        (" fc10 = 4 , fc2=8", {"rank": 8, "rank_pattern": "fc10r4", "target_layers": ("fc2", "fc10")}),
        ("fc1=3,fc3=3", {"rank": 3, "rank_pattern": "uniform", "target_layers": ("fc1", "fc3")}),
    ],
)
def test_a_rank_or_a_rank_per_layer(text, settings):
    assert parse_rank(text) == settings
    assert adapter_config(None, {"rank": text}) == AdapterConfig(**settings)


@pytest.mark.parametrize("text", ["", "x", "1.5", "fc1", "fc1=", "fc1=8,", "fc1=8,fc1=4", "fc0=1", "a=3", "fc1=-1"])
def test_other_texts_are_refused(text):
    with pytest.raises(UsageError, match="no ranks of layers"):
        parse_rank(text)


def test_a_pattern_comes_back():
    assert ranks_in(pattern_of({"fc3": 2, "fc1": 8, "fc2": 4}, 8)) == {"fc2": 4, "fc3": 2}
    assert pattern_of({"fc1": 8}, 8) == "uniform"
    assert ranks_in("uniform") == {}
    config = AdapterConfig(rank=8, rank_pattern="fc2r4")
    assert AdapterConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    assert "rank_pattern" not in AdapterConfig().to_json()
    assert [config.for_layer(layer).rank for layer in ("fc1", "fc2", "fc3")] == [8, 4, 8]
    assert config.for_layer("fc2") == AdapterConfig(rank=4)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"rank_pattern": "fc2r8"}, "a layer's own rank is below the adapter's, 8: fc2 takes no 8"),
        ({"rank_pattern": "fc2r9"}, "fc2 takes no 9"),
        ({"rank_pattern": "fc2r0"}, "a rank pattern is uniform, or layers in their order as fc2r4-fc3r2"),
        ({"rank_pattern": "fc3r2-fc2r4"}, "in their order"),
        ({"rank_pattern": "fc2r2-fc2r4"}, "in their order"),
        ({"rank_pattern": ""}, "a rank pattern is uniform"),
        ({"rank_pattern": 3}, "a rank pattern is uniform"),
        ({"rank_pattern": "fc2r4", "target_layers": ("fc1",)}, "fc2 has a rank and no adapter: target layers are fc1"),
        ({"rank_pattern": "fc2r4", "method": "full"}, "full has no rank pattern, so it cannot be fc2r4"),
        ({"rank_pattern": "fc2r4", "method": "hra"}, "hra has no rank pattern"),
    ],
)
def test_what_is_no_pattern_is_refused(settings, problem):
    with pytest.raises(ConfigError, match=problem):
        AdapterConfig(**settings)


def test_what_two_options_say_of_layers_has_to_agree():
    with pytest.raises(UsageError, match="--rank fc1=8,fc2=4 says target layers too"):
        adapter_config(None, {"rank": "fc1=8,fc2=4", "target_layers": "fc1"})
    same = adapter_config(None, {"rank": "fc1=8,fc2=4", "target_layers": "fc1,fc2"})
    assert same == adapter_config(None, {"rank": "fc1=8,fc2=4"})


def test_grids_and_names():
    grid = grid_of({"ranks": [8, 16], "rank_patterns": "uniform,fc2r4-fc3r2"})
    members = grid.members(AdapterConfig())
    assert [(member.rank, marks(member)) for member in members] == [
        (8, []), (8, ["fc2r4-fc3r2"]), (16, []), (16, ["fc2r4-fc3r2"]),
    ]  # fmt: skip
