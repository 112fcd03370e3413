"""Training B alone does as well as training both, training A alone does not (Zhu et al. 2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_mnist_cli.stages.papers.claim import Claim, Figure, Measured, Panel, Point
from lora_mnist_cli.stages.papers.grids import RATES

if TYPE_CHECKING:
    from lora_mnist_cli.stages.papers.seed_runs import SeedRuns

RANKS, DECIDES = (4, 16), 4
FACTOR_RATES = tuple(2 * rate for rate in RATES)
"""The rates, each twice that of other grids: the best rates of a single factor are higher."""
POINT = 0.01


def measure(runs: SeedRuns) -> Measured:
    """Train both factors, A alone and B alone at every rate, and score the best of each."""
    from lora_mnist_cli.stages.papers.seed_runs import best

    measured = Measured()
    settings = [(rank, train) for rank in RANKS for train in ("both", "B", "A")]
    grid = runs.runs([runs.config(rank=rank, train=train, lr=lr) for rank, train in settings for lr in FACTOR_RATES])
    reached = {}
    lines: dict[str, list[Point]] = {f"rank {rank}": [] for rank in RANKS}
    for number, setting in enumerate(settings):
        chosen = best(grid[number * len(FACTOR_RATES) : (number + 1) * len(FACTOR_RATES)])
        reached[setting] = runs.scores(chosen.weights[-1]).new
    for rank, train in settings:
        if train != "both":
            measured.figures[f"{train}-{rank}"] = reached[rank, train] - reached[rank, "both"]
        lines[f"rank {rank}"].append((f"{train} alone" if train != "both" else "both", reached[rank, train]))
    measured.curves["accuracy"] = dict(lines)
    return measured


IMPLEMENTATION = Claim(
    claim="Training B alone does as well as training both factors, training A alone does not.",
    source="Zhu et al. 2024, arXiv:2402.16842",
    differs="There: language and vision transformers, frozen factors with orthonormal rows. Here: three layers, frozen "
    "factors uniform at random; the first layer has 784 inputs for 64 outputs, so A has most of the numbers.",
    run=f"LoRA of rank {' and '.join(map(str, RANKS))} (factor 1) with both factors trained, B alone and A alone, each "
    f"at the best of {len(RATES)} rates on validation images; new test digits. Rank {DECIDES} decides.",
    refuted="B alone is more than a point below both, or A alone is not.",
    figures=(
        Figure(f"B-{DECIDES}", f"new digits, B alone less both, rank {DECIDES}", "points", low=-POINT),
        Figure(f"A-{DECIDES}", f"new digits, A alone less both, rank {DECIDES}", "points", high=-POINT),
        Figure("B-16", "new digits, B alone less both, rank 16", "points"),
        Figure("A-16", "new digits, A alone less both, rank 16", "points"),
    ),
    panels=(Panel("accuracy", "At the best rate of each", "factors trained", "new digits (%)", percent=True),),
    measure=measure,
)
