"""Few numbers solve the task: its intrinsic dimension is low (Li et al. 2018)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lora_mnist_cli.stages.papers.claim import Claim, Figure, Measured, Panel
from lora_mnist_cli.stages.papers.grids import RATES, full_grid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lora_mnist_cli.stages.papers.seed_runs import SeedRuns

DIMENSIONS = (32, 128, 512, 2048)
SUBSPACE_RATES = (0.03, 0.1)
SHARE, LOW = 0.9, 0.02
"""The share of full fine-tuning's accuracy that counts as solved, and the share of all numbers that is few."""
LAYERS = {"fc1": 784 + 64, "fc2": 64 + 64, "fc3": 64 + 10}
"""Layer → the numbers that rank 1 of it trains."""


def measure(runs: SeedRuns) -> Measured:
    """Train random subspaces of several dimensions, and rank 1 of each layer alone."""
    from lora_mnist_cli.stages.papers.seed_runs import best

    full = runs.scores(best(full_grid(runs)).weights[-1]).new
    every = sum(parameter.numel() for parameter in runs.base.parameters())
    random = []
    for dimensions in DIMENSIONS:
        chosen = best(runs.subspace(dimensions, SUBSPACE_RATES))
        random.append(runs.scores(chosen.weights[-1]).new)
    grid = runs.runs([runs.config(rank=1, target_layers=(layer,), lr=4 * rate) for layer in LAYERS for rate in RATES])
    ranks = {}
    for number, layer in enumerate(LAYERS):
        chosen = best(grid[number * len(RATES) : (number + 1) * len(RATES)])
        ranks[layer] = runs.scores(chosen.weights[-1]).new
    needed = crossing(DIMENSIONS, random, SHARE * full)
    measured = Measured({"share": None if needed is None else needed / every, "dimension": needed})
    for layer, numbers in LAYERS.items():
        measured.figures[layer] = ranks[layer] - between(DIMENSIONS, random, numbers)
    measured.curves["accuracy"] = {
        "random subspace": list(zip(map(float, DIMENSIONS), random, strict=True)),
        "rank 1 of one layer": [(float(numbers), ranks[layer]) for layer, numbers in sorted(
            LAYERS.items(), key=lambda pair: pair[1])],
        "full fine-tuning (55,050 numbers)": [(float(DIMENSIONS[0]), full), (float(DIMENSIONS[-1]), full)],
    }  # fmt: skip
    return measured


def between(dimensions: Sequence[int], values: Sequence[float], wanted: float) -> float:
    """Return a value at a number of dimensions, between those that were tried, on the logarithm of the number."""
    for (low, first), (high, second) in zip(
        zip(dimensions, values, strict=True), list(zip(dimensions, values, strict=True))[1:], strict=False
    ):
        if low <= wanted <= high:
            return first + (second - first) * math.log(wanted / low) / math.log(high / low)
    raise ValueError(f"{wanted} lies outside {dimensions}")


def crossing(dimensions: Sequence[int], values: Sequence[float], level: float) -> float | None:
    """Return the number of dimensions at which values first reach a level; None if they never do."""
    if values[0] >= level:
        return float(dimensions[0])
    for number in range(1, len(values)):
        if values[number] >= level:
            share = (level - values[number - 1]) / (values[number] - values[number - 1])
            return float(dimensions[number - 1] * (dimensions[number] / dimensions[number - 1]) ** share)
    return None


IMPLEMENTATION = Claim(
    claim="The task has a low intrinsic dimension: training few numbers in a random subspace solves it.",
    source="Li et al. 2018, arXiv:1804.08838",
    differs="There: MNIST's ten digits from a random start, where 750 of 199,210 numbers reach 90 % of the accuracy "
    "of full training, in a dense or sparse random subspace. Here: 5-9 from a base that knows 0-4, 55,050 numbers, and "
    "each number belongs to one direction of the subspace.",
    run=f"Random subspaces of {', '.join(f'{d:,}' for d in DIMENSIONS)} dimensions, each at the best of "
    f"{len(SUBSPACE_RATES)} rates on validation images, and LoRA of rank 1 on one layer alone (74, 128 and 848 "
    f"numbers), each at the best of {len(RATES)}.",
    refuted=f"More than {100 * LOW:g} % of the numbers are needed for {100 * SHARE:g} % of the full accuracy.",
    figures=(
        Figure("share", f"numbers needed for {100 * SHARE:g} % of full fine-tuning's accuracy, of all", "%", high=LOW),
        Figure("dimension", "numbers needed"),
        Figure("fc3", "new digits, rank 1 of fc3 less a subspace of 74 numbers", "points"),
        Figure("fc2", "new digits, rank 1 of fc2 less a subspace of 128 numbers", "points"),
        Figure("fc1", "new digits, rank 1 of fc1 less a subspace of 848 numbers", "points"),
    ),
    panels=(
        Panel("accuracy", "Accuracy by numbers trained", "numbers trained", "new digits (%)", log_x=True, percent=True),
    ),
    measure=measure,
)
