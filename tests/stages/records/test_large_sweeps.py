"""Of a grid of thousands each row is looked at a few times, not once per setting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from lora_mnist_cli.evaluation import seeds
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.stages.records import samples

SEEDS, RATES, ALPHAS = 2, 4, 30


@pytest.mark.parametrize("choose", ["best_setting", "tuned"])
def test_choosing_looks_at_each_row_a_few_times(small, choose, monkeypatch):
    sweep = small.registry.get("sweep-fashion-mnist-5-9-a0.5")
    (row,) = sweep.details["results"]
    rows = [
        row | {"lr": 10.0**-rate, "alpha": float(alpha), "seed": seed} | {
            "last_epoch": row["last_epoch"] | {"val_accuracy": 0.5 + 0.01 * rate - 0.001 * (alpha - 7) ** 2 / 4}
        }
        for alpha in range(ALPHAS) for rate in range(RATES) for seed in range(SEEDS)
    ]  # fmt: skip
    grid = replace(sweep, details={**sweep.details, "results": rows})
    asked = 0
    real: Callable[[Any], dict[str, Any]] = seeds.setting

    def setting(result: Any) -> dict[str, Any]:
        nonlocal asked
        asked += 1
        return real(result)

    monkeypatch.setattr(seeds, "setting", setting)
    monkeypatch.setattr(samples, "setting", setting)
    if choose == "best_setting":
        best = samples.best_setting(small.registry, grid)
        assert best is not None
        assert best["described"] == "rank 2, lr 0.001, alpha 7"
    else:
        found = samples.tuned(small.registry, grid, DigitSet.parse("5-9"))
        assert [sample.rate["lr"] for sample in found if sample.rate] == [0.001] * ALPHAS
    assert asked < 5 * len(rows)
